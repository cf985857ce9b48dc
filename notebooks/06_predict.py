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
# test-time rotations, instances, TIFF files; and the call and the command that do it all.
#
# **Takes** about 20 seconds on one quiet CPU core. The network is the one of membranes that comes with the package, the
# image a piece of a slice it was not trained on (a test slice of the EM challenge, from `$UNET_DATA` or `data/`, else of
# the built-in synthetic stack). Name an image and a network of yours in the third cell.

# %%
REPOSITORY = ""  # only where there is no copy of it yet, as on Colab: the address to clone it from
try:
    import unet
except ModuleNotFoundError:
    import subprocess, sys

    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "unet-2015"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "./unet-2015"], check=True)
    sys.path.insert(0, "unet-2015")
    import unet

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

from unet.cli import main
from unet.config import DataConfig, PredictConfig
from unet.data.images.tiff import read_images
from unet.data.isbi import read_test
from unet.data.load import find_root, load
from unet.datasets import DATA_SETS
from unet.prediction.instances import InstanceSettings, to_instances
from unet.prediction.output import foreground, write_probabilities
from unet.prediction.overlap import predict_image, read_mirrored
from unet.prediction.symmetry import members
from unet.prediction.tile_plan import plan
from unet.views.display import object_colours

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 86})
torch.set_num_threads(1)
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"

# %% [markdown]
# ## 1. An image and a network
#
# The image: any TIFF, PNG or JPEG, of any size and bit depth. The network: a run folder made by `unet train`, a weights
# file, or the name of one that comes along. Without an image of yours a piece of a slice is written to a file first, with
# odd sides, so that it fits no tile.

# %%
IMAGE = ""
NETWORK = "em"

# %%
path = Path(IMAGE or folder / "image.tif")
if not IMAGE:
    em = DATA_SETS["em"]
    root = find_root(em)
    slices = read_test(root / em.folder) if root else load(DataConfig(name="synthetic-em"), lambda _: None)
    piece = slices.frames[2].image[0, 60 : 241 if SHORT else 421, 40:473]
    tifffile.imwrite(path, np.rint(piece * 255).astype(np.uint8), photometric="minisblack")
raw = np.asarray(next(iter(read_images(path))))
print(f"channels x height x width: {raw.shape}, {raw.dtype}, gray values {raw.min()}..{raw.max()}")

# %% [markdown]
# ## 2. In three lines
#
# The network knows how its images are to be normalised, in which symmetries it was scored, and how its objects are made.

# %%
model = unet.load(NETWORK, device="cpu", precision="fp32")
probabilities = model.predict(raw)
objects = model.segment(raw)
print(f"classes {model.class_names}: probabilities {probabilities.shape}; {objects.max()} objects")

# %% [markdown]
# What follows takes these lines apart.
#
# ## 3. The same gray values as in training
#
# The weights file says how the training images were normalised; the same is done here.

# %%
network, normalisation = model.trained.network, model.trained.normalisation
image = normalisation(raw)
print(f"gray values {normalisation.kind}: {image.dtype}, {image.min():.3f}..{image.max():.3f}, mean {image.mean():.3f}")

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
);

# %% [markdown]
# *Figure 1. Orange: output windows, red: border of the image (outside: mirrored), blue: what the network is given for
# the first window. Windows begin on multiples of the stride, so the last one of a row may overlap the one before.*
#
# ## 5. Probability

# %%
classes = len(model.class_names)
one = predict_image(network, image, classes)
small = predict_image(network, image, classes, PredictConfig(tile_px=268))
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
turned = predict_image(network, image, classes, PredictConfig(symmetries=8))
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8))
difference = np.abs(foreground(turned) - foreground(one))
for axis, picture, title in zip(
    axes,
    (image[0], foreground(one), foreground(turned), difference),
    ("image", f"probability of {model.class_names[-1]}", f"average of {len(members(8))} versions", "difference"),
):
    axis.imshow(
        picture,
        **({} if title == "image" else {"vmin": 0, "vmax": 0.5 if title == "difference" else 1}),
        cmap="magma" if title == "difference" else "gray",
    )
    axis.set_title(title)
    axis.set_axis_off()
print(f"they differ by {difference.mean():.4f} on average, by at most {difference.max():.2f}")

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
# ## All of it in one command, or in the browser
#
# ```sh
# unet predict em IMAGE --symmetries 8 --out probability.tif
# ```
#
# streams files of any size row by row and can go on after a kill (`--resume`); `unet app` opens a page to drop images on. It gives what the steps above gave:

# %%
with contextlib.redirect_stdout(io.StringIO()):
    code = main(
        [
            "predict",
            NETWORK,
            str(path),
            "--symmetries",
            "8",
            "--out",
            str(folder / "command.tif"),
            "--device",
            "cpu",
            "--precision",
            "fp32",
            "--quiet",
        ]
    )
same = np.abs(tifffile.imread(folder / "command.tif") - foreground(turned)).max()
print(f"exit code {code}; largest difference from step 6: {same:.1e}")
assert code == 0
assert same < 1e-6
