# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Predict your own image, step by step
#
# **Shows** what happens between an image file and a file of segmented cells: normalisation, tiles, probability,
# test-time rotations, instances, TIFF files; and the one command that does it all.
#
# **Takes** about 30 seconds on one quiet CPU core, most of it a training of 900 updates (with `UNET_NOTEBOOKS=short`
# 150). Name a trained run in `$UNET_RUN` to leave that out, and an image of yours in `$UNET_IMAGE`; without them a
# small network is trained on EM (from `$UNET_DATA` or `data/`, else the built-in synthetic stack) and a held-out slice
# is taken.

# %%
import contextlib
import io
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tifffile
import torch
from matplotlib_inline.backend_inline import set_matplotlib_formats

import unet
from unet.cli import main
from unet.config import from_dict
from unet.data.load import load, name_here
from unet.data.split import split
from unet.data.stack import Normalisation
from unet.data.images.tiff import read_images
from unet.device import choose
from unet.views.display import object_colours
from unet.prediction.instances import InstanceSettings, to_instances
from unet.metrics.pixel import class_ious, confusion, mean_iou
from unet.prediction.output import foreground, write_probabilities
from unet.prediction.overlap import predict_image, read_mirrored
from unet.terminal import Terminal
from unet.prediction.symmetry import members
from unet.prediction.tile_plan import plan
from unet.training.loop import train
from unet.prediction.trained import load_network

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 86})
torch.set_num_threads(1)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)

# %% [markdown]
# ## 1. A network
#
# A run folder made by `unet train`, or a small network trained now: 16 channels, four levels, tiles of 188 px.

# %%
config = from_dict(
    {
        "data": {"name": name_here("em")},
        "tile": {"input_px": 188},
        "augment": {"gray": []},
        "weight": {"balance": "none", "w0": 0.0},
        "model": {"base_channels": 16, "depth": 4, "dropout": 0.1},
        "optim": {"name": "adam", "lr": 2e-3, "schedule": "cosine", "final_factor": 0.02},
        "train": {"updates": 150 if SHORT else 900, "batch": 1, "eval_every": 10_000, "device": "cpu", "threads": 1},
        "wandb": {"mode": "disabled"},
    }
)
run = Path(os.environ.get("UNET_RUN") or folder / "run")
if not os.environ.get("UNET_RUN"):
    train(config, run, resume=False, overwrite=False, terminal=Terminal(quiet=True))
network, metadata = load_network(run, choose(config))
print(
    f"{sum(p.numel() for p in network.model.parameters()):,} parameters, classes {metadata['class_names']}, "
    f"gray values: {metadata['normalisation']['kind']}"
)

# %% [markdown]
# ## 2. An image
#
# Any TIFF, PNG or JPEG, of any size and bit depth. Without one of your own, a piece of a held-out slice is written to a
# file first, with odd sides, so that it fits no tile.

# %%
path, label = Path(os.environ.get("UNET_IMAGE") or folder / "image.tif"), None
if not os.environ.get("UNET_IMAGE"):
    stack = load(config.data, lambda _: None)
    frame = stack.frames[split(stack, config.data).held_out[2]]
    label = frame.label[60:421, 40:473]
    tifffile.imwrite(path, np.rint(frame.image[0, 60:421, 40:473] * 255).astype(np.uint8), photometric="minisblack")
raw = np.asarray(next(iter(read_images(path))))
print(f"channels x height x width: {raw.shape}, {raw.dtype}, gray values {raw.min()}..{raw.max()}")

# %% [markdown]
# ## 3. The same gray values as in training
#
# The weights file says how the training images were normalised; the same is done here.

# %%
image = Normalisation(**metadata["normalisation"])(raw)
print(f"{image.dtype}, {image.min():.3f}..{image.max():.3f}, mean {image.mean():.3f}")

# %% [markdown]
# ## 4. Tiles
#
# The image is covered by output windows; each needs its context, which is mirrored at the border. All windows begin on
# multiples of the network's stride, so that the result does not depend on the size of the tiles. (Here they are kept
# small to be seen; `tile_px=0` chooses the size that computes least.)

# %%
tiles = plan(*image.shape[1:], network.depth, 268)
margin = tiles.margin
mirrored = read_mirrored(image, -margin, -margin, image.shape[1] + 2 * margin, image.shape[2] + 2 * margin)
figure, axis = plt.subplots(figsize=(6.5, 5.6))
axis.imshow(
    mirrored[0], extent=(-margin - 0.5, image.shape[2] + margin - 0.5, image.shape[1] + margin - 0.5, -margin - 0.5)
)
for y in tiles.rows():
    for x in tiles.columns():
        block = tiles.block(y, x)
        axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), block.width, block.height, fill=False, color="#ff9f1c"))
axis.add_patch(
    plt.Rectangle((-margin - 0.5, -margin - 0.5), *reversed(tiles.input_px), fill=False, color="#4cc9f0", linewidth=2)
)
axis.add_patch(plt.Rectangle((-0.5, -0.5), image.shape[2], image.shape[1], fill=False, color="#ff4d6d", linestyle="--"))
axis.set(
    title=f"{len(tiles.rows())} x {len(tiles.columns())} tiles, {tiles.input_px[0]} px in, {tiles.output_px[0]} px out",
    xlabel="x (px)",
    ylabel="y (px)",
)
# %% [markdown]
# *Figure 1. Orange: output windows, red: border of the image (outside: mirrored), blue: what the network is given for
# the first window. Windows begin on multiples of the stride, so the last one of a row may overlap the one before.*
#
# ## 5. Probability

# %%
classes = len(metadata["class_names"])
one = predict_image(network, image, classes)
small = predict_image(network, image, classes, tile_px=268)
print(
    f"shape {one.shape}, sums to 1 within {np.abs(one.sum(axis=0) - 1).max():.1e}; "
    f"with tiles of 268 px the same within {np.abs(one - small).max():.1e}"
)

# %% [markdown]
# ## 6. Rotations
#
# The paper averages over seven rotated versions of the image (it does not say which). Here it can be all eight
# symmetries of the square: the image is turned and flipped, predicted, turned back, and averaged.

# %%
turned = predict_image(network, image, classes, symmetries=8)
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8))
difference = np.abs(foreground(turned) - foreground(one))
for axis, picture, title in zip(
    axes,
    (image[0], foreground(one), foreground(turned), difference),
    ("image", f"probability of {metadata['class_names'][-1]}", f"average of {len(members(8))} versions", "difference"),
):
    axis.imshow(
        picture,
        **({} if title == "image" else {"vmin": 0, "vmax": 0.5 if title == "difference" else 1}),
        cmap="magma" if title == "difference" else "gray",
    )
    axis.set_title(title)
    axis.set_axis_off()
if label is not None:
    for name, probabilities in (("once", one), ("eight versions", turned)):
        counts = confusion(label, probabilities.argmax(axis=0), classes)
        print(
            f"{name}: mean IoU {mean_iou(counts):.4f}, by class "
            f"{', '.join(f'{n} {v:.4f}' for n, v in zip(metadata['class_names'], class_ious(counts)))}"
        )

# %% [markdown]
# *Figure 2. One prediction, the average, and where they differ (white: by 0.5 or more).*
#
# ## 7. Cells
#
# What exceeds a threshold is foreground, its connected components are the objects, small ones are dropped, holes
# filled. `unet train` searches threshold and smallest area on training frames of cell data, and whether seeds grown by a
# watershed part touching cells better; for membranes choose by eye: a higher threshold splits, a lower one merges.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3))
found = {}
for axis, threshold in zip(axes, (0.5, 0.75, 0.9)):
    found[threshold] = to_instances(turned, InstanceSettings(threshold=threshold, min_area_px=50))
    axis.imshow(image[0])
    axis.imshow(np.dstack([object_colours(found[threshold]), 0.5 * (found[threshold] > 0)]))
    axis.set_title(f"threshold {threshold}: {found[threshold].max()} objects")
    axis.set_axis_off()

# %% [markdown]
# *Figure 3. Objects by threshold, each in a colour of its own, over the image.*
#
# ## 8. Files
#
# Probabilities as float32, objects as 16-bit numbers; both open in ImageJ/Fiji, napari and everything else.

# %%
write_probabilities(folder / "probability.tif", [foreground(turned)])
tifffile.imwrite(folder / "cells.tif", found[0.75].astype(np.uint16), imagej=True)
for name in ("probability.tif", "cells.tif"):
    with tifffile.TiffFile(folder / name) as file:
        print(
            f"{name}: {file.series[0].shape}, {file.series[0].dtype}, axes {file.series[0].axes}, "
            f"{(folder / name).stat().st_size:,} bytes"
        )

# %% [markdown]
# ## All of it in one command
#
# ```sh
# unet predict RUN IMAGE --symmetries 8 --out probability.tif
# ```
#
# streams files of any size row by row and can go on after a kill (`--resume`). It gives what the steps above gave:

# %%
with contextlib.redirect_stdout(io.StringIO()):
    code = main(
        [
            "predict",
            str(run),
            str(path),
            "--symmetries",
            "8",
            "--out",
            str(folder / "command.tif"),
            "--device",
            "cpu",
            "--quiet",
        ]
    )
same = np.abs(tifffile.imread(folder / "command.tif") - foreground(turned)).max()
print(f"exit code {code}; largest difference from step 6: {same:.1e}")
assert code == 0
assert same < 1e-6
