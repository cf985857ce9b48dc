"""Outlines along pixel edges: their area is that of the pixels, to the pixel, whatever the shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

pytest.importorskip("roifile")
from roifile import ImagejRoi

from unet.app.outlines import features, outlines, rois

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def area(ring) -> float:
    """Shoelace formula; in image coordinates positive for rings that run clockwise as one sees them."""
    x, y = np.asarray(ring, float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_the_corners_of_an_l_are_those_one_would_draw():
    ids = np.zeros((5, 6), np.int32)
    ids[1, 2] = ids[2, 2] = ids[2, 3] = 7  # numbers in between are missing
    ((number, (polygon,)),) = outlines(ids)
    assert number == 7
    assert polygon.holes == []
    assert {tuple(p) for p in polygon.outer.tolist()} == {(2, 1), (3, 1), (3, 2), (4, 2), (4, 3), (2, 3)}
    assert len(polygon.outer) == 6
    assert abs(area(polygon.outer)) == 3


def test_a_hole_is_a_ring_of_its_own():
    ids = np.ones((3, 4), np.int32)
    ids[1, 1:3] = 0
    ((_, (polygon,)),) = outlines(ids)
    (hole,) = polygon.holes
    assert {tuple(p) for p in hole.tolist()} == {(1, 1), (3, 1), (3, 2), (1, 2)}
    assert {tuple(p) for p in polygon.outer.tolist()} == {(0, 0), (4, 0), (4, 3), (0, 3)}


@given(MASKS, st.sampled_from([1, 2]))
def test_areas_are_those_of_the_pixels(mask, connectivity):
    ids = label(mask, connectivity=connectivity)
    found = dict(outlines(ids))
    assert sorted(found) == list(range(1, ids.max() + 1))
    for number, polygons in found.items():
        enclosed = sum(abs(area(p.outer)) - sum(abs(area(hole)) for hole in p.holes) for p in polygons)
        assert enclosed == (ids == number).sum()
        ys, xs = np.nonzero(ids == number)
        corners = np.concatenate([p.outer for p in polygons])
        assert [*corners.min(axis=0), *corners.max(axis=0)] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_features_are_closed_rings_and_say_where_they_belong():
    ids = np.zeros((4, 9), np.int32)
    ids[:2, :2] = 1
    ids[0, 4] = ids[2, 4] = 2  # an object in two pieces
    square, pieces = features(ids, 3, stacked=True)
    assert square["geometry"]["type"] == "Polygon"
    (ring,) = square["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert len(ring) == 5
    assert square["geometry"]["plane"]["z"] == 3
    assert square["properties"] == {"objectType": "detection", "name": "1", "image": 4, "object": 1}
    assert pieces["geometry"]["type"] == "MultiPolygon"
    assert len(pieces["geometry"]["coordinates"]) == 2
    assert "plane" not in next(features(ids, 0, stacked=False))["geometry"]


def test_rois_read_back_with_their_slice():
    ids = np.zeros((4, 9), np.int32)
    ids[1:3, 2:6] = 1
    (roi,) = rois(ids, 2, stacked=True)
    back = ImagejRoi.frombytes(roi.tobytes())
    assert back.name == "0003-00001"
    assert back.position == 3
    assert {tuple(p) for p in back.coordinates().astype(int).tolist()} == {(2, 1), (6, 1), (6, 3), (2, 3)}
    assert [back.left, back.top, back.right, back.bottom] == [2, 1, 6, 3]
    (alone,) = rois(ids, 0, stacked=False)
    assert ImagejRoi.frombytes(alone.tobytes()).position == 0
