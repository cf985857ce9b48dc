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
# # 08 Curvature: how steep the valley is that training ends in
#
# **Shows** the largest curvature of the loss (the top eigenvalue of its Hessian) of a small U-Net during gradient
# descent at three rates, with and without momentum, beside the curvature at which a quadratic would become unstable:
# 2 / rate, with momentum b 2 (1 + b) / rate.
#
# **Takes** about 45 seconds on one quiet CPU core (with `UNET_NOTEBOOKS=short` 15). Reads EM from `$UNET_DATA` or
# `data/`, else uses the built-in synthetic stack.

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
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch.nn import functional

from unet.config import DataConfig, ModelConfig
from unet.data.load import load, name_here
from unet.geometry import context
from unet.networks import build
from unet.training.curvature import along, descend
from unet.views.display import label_colours

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})
torch.set_num_threads(1)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"
UPDATES = 20 if SHORT else 240
EVERY = 10

# %% [markdown]
# ## A network and four tiles
#
# Full-batch gradient descent: the same four tiles in every update, no deformation, no dropout, so that the loss is one
# fixed function of the weights and its curvature means what the theory says.

# %%
stack = load(DataConfig(name=name_here("em")), lambda _: None)
depth, side = 3, 92
margin = context(depth)
frames = stack.frames[:4]
images = torch.from_numpy(np.stack([f.image[:, :side, :side] for f in frames]))
labels = torch.from_numpy(np.stack([f.label[margin : side - margin, margin : side - margin] for f in frames])).long()

figure, axes = plt.subplots(1, 8, figsize=(11, 1.6))
for number, frame in enumerate(frames):
    axes[2 * number].imshow(images[number, 0], cmap="gray", vmin=0, vmax=1)
    axes[2 * number].set_title(frame.name, fontsize=7)
    axes[2 * number + 1].imshow(label_colours(labels[number].numpy().astype(np.uint8), stack.classes))
    axes[2 * number + 1].set_title("label", fontsize=7)
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# *Figure 1. The four tiles and the labels of the part that the network predicts.*
#
# ## Going down
#
# The same first weights, four settings of gradient descent.

# %%
SETTINGS = [(0.05, 0.0), (0.1, 0.0), (0.2, 0.0), (0.02, 0.9)]
models = [
    build(ModelConfig(base_channels=8, depth=depth, dropout=0.0), stack.channels, stack.classes, seed=0)
    for _ in SETTINGS
]


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    return functional.cross_entropy(model(images), labels)


seen = {
    setting: descend(
        partial(loss_of, model), torch.optim.SGD(model.parameters(), setting[0], setting[1]), UPDATES, EVERY
    )
    for setting, model in zip(SETTINGS, models)
}
print(f"{len(seen)} descents of {UPDATES} updates")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for colour, ((rate, momentum), found) in zip(("C0", "C1", "C2", "C3"), seen.items()):
    name = f"rate {rate:g}" + (f", momentum {momentum:g}" if momentum else "")
    axes[0].plot(found.updates, found.losses, color=colour, label=name)
    axes[1].plot(found.updates, found.curvatures, color=colour, label=name)
    axes[1].axhline(2 * (1 + momentum) / rate, color=colour, linestyle=":", linewidth=1)
axes[0].set(xlabel="updates", ylabel="loss (nats)", title="loss on the four tiles")
axes[1].set(xlabel="updates", ylabel="largest curvature", title="dotted: where a quadratic becomes unstable")
axes[1].set_yscale("log")
axes[0].legend();
for axis in axes:
    axis.grid(axis="y")

# %% [markdown]
# *Figure 2. Loss and largest curvature of full-batch gradient descent. A curve that meets its dotted line has reached the
# edge of stability: the loss cannot be a quadratic there, or it would grow without bound.*

# %%
rows = [
    "| rate | momentum | loss at first | loss at last | curvature at first | at last | limit 2 (1 + b) / rate | last / limit |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
]
for (rate, momentum), found in seen.items():
    limit = 2 * (1 + momentum) / rate
    last = float(np.median(found.curvatures[-5:]))
    rows.append(
        f"| {rate:g} | {momentum:g} | {found.losses[0]:.3f} | {found.losses[-1]:.3f} | {found.curvatures[0]:.1f} | "
        f"{last:.1f} | {limit:.1f} | {last / limit:.2f} |"
    )
    assert np.isfinite(found.losses).all()
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. Curvature at last: the median of the last five measurements.*
#
# ## Across the valley
#
# The loss along the steepest direction, where each descent ended, beside the parabola of the measured curvature.

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.6))
for axis, ((rate, momentum), found), model in zip(axes, seen.items(), models):
    steps = np.linspace(-1, 1, 41) * 2 * (0.1 / max(found.curvatures[-1], 1e-6)) ** 0.5
    values = np.array(along(partial(loss_of, model), list(model.parameters()), found.direction, steps.tolist()))
    slope = (values[21] - values[19]) / (steps[21] - steps[19])
    axis.plot(steps, values, color="C0", label="loss")
    parabola = values[20] + slope * steps + 0.5 * found.curvatures[-1] * steps**2
    axis.plot(steps, parabola, color="black", linestyle=":", linewidth=1, label="parabola")
    axis.set(title=f"rate {rate:g}, momentum {momentum:g}", xlabel="step", ylim=(0, 1.5 * values.max()))
axes[0].legend();

# %% [markdown]
# *Figure 3. Near the bottom the parabola fits; farther out the loss is steeper on one side and flatter on the other, so
# that swings grow where the curvature passes its limit and lead to where it is smaller.* What it says for the studies: a
# larger rate ends in a flatter place, as long as it is stable; two optimizers are therefore compared at the best rate of
# each; and an average of the weights lies between the walls that the iterates swing against.
