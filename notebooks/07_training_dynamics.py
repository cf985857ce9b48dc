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
# # 07 Training dynamics: the images that stand out
#
# **Shows** how the loss of every single training image runs during training, and how images with a wrong label or an
# unusual look are found by their curves. One label is corrupted on purpose and must come out on top; one image is
# spoilt and must be told from it.
#
# **Takes** about 20 seconds on one quiet CPU core, most of it a training of 450 updates (with `UNET_NOTEBOOKS=short`
# 250). Reads EM from `$UNET_DATA` or `data/`, else uses the built-in synthetic stack.

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
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats

from unet.config import DataConfig, from_dict
from unet.data.load import load, name_here
from unet.device import choose
from unet.views.display import label_colours
from unet.training.dynamics import SUSPECT, excess, follow, standings
from unet.prediction.overlap import predict_image
from unet.prediction.trained import load_network

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})
torch.set_num_threads(1)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"

# %% [markdown]
# ## A small stack with two bad images
#
# Twelve images of 256 x 256 px. One gets the label of another place, as happens when files are mixed up. Another keeps
# its label, but the image is out of focus and pale.

# %%
full = load(DataConfig(name=name_here("em")), lambda _: None)
every = max(1, len(full) // 12)
frames = [
    replace(f, image=f.image[:, :256, :256].copy(), label=f.label[:256, :256].copy(), instances=None)
    for f in full.frames[::every][:12]
]
wrong, spoilt = frames[7].name, frames[4].name
frames[7] = replace(frames[7], label=full.frames[-1].label[-256:, -256:].copy())
frames[4] = replace(frames[4], image=0.5 * cv2.GaussianBlur(frames[4].image[0], (0, 0), 2)[None] + np.float32(0.1))
stack = replace(full, frames=tuple(frames))

figure, axes = plt.subplots(1, 6, figsize=(11, 2.1))
for column, (number, title) in enumerate(((5, "usual"), (7, "wrong label"), (4, "spoilt image"))):
    axes[2 * column].imshow(frames[number].image[0], vmin=0, vmax=1)
    axes[2 * column].set_title(f"{title}: {frames[number].name}", fontsize=8)
    axes[2 * column + 1].imshow(label_colours(frames[number].label, stack.classes))
    axes[2 * column + 1].set_title("label", fontsize=8)
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# *Figure 1. An image as it should be, the one with the wrong label, the spoilt one. At a glance a wrong label looks
# like any other.*
#
# ## Training, with an eye on every image
#
# `unet.training.dynamics.follow` trains like `unet train`, to the same bits, and every few updates notes the loss of each whole
# training image (no deformation, no weights, dropout off) in the run folder.

# %%
config = from_dict(
    {
        "data": {"name": full.name, "split": "blocks", "folds": 6},
        "tile": {"input_px": 140},
        "augment": {"gray": [], "elastic_std_px": 4.0},
        "weight": {"balance": "none", "w0": 0.0},
        "model": {"base_channels": 8, "depth": 3, "dropout": 0.0},
        "optim": {"name": "adam", "lr": 3e-3, "schedule": "cosine", "final_factor": 0.1},
        "train": {
            "updates": 250 if SHORT else 450,
            "batch": 2,
            "eval_every": 10_000,
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
        },
        "wandb": {"mode": "disabled"},
    }
)
with tempfile.TemporaryDirectory() as folder:
    series = follow(config, stack, Path(folder) / "run", every=10)
    network, _ = load_network(Path(folder) / "run", choose(config))
print(f"{len(series.names)} training images, {len(series.updates)} evaluations")

# %%
colours = dict.fromkeys(series.names, "0.7") | {wrong: "C1", spoilt: "C0"}
labels = {wrong: "wrong label", spoilt: "spoilt image", series.names[0]: "the others"}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for axis, values in zip(axes, (series.losses_EF, excess(series.losses_EF))):
    for name, column in zip(series.names, values.T):
        axis.plot(
            series.updates,
            column,
            color=colours[name],
            linewidth=2 if name in (wrong, spoilt) else 1,
            label=labels.get(name),
            zorder=3 if name in (wrong, spoilt) else 2,
        )
    axis.set_xlabel("updates")
    axis.grid(axis="y")
axes[0].set(ylabel="loss of the image (nats)", title="loss of every training image")
axes[1].axhline(SUSPECT, color="black", linestyle=":", linewidth=1)
axes[1].set(ylabel="robust standard deviations", title="how far its logarithm lies above the median image")
axes[0].legend();
# %% [markdown]
# *Figure 2. Once the network has found out what membranes look like, the image with the wrong label contradicts it, and
# its loss rises while the others fall. The spoilt image stands out too, but only until the network has learned to cope
# with it. Dotted: the limit.*
#
# ## Who should be looked at

# %%
found = standings(series)
rows = [
    "| image | what was done to it | score | peak | loss at first | loss at last | found to be |",
    "| --- | --- | ---: | ---: | ---: | ---: | --- |",
]
done = {wrong: "wrong label", spoilt: "spoilt image"}
rows += [
    f"| {one.name} | {done.get(one.name, '')} | {one.score:.1f} | {one.peak:.1f} | {one.first:.3f} | {one.last:.3f} | "
    f"{one.kind if one.kind == 'usual' else f'**{one.kind}**'} |"
    for one in found
]
print(f"most suspicious: {found[0].name}; corrupted on purpose: {wrong}")
assert found[0].name == wrong
assert found[0].kind == "suspect"
assert max((one for one in found if one.name != wrong), key=lambda one: one.peak).name == spoilt
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. Score: robust standard deviations above the median image in the second half of training; peak: at its
# highest. **suspect** (score above 3): check the label. **odd** (peak above 3, score below): check the image.*
#
# ## Where the loss lies

# %%
figure, axes = plt.subplots(2, 4, figsize=(10, 5))
for row, (title, frame) in zip(axes, (("usual", frames[5]), ("wrong label", frames[7]))):
    probabilities = predict_image(network, frame.image, stack.classes)
    chosen = np.take_along_axis(probabilities, frame.label[None].astype(np.int64), axis=0)[0]
    pictures = (
        frame.image[0],
        label_colours(frame.label, stack.classes),
        probabilities[1],
        -np.log(np.maximum(chosen, 1e-4)),
    )
    for axis, picture, name in zip(
        row, pictures, (f"{title}: {frame.name}", "label", "probability of cell", "loss of the pixel (nats)")
    ):
        shown = axis.imshow(
            picture, **({"cmap": "magma", "vmin": 0, "vmax": 5} if "loss" in name else {"vmin": 0, "vmax": 1})
        )
        axis.set_title(name)
        axis.set_axis_off()
    figure.colorbar(shown, ax=row[3], fraction=0.046, pad=0.02)

# %% [markdown]
# *Figure 3. The network, which was trained on the wrong label as well, sees the membranes of the image and not those of
# its label: the loss draws both. In the usual image it lies along the rims of membranes, where people differ as well.*
#
# On data of your own: `follow(config, stack, path, every)` for a stack from `unet.data.load.load`, then `standings`. It
# takes as many images as you have; with fewer than about eight the median image is not well known.
