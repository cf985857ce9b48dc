from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.config import DataConfig
from unet.data.split import Split, split
from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import ConfigError, DataError


def make_stack(sequences: dict[str, str]) -> Stack:
    """A stack from, per sequence, a string with one letter per frame: l labelled, u unlabelled."""
    image, label = np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), np.uint8)
    frames = [
        Frame(f"{name}/{i:02}", name, image, label if kind == "l" else None)
        for name, kinds in sequences.items()
        for i, kind in enumerate(kinds)
    ]
    return Stack("test", tuple(frames), ("background", "cell"), Normalisation(), "test")


def test_blocks_are_five_times_six_consecutive_slices() -> None:
    stack = make_stack({"em": "l" * 30})
    for fold in range(5):
        found = split(stack, DataConfig(fold=fold))
        assert found.held_out == tuple(range(6 * fold, 6 * fold + 6))
        assert found.train == tuple(i for i in range(30) if i not in found.held_out)


def test_blocks_are_cut_within_every_sequence() -> None:
    stack = make_stack({"a": "l" * 4, "b": "ullul"})
    found = split(stack, DataConfig(split="blocks", folds=2, fold=1))
    assert [stack.frames[i].name for i in found.held_out] == ["a/02", "a/03", "b/04"]
    assert [stack.frames[i].name for i in found.train] == ["a/00", "a/01", "b/01", "b/02"]


def test_sequences_leave_one_out_and_are_the_automatic_choice_for_several() -> None:
    stack = make_stack({"01": "lul", "02": "ll", "03": "uuu"})
    assert split(stack, DataConfig(fold=0)) == Split(train=(3, 4), held_out=(0, 2))
    assert split(stack, DataConfig(fold=1, split="sequences")) == Split(train=(0, 2), held_out=(3, 4))
    with pytest.raises(ConfigError, match="there are 2 sequences"):
        split(stack, DataConfig(fold=2))


def test_random_folds_are_seeded_and_cover_every_frame_once() -> None:
    stack = make_stack({"em": "l" * 17})
    parts = [split(stack, DataConfig(split="random", fold=k, seed=3)).held_out for k in range(5)]
    assert sorted(i for part in parts for i in part) == list(range(17))
    assert parts[0] == split(stack, DataConfig(split="random", seed=3)).held_out
    assert any(split(stack, DataConfig(split="random", fold=k, seed=4)).held_out != parts[k] for k in range(5)), (
        "another seed must give another split"
    )
    consecutive = [list(p) == list(range(p[0], p[0] + len(p))) for p in parts]
    assert not all(consecutive)


def test_a_list_names_the_held_out_frames() -> None:
    stack = make_stack({"01": "llu", "02": "l"})
    found = split(stack, DataConfig(split="list", held_out=("02/00", "01/01")))
    assert found == Split(train=(0,), held_out=(1, 3))
    assert found.names(stack) == {"train": ["01/00"], "held_out": ["01/01", "02/00"]}


@pytest.mark.parametrize(
    ("held_out", "message"),
    [(("1/00",), "did you mean '01/00'"), (("01/02",), "has no label"), (("01/00", "01/01"), "training side")],
)
def test_bad_lists(held_out: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        split(make_stack({"01": "llu"}), DataConfig(split="list", held_out=held_out))


def test_all_frames_train_and_none_is_held_out() -> None:
    stack = make_stack({"01": "lul", "02": "ll"})
    found = split(stack, DataConfig(split="all", fold=3))  # there are no folds to choose from
    assert found == Split(train=(0, 2, 3, 4), held_out=())
    assert found.names(stack)["held_out"] == []
    with pytest.raises(DataError, match="no frame has a label"):
        split(make_stack({"01": "uu"}), DataConfig(split="all"))


def test_a_split_that_shares_a_frame_is_refused() -> None:
    with pytest.raises(DataError, match="must not share"):
        Split(train=(0, 1, 2), held_out=(2, 3))
    with pytest.raises(DataError, match="twice"):
        Split(train=(0, 0), held_out=(1,))
    with pytest.raises(DataError, match="training side"):
        Split(train=(), held_out=(0,))


def test_impossible_folds() -> None:
    with pytest.raises(ConfigError, match="5 folds cannot be cut from 4"):
        split(make_stack({"a": "llll"}), DataConfig())
    with pytest.raises(ConfigError, match="does not exist"):
        split(make_stack({"a": "llllll"}), DataConfig(fold=5))
    with pytest.raises(ConfigError, match="two labelled sequences"):
        split(make_stack({"a": "ll"}), DataConfig(split="sequences"))
    with pytest.raises(DataError, match="no frame has a label"):
        split(make_stack({"a": "uu"}), DataConfig())


@given(
    kinds=st.lists(st.text("lu", min_size=5, max_size=12).filter(lambda k: k.count("l") >= 4), min_size=1, max_size=3),
    how=st.sampled_from(["auto", "blocks", "random"]),
    folds=st.integers(2, 4),
    fold=st.integers(0, 3),
)
def test_no_split_ever_shares_or_loses_a_labelled_frame(kinds: list[str], how: str, folds: int, fold: int) -> None:
    stack = make_stack({f"{i}": k for i, k in enumerate(kinds)})
    limit = len(kinds) if how == "auto" and len(kinds) > 1 else folds
    config = DataConfig(split=how, folds=folds, fold=min(fold, limit - 1))  # type: ignore[arg-type]
    found = split(stack, config)
    known = [i for i, frame in enumerate(stack.frames) if frame.label is not None]
    assert sorted(found.train + found.held_out) == known
    assert not set(found.train) & set(found.held_out)


def test_isolated_and_leaking_score_the_same_frames_and_train_on_as_many() -> None:
    stack = make_stack({"em": "l" * 30})
    for fold in range(3):
        first = 10 * fold
        found = {kind: split(stack, DataConfig(split=kind, folds=3, fold=fold)) for kind in ("isolated", "leaking")}  # type: ignore[arg-type]
        scored = (first + 2, first + 4, first + 6)
        assert found["isolated"].held_out == found["leaking"].held_out == scored
        assert found["isolated"].train == tuple(i for i in range(30) if not first <= i < first + 10)
        assert len(found["leaking"].train) == len(found["isolated"].train) == 20
        beside = {first + 1, first + 3, first + 5, first + 7}
        assert {i for i in found["leaking"].train if first <= i < first + 10} == beside
        nearest = min(abs(i - s) for i in found["isolated"].train for s in scored)
        assert nearest >= 3


def test_of_sequences_one_is_isolated_or_leaks() -> None:
    stack = make_stack({"a": "lul" + "l" * 7, "b": "l" * 9})  # nine labelled frames each
    isolated, leaking = (split(stack, DataConfig(split=kind, fold=1)) for kind in ("isolated", "leaking"))  # type: ignore[arg-type]
    assert [stack.frames[i].name for i in isolated.held_out] == ["b/01", "b/03", "b/05", "b/07"]
    assert leaking.held_out == isolated.held_out
    assert {stack.frames[i].sequence for i in isolated.train} == {"a"}
    assert [stack.frames[i].name for i in leaking.train if stack.frames[i].sequence == "b"] == [
        "b/00", "b/02", "b/04", "b/06", "b/08",
    ]  # fmt: skip
    assert len(leaking.train) == len(isolated.train) == 9
    with pytest.raises(ConfigError, match="blocks of 5 frames or more"):
        split(make_stack({"a": "l" * 8}), DataConfig(split="leaking", folds=2))


def test_a_number_of_training_frames_is_drawn_by_seed_and_fold() -> None:
    stack = make_stack({"em": "l" * 30})
    whole = split(stack, DataConfig(fold=1))
    drawn = [split(stack, DataConfig(fold=1, limit=3, seed=seed)) for seed in range(200)]
    assert {len(found.train) for found in drawn} == {3}
    assert all(found.held_out == whole.held_out for found in drawn)
    assert all(set(found.train) < set(whole.train) for found in drawn)
    assert split(stack, DataConfig(fold=1, limit=3, seed=7)) == drawn[7]
    places = set()
    for fold in range(5):  # of folds of one seed, not the same places among the frames that are left
        left = split(stack, DataConfig(fold=fold)).train
        places.add(tuple(map(left.index, split(stack, DataConfig(fold=fold, limit=3, seed=7)).train)))
    assert len(places) > 1
    counts = np.bincount([i for found in drawn for i in found.train], minlength=30)
    assert all(5 <= counts[i] <= 50 for i in whole.train)  # 25 expected
    assert split(stack, DataConfig(fold=1, limit=24)) == split(stack, DataConfig(fold=1, limit=99)) == whole
