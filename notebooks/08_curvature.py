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
# **Takes** about a minute of one CPU core (with `UNET_NOTEBOOKS=short` twenty seconds). Reads EM from `$UNET_DATA` or
# `data/`, else uses the built-in synthetic stack.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch.nn import functional

import unet
from unet.config import DataConfig, ModelConfig
from unet.data.load import load, name_here
from unet.geometry import context
from unet.model import build
from unet.training.curvature import largest_curvature

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})
torch.set_num_threads(1)
SHORT = os.environ.get("UNET_NOTEBOOKS") == "short"
UPDATES = 60 if SHORT else 240
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


def run(rate: float, momentum: float) -> dict[str, list[float]]:
    """Losses and largest curvatures during gradient descent from the same weights."""
    model = build(ModelConfig(base_channels=8, depth=depth, dropout=0.0), stack.channels, stack.classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    parameters = list(model.parameters())

    def loss() -> torch.Tensor:
        return functional.cross_entropy(model(images), labels)

    seen: dict[str, list[float]] = {"update": [], "loss": [], "curvature": []}
    direction = None
    for update in range(UPDATES + 1):
        value = loss()
        if update % EVERY == 0:
            found = largest_curvature(loss, parameters, 25, tolerance=0.02, start=direction)
            direction = found.direction
            seen["update"].append(update)
            seen["loss"].append(value.item())
            seen["curvature"].append(found.value)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return seen


SETTINGS = [(0.05, 0.0), (0.1, 0.0), (0.2, 0.0), (0.02, 0.9)]
runs = {setting: run(*setting) for setting in SETTINGS}

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for colour, ((rate, momentum), seen) in zip(("C0", "C1", "C2", "C3"), runs.items()):
    name = f"rate {rate:g}" + (f", momentum {momentum:g}" if momentum else "")
    axes[0].plot(seen["update"], seen["loss"], color=colour, label=name)
    axes[1].plot(seen["update"], seen["curvature"], color=colour, label=name)
    axes[1].axhline(2 * (1 + momentum) / rate, color=colour, linestyle=":", linewidth=1)
axes[0].set(xlabel="updates", ylabel="loss (nats)", title="loss on the four tiles")
axes[1].set(xlabel="updates", ylabel="largest curvature", title="dotted: where a quadratic becomes unstable")
axes[1].set_yscale("log")
axes[0].legend()
for axis in axes:
    axis.grid(axis="y")

# %% [markdown]
# *Figure 1. Loss and largest curvature of full-batch gradient descent. A curve that meets its dotted line has reached the
# edge of stability: the loss cannot be a quadratic there, or it would grow without bound.*

# %%
rows = [
    "| rate | momentum | loss at first | loss at last | curvature at first | at last | limit 2 (1 + b) / rate | last / limit |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
]
for (rate, momentum), seen in runs.items():
    limit = 2 * (1 + momentum) / rate
    last = float(np.median(seen["curvature"][-5:]))
    rows.append(
        f"| {rate:g} | {momentum:g} | {seen['loss'][0]:.3f} | {seen['loss'][-1]:.3f} | {seen['curvature'][0]:.1f} | "
        f"{last:.1f} | {limit:.1f} | {last / limit:.2f} |"
    )
    assert np.isfinite(seen["loss"]).all()
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. Curvature at last: the median of the last five measurements.* What it says for the studies: a larger rate ends
# in a flatter place, as long as it is stable; two optimizers are therefore compared at the best rate of each, and an
# average of the weights stands between the walls that the iterates swing against.
