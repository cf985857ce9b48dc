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
# # 03 The network: feature maps, receptive field, and why 508 px and not 512
#
# **Shows** the sizes of all feature maps, what is in them after a short training, how much of the image one output
# pixel can see and how much of it it really uses, and what goes wrong with tiles of 512 px.
#
# **Takes** about 20 seconds on one quiet CPU core (half of it a training of 400 updates; with `UNET_NOTEBOOKS=short`
# 60). Reads EM from `$UNET_DATA` or `data/`, else uses the built-in synthetic stack.

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
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.colors import LogNorm
from matplotlib_inline.backend_inline import set_matplotlib_formats

from unet import networks
from unet.config import ModelConfig, from_dict
from unet.data.load import load, name_here
from unet.device import choose
from unet.views.features import feature_maps, set_identity_weights, input_gradient
from unet.geometry import context, layer_sizes, output_size, receptive_field, skip_misalignment, valid_sizes
from unet.model import centre_crop, parameters
from unet.networks import build
from unet.terminal import Terminal
from unet.tiles.source import TileSource
from unet.training.loop import train
from unet.prediction.trained import load_network

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})
torch.set_num_threads(1)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"

# %% [markdown]
# ## All sizes
#
# Every 3 x 3 convolution takes one pixel from each side, every pooling halves, every up-convolution doubles.

# %%
layers = layer_sizes(508)
channels = [1, *[64 * 2**layer.level for layer in layers[1:-1]], 2]
shades = {"pool": "C1", "upco": "C2", "inpu": "0.6", "outp": "0.6"}
figure, axis = plt.subplots(figsize=(9.6, 4.2))
for place, (layer, width) in enumerate(zip(layers, channels)):
    kind = layer.name.split(".")[-1][:4]
    axis.bar(place, layer.size, 0.75, bottom=-layer.size / 2 - 190 * layer.level, color=shades.get(kind, "C0"))
    axis.text(place, layer.size / 2 - 190 * layer.level + 8, f"{layer.size}\n[{width}]", ha="center", fontsize=6.5)
for level in range(4):
    ends = [i for i, layer in enumerate(layers) if layer.name in (f"down{level}.conv2", f"up{level}.upconv")]
    axis.annotate(
        "",
        (ends[1] - 0.5, -190 * level),
        (ends[0] + 0.5, -190 * level),
        arrowprops={"arrowstyle": "->", "color": "0.5", "linestyle": ":"},
    )
for colour, label in (
    ("C0", "3 x 3 convolution + ReLU"),
    ("C1", "2 x 2 max-pooling"),
    ("C2", "2 x 2 up-convolution (its half of the concatenation)"),
    ("0.6", "input, output"),
):
    axis.bar(0, 0, color=colour, label=label)
axis.legend(loc="lower left", fontsize=7)
axis.set_axis_off()
axis.set_ylim(-1000, 330);
# %% [markdown]
# *Figure 1. The feature maps for a tile of 508 px: height is the side in pixels, numbers are side and [channels].
# Dotted: the skip connections, cropped at the centre from the left size to the right one.*

# %%
rows = [
    "| variant | parameters | last up-convolution | ReLU after up-convolution | concatenation |",
    "| --- | ---: | --- | --- | --- |",
]
for variant, told in (
    ("figure1", "64 channels | no | skip first"),
    ("released", "128 channels | yes | up-sampled first"),
):
    with torch.device("meta"):
        rows.append(f"| `{variant}` | {parameters(networks.network(ModelConfig(variant=variant))):,} | {told} |")
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. The network as drawn in the paper and as released with its code differ a little; both can be built.*
#
# ## What is in the maps
#
# A small network (8 channels instead of 64, all five levels) is trained on EM for a moment, so that its maps mean
# something.

# %%
config = from_dict(
    {
        "data": {"name": name_here("em")},
        "tile": {"input_px": 252},
        "augment": {"gray": []},
        "weight": {"balance": "none", "w0": 0.0},
        "model": {"base_channels": 8, "dropout": 0.0},
        "optim": {"name": "adam", "lr": 3e-3, "schedule": "cosine"},
        "train": {
            "updates": 60 if SHORT else 400,
            "batch": 1,
            "eval_every": 10_000,
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
        },
        "wandb": {"mode": "disabled"},
    }
)
with tempfile.TemporaryDirectory() as folder:
    run = train(config, Path(folder) / "run", resume=False, overwrite=False, terminal=Terminal(quiet=True))
    network, _ = load_network(run.path, choose(config))
    last = [row for row in run.rows("metrics.jsonl") if row["part"] == "held_out"][-1]
print(f"held-out mean IoU after {last['update']} updates: {last['mean_iou']:.3f}")

# %%
stack = load(config.data, lambda _: None)
tile = stack.frames[0].image[None, :, :252, :252]
maps = feature_maps(network.model, torch.from_numpy(np.ascontiguousarray(tile)))
assert [(name, m.shape[-1]) for name, m in maps.items()] == [(layer.name, layer.size) for layer in layer_sizes(252)]
shown = [
    "input",
    "down0.conv2",
    "down1.conv2",
    "down2.conv2",
    "down3.conv2",
    "down4.conv2",
    "up3.conv2",
    "up2.conv2",
    "up1.conv2",
    "up0.conv2",
]
figure, axes = plt.subplots(2, 5, figsize=(9.6, 4.5))
for axis, name in zip(axes.flat, shown):
    busiest = maps[name][0, maps[name][0].flatten(1).std(1).argmax()].numpy()
    axis.imshow(busiest, vmin=0, vmax=np.percentile(busiest, 99.5) or None)
    axis.set_title(f"{name}, {busiest.shape[0]} px")
    axis.set_axis_off()

# %% [markdown]
# *Figure 2. For each level on the way down (upper row and first below) and on the way up: the channel that varies most,
# behind its ReLU. The way down trades place for meaning; the way up puts the membranes back to the pixel. Every map is
# drawn to the same width; those of the way up cover the middle of the tile only.*

# %% [markdown]
# ## What one output pixel sees
#
# By calculation: the union of all ways through the network. It depends on where the pixel lies in the pooling windows.

# %%
px, at = 252, output_size(252) // 2
fields = [receptive_field(i, px) for i in range(at - 16, at + 17)]
low, high = receptive_field(at, px)
print(f"output pixel {at} lies above input pixel {at + context()} and can see {low}..{high}: {high - low + 1} px")
print("sizes over one period of 16 px:", sorted({last - first + 1 for first, last in fields}), "px")

# %% [markdown]
# By measurement: the gradient of the pixel's logits with respect to the input, averaged over tiles ([Luo et al.
# 2016](https://arxiv.org/abs/1701.04128)).

# %%
source = TileSource(stack, config, seed=1)
tiles = torch.from_numpy(np.stack([source[i].image for i in range(4 if SHORT else 16)]))
seen = {
    "initial weights": input_gradient(build(config.model, 1, 2, seed=0), tiles, at, at),
    f"after {config.train.updates} updates": input_gradient(network.model, tiles, at, at),
}
black = plt.colormaps["magma"].with_extremes(bad="black")
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.1))
for axis, (title, gradient) in zip(axes, seen.items()):
    drawn = axis.imshow(gradient / gradient.max(), cmap=black, norm=LogNorm(1e-5, 1))
    axis.add_patch(
        plt.Rectangle((low - 0.5, low - 0.5), high - low + 1, high - low + 1, fill=False, color="C2", linestyle="--")
    )
    axis.set_title(title)
    axis.set_axis_off()
    by_distance = np.abs(np.arange(px) - at - context())
    radius = np.maximum.outer(by_distance, by_distance).ravel()
    held = np.cumsum(np.bincount(radius, gradient.ravel())) / gradient.sum()
    axes[2].plot(2 * np.arange(held.size) + 1, held, label=title)
    print(
        f"{title}: half of the gradient lies in a window of {2 * int(np.argmax(held >= 0.5)) + 1} px, "
        f"95 % in one of {2 * int(np.argmax(held >= 0.95)) + 1} px"
    )
figure.colorbar(drawn, ax=axes[1], fraction=0.046, pad=0.02)
axes[2].axvline(high - low + 1, color="C2", linestyle="--", linewidth=1)
axes[2].set(
    xlabel="side of a window around the pixel (px)", ylabel="share of the gradient", xlim=(0, px), ylim=(0, 1.02)
)
axes[2].legend(loc="lower right")
axes[2].grid()
# %% [markdown]
# *Figure 3. Gradient of one output pixel with respect to the tile, relative to its maximum; green: the calculated
# field, beyond which it is exactly 0. Right: how much of it lies within a window around the pixel. What is used is far
# smaller than what can be seen, and the trained network decides on its own how far it looks.*

# %%
outside = np.ones((252, 252), bool)
outside[low : high + 1, low : high + 1] = False
largest = max(gradient[outside].max() for gradient in seen.values())
print("largest gradient outside the calculated field:", largest)
assert largest == 0

# %% [markdown]
# ## Why 508 and not 512
#
# The paper: all poolings must meet maps of an even size. With 512 px the third pooling meets 121 px and drops the last
# row and column. The deep path then covers another part of the tile than the centre crop of the skips assumes.

# %%
rows = [
    "| tile | valid | maps before the four poolings | output | skips out of line, level 0 to 3 (input px) |",
    "| ---: | --- | --- | ---: | --- |",
]
for px in (508, 512, 252, 256, 572):
    sizes = {layer.name: layer.size for layer in layer_sizes(px, allow_odd_pooling=True)}
    before = ", ".join(f"**{n}**" if n % 2 else str(n) for n in (sizes[f"down{level}.conv2"] for level in range(4)))
    rows.append(
        f"| {px} | {'yes' if valid_sizes(px, px) else 'no'} | {before} | {sizes['output']} | "
        f"{', '.join(f'{s:g}' for s in skip_misalignment(px))} |"
    )
Markdown("\n".join(rows))

# %% [markdown]
# *Table 2. Odd maps in bold. 512 px give no more output than 508 px, only skips that are 2 px out of line; the same for
# 256 and 252 px.*
#
# To see it, all layers are set to hand on one of their inputs unchanged (`unet.views.features.set_identity_weights`). The tile holds the x
# coordinate of each pixel: so every feature map says which input pixels it stands for, and skip and up-sampled map can
# be compared where they are concatenated.

# %%
found = {}
for px in (508, 512):
    model = set_identity_weights(build(ModelConfig(base_channels=2, allow_odd_pooling=True), 1, 2, seed=0))
    tile = torch.arange(px, dtype=torch.float32).expand(1, 1, px, px)
    maps = feature_maps(model, tile)
    for level in range(4):
        deep = maps[f"up{level}.upconv"][0, 0]
        skip = centre_crop(maps[f"down{level}.conv2"], *deep.shape)[0, 0]
        # a max-pooling hands on the last coordinate of its window, which is 7.5 px behind the middle of 16 px
        found[px, level] = float((skip - deep).mean()) + 7.5 - (2**level - 1) / 2
rows = ["| tile | level 0 | level 1 | level 2 | level 3 |", "| ---: | ---: | ---: | ---: | ---: |"]
rows += [f"| {px} | " + " | ".join(f"{found[px, level]:.2f} px" for level in range(4)) + " |" for px in (508, 512)]
assert all(abs(found[px, level] - skip_misalignment(px)[level]) < 1e-3 for px, level in found)
Markdown("\n".join(rows))

# %% [markdown]
# *Table 3. Measured in the network: how many input pixels further to the right the place lies that a pixel of the skip
# stands for, compared with the pixel of the deep path it is concatenated with.*

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.6, 4))
for axis, px in zip(axes, (508, 512)):
    model = set_identity_weights(build(ModelConfig(base_channels=2, allow_odd_pooling=True), 1, 2, seed=0), skip_level=2)
    membrane = torch.from_numpy((stack.frames[0].label[None, None, :px, :px] == 0).astype(np.float32))
    maps = feature_maps(model, membrane)
    deep = maps["up0.upconv"][0, 0]
    skip = centre_crop(maps["down0.conv2"], *deep.shape)[0, 0]
    missed = float(((skip == 1) & (deep == 0)).sum() / (skip == 1).sum())
    window = np.s_[140:236, 140:236]
    axis.imshow(np.stack([skip[window], deep[window], deep[window]], axis=-1))
    axis.set_title(f"{px} px: {missed:.1%} of the fine map outside the coarse one")
    axis.set_axis_off()

# %% [markdown]
# *Figure 4. What is concatenated at level 0, laid over each other: membranes (of a label) as the skip brings them and,
# 4 px coarse by way of level 2, as the up-sampled map does. White: both, cyan: coarse map only, red: skip only.
# Max-pooling only makes membranes thicker, so aligned maps (508 px) leave no red. With 512 px the coarse map comes out
# 2 px to the right of and below the fine one, and the network must learn to undo it.*
