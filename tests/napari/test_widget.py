"""The widget with napari's layers and Qt, without a screen (skipped where napari is missing)."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("npe2")
napari = pytest.importorskip("napari", exc_type=Exception)
pytest.importorskip("qtpy", exc_type=Exception)

import unet  # noqa: E402
from tests.test_api import GRAY, weights  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
MANIFEST = Path(unet.__file__).parent / "napari" / "napari.yaml"


@pytest.fixture
def viewer(monkeypatch):
    """The layers of a viewer without its window, whose canvas needs OpenGL."""
    from napari.components import ViewerModel
    from napari.qt import get_qapp

    get_qapp()
    made = ViewerModel()
    monkeypatch.setattr("napari.utils._magicgui.find_viewer_ancestor", lambda _: made)
    return made


def until(condition, seconds=40):
    from qtpy.QtWidgets import QApplication

    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        QApplication.processEvents()
        time.sleep(0.01)


def test_the_manifest_names_what_there_is():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "unet-2015"


def test_a_layer_becomes_probabilities_and_labels(viewer, tmp_path):
    from npe2 import PluginManifest
    from npe2.manifest.utils import import_python_name

    (command,) = PluginManifest.from_file(MANIFEST).contributions.commands
    file = weights(tmp_path / "w.safetensors", instances={"threshold": 0.4})
    viewer.add_image(GRAY, name="cells", scale=(0.25, 0.5))
    widget = import_python_name(command.python_name)()
    assert [layer.name for layer in widget.image.choices] == ["cells"]
    assert set(widget.network.choices) == {"em", "phc", "hela", "another"}
    widget.network.value, widget.weights.value, widget.averaged.value = "another", file, False
    widget.call_button.native.click()
    until(lambda: len(viewer.layers) == 3)
    model = unet.load(file)
    probability, objects = viewer.layers["cells: probability of cell"], viewer.layers["cells: objects"]
    np.testing.assert_array_equal(probability.data, model.predict(GRAY, symmetries=1)[1])
    np.testing.assert_array_equal(objects.data, model.segment(GRAY, symmetries=1))
    assert type(objects).__name__ == "Labels"
    assert objects.data.any()
    assert probability.scale.tolist() == objects.scale.tolist() == [0.25, 0.5]
