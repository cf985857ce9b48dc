"""ONNX and TorchScript files, checked against the network they were made of, and a program that uses the ONNX file."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet.errors import RunError
from unet.export.network import Exported

INPUT, OUTPUT = "image", "probabilities"
OPSET = 18
TOLERANCE = 1e-5

ONNX, TORCHSCRIPT, DESCRIPTION, EXAMPLE = "model.onnx", "model.torchscript.pt", "model.json", "predict.py"

PROGRAM = '''"""Class probabilities of an image with onnxruntime alone: python predict.py IMAGE.tif PROBABILITIES.tif"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tifffile

here = Path(__file__).parent
said = json.loads((here / "model.json").read_text())
image = tifffile.imread(sys.argv[1])
image = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)  # C x H x W
how = said["normalisation"]
if how["kind"] == "fixed":
    image = (image - how["offset"]) / how["scale"]
else:
    values, axes = image.astype(np.float64), {"axis": (1, 2), "keepdims": True}
    if how["kind"] == "zscore":
        zero, span = values.mean(**axes), values.std(**axes)
        span[span <= 1e-12 * abs(zero)] = 0  # equal values, but for the rounding
    else:
        q = (how["low"], how["high"]) if how["kind"] == "percentile" else (0, 100)
        zero, high = np.percentile(values, q, **axes)
        span = high - zero
    image = (values - zero) / np.where(span > 0, span, 1)
sides = said["sides_px"]
margin, first = sides["output_smaller_by"] // 2, sides["smallest"] - sides["output_smaller_by"]
rest = [first - n if n < first else -(n - first) % sides["step"] for n in image.shape[1:]]
padded = np.pad(image.astype(np.float32), [(0, 0), *((margin, margin + more) for more in rest)], mode="reflect")
session = onnxruntime.InferenceSession(here / "model.onnx")
(probabilities,) = session.run(None, {"image": padded[None]})
tifffile.imwrite(sys.argv[2], probabilities[0, :, : image.shape[1], : image.shape[2]])
'''


def write_onnx(exported: Exported, folder: Path) -> Path:
    """model.onnx with free sizes, model.json beside it and a program that uses both; returns the ONNX file.

    RunError when the packages are missing, or when ONNX Runtime gives other probabilities than torch.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch asks for it when it exports
    except ImportError as error:
        missing = f"ONNX needs packages that are not there ({error.name})"
        raise RunError(f"{missing}; pip install 'unet-2015[export]'") from None
    path = folder / ONNX
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses packages that are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own future
        torch.onnx.export(
            exported.graph,
            (exported.example(),),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    # Nothing in the graph depends on the sizes (see Exportable). They are freed here, for torch takes five times as
    # long to export a graph of free sizes.
    del model.graph.value_info[:]
    for value in (model.graph.input[0], model.graph.output[0]):
        images, _, *sides = value.type.tensor_type.shape.dim
        images.dim_param = "N"
        for side, name in zip(sides, "HW", strict=True):
            side.dim_param = f"{name}_{value.name}"
    model.metadata_props.add(key="unet", value=json.dumps(exported.described()))
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _check(exported, lambda image: np.asarray(session.run(None, {INPUT: image})[0]), path)
    _describe(exported, folder)
    (folder / EXAMPLE).write_text(PROGRAM)
    return path


def write_torchscript(exported: Exported, folder: Path) -> Path:
    """model.torchscript.pt and model.json; returns the first. RunError when it gives other probabilities."""
    path = folder / TORCHSCRIPT
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch recommends torch.export, whose files other programs do not read yet
        traced = torch.jit.trace(exported.graph, exported.example())  # type: ignore[no-untyped-call]
        _check(exported, lambda image: traced(torch.from_numpy(image)).numpy(), path)
        traced.save(str(path))
    _describe(exported, folder)
    return path


def _describe(exported: Exported, folder: Path) -> None:
    """What another program must know, beside the file that it reads."""
    (folder / DESCRIPTION).write_text(json.dumps(exported.described(), indent=2) + "\n")


def _check(exported: Exported, run: Callable[[Any], NDArray[np.float32]], path: Path) -> None:
    """RunError unless the file gives the network's probabilities, for another size than it was made with."""
    smallest, step, _ = exported.sides
    rng = np.random.default_rng(1)
    image = rng.random((2, exported.metadata["channels"], smallest, smallest + 3 * step), dtype=np.float32)
    with torch.no_grad():
        expected = exported.graph(torch.from_numpy(image)).numpy()
    found = run(image)
    if found.shape != expected.shape or not np.abs(found - expected).max() <= TOLERANCE:
        raise RunError(f"{path}: does not give the probabilities of the network it was made of; report this")
