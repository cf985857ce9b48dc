"""Averages over flips and over networks: of logits or of probabilities, worked by hand and held against single ones."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.special import expit, softmax

from tests.training.test_loop import QUIET, configured, data, discs, start
from unet.cli import main
from unet.config import ModelConfig, PredictConfig
from unet.data.stack import Normalisation
from unet.device import Hardware
from unet.errors import GeometryError, RunError
from unet.evaluation.frames import pixel_scores
from unet.evaluation.run import evaluate_ensemble, predict_held_out
from unet.geometry import context
from unet.networks import build
from unet.prediction.ensemble import Ensemble
from unet.prediction.files import Watch, predict_file
from unet.prediction.job import Settings, make_task
from unet.prediction.overlap import Network, predict_image
from unet.prediction.trained import load_ensemble, load_network
from unet.runs.checkpoint import load_weights, save_weights

__all__ = ["data"]  # the fixture that stands in for files

CPU = Hardware(torch.device("cpu"), "fp32", False, False, 0)


@dataclass(frozen=True)
class Neighbour:
    """A network of two classes whose logits are 0 and `gain` times the gray value of the pixel to the right."""

    gain: float = 1.0
    depth: int = 3
    precision: str = "fp32"
    allow_odd_pooling: bool = False

    def logits(self, batch_NCHW):
        m = context(self.depth)
        right = torch.from_numpy(batch_NCHW[:, 0, m:-m, m + 1 : 1 - m].astype(np.float32)) * self.gain
        return torch.stack([torch.zeros_like(right), right], dim=1)

    def probabilities(self, batch_NCHW):
        return torch.softmax(self.logits(batch_NCHW), dim=1).numpy()


IMAGE = np.random.default_rng(0).normal(0, 3, (1, 30, 41)).astype(np.float32)


def neighbours(image):
    """Gray values to the right, to the left, below and above every pixel, mirrored at the border."""
    padded = np.pad(image[0], 1, mode="reflect").astype(np.float64)
    return padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]


def test_flips_average_logits_or_probabilities():
    """Flipped left to right, the pixel to the right is the one to the left; flipped up-down it stays."""
    right, left, _, _ = neighbours(IMAGE)
    found = predict_image(Neighbour(), IMAGE, 2, PredictConfig(tile_px=52, symmetries=4, average="logits"))
    np.testing.assert_allclose(found[1], expit((right + left) / 2), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=0, atol=1e-6)
    found = predict_image(Neighbour(), IMAGE, 2, PredictConfig(tile_px=52, symmetries=4))
    np.testing.assert_allclose(found[1], (expit(right) + expit(left)) / 2, rtol=0, atol=1e-6)


def test_all_symmetries_average_logits_of_the_four_neighbours():
    found = predict_image(Neighbour(), IMAGE, 2, PredictConfig(tile_px=60, symmetries=8, average="logits", batch=3))
    np.testing.assert_allclose(found[1], expit(np.mean(neighbours(IMAGE), axis=0)), rtol=0, atol=1e-6)


def test_networks_average_logits_or_probabilities():
    right = neighbours(IMAGE)[0]
    both = Ensemble((Neighbour(1.0), Neighbour(-0.25)))
    logits = predict_image(both, IMAGE, 2, PredictConfig(average="logits"))
    np.testing.assert_allclose(logits[1], expit(0.375 * right), rtol=0, atol=1e-6)
    mean = predict_image(both, IMAGE, 2)
    np.testing.assert_allclose(mean[1], (expit(right) + expit(-0.25 * right)) / 2, rtol=0, atol=1e-6)
    three = predict_image(Ensemble((*both.members, Neighbour(2.0))), IMAGE, 2)
    np.testing.assert_allclose(three[1], (2 * mean[1] + expit(2 * right)) / 3, rtol=0, atol=1e-6)


def unet(seed, depth=3, **model):
    config = ModelConfig(base_channels=4, depth=depth, **model)
    return Network(build(config, 1, 3, seed=seed), torch.device("cpu"), channels_last=False, depth=depth,
                   allow_odd_pooling=config.allow_odd_pooling)  # fmt: skip


@pytest.mark.parametrize("symmetries", [1, 4, 8])
@pytest.mark.parametrize("depths", [(3, 3), (3, 4), (4, 2)], ids=str)
def test_two_networks_are_the_mean_of_two_predictions(depths, symmetries):
    """Also where their depths differ, and with them their tiles and the grids of their pooling."""
    networks = [unet(seed, depth) for seed, depth in enumerate(depths)]
    image = np.random.default_rng(1).random((1, 101, 83), dtype=np.float32)
    single = [predict_image(n, image, 3, PredictConfig(symmetries=symmetries)) for n in networks]
    found = predict_image(Ensemble(tuple(networks)), image, 3, PredictConfig(symmetries=symmetries))
    assert np.abs(single[0] - single[1]).max() > 1e-2
    np.testing.assert_allclose(found, np.mean(single, axis=0), rtol=0, atol=1e-5)


def test_a_mean_of_logits_is_the_softmax_of_the_single_logits():
    networks = [unet(0), unet(1)]
    image = np.random.default_rng(1).random((1, 40, 52), dtype=np.float32)
    logs = [np.log(predict_image(n, image, 3).astype(np.float64)) for n in networks]  # logits up to a constant
    found = predict_image(Ensemble(tuple(networks)), image, 3, PredictConfig(average="logits"))
    np.testing.assert_allclose(found, softmax(np.mean(logs, axis=0), axis=0), rtol=0, atol=1e-5)


def test_odd_pooling_goes_with_one_depth_only():
    odd = [unet(0, allow_odd_pooling=True), unet(1, allow_odd_pooling=True)]
    assert Ensemble(tuple(odd)).allow_odd_pooling
    depths = Ensemble((odd[0], unet(1, 2, allow_odd_pooling=True)))
    mixed = Ensemble((odd[0], unet(1)))
    assert not mixed.allow_odd_pooling
    assert not depths.allow_odd_pooling
    with pytest.raises(GeometryError):
        predict_image(mixed, IMAGE, 3, PredictConfig(tile_px=55))


# ---------------------------------------------------------------------------------------------- files


def test_a_stopped_ensemble_is_gone_on_with_to_the_same_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 70, 50), np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="minisblack")
    both = Ensemble((unet(0), unet(1)))
    settings = Settings(
        Normalisation(), 1, 3, ("a" * 64, "b" * 64), how=PredictConfig(tile_px=60, symmetries=4, average="logits")
    )
    task = make_task(both, tmp_path / "in.tif", tmp_path / "out.tif", settings)
    assert predict_file(both, task, settings)
    whole = (tmp_path / "out.tif").read_bytes()
    (tmp_path / "out.tif").unlink()
    left = [3 * 4 * 5]  # batches; a row of tiles has 3 of them, each in 4 views

    def check():
        left[0] -= 1
        if not left[0]:
            raise InterruptedError

    with pytest.raises(RunError):
        predict_file(both, task, settings, watch=Watch(check=check))
    record = (tmp_path / ".out.tif.part.json").read_text()
    assert json.loads(record.splitlines()[0])["network"] == {"sha256": ["a" * 64, "b" * 64], "precision": "fp32"}
    swapped = replace(settings, weights=("b" * 64, "a" * 64))
    with pytest.raises(RunError, match="other networks"):
        predict_file(both, task, swapped, resume=True)
    rows = []
    assert predict_file(both, task, settings, resume=True, watch=Watch(rows=rows.append))
    assert rows[0] >= 4
    assert (tmp_path / "out.tif").read_bytes() == whole


def saved(path, seed=0, **says):
    model = ModelConfig(base_channels=4, depth=3)
    described = {
        "model": vars(model),
        "channels": 1,
        "class_names": ["ground", "cell", "border"],
        "tile_px": 0,
        "normalisation": vars(Normalisation()),
    } | says
    network = build(model, described["channels"], len(described["class_names"]), seed=seed)
    save_weights(path, network.state_dict(), described)
    return path


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"class_names": ["ground", "cell"]}, "b: its classes are ground, cell, those of .*a ground, cell, border"),
        ({"channels": 3}, "b: its channels are 3, those of .*a 1; networks that predict together need the same"),
        ({"normalisation": vars(Normalisation(scale=65535.0))}, "b: its gray values .*scale 65535.0.*those of .*255.0"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path, says, message):
    paths = [saved(tmp_path / "a"), saved(tmp_path / "b", 1, **says)]
    with pytest.raises(RunError, match=message) as caught:
        load_ensemble(paths, lambda _: CPU)
    assert "\n" not in str(caught.value)


def test_networks_are_loaded_as_one(tmp_path):
    paths = [saved(tmp_path / "a"), saved(tmp_path / "b", 1, tile_px=60)]
    both, metadata = load_ensemble(paths, lambda _: CPU)
    assert metadata["tile_px"] == 0
    single = [predict_image(load_network(path, CPU)[0], IMAGE, 3) for path in paths]
    np.testing.assert_allclose(predict_image(both, IMAGE, 3), np.mean(single, axis=0), rtol=0, atol=1e-6)
    alone, metadata = load_ensemble(paths[1:], lambda _: CPU)
    assert isinstance(alone, Network)
    assert metadata["tile_px"] == 60


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    path = saved(tmp_path / "a")
    state, metadata = load_weights(path)
    name = sorted(state)[1]
    state[name].view(-1)[2] = value
    save_weights(path, state, metadata)
    with pytest.raises(RunError, match=f"a: {name} holds NaN or infinite weights"):
        load_network(path, CPU)


# ---------------------------------------------------------------------------------------------- scores


def trained(path: Path, seed: int, fold: int = 2) -> Path:
    config = configured(
        train={"updates": 6, "eval_every": 6, "seed": seed}, data={"split": "blocks", "folds": 5, "fold": fold}
    )
    return start(path / f"seed{seed}-fold{fold}", config).path


def test_an_ensemble_is_scored_as_one(tmp_path, capsys):
    runs = [trained(tmp_path, seed) for seed in (0, 1)]
    out = tmp_path / "both"
    words = [*map(str, runs), "--ensemble", "--symmetries", "4", "--out", str(out), "--quiet"]
    assert main(["evaluate", *words]) == 0
    assert "mean of 2 networks" in capsys.readouterr().out
    scores = json.loads((out / "scores.json").read_text())
    single = [predict_held_out(run, QUIET, 4).frames for run in runs]
    mean = np.mean([frames[0].probabilities for frames in single], axis=0)
    np.testing.assert_allclose(tifffile.imread(out / "probabilities.tif"), mean[1], rtol=0, atol=1e-6)
    together = predict_held_out(runs, QUIET, 4).frames
    expected = pixel_scores(together, ("ground", "disc"))
    assert {name: scores["scores"][name] for name in expected} == expected
    assert expected["loss"] not in {pixel_scores(frames, ("ground", "disc"))["loss"] for frames in single}
    assert (scores["frames"], scores["symmetries"], scores["average"]) == (["disc2"], 4, "probabilities")
    assert [member["run"] for member in scores["members"]] == ["../seed0-fold2", "../seed1-fold2"]
    with pytest.raises(RunError, match="holds scores already"):
        evaluate_ensemble(runs, out, QUIET)


def test_an_ensemble_is_scored_on_what_none_of_it_was_trained_on(tmp_path):
    runs = [trained(tmp_path, 0), trained(tmp_path, 1, fold=3)]
    with pytest.raises(RunError, match=r"did not hold the same frames out \(disc2\)"):
        evaluate_ensemble(runs, tmp_path / "both", QUIET)
    assert not (tmp_path / "both").exists()


def test_an_ensemble_has_one_truth(tmp_path, monkeypatch):
    first = trained(tmp_path, 0)
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs(seed=1))
    with pytest.raises(RunError, match="trained on different data or labels"):
        evaluate_ensemble([first, trained(tmp_path, 1)], tmp_path / "both", QUIET)


def test_one_run_is_no_ensemble(capsys):
    assert main(["evaluate", "a", "--ensemble"]) == 2
    assert "--ensemble scores several runs as one" in capsys.readouterr().err
