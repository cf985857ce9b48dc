"""Loss series: training stays what it was, the numbers are those of the evaluation, what stands out comes first."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.test_loop import QUIET, configured, discs
from unet.data.split import split
from unet.data.stack import IGNORE
from unet.device import choose
from unet.errors import ConfigError, RunError
from unet.evaluation.frames import predict_frames
from unet.prediction.trained import load_network
from unet.runs.checkpoint import load_weights
from unet.runs.folder import DYNAMICS, METRICS
from unet.training.dynamics import SUSPECT, LossSeries, excess, follow, read, standings
from unet.training.loop import train


def with_label(stack, index, label):
    frames = list(stack.frames)
    frames[index] = replace(frames[index], label=label)
    return replace(stack, frames=tuple(frames))


def test_training_is_the_same_to_the_bit_whether_it_is_followed_or_not(tmp_path, monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())
    train(configured(), tmp_path / "plain", resume=False, overwrite=False, terminal=QUIET)
    series = follow(configured(), discs(), tmp_path / "followed", every=5)
    assert series.updates == (0, 5, 10, 15, 20, 24)
    assert (tmp_path / "plain" / METRICS).read_bytes() == (tmp_path / "followed" / METRICS).read_bytes()
    plain, followed = (load_weights(tmp_path / name / "weights.safetensors")[0] for name in ("plain", "followed"))
    for name, value in plain.items():
        np.testing.assert_array_equal(value.numpy(), followed[name].numpy())


def test_the_last_losses_are_those_of_an_evaluation_of_the_training_frames(tmp_path):
    series, stack, config = follow(configured(), discs(), tmp_path / "run", every=100), discs(), configured()
    network, _ = load_network(tmp_path / "run", choose(config))
    frames = predict_frames(network, stack, split(stack, config.data).train)
    assert series.names == tuple(p.frame.name for p in frames)
    assert series.updates == (0, 24)
    np.testing.assert_allclose(series.losses_EF[-1], [p.cross_entropy for p in frames], rtol=1e-6)
    np.testing.assert_array_equal(read(tmp_path / "run").losses_EF, series.losses_EF)


def test_a_wrong_label_comes_out_on_top_and_a_clean_stack_has_no_suspect(tmp_path):
    clean = discs(frames=10)
    longer = configured(train={"updates": 120, "eval_every": 1000, "checkpoint_every": 1000})
    usual = standings(follow(longer, clean, tmp_path / "clean", every=15))
    assert not any(one.kind == "suspect" for one in usual)
    wrong = with_label(clean, 6, np.ascontiguousarray(clean.frames[6].label[::-1]))  # upside down: discs elsewhere
    found = standings(follow(longer, wrong, tmp_path / "wrong", every=15))
    assert found[0].name == "disc6"
    assert [one.name for one in found if one.kind == "suspect"] == ["disc6"]
    assert found[0].last > 2 * np.median([one.last for one in found])


def test_scores_are_medians_over_the_late_evaluations_in_robust_deviations():
    names, updates = ("a", "b", "c", "d", "e"), (0, 10, 20, 30)
    logs = np.array([[0, 0, 0, 0, 9], [0, 0, 0, 0, 9], [-0.2, -0.1, 0, 0.1, 2], [-0.2, -0.1, 0, 0.1, 1]], float)
    found = standings(LossSeries(names, updates, np.exp(logs)))
    assert [one.name for one in found] == ["e", "d", "c", "b", "a"]
    np.testing.assert_allclose([one.score for one in found], np.array([1.5, 0.1, 0, -0.1, -0.2]) / 0.1 / 1.4826)
    assert (found[0].first, found[0].last) == (pytest.approx(np.exp(9)), pytest.approx(np.e))
    assert [one.kind for one in found] == ["suspect", *["usual"] * 4]


def test_an_image_that_is_learned_late_is_odd_and_no_suspect():
    logs = np.tile([-0.2, -0.1, 0, 0.1, 0.2], (12, 1))
    logs[2:6, 1] = 1.0  # four evaluations of twelve
    logs[9, 3] = 5.0  # a single one is chance
    found = {one.name: one for one in standings(LossSeries(tuple("abcde"), tuple(range(12)), np.exp(logs)))}
    assert {name: one.kind for name, one in found.items()} == dict.fromkeys("acde", "usual") | {"b": "odd"}
    assert found["b"].peak > SUSPECT > found["b"].score


def test_images_that_hardly_differ_are_alike():
    """Without a least deviation, one of a thousand times the spread of nothing would be a suspect."""
    losses = np.full((4, 6), 0.3)
    losses[:, 0] = 0.31
    assert standings(LossSeries(tuple("abcdef"), (0, 1, 2, 3), losses))[0].kind == "usual"
    assert np.isfinite(excess(losses)).all()


def test_one_evaluation_is_enough_and_unknown_images_are_left_out():
    losses = np.array([[0.1, 0.2, np.nan, 0.9]])
    assert [one.name for one in standings(LossSeries(tuple("abcd"), (0,), losses))] == ["d", "b", "a"]
    with pytest.raises(RunError, match="2 images"):
        standings(LossSeries(tuple("abcd"), (0,), np.array([[0.1, 0.2, np.nan, np.nan]])))


def test_a_frame_of_which_nothing_is_known_has_no_loss(tmp_path):
    stack = discs()
    hidden = with_label(stack, 4, np.full_like(stack.frames[4].label, IGNORE))
    series = follow(configured(), hidden, tmp_path / "run", every=24)
    assert np.isnan(series.losses_EF[:, series.names.index("disc4")]).all()
    assert "NaN" not in (tmp_path / "run" / DYNAMICS).read_text()


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="1 or more"):
        follow(configured(), discs(), tmp_path / "run", every=0)
    with pytest.raises(RunError, match=DYNAMICS):
        read(tmp_path)
    rows = [{"update": 0, "losses": {"a": 1.0}}, {"update": 1, "losses": {"b": 1.0}}]
    (tmp_path / DYNAMICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RunError, match="do not fit"):
        read(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(RunError, match="exists"):
        follow(configured(), discs(), tmp_path / "taken", every=5)
