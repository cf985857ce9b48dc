from __future__ import annotations

import numpy as np
import pytest

from unet.data.label_kind import recognise


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
        ([scattered(40)], "instances"),
    ],
)
def test_kinds(labels: list[np.ndarray], kind: str) -> None:
    found, why = recognise(labels)
    assert found == kind
    assert why
