"""Planted faults, nearest probes and the area under the curve, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import ConfigError
from unet.training.dynamics import LossSeries
from unet.training.probes import FAULTS, USUAL, area_under_curve, nearest_kinds, plant


def stack(count=12):
    rng = np.random.default_rng(0)
    frames = [
        Frame(f"f{n:02}", "s", rng.random((1, 40, 50), dtype=np.float32), rng.integers(0, 2, (40, 50)).astype(np.uint8))
        for n in range(count)
    ]
    return Stack("made", tuple(frames), ("membrane", "cell"), Normalisation(), "made")


def test_faults_are_planted_in_as_many_images_as_asked_and_nowhere_else():
    whole = stack()
    found, kinds = plant(whole, {"another label": 3, "shifted label": 2, "blurred image": 1}, seed=4)
    assert sorted(kinds.values()) == ["another label"] * 3 + ["blurred image"] + ["shifted label"] * 2 + [USUAL] * 6
    assert plant(whole, {"another label": 3}, 1)[1] != plant(whole, {"another label": 3}, 2)[1]
    for before, after in zip(whole.frames, found.frames, strict=True):
        same_label = np.array_equal(before.label, after.label)
        same_image = np.array_equal(before.image, after.image)
        assert (same_image, same_label) == {
            USUAL: (True, True), "blurred image": (False, True),
        }.get(kinds[before.name], (True, False))  # fmt: skip
        if kinds[before.name] == "another label":
            assert any(np.array_equal(after.label, other.label) for other in whole.frames)


def test_a_shifted_label_is_the_label_three_pixels_off():
    whole = stack(1)
    whole.frames[0].label[:] = 0
    whole.frames[0].label[20, 25] = 1
    for seed in range(20):
        shifted = FAULTS["shifted label"](whole.frames[0], whole, np.random.default_rng(seed)).label
        ((y, x),) = np.argwhere(shifted)
        assert {abs(y - 20), abs(x - 25)} <= {0, 3}
        assert (y, x) != (20, 25)


def test_an_image_is_of_the_kind_of_the_probes_with_the_nearest_series():
    fall, rise = np.linspace(1, 0.1, 8), np.linspace(0.8, 2.0, 8)
    losses = np.stack([*(fall * s for s in (1, 1.02, 0.98, 1.01, 0.99)), *(rise * s for s in (1, 1.02, 0.98))], axis=1)
    series = LossSeries(("a", "b", "c", "d", "e", "x", "y", "z"), tuple(range(8)), losses)
    probes = {"a": USUAL, "b": USUAL, "x": "another label", "y": "another label"}
    found = nearest_kinds(series, probes, k=2)
    assert set(found) == {"c", "d", "e", "z"}
    assert found["z"] == {USUAL: 0.0, "another label": 1.0}
    assert all(found[name] == {USUAL: 1.0, "another label": 0.0} for name in "cde")
    assert nearest_kinds(series, probes, k=3)["z"]["another label"] == pytest.approx(2 / 3)


def test_the_area_under_the_curve_counts_pairs():
    assert area_under_curve([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75  # 3 of 4 pairs
    assert area_under_curve([1, 1, 1], [True, False, False]) == 0.5
    assert area_under_curve([3, 2, 1], [True, False, False]) == 1.0
    assert np.isnan(area_under_curve([1, 2], [True, True]))


def test_what_cannot_be_planted_or_asked_is_refused():
    whole = stack(3)
    with pytest.raises(ConfigError, match="fault 'upside down' is unknown"):
        plant(whole, {"upside down": 1}, 0)
    with pytest.raises(ConfigError, match="4 faults do not fit into 3 images"):
        plant(whole, {"another label": 4}, 0)
    with pytest.raises(ConfigError, match="there is no other label of 40 x 50 px"):
        plant(stack(1), {"another label": 1}, 0)
    series = LossSeries(("a", "b"), (0,), np.ones((1, 2)))
    with pytest.raises(ConfigError, match="probe 'c' is none of the images"):
        nearest_kinds(series, {"c": USUAL})
    with pytest.raises(ConfigError, match="5 neighbours cannot be found among 1 probes"):
        nearest_kinds(series, {"a": USUAL})
    with pytest.raises(ConfigError, match="has no label to shift"):
        plant(replace(whole, frames=tuple(replace(f, label=None) for f in whole.frames)), {"shifted label": 1}, 0)
