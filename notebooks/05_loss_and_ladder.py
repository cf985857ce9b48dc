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
# # 05 The loss kernels, and the ladder that leads to them
#
# **Shows** the loss as plain torch and as CUDA, why it is written the way it is, why sums must be added in a fixed
# order, the nine steps of the reduction ladder with what each was expected to bring, and what has been measured.
#
# **Takes** about 5 seconds on one quiet CPU core. Needs no GPU: the reference runs here, the kernels are shown.
# Measurements are read from `experiments/results/benchmarks`; where no GPU has been measured, the tables say so.

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
import csv
import inspect
import os
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib_inline.backend_inline import set_matplotlib_formats

from unet.loss import fused, reference
from unet.loss.compile import CSRC

os.chdir(Path(unet.__file__).parents[1])
sys.path += ["experiments/reduction_ladder", "scripts/bench"]
import ladder_steps
from bench_page import latest, rows_of

plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("png")
torch.set_num_threads(1)
BENCHMARKS = Path(os.environ.get("UNET_RESULTS") or "experiments/results") / "benchmarks"

# %% [markdown]
# ## The contract: plain torch
#
# $$E = \sum_x w(x)\,\left(-\log p_{\ell(x)}(x)\right), \qquad p_k = \frac{e^{a_k}}{\sum_j e^{a_j}}$$
#
# Everything faster is held against these lines. Pixels without a label are cut out *before* the softmax, so that not
# even NaN there reaches loss or gradient; confusion counts come along, so that scores need no second pass over the
# data.

# %%
Markdown(f"```python\n{inspect.getsource(reference.pixel_losses)}\n\n{inspect.getsource(reference.pixel_gradients)}```")

# %%
generator = torch.Generator().manual_seed(0)
logits = (4 * torch.randn(2, 3, 40, 50, generator=generator)).requires_grad_()
target = torch.randint(0, 3, (2, 40, 50), generator=generator, dtype=torch.uint8)
target[:, :5] = reference.IGNORE_INDEX
weight = 10 * torch.rand(2, 40, 50, generator=generator)

loss, confusion = reference.weighted_cross_entropy(logits, target, weight)
(by_autograd,) = torch.autograd.grad(loss, logits)

x, t = logits.detach().double().numpy(), target.numpy()  # the same by hand, in float64
p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
known = t != 255
chosen = np.take_along_axis(p, np.where(known, t, 0)[:, None].astype(int), axis=1)[:, 0]
by_hand = (weight.numpy() * -np.log(chosen))[known].sum() / known.sum()

valid = reference.valid_pixels(target)
by_formula = reference.pixel_gradients(logits.detach(), target, weight, valid, 1 / valid.sum())
operator = fused.weighted_cross_entropy(logits, target, weight, mode="one_pass")
(by_operator,) = torch.autograd.grad(operator.loss, logits)
print(f"loss: reference {loss.item():.7f}, by hand in float64 {by_hand:.7f}, operator {operator.loss.item():.7f}")
print(
    f"gradient: autograd against formula {(by_autograd - by_formula).abs().max():.1e}, "
    f"against operator {(by_autograd - by_operator).abs().max():.1e}"
)
print(
    f"gradient of pixels without a label: {by_autograd[:, :, :5].abs().max():.0f}; "
    f"confusion counts:\n{confusion.numpy()}"
)
np.testing.assert_allclose([loss.item(), operator.loss.item()], by_hand, rtol=1e-5)

# %% [markdown]
# On a CPU the operator of the fused loss runs plain torch; on an NVIDIA GPU its kernels are compiled at run time from
# the sources below.
#
# ## One pixel, in CUDA
#
# All kernels share the mathematics of a pixel, written once ([`pixel.cuh`](../unet/loss/csrc/pixel.cuh)), in a form
# that keeps the digits of a confident pixel. Every rounding is written out, `fmaf` where a product and a sum are
# rounded once: left to itself the compiler joins them in one kernel and not in another, for one device and not for the
# next, and the same loss would have two values.

# %%
pixel = (CSRC / "pixel.cuh").read_text()
start = "// Whether `score` takes the place"
Markdown("```cuda\n" + start + pixel.split(start)[1] + "```")

# %%
margin = np.linspace(0, 40, 400)  # by how much the right class leads
exact = np.log1p(np.exp(-margin))
m32 = margin.astype(np.float32)
one = np.float32(1)
naive = -np.log(one / (one + np.exp(-m32)))
kept = np.log1p(np.exp(-m32))
figure, axes = plt.subplots(1, 2, figsize=(9, 2.9))
axes[0].semilogy(margin, exact, color="0.75", linewidth=4, label="exact")
axes[0].semilogy(margin, np.where(naive > 0, naive, np.nan), color="C1", label="-log(softmax), float32")
axes[0].semilogy(margin, kept, "--", color="C0", label="log1p(rest), float32")
axes[0].set(xlabel="lead of the right class (logit)", ylabel="loss (nats)", title="loss of a confident pixel")
for values, colour, label in ((naive, "C1", "-log(softmax)"), (kept, "C0", "log1p(rest)")):
    axes[1].semilogy(margin, np.maximum(np.abs(values / exact - 1), 1e-9), color=colour, label=label)
axes[1].set(xlabel="lead of the right class (logit)", ylabel="relative error", title="error in float32", ylim=(1e-9, 3))
for axis in axes:
    axis.grid()
    axis.legend()

# %% [markdown]
# *Figure 1. The obvious form loses all digits from a lead of about 16 on, where its loss becomes exactly 0; relative to
# the largest score nothing is lost.*
#
# ## Reading is what costs
#
# A pixel of two classes in float32 is 8 bytes of logits, 1 of target, 4 of weight. Two ways to a gradient are offered
# ([`fused.py`](../unet/loss/fused.py)):
#
# | way | forward | backward | bytes per pixel |
# | --- | --- | --- | ---: |
# | recompute | read 13 | read 13, write 8 | 34 |
# | one pass | read 13, write 8 (and 1 to count the pixels first) | nothing, if the upstream gradient is 1 | 21 (22) |
#
# Reading is all that costs only as long as the arithmetic keeps up: at 4.3 TB/s an H200 has time for some 90
# instructions while it moves the 13 bytes that a pixel of bfloat16 takes in one pass. The kernels needed more, and
# have been brought below; how many they need on which device is counted in their machine code, without a GPU:

# %%
path = BENCHMARKS / "loss-instructions.csv"
rows = [row for group in latest(rows_of(path)) for row in group] if path.is_file() else []
devices = ("sm_80", "sm_90", "sm_120")
shown = [row for row in rows if "bfloat16, channels_last" in row["case"] and row["target"] in devices]
table = ["| two classes, bfloat16, channels last | device | one pass | all of a large batch |"]
table += ["| --- | --- | ---: | ---: |"]
for row in shown:
    when = "before" if "before" in row["case"] else "now"
    table.append(f"| {when} | {row['target']} | {row['one_pass']} | {row['large_one_pass']} |")
Markdown("\n".join(table) if shown else "Nothing has been counted here: there is no loss-instructions.csv.")

# %% [markdown]
# *Instructions per pixel. "All" adds the pass that finds the denominator and what every chunk costs besides.*
#
# ## Sums in a fixed order
#
# Adding floats is not associative: the order decides the last bits.

# %%
values = np.random.default_rng(0).lognormal(0, 2, 104_976).astype(np.float32)  # losses of 324 x 324 pixels
orders = [np.cumsum(np.random.default_rng(i).permutation(values), dtype=np.float32)[-1] for i in range(300)]
exact = values.astype(np.float64).sum()
folded = values.copy()
while folded.size > 1:
    half = -(-folded.size // 2)
    folded[: folded.size - half] += folded[half:]
    folded = folded[:half]
print(
    f"300 orders of the same {values.size:,} numbers: {len(set(orders))} different sums, off by up to "
    f"{max(abs(o / exact - 1) for o in orders):.1e}; as a tree: {abs(folded[0] / exact - 1):.1e}"
)
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.hist([1e6 * (o / exact - 1) for o in orders], bins=40, color="C0")
axis.axvline(1e6 * (folded[0] / exact - 1), color="C1", label="tree, the same every time")
axis.set(
    xlabel="relative error of the sum (millionths)", ylabel="orders", title="one after the other, in 300 random orders"
)
axis.legend();
# %% [markdown]
# *Figure 2. What atomic additions do to a loss: another sum every time. The kernels therefore add in an order that
# depends on the shape of the tensors alone, over lanes, warps, chunks and at last in float64: loss and gradient have
# the same bits in every run ([`reduce.cuh`](../unet/loss/csrc/reduce.cuh)):*

# %%
Markdown("```cuda\n" + (CSRC / "reduce.cuh").read_text().split("#pragma once\n\n")[1] + "```")

# %% [markdown]
# ## The ladder
#
# How fast can a GPU add up 65,536 vectors of 2,048 values? The same work nine times, each step without one thing that
# stood in the way of the one before ([`ladder.cu`](../experiments/reduction_ladder/ladder.cu)). What each step would
# bring was written down before anything was measured. Three pictures first: how a tree adds, how the lanes of a warp
# add without memory, and what makes a read cheap.

# %%
def join(axis, starts, ends, level, colour):
    """Lines from the values of one level to the sums of the next."""
    for start, end in zip(starts, ends):
        axis.plot([start, end], [-level, -level - 1], color=colour, linewidth=0.9)


def numbers(axis, values, level):
    """The values of a level, in their places."""
    for place, value in enumerate(values):
        axis.text(place, -level, f"{value:g}", ha="center", va="center", fontsize=7,
                  bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "0.6"})  # fmt: skip


tree, lanes = [np.array([3.0, 1, 4, 1, 5, 9, 2, 6])] * 2
figure, axes = plt.subplots(1, 3, figsize=(12, 3.1), width_ratios=(1, 1, 1.25))
for level in range(4):
    numbers(axes[0], tree, level)
    numbers(axes[1], lanes, level)
    if level == 3:
        break
    half = len(tree) // 2
    join(axes[0], range(2 * half), [i % half for i in range(2 * half)], level, "C0")
    tree = tree[:half] + tree[half:]
    offset = 4 >> level
    others = np.arange(8) ^ offset
    join(axes[1], range(8), range(8), level, "0.8")
    join(axes[1], others, range(8), level, "C1")
    lanes = lanes + lanes[others]
assert tree == 31 and (lanes == 31).all()
axes[0].set_title("a tree in shared memory:\na barrier after every level")
axes[1].set_title("shuffles: every lane adds its partner's\nvalue (lane xor 4, 2, 1); no memory")
for row, (name, lines) in enumerate({"lane k reads value k": 1, "lane k reads value 8 k": 8}.items()):
    for value in range(64):
        touched = value < 8 if row == 0 else value % 8 == 0
        fetched = value // 8 < lines
        colour = "C0" if touched else ("0.75" if fetched else "white")
        axes[2].add_patch(plt.Rectangle((value, -3 * row), 0.9, 1, facecolor=colour, edgecolor="0.6", linewidth=0.4))
    axes[2].text(0, 1.25 - 3 * row, f"{name}: {lines} line{'s' * (lines > 1)} fetched for 8 values", fontsize=8)
axes[2].set(xlim=(-1, 65), ylim=(-3.5, 2.5))
axes[2].set_title("a coalesced read, and one that is not\n(blue: asked for, grey: comes along)")
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# *Figure 3. Eight values, and lines of eight values, instead of 2,048 and of 32. The tree's threads wait for one
# another after every level; the lanes of a warp run in step and exchange registers, and all of them end with the sum.
# Memory comes in lines: neighbouring lanes should read neighbouring values.*

# %%
code = ladder_steps.SOURCE.read_text()
for number, step in enumerate(ladder_steps.STEPS, start=1):
    kernel = re.search(rf"// {number}\. .*?\n}}\n", code, re.S).group()
    f = step.figures
    loads = f"{f.loads} load{'s' * (f.loads > 1)} of {f.bytes_of_load} bytes under way"
    known = f"{loads}, {f.barriers} barriers, {f.shuffles} shuffles, {f.registers} registers"
    expected = f"expected {step.expected_us:g} µs. {step.why} ({known})"
    display(Markdown(f"**{step.title}**: {expected}\n\n```cuda\n{kernel}```"))

# %%
path = BENCHMARKS / "reduction_ladder.csv"
measured = {}
if path.is_file():
    with path.open(newline="") as file:
        measured = {row["step"]: row for row in csv.DictReader(file)}  # rows are added: the last one of a step counts
steps = [*ladder_steps.STEPS, ladder_steps.READ]
figure, axis = plt.subplots(figsize=(8, 2.9))
places = np.arange(len(steps))[::-1]
axis.barh(places + 0.2, [step.expected_us for step in steps], 0.36, color="0.75", label="expected")
axis.barh(
    places - 0.2,
    [float(measured[s.title]["p50_us"]) if s.title in measured else 0 for s in steps],
    0.36,
    color="C0",
    label="measured" if measured else "measured: nothing yet",
)
axis.axvline(ladder_steps.READ.expected_us, color="C1", linewidth=1, label="reading alone, expected")
for place, step in zip(places, steps):
    axis.text(step.expected_us * 1.03, place + 0.2, f"{step.expected_us:g}", va="center", fontsize=7, color="0.4")
axis.set_yticks(places, [step.title for step in steps])
axis.set(xscale="log", xlim=(100, 2500), xlabel="time for 537 MB on an H200 (µs)")
axis.legend(loc="lower right")
if measured:
    one = next(iter(measured.values()))
    print(f"measured on {one['device']}, torch {one['torch']}, CUDA {one['cuda']}, commit {one['commit'][:7]}")
else:
    print("The ladder has not been run on a GPU: there is no reduction_ladder.csv. All bars are expectations.")

# %% [markdown]
# *Figure 4. Expected and, where there are rows, measured times. `python experiments/reduction_ladder/ladder.py` on a
# machine with an NVIDIA GPU checks every step against float64 sums, times it and writes the rows. In the tests the same
# source runs on the CPU under several schedules, with every access to memory watched.*
#
# ## What was measured of the loss

# %%
path = BENCHMARKS / "loss.csv"
rows = [row for group in latest(rows_of(path)) for row in group] if path.is_file() else []
on_gpu = [row for row in rows if row["cuda"]]
print(f"{len(rows)} rows, {len(on_gpu)} of them on a GPU.")
if not on_gpu:
    print("No GPU has been measured: the kernels' rows are empty, and nothing is claimed about their speed.")
for device in dict.fromkeys(row["device"] for row in rows):
    own = [row for row in rows if row["device"] == device and row["layout"] == "contiguous" and row["way"] == "calls"]
    if not own:
        continue
    cases = list(dict.fromkeys((row["case"], row["classes"], row["dtype"]) for row in own))
    rivals = list(dict.fromkeys(row["rival"] for row in own))
    figure, axis = plt.subplots(figsize=(10, 3.1))
    for k, rival in enumerate(rivals):
        times = [
            next(
                (row for row in own if row["rival"] == rival and (row["case"], row["classes"], row["dtype"]) == case),
                None,
            )
            for case in cases
        ]
        low, middle, high = (
            [float(row[key]) / 1e3 if row else np.nan for row in times] for key in ("p20_us", "p50_us", "p80_us")
        )
        at = np.arange(len(cases)) + (k - (len(rivals) - 1) / 2) * 0.8 / len(rivals)
        axis.bar(
            at,
            middle,
            0.8 / len(rivals),
            label=rival,
            yerr=[np.subtract(middle, low), np.subtract(high, middle)],
            error_kw={"elinewidth": 0.8},
        )
    axis.set_xticks(
        range(len(cases)), [f"{case}\n{classes} classes\n{dtype}" for case, classes, dtype in cases], fontsize=7
    )
    axis.set(
        ylabel="forward and backward (ms)",
        yscale="log",
        title=f"{device}, {own[0]['cores']} cores, threads {own[0]['threads']}, load {own[0]['load']}, "
        f"torch {own[0]['torch']}, {own[0]['date']}",
    )
    axis.legend(ncols=2, fontsize=7, loc="upper right")
    axis.set_ylim(top=axis.get_ylim()[1] * 4)
    plt.show()

# %% [markdown]
# *Figure 5. Time of loss and gradient, bar: median, line: p20 to p80; a machine shared with other work, if its load
# says so. "With counts" also counts the confusion matrix, which the others do not. On a CPU there are no kernels of
# ours: the plain operator costs its overhead and wins nothing.*
