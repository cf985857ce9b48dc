from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import measure

from unet.data import label_kind
from unet.data.label_kind import class_labels, named, recognise
from unet.errors import DataError


def scattered(count: int, seed: int = 0) -> np.ndarray:
    """Every value lies in many pieces."""
    return np.random.default_rng(seed).integers(0, count, (30, 30))


def objects(numbers: list[int]) -> np.ndarray:
    """Every number is one square."""
    label = np.zeros((40, 4 * len(numbers) + 4), int)
    for i, number in enumerate(numbers):
        label[2:5, 4 * i : 4 * i + 3] = number
    return label


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([scattered(2)], "binary"),
        ([scattered(2) * 255], "binary"),
        ([np.zeros((4, 4), int)], "binary"),
        ([], "binary"),
        ([scattered(3)], "classes"),
        ([scattered(8)], "classes"),
        ([scattered(16)], "classes"),
        ([np.where(scattered(2) == 1, 255, scattered(3))], "classes"),
        ([objects([1, 2])], "classes"),  # two squares: two classes or two objects? the line says how to tell it
        ([objects([1, 2, 3, 4, 5])], "instances"),
        ([objects(list(range(1, 40)))], "instances"),
        ([objects([3, 17, 45])], "instances"),
        ([objects([1, 2, 3]), objects([1, 2, 3, 4, 5, 6])], "instances"),
        ([objects(list(range(1, 300)))], "instances"),
    ],
)
def test_kinds(labels: list[np.ndarray], kind: str) -> None:
    found, why = recognise(labels)
    assert found == kind
    assert why


def smoothed(size: int) -> np.ndarray:
    """A mask of discs, 0 and 255, that was resized as a picture: grays along its borders."""
    mask = np.zeros((60, 60), np.uint8)
    for centre in ((15, 15), (20, 44), (43, 30)):
        cv2.circle(mask, centre, 11, 255, -1)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("labels", [[smoothed(131)], [smoothed(60), smoothed(97)], [scattered(40)]])
def test_many_numbers_in_many_pieces_are_neither_classes_nor_objects(labels: list[np.ndarray]) -> None:
    with pytest.raises(DataError, match="lie in many pieces: .* threshold the masks to 0 and 255, or set data.label"):
        recognise(labels)


def test_objects_may_lie_in_several_pieces() -> None:
    label = objects(list(range(1, 301)))
    label[20:23] = label[2:5] * (label[2:5] % 3 == 0)  # every third one has another piece
    kind, why = recognise([label])
    assert kind == "instances"
    assert why == "300 numbers up to 300, 67% of them in one piece; if they are classes, set data.label_kind"


def test_no_more_images_are_looked_at_than_tell_objects_from_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    original = measure.label
    monkeypatch.setattr(measure, "label", lambda label, **options: looked_at.append(1) or original(label, **options))
    monkeypatch.setattr(label_kind, "_ENOUGH", 40)
    assert recognise([objects(list(range(1, 22)))] * 9)[0] == "instances"
    assert len(looked_at) == 2
    for labels in (objects([1, 2]), scattered(4), scattered(2)):  # not even one where it makes no difference
        recognise([labels])
    assert len(looked_at) == 2


def test_share_of_numbers_in_one_piece() -> None:
    one = np.zeros((40, 60), np.uint16)
    one[:20, :20], one[20:, 20:40] = 1, 1  # touch at a corner
    one[:20, 20:40] = 2  # touches 1
    one[0:5, 50:55], one[10:15, 50:55] = 3, 3  # two pieces
    one[20:40, 40:60], one[0, 59] = 4, 4  # a speck aside
    one[20:40, 0:5], one[20:40, 10:15] = 255, 255  # ignored
    assert label_kind.share_in_one_piece([one]) == 0.75
    assert label_kind.share_in_one_piece([one, np.zeros((3, 3), bool), np.ones((3, 3), bool)]) == 0.8
    assert label_kind.share_in_one_piece([np.zeros((3, 3), int)]) == 1.0


@pytest.mark.parametrize(
    ("labels", "names", "kind"),
    [
        ([np.zeros((4, 4), int), scattered(2) * 255], ("sky", "ground"), "binary"),
        ([scattered(2)], ("sky", "ground"), "classes"),
        ([np.where(scattered(2) == 1, 255, scattered(2, 1))], ("sky", "ground"), "classes"),  # 255 is ignored here
        ([scattered(2) * 255], ("sky", "ground", "tree"), "classes"),
    ],
)
def test_kinds_of_named_classes(labels: list[np.ndarray], names: tuple[str, ...], kind: str) -> None:
    found, why = named(labels, names)
    assert found == kind
    assert "named in classes.txt" in why


@pytest.mark.parametrize("names", [(), ("sky", "ground"), ("sky", "ground", "tree")])
def test_classes_of_which_only_0_occurs_beside_ignored_pixels_are_refused(names: tuple[str, ...]) -> None:
    empty, mask = np.zeros((4, 4), int), scattered(2) * 255
    for labels in ([empty, mask], [mask], [np.full((4, 4), 255)]):
        found, _, wrong = class_labels(labels, ["a", "b"][: len(labels)], "classes", names)
        assert found == []
        assert len(wrong) == 1
        assert "leaves no class but 0" in wrong[0]
    for labels in ([empty, scattered(2)], [empty, empty], [mask, scattered(2)]):
        wrong = class_labels(labels, ["a", "b"], "classes", names)[2]
        assert not any("no class but 0" in line for line in wrong)
