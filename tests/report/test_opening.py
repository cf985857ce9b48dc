"""The sentence a report opens with, for every kind of data."""

import json

import pytest

from tests.report.test_run_page import page
from unet.report.opening import sentence

OBJECTS = {"pixel_accuracy": 0.93, "seg": 0.8, "objects_found": 93.0, "objects_missed": 1.0, "objects_merged": 4.0,
           "objects_split": 0.0, "objects_spurious": 2.0, "pq_segmentation": 0.884}  # fmt: skip


def test_objects_are_counted_and_what_became_of_the_others_is_said():
    told = "Separates 93 of 98 cells; 1 missed, 4 merged, 2 found where there is none; outlines of those it matches "
    assert sentence({"scores": OBJECTS}) == told + "overlap by 88 %."
    one = dict.fromkeys(OBJECTS, 0.0) | {"objects_found": 1.0, "pq_segmentation": None}
    assert sentence({"scores": one}) == "Separates 1 of 1 cell."
    none = OBJECTS | {"objects_found": 0.0, "objects_missed": 98.0, "objects_merged": 0.0, "objects_spurious": 0.0}
    assert sentence({"scores": none}) == "Separates 0 of 98 cells; 98 missed."


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({}, ""),
        ({"scores": {}}, ""),
        ({"scores": {"pixel_accuracy": 0.996}}, "99.6 of 100 pixels have the right class."),
        (
            {"scores": {"pixel_accuracy": 0.9046, "mean_iou": 0.76, "v_rand": 0.9484},
             "constant": {"pixel_accuracy": 0.782}},
            "90 of 100 pixels have the right class (78 if everything were called the same); cells are separated with a "
            "V_rand of 0.948, where 1 is perfect.",
        ),
        (
            {"scores": {"pixel_accuracy": 1.0, "mean_iou": 0.005}},
            "100 of 100 pixels have the right class; prediction and label overlap by 0.5 %, mean over the classes.",
        ),
        (
            {"scores": dict.fromkeys(OBJECTS, 0.0) | {"pixel_accuracy": 0.5}},  # no reference object at all
            "50 of 100 pixels have the right class.",
        ),
        (
            {"scores": {"pixel_accuracy": 0.9}, "collapsed": True},
            "The network says the same everywhere: its scores are those of a constant prediction.",
        ),
    ],
)  # fmt: skip
def test_pixels(saved, told):
    assert sentence(saved) == told


def test_the_page_opens_with_the_sentence_and_the_pictures(trained):
    text = page(trained).text
    told = sentence(json.loads((trained / "scores.json").read_text()))
    assert told
    assert text.index(told) < text.index("Drag across a picture") < text.index("better is")
    assert "Layer mistakes: splits red" in text
