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
# # 02 The weight map, the blog's and the paper's side by side
#
# **Shows** how the weight of every pixel in the loss comes about, what the blog post's map does differently, and where
# the loss of each map comes from.
#
# **Takes** about 5 seconds on one quiet CPU core. Reads EM and DIC-HeLa from `$UNET_DATA` or `data/`; where one is
# missing, the built-in synthetic stack of the same kind stands in.

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

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.colors import LogNorm
from matplotlib_inline.backend_inline import set_matplotlib_formats

from unet.config import DataConfig, WeightConfig
from unet.data.load import load, name_here
from unet.data.stack import IGNORE, labelled
from unet.views.display import IGNORE_COLOUR, gray_limits, label_colours, stretched, visible
from unet.tiles.weightmap import border_term, class_balance, components, two_nearest, weight_map

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})
heat = plt.colormaps["magma"].with_extremes(bad=IGNORE_COLOUR)

# %% [markdown]
# ## The equation
#
# $$w(x) = w_c(x) + w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2\sigma^2}\right), \qquad w_0 = 10,\ \sigma \approx 5$$
#
# $d_1$ and $d_2$ are the distances to the nearest and to the second nearest cell, $w_c$ "balances the class
# frequencies"; the paper gives no formula for it. Here $w_c = N / (K n_c)$ for a class with $n_c$ of $N$ pixels ($K$
# classes): its mean is 1. The paper's own picture of the map (its Figure 3) is of HeLa cells, so these come first.

# %%
hela = load(DataConfig(name=name_here("hela")), lambda _: None)
frame = max(
    (hela.frames[i] for i in labelled(hela.frames)),
    key=lambda f: (f.label == IGNORE).mean() * (len(np.unique(f.instances)) > 6),
)
paper, blog, none = WeightConfig(), WeightConfig(balance="blog"), WeightConfig(balance="none", w0=0.0)
d1, d2 = two_nearest(frame.instances, reach_px=60)
unknown = frame.label == IGNORE
parts = {
    "d1 (px)": np.minimum(d1, 60),
    "d2 (px)": np.minimum(d2, 60),
    "border term, w0 = 10, sigma = 5 px": np.ma.array(border_term(frame.instances, 10, 5), mask=unknown),
    "class balance w_c": np.ma.array(class_balance(frame.label, "inverse_frequency"), mask=unknown),
    "weight map w": np.ma.array(weight_map(frame.label, frame.instances, paper), mask=unknown),
}
figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.3))
axes.flat[0].imshow(stretched(visible(frame.image), gray_limits(frame.image)))
axes.flat[0].set_title(f"image {frame.name}")
for axis, (title, values) in zip(axes.flat[1:], parts.items()):
    shown = axis.imshow(values, cmap="viridis" if "px)" in title else heat, vmin=0)
    axis.set_title(title)
    figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02)
for axis in axes.flat:
    axis.set_axis_off()

# %% [markdown]
# *Figure 1. From image to weight map, with the equation's parts. Distances are shown up to 60 px. Violet: cells without
# annotation, weight 0. The border term also lives inside the cells: there $d_1 = 0$ and $d_2$ is the way to the
# neighbour, so the rims of two touching cells weigh nearly as much as the ridge between them. (The paper's equation
# is not restricted to the background. Its words, "distance to the border" of a cell, leave open what holds inside one;
# with the distance to the outline in place of $d_1 = 0$ the term would fall faster there, and be the same in the gaps.)*

# %% [markdown]
# ## What the border term asks for
#
# In a gap between two cells, $d_1 + d_2$ is about its width, wherever in the gap the pixel lies. So the term depends on
# the width of the gap alone.

# %%
gap = np.linspace(0, 25, 200)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True)
for sigma in (2.5, 5, 10):
    axes[0].plot(gap, 10 * np.exp(-(gap**2) / (2 * sigma**2)), label=f"sigma = {sigma:g} px")
cells = np.zeros((41, 120), np.int32)
for width, colour in ((2, "C0"), (6, "C1"), (12, "C2")):
    cells[:] = 0
    cells[:, : 60 - width // 2], cells[:, 60 + width // 2 :] = 1, 2
    axes[1].plot(
        np.arange(120) - 59.5,
        border_term(cells, 10, 5)[20],
        ".-",
        markersize=3,
        color=colour,
        label=f"gap of {width} px",
    )
    axes[1].axvspan(-width / 2, width / 2, color=colour, alpha=0.08, linewidth=0)
axes[0].set(xlabel="width of the gap (px)", ylabel="border term", title="in the gap", ylim=(0, 10.5))
axes[1].set(xlabel="across the gap (px), 0: its middle", title="across two cells, sigma = 5 px", xlim=(-25, 25))
for axis in axes:
    axis.grid()
    axis.legend()

# %% [markdown]
# *Figure 2. Left: the term between two cells by the width of the gap. Right: the term along a line across two cells
# (shaded: the gap); a wide gap raises nothing.*

# %% [markdown]
# ## The blog's map
#
# The blog post takes $w_c = 1 / n_c$. On a slice of 512 x 512 px this is about $5 \cdot 10^{-6}$: beside $w_0 = 10$
# there is no class balance, and a pixel far from any border has no weight at all. From runs with this map it was
# concluded that weight maps do not help. (`weight.balance: blog` makes this map; the study `weight-map` measures what
# it does.)

# %%
em = load(DataConfig(name=name_here("em")), lambda _: None)
slice0 = em.frames[labelled(em.frames)[0]]
maps = {
    "paper": weight_map(slice0.label, None, paper),
    "blog": weight_map(slice0.label, None, blog),
    "no map": weight_map(slice0.label, None, none),
}
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
axes[0].imshow(label_colours(slice0.label, em.classes))
axes[0].set_title(f"label {slice0.name}")
for axis, name in zip(axes[1:], ("paper", "blog")):
    shown = axis.imshow(maps[name], cmap=heat, vmin=0, vmax=maps["paper"].max())
    axis.set_title(f"{name}: {maps[name].min():.2g} .. {maps[name].max():.3g}")
axes[3].set_title("blog, logarithmic")
log = axes[3].imshow(maps["blog"], cmap=heat, norm=LogNorm(1e-6, 10))
figure.colorbar(shown, ax=axes[2], fraction=0.046, pad=0.02)
figure.colorbar(log, ax=axes[3], fraction=0.046, pad=0.02)
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# *Figure 3. The two maps of one EM slice, same colours, and the blog's again on a logarithmic scale: the interiors of
# the larger cells weigh a million times less than their rims.*

# %%
rows = [
    "| map | least | median | mean | pixels below 0.01 | weight held by the heaviest quarter | weight on membranes |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
]
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
membrane = slice0.label == 0
for name, weight in maps.items():
    heaviest = np.sort(weight.ravel().astype(np.float64))[::-1]
    share = np.cumsum(heaviest) / heaviest.sum()
    rows.append(
        f"| {name} | {heaviest[-1]:.2g} | {np.median(heaviest):.2f} | {heaviest.mean():.2f} | "
        f"{(heaviest < 0.01).mean():.1%} | "
        f"{share[share.size // 4 - 1]:.1%} | {weight[membrane].sum(dtype=float) / weight.sum(dtype=float):.1%} |"
    )
    axes[0].plot(np.linspace(0, 1, share.size)[::512], share[::512], label=name)
    if name != "no map":
        axes[1].hist(
            np.log10(heaviest), bins=np.linspace(-6, 1.5, 90), histtype="step", linewidth=1.5, density=True, label=name
        )
rows.append(
    f"\n{membrane.mean():.1%} of the pixels are membrane; {len(np.unique(components(slice0.label))) - 1} cells."
)
axes[0].set(xlabel="share of the pixels, heaviest first", ylabel="share of the weight", title="who holds the weight")
axes[1].set(xlabel="log10 of the weight", ylabel="density of pixels", title="distribution of the weights")
for axis in axes:
    axis.legend()
axes[0].grid()
plt.show()
Markdown("\n".join(rows))

# %% [markdown]
# *Figure 4 and table. With the blog's map about a quarter of the pixels carries practically no loss: the network is
# never told that the middle of a cell is cell. With the balanced map every pixel counts, borders most.*
#
# What the maps do to the trained network is measured in the study `weight-map` (notebook 04), by IoU and, because that
# is what they are for, by the scores of separated cells: SEG, V_rand, warping error.
