"""Exported networks, run by the programs that read them: our probabilities, for odd sizes through our tiler."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tifffile
import torch

from tests.test_api import GRAY, RGB, weights
from unet.cli import main
from unet.config import ModelConfig, PredictConfig
from unet.errors import RunError
from unet.export import network
from unet.geometry import shrinkage, smallest_valid, stride
from unet.networks import build
from unet.prediction.overlap import predict_image
from unet.prediction.trained import load_network


@pytest.mark.parametrize("variant", ["figure1", "released"])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_graph_is_the_network_with_its_softmax_for_every_valid_size(variant, depth):
    model = build(ModelConfig(variant=variant, base_channels=2, depth=depth), 2, 3, 0).eval()
    graph = network.Exportable(model).eval()
    smallest, step = smallest_valid(depth), stride(depth)
    for height, width in ((smallest, smallest), (smallest + step, smallest + 4 * step)):
        image = torch.rand(2, 2, height, width, generator=torch.Generator().manual_seed(depth))
        with torch.no_grad():
            found, expected = graph(image), torch.softmax(model(image), 1)
        assert found.shape == (2, 3, height - shrinkage(depth), width - shrinkage(depth))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


class Runtime:
    """ONNX Runtime as our tiler sees a network."""

    precision, allow_odd_pooling = "fp32", False

    def __init__(self, path, depth):
        self.depth = depth
        self.session = pytest.importorskip("onnxruntime").InferenceSession(path)

    def probabilities(self, batch_NCHW):
        return self.session.run(None, {"image": batch_NCHW.astype(np.float32)})[0]


@pytest.mark.parametrize(
    ("channels", "kind", "gray"),
    [
        (1, "percentile", "percentiles 1 and 99 of each image and channel"),
        (3, "percentile", "percentiles 1 and 99 of each image and channel"),
        (3, "zscore", "mean 0, standard deviation 1, of each image and channel"),
    ],
)
def test_onnx_gives_our_probabilities_through_our_tiler_and_through_its_program(tmp_path, channels, kind, gray):
    pytest.importorskip("onnxscript")
    how = {"kind": kind, "offset": 0.0, "scale": 255.0, "low": 1.0, "high": 99.0}
    file = weights(tmp_path / "w.safetensors", channels, classes=3, normalisation=how)
    assert main(["export", str(file), str(tmp_path / "out"), "--quiet"]) == 0
    ours, metadata = load_network(file, network.CPU)
    image = np.random.default_rng(3).random((channels, 67, 41), dtype=np.float32)
    expected = predict_image(ours, image, 3, PredictConfig(tile_px=60))
    onnx = Runtime(tmp_path / "out" / "model.onnx", metadata["model"]["depth"])
    np.testing.assert_allclose(predict_image(onnx, image, 3, PredictConfig(tile_px=60)), expected, rtol=0, atol=1e-5)
    axes = onnx.session.get_inputs()[0].shape
    assert [axis for axis in axes if isinstance(axis, int)] == [channels]  # all others are free
    raw = GRAY if channels == 1 else RGB
    tifffile.imwrite(tmp_path / "image.tif", raw, photometric="rgb" if channels == 3 else "minisblack")
    program = [sys.executable, str(tmp_path / "out" / "predict.py"), "image.tif", "theirs.tif"]
    subprocess.run(program, cwd=tmp_path, check=True)
    said = ["predict", str(file), str(tmp_path / "image.tif"), "--out", str(tmp_path / "ours.tif")]
    assert main([*said, "--precision", "fp32", "--quiet"]) == 0
    theirs, ours = (tifffile.imread(tmp_path / name) for name in ("theirs.tif", "ours.tif"))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert gray in card
    assert str(tmp_path) not in card


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # other programs read it all the same
def test_torchscript_gives_our_probabilities(tmp_path):
    file = weights(tmp_path / "w.safetensors")
    assert main(["export", str(file), str(tmp_path / "out"), "--to", "torchscript", "--quiet"]) == 0
    graph = torch.jit.load(str(tmp_path / "out" / "model.torchscript.pt"))
    ours, _ = load_network(file, network.CPU)
    image = np.random.default_rng(4).random((1, 1, 60, 76), dtype=np.float32)
    with torch.no_grad():
        found = graph(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, ours.probabilities(image), rtol=0, atol=1e-6)
    said = json.loads((tmp_path / "out" / "model.json").read_text())
    assert said["sides_px"] == {"smallest": 44, "step": 4, "output_smaller_by": 40}


@pytest.mark.parametrize("kind", ["fixed", "percentile", "minmax", "zscore"])
def test_a_package_passes_the_test_of_bioimage_io(tmp_path, kind):
    pytest.importorskip("bioimageio.core")
    pytest.importorskip("onnxscript")
    how = {"kind": kind, "offset": 3.0, "scale": 255.0, "low": 1.0, "high": 99.0}
    file = weights(tmp_path / "w.safetensors", normalisation=how)
    assert main(["export", str(file), str(tmp_path / "out"), "--to", "bioimageio", "--quiet"]) == 0
    with zipfile.ZipFile(tmp_path / "out" / "package.zip") as package:
        assert {"model.onnx", "model.torchscript.pt", "test_input.npy"} <= set(package.namelist())


def test_what_cannot_be_exported_is_one_clear_error(tmp_path, capsys):
    file = weights(tmp_path / "w.safetensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for words, match in (
        ([str(file), str(tmp_path / "full")], "exists already; name a new folder"),
        (["nothing", str(tmp_path / "out")], "nothing: no run folder, weights file or network that comes along"),
        ([str(file)], "unet export RUN DIR needs a trained network and a folder"),
    ):
        assert main(["export", *words]) == 2
        assert match in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    model = weights(tmp_path / "odd.safetensors", model={"allow_odd_pooling": True, "base_channels": 4, "depth": 3})
    with pytest.raises(RunError, match="was trained on misaligned tiles"):
        network.load(model)
