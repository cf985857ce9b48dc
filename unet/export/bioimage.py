"""A package for bioimage.io (model description 0.5): for ilastik, deepImageJ, QuPath and others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet import __version__
from unet.errors import RunError
from unet.export.formats import INPUT, ONNX, OPSET, OUTPUT, TORCHSCRIPT, write_onnx, write_torchscript
from unet.export.network import Exported

PACKAGE, DOCUMENTATION = "package.zip", "README.md"


def write_package(exported: Exported, folder: Path, name: str) -> Path:
    """package.zip with ONNX and TorchScript weights, a test input and output; returns it.

    RunError when the packages are missing or the package does not pass bioimageio.core's own test.
    """
    try:
        from bioimageio.core import test_model
        from bioimageio.spec import save_bioimageio_package
    except ImportError as error:
        raise RunError(
            f"bioimage.io needs packages that are not there ({error.name}); pip install 'unet-2015[export]'"
        ) from None
    write_onnx(exported, folder)
    write_torchscript(exported, folder)
    (folder / DOCUMENTATION).write_text(card(exported, name))
    raw = np.random.default_rng(2).integers(0, 256, exported.example().shape).astype(np.float32)
    np.save(folder / "test_input.npy", raw)
    with torch.no_grad():
        image = np.stack([exported.normalisation(one) for one in raw])
        np.save(folder / "test_output.npy", exported.graph(torch.from_numpy(image)).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save_bioimageio_package(_described(exported, folder, name), output_path=folder / PACKAGE)
        tested = test_model(path)
    if tested.status != "passed":
        problem = next((error.msg for detail in tested.details for error in detail.errors), "unknown")
        raise RunError(f"{path}: does not pass bioimageio.core's test ({problem.splitlines()[0][:200]}); report this")
    return Path(path)


def _described(exported: Exported, folder: Path, name: str) -> Any:
    """The model description."""
    from bioimageio.spec.model import v0_5

    smallest, step, smaller = exported.sides
    channels = [f"channel{n}" for n in range(exported.metadata["channels"])]
    space_in: list[Any] = [
        v0_5.SpaceInputAxis(id=v0_5.AxisId(axis), size=v0_5.ParameterizedSize(min=smallest, step=step)) for axis in "yx"
    ]
    space_out: list[Any] = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(axis),
            size=v0_5.SizeReference(tensor_id=v0_5.TensorId(INPUT), axis_id=v0_5.AxisId(axis), offset=-smaller),
        )
        for axis in "yx"
    ]

    def channel_axis(names: list[str]) -> Any:
        return v0_5.ChannelAxis(channel_names=[v0_5.Identifier(_identifier(one)) for one in names])

    return v0_5.ModelDescr(
        name=name,
        description=f"Unpadded U-Net: {', '.join(exported.metadata['class_names'])}",
        authors=[v0_5.Author(name="the unet-2015 authors")],
        cite=[v0_5.CiteEntry(text="Ronneberger et al. 2015", doi=v0_5.Doi("10.1007/978-3-319-24574-4_28"))],
        license=v0_5.LicenseId("MIT"),
        documentation=v0_5.FileDescr(source=folder / DOCUMENTATION),
        tags=["unet", "segmentation", "2d"],
        inputs=[
            v0_5.InputTensorDescr(
                id=v0_5.TensorId(INPUT),
                axes=[v0_5.BatchAxis(), channel_axis(channels), *space_in],
                test_tensor=v0_5.FileDescr(source=folder / "test_input.npy"),
                preprocessing=[_preprocessing(exported)],
            )
        ],
        outputs=[
            v0_5.OutputTensorDescr(
                id=v0_5.TensorId(OUTPUT),
                axes=[v0_5.BatchAxis(), channel_axis(exported.metadata["class_names"]), *space_out],
                test_tensor=v0_5.FileDescr(source=folder / "test_output.npy"),
            )
        ],
        weights=v0_5.WeightsDescr(
            onnx=v0_5.OnnxWeightsDescr(source=folder / ONNX, opset_version=OPSET, parent="torchscript"),
            torchscript=v0_5.TorchscriptWeightsDescr(
                source=folder / TORCHSCRIPT, pytorch_version=v0_5.Version(torch.__version__.partition("+")[0])
            ),
        ),
    )


def _preprocessing(exported: Exported) -> Any:
    """The normalisation in the words of the description."""
    from bioimageio.spec.model import v0_5

    how = exported.normalisation
    if how.kind == "fixed":
        gain = 1 / how.scale
        return v0_5.ScaleLinearDescr(kwargs=v0_5.ScaleLinearKwargs(gain=gain, offset=-how.offset * gain))
    axes = [v0_5.AxisId("y"), v0_5.AxisId("x")]
    if how.kind == "zscore":
        return v0_5.ZeroMeanUnitVarianceDescr(kwargs=v0_5.ZeroMeanUnitVarianceKwargs(axes=axes, eps=1e-9))
    low, high = how.percentiles
    kwargs = v0_5.ScaleRangeKwargs(axes=axes, min_percentile=low, max_percentile=high, eps=1e-9)
    return v0_5.ScaleRangeDescr(kwargs=kwargs)


def _identifier(name: str) -> str:
    """A class name as an identifier."""
    made = "".join(c if c.isalnum() and c.isascii() else "_" for c in name.lower())
    return made if made[:1].isalpha() else f"class_{made}"


def card(exported: Exported, name: str) -> str:
    """The model card, Markdown."""
    smallest, step, smaller = exported.sides
    data = str(exported.metadata.get("data", "unknown data")).rpartition("/")[2]  # without the machine's folders
    how, model, record = exported.normalisation, exported.metadata["model"], exported.metadata.get("record", {})
    gray = {
        "fixed": f"(value - {how.offset:g}) / {how.scale:g}",
        "zscore": "mean 0, standard deviation 1, of each image and channel",
        "minmax": "darkest 0, brightest 1, of each image and channel",
        "percentile": f"percentiles {how.low:g} and {how.high:g} of each image and channel become 0 and 1",
    }[how.kind]
    scores = "".join(f"- {key}: {value:.4g}\n" for key, value in record.get("scores", {}).items())
    scored = f"\nScores ({record['scored_on']}):\n\n{scores}" if scores else ""
    return (
        f"# {name}\n\n"
        f"Unpadded U-Net of {model['depth']} levels and {model['base_channels']} channels (Ronneberger, Fischer, Brox "
        f"2015), exported by unet-2015 {__version__}; trained on {data}.\n\n"
        f"- input: N x {exported.metadata['channels']} x H x W float32, sides {smallest} + multiples of {step} px\n"
        f"- gray values: {gray}\n"
        f"- output: probabilities N x {len(exported.metadata['class_names'])} x (H - {smaller}) x (W - {smaller}) of "
        f"{', '.join(exported.metadata['class_names'])}\n"
        f"- border: mirror {smaller // 2} px on each side (without repeating the border pixel) to get the whole image\n"
        "- validation: on images unlike those it was trained on, check it before you use it\n"
        f"{scored}"
    )
