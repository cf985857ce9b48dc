"""Layers made of a layer: the probabilities of the Python API, objects numbered through a stack."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import unet
from tests.test_api import GRAY, RGB, weights
from unet.errors import ConfigError
from unet.napari.layers import predicted
from unet.prediction.instances import InstanceSettings, to_instances


def test_a_stack_is_predicted_plane_by_plane_and_numbered_through(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors", classes=3), precision="fp32")
    planes = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]])[None]  # a leading axis of one time
    told = []
    place = {"scale": (1, 2, 0.5, 0.5)}
    made = predicted(model, planes, "cells", place, symmetries=1, threshold=0.3, on_plane=lambda *n: told.append(n))
    assert [(options["name"], kind) for _, options, kind in made] == [
        ("cells: probability of cell", "image"),
        ("cells: probability of border", "image"),
        ("cells: objects", "labels"),
    ]
    assert all(options["scale"] == (1, 2, 0.5, 0.5) for _, options, _ in made)
    assert told == [(1, 3), (2, 3), (3, 3)]
    seen = 0
    for n, plane in enumerate(planes[0]):
        expected = model.predict(plane, symmetries=1)
        for k in (1, 2):
            np.testing.assert_array_equal(made[k - 1][0][0, n], expected[k])
        objects, found = to_instances(expected, InstanceSettings(threshold=0.3)), made[2][0][0, n]
        assert objects.any()
        np.testing.assert_array_equal(found, np.where(objects > 0, objects + seen, 0))
        seen += objects.max()


def test_colours_are_one_plane(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors", channels=3), precision="fp32")
    probabilities, objects = predicted(model, RGB, "colours", {}, rgb=True)
    np.testing.assert_array_equal(probabilities[0], model.predict(RGB)[1])
    np.testing.assert_array_equal(objects[0], model.segment(RGB))


def test_classes_that_are_no_objects_are_refused(tmp_path):
    model = unet.load(weights(tmp_path / "w.safetensors", classes=5))
    with pytest.raises(ConfigError, match="two classes"):
        predicted(model, GRAY, "many", {})


def test_the_package_names_its_manifest():
    root = Path(unet.__file__).parents[1]
    made = tomllib.loads((root / "pyproject.toml").read_text())
    ((name, place),) = made["project"]["entry-points"]["napari.manifest"].items()
    package, _, file = place.partition(":")
    manifest = yaml.safe_load((root / package.replace(".", "/") / file).read_text())
    assert manifest["name"] == name == made["project"]["name"]
    assert file in made["tool"]["setuptools"]["package-data"][package]
