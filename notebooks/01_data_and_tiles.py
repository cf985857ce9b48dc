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
# # 01 The three data sets, and what a tile is
#
# **Shows** the images and labels of the paper's three data sets, why neighbouring frames must not be split between
# training and test, and how a training tile is made: output window, context, mirrored border, rotation, elastic grid.
#
# **Takes** about 10 seconds on one quiet CPU core. Reads the data sets from `$UNET_DATA` or `data/`; where one is
# missing, the built-in synthetic stack of the same kind stands in. Nothing is downloaded.

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
import os
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats

from unet.config import DataConfig, from_dict
from unet.data.load import load, name_here
from unet.data.stack import IGNORE, labelled
from unet.views.display import gray_limits, label_colours, object_colours, stretched, visible
from unet.geometry import context
from unet.views.preview import draw_place
from unet.study.text import data_name
from unet.tiles.source import TileSource
from unet.tiles.weightmap import components

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})

# %% [markdown]
# ## The data sets
#
# EM is a stack of sections through a fly's nerve cord: membranes between densely packed cells, every pixel labelled.
# The other two are films of cells from the Cell Tracking Challenge. Their *gold* labels, drawn by hand, exist for a few
# frames only and some of these are partial: of the other cells nothing is known.

# %%
stacks = {name: load(DataConfig(name=name_here(name)), lambda _: None) for name in ("em", "phc", "hela")}
rows = [
    "| data set | read as | frames | with a label | size (px) | pixels without label in these |",
    "| --- | --- | ---: | ---: | ---: | ---: |",
]
for name, stack in stacks.items():
    known = [stack.frames[i] for i in labelled(stack.frames)]
    unknown = np.mean([(frame.label == IGNORE).mean() for frame in known])
    rows.append(
        f"| {data_name(name)} | {stack.name} | {len(stack)} | {len(known)} | "
        f"{known[0].size[1]} x {known[0].size[0]} | {unknown:.1%} |"
    )
Markdown("\n".join(rows))

# %%
figure, axes = plt.subplots(3, 3, figsize=(9.6, 9.2), width_ratios=(1, 1, 1))
for row, (name, stack) in zip(axes, stacks.items()):
    known = [stack.frames[i] for i in labelled(stack.frames)]
    frame = max(known, key=lambda f: (0.02 < (f.label == IGNORE).mean(), -(f.label == IGNORE).mean()))
    objects = components(frame.label) if frame.instances is None else frame.instances
    count = len(np.unique(objects)) - 1
    pictures = (
        stretched(visible(frame.image), gray_limits(frame.image)),
        label_colours(frame.label, stack.classes),
        object_colours(objects),
    )
    for axis, picture, title in zip(row, pictures, (f"{data_name(name)}: {frame.name}", "label", f"{count} objects")):
        axis.imshow(picture)
        axis.set_title(title)
        axis.set_axis_off()

# %% [markdown]
# *Figure 1. One labelled frame of each set, image, label and objects. Label: black is membrane or background, white is
# cell, violet is not known: these pixels carry no loss and no score. Between touching cells of one film a ridge of
# background is drawn, for otherwise two classes could not keep them apart. Objects of EM are the 4-connected components
# of the label.*

# %% [markdown]
# ## Neighbours are near copies
#
# If frames were split at random, a held-out frame would lie between two training frames that look almost the same, and
# its score would say little. So blocks of consecutive slices (EM) or whole films (the others) are held out.

# %%
figure, axis = plt.subplots(figsize=(6, 2.7))
for name, stack in stacks.items():
    sequences = dict.fromkeys(frame.sequence for frame in stack.frames)
    films = [
        [cv2.GaussianBlur(f.image[0], (0, 0), 8)[::4, ::4].ravel() for f in stack.frames if f.sequence == s][:24]
        for s in sequences
    ]
    apart = range(1, min(13, *map(len, films)))
    alike = [
        np.mean([np.corrcoef(film[i], film[i + k])[0, 1] for film in films for i in range(len(film) - k)])
        for k in apart
    ]
    axis.plot(apart, alike, "o-", markersize=3, label=data_name(name))
axis.set(xlabel="frames apart", ylabel="correlation of blurred images", ylim=(-0.05, 1))
axis.grid(axis="y")
axis.legend();
# %% [markdown]
# *Figure 2. How alike two images of one film or stack are, by their distance: correlation of gray values, both blurred
# by a Gaussian of 8 px so that structures are compared and not noise or fine texture. Sections of EM are 50 nm apart
# and lose likeness within a few slices; the films keep it for longer than they are cut here.*

# %% [markdown]
# ## A tile: output window and context
#
# The network's convolutions are not padded: 508 px go in, 324 px come out, and a border of 92 px on each side is
# context only. The *output window* is drawn anywhere in the image, its corners included; where the context reaches
# beyond the image, the image is mirrored. Deformation acts on the coordinates of all pixels at once, so that image,
# label and weight are each sampled a single time.

# %%
em = stacks["em"]
still = {"rotation_deg": 0.0, "flips": False, "elastic_std_px": 0.0, "gray": []}
kinds = {
    "shift alone": still,
    "with elastic field": still | {"elastic_std_px": 10.0},
    "with rotation and flips": still | {"rotation_deg": 180.0, "flips": True},
    "all together": {"gray": []},
}
sources = {title: TileSource(em, from_dict({"augment": changes}), seed=0) for title, changes in kinds.items()}
first = sources["shift alone"]
corner = next(i for i in range(1000) if max(first.draw(i).origin) < 40)
print(
    f"tile {corner}: output window from {first.draw(corner).origin} px, input {first.input_px} px, output "
    f"{first.output_px} px, context {first.margin} px = {context()} px"
)

# %%
figure, axes = plt.subplots(2, 2, figsize=(9.6, 9.6))
for axis, (title, source) in zip(axes.flat, sources.items()):
    where = source.coordinates(corner).part(slice(None), slice(None))
    draw_place(axis, em.frames[source.draw(corner).frame], where, source)
    axis.set(title=title, xlabel="x (px)", ylabel="y (px)")

# %% [markdown]
# *Figure 3. The same tile under four settings: every tile draws the same random numbers in the same order, used or not.
# Blue: lines of the tile's pixels in the image. Orange: output window. Red, dashed: border of the image; beyond it,
# darker, the mirrored image. One tile may be mirrored at two borders.*

# %%
source = sources["all together"]
tile = source[corner]
side, margin = source.output_px, source.margin
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4))
axes[0].imshow(tile.image[0])
axes[0].add_patch(plt.Rectangle((margin - 0.5, margin - 0.5), side, side, fill=False, color="#ff9f1c", linewidth=1.5))
axes[1].imshow(label_colours(tile.target, em.classes))
shown = axes[2].imshow(tile.weight, cmap="magma")
figure.colorbar(shown, ax=axes[2], fraction=0.046, pad=0.02)
for axis, title in zip(axes, (f"input, {source.input_px} px", f"target, {side} px", f"weight, {side} px")):
    axis.set_title(title)
    axis.set_axis_off()

# %% [markdown]
# *Figure 4. What the network receives for this tile: the input with its output window, the target and the weight of
# every pixel (notebook 02).*

# %% [markdown]
# ## The elastic field
#
# The paper: random displacements on a coarse 3 x 3 grid, Gaussian with a standard deviation of 10 px, interpolated by
# bicubic splines. The grid spans the input tile.

# %%
source = sources["with elastic field"]
where, draw = source.coordinates(corner), first.draw(corner)
plain = first.coordinates(corner)
dy = where.y_HW + where.top - plain.y_HW - plain.top
dx = where.x_HW + where.left - plain.x_HW - plain.left
points = np.linspace(0, source.input_px - 1, 3)
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2))
for axis, field, title in zip(axes, (dy, dx), ("displacement down (px)", "displacement to the right (px)")):
    shown = axis.imshow(field, cmap="RdBu", vmin=-25, vmax=25)
    axis.scatter(*np.meshgrid(points, points), s=14, color="black", clip_on=False)
    axis.set_title(title)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes[1], fraction=0.046, pad=0.02)
sizes = [
    np.hypot(s.x_HW + s.left - p.x_HW - p.left, s.y_HW + s.top - p.y_HW - p.top)[::9, ::9].ravel()
    for i in range(40)
    for s, p in [(source.coordinates(i), first.coordinates(i))]
]
axes[2].hist(np.concatenate(sizes), bins=60, density=True, color="C0")
axes[2].set(title="length, 40 tiles", xlabel="displacement (px)", ylabel="density", yticks=[]);
# %% [markdown]
# *Figure 5. The field of this tile with its nine grid points (dots), and how far pixels move over many tiles.*

# %% [markdown]
# ## A tile is a pure function
#
# Tile *i* depends on the stack, the configuration, the seed and *i* alone, not on the number of workers, the order of
# calls or restarts. This is why a resumed run has the same bits as one that was not interrupted.

# %%
again = TileSource(em, from_dict({"augment": kinds["all together"]}), seed=0)
again[3], again[1]
same = all(np.array_equal(getattr(again[corner], part), getattr(tile, part)) for part in ("image", "target", "weight"))
print("the same bits after other tiles were cut:", same)
assert same

# %%
figure, axes = plt.subplots(1, 6, figsize=(9.6, 1.8))
for number, axis in enumerate(axes):
    axis.imshow(again[number].image[0, ::2, ::2])
    axis.set_title(f"tile {number}")
    axis.set_axis_off()

# %% [markdown]
# *Figure 6. The inputs of the first six tiles of this seed.*
