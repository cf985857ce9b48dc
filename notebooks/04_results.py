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
# # 04 Results of all studies, with their statistics
#
# **Shows** every study's verdicts, scores and tests, the paper's numbers beside ours, and which claims of the paper and
# of the blog post hold. Everything is made from the files in `experiments/results`; what is not there yet is said to be
# missing.
#
# **Takes** about 5 seconds on one quiet CPU core. Another folder of results can be named in `$UNET_RESULTS`.

# %%
import io
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, Markdown, display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image as Picture

import unet
from unet.stats import CLAIM_LEVEL, bootstrap_interval, sign_flip_test, t_test
from unet.study import choice, claims, compare, evidence, figure, page, pages, text

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("png")
RESULTS = Path(os.environ.get("UNET_RESULTS") or "experiments/results")

# %% [markdown]
# ## What is there
#
# A study is a page in `experiments/` that names its arms; a profile is a size at which it is run. Results of different
# profiles are never mixed: `full` is the paper's network, `reduced` a quarter of its width and a fifth of its updates.

# %%
studies = {study.name: study for study in map(pages.study_of, pages.study_pages())}
found = {
    (name, profile): choice.by_key(runs)
    for name in studies
    for profile in claims.SIZES
    if (runs := evidence.load_all(RESULTS / name / profile))
}
rows = ["| study | question | runs, by profile |", "| --- | --- | --- |"]
for name, study in studies.items():
    there = [
        f"`{profile}`: {len(runs)} runs of {len({arm for arm, _, _ in runs})} arms, "
        f"up to {compare.seeds_of(runs)} seeds"
        for (other, profile), runs in found.items()
        if other == name
    ]
    rows.append(f"| {name} | {study.question} | {'; '.join(there) or 'none yet'} |")
display(Markdown("\n".join(rows)))
if not found:
    display(
        Markdown(
            "**No study has results yet.** The tables and figures below are empty until one is run, e.g. by "
            "`unet study baselines --profile reduced --seeds 3`; then run this notebook again (`make notebooks`)."
        )
    )

# %% [markdown]
# ## How a verdict is reached
#
# Arms are compared seed by seed: both runs of a pair have the same initial weights, held-out frames and tiles, except
# where the arm itself changes the network, the split or the sizes. **better** or **worse** needs at least three pairs, p < 0.01 in the paired t test after Holm's
# correction for all tests of a study, and a bootstrap interval without 0. Everything else is **open**, which is not "no
# difference": that needs a test of its own (equivalence within 0.01).
#
# With few pairs little can be shown, whatever the arms do:

# %%
rng = np.random.default_rng(0)
rows = [
    "| pairs | least p of the exact sign-flip test | chance that the t test finds a difference of one, two, three "
    "standard deviations (p < 0.01) | coverage of the 95 % bootstrap interval |",
    "| ---: | ---: | --- | ---: |",
]
for pairs in (2, 3, 5, 8):
    trials = rng.standard_normal((200, pairs))
    power = [np.mean([t_test(d + shift).p < CLAIM_LEVEL for d in trials]) for shift in (1, 2, 3)]
    held = np.mean([i.low <= 0 <= i.high for i in (bootstrap_interval(d, resamples=500) for d in trials)])
    rows.append(
        f"| {pairs} | {sign_flip_test(np.ones(pairs)).smallest_p:.2g} | "
        f"{', '.join(f'{p:.0%}' for p in power)} | {held:.0%} |"
    )
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. Simulated: 200 trials of normal differences each, before any correction for the number of tests.*
#
# ## All comparisons

# %%
listed = {key: compare.findings(studies[key[0]], key[1], runs) for key, runs in found.items()}
listed = {key: findings for key, findings in listed.items() if findings}
colours = {"better": "C2", "worse": "C1", "open": "0.55"}
for (name, profile), findings in listed.items():
    by_score = dict.fromkeys((f.data, f.score) for f in findings)
    height = 1.0 + 0.24 * max(sum((f.data, f.score) == key for f in findings) for key in by_score)
    plot, axes = plt.subplots(
        -(-len(by_score) // 3), 3, figsize=(10.5, height * -(-len(by_score) // 3) + 0.3), squeeze=False, sharey=True
    )
    for axis in axes.flat[len(by_score) :]:
        axis.set_axis_off()
    for axis, (data, score) in zip(axes.flat, by_score):
        own = [f for f in findings if (f.data, f.score) == (data, score)]
        labels = [f"{f.comparison.arm} - {f.comparison.reference}" for f in own]
        for f, label in zip(own, labels):
            axis.plot([f.interval.low, f.interval.high], [label] * 2, color=colours[f.verdict], linewidth=2)
            axis.plot(f.differences, [label] * len(f.differences), "|", color=colours[f.verdict], markersize=6)
            axis.plot(f.mean, label, "o", color=colours[f.verdict], markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        arrow = "higher is better" if evidence.HIGHER_IS_BETTER.get(score, True) else "lower is better"
        axis.set(title=f"{text.data_name(data)}: {text.score_name(score)}", xlabel=f"difference ({arrow})")
        axis.xaxis.set_major_locator(plt.MaxNLocator(5))
        axis.tick_params(axis="y", labelsize=7)
    axes[0, 0].set_ylim(len(dict.fromkeys(f.comparison for f in findings)) - 0.5, -0.5)
    plot.suptitle(f"{studies[name].title} (profile {profile})", fontsize=10)
    plt.show()
if not listed:
    print("No comparison has a pair of runs yet.")

# %% [markdown]
# *Figure 1. For each study: arm minus reference. Dot: mean over the pairs, line: 95 % bootstrap interval (too narrow
# for few pairs, see Table 1), ticks: the pairs. Green: better, orange: worse, gray: open.*
#
# ## Study by study

# %%
for (name, profile), runs in found.items():
    folder = RESULTS / name / profile
    title, _, rest = page.make(studies[name], profile, folder).partition("\n")
    before, _, after = rest.partition(f"![curves and scores of all runs]({page.FIGURE})")
    before = before.replace("<!-- made from the runs in this folder by `unet study`; do not edit -->", "")
    display(Markdown(f"#{title}\n" + before.replace("\n## ", "\n### ")))
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / page.FIGURE
        figure.draw(studies[name], profile, folder, drawn)
        small, encoded = Picture.open(drawn).convert("RGB"), io.BytesIO()
    small.thumbnail((1000, 1000))
    small.save(encoded, "jpeg", quality=75, optimize=True)
    display(Image(encoded.getvalue(), format="jpeg"), Markdown(after.replace("\n## ", "\n### ")))
if not found:
    print("Nothing to show yet.")

# %% [markdown]
# ## The paper's numbers beside ours

# %%
told = pages.read(pages.FOLDER / pages.CLAIMS)
Markdown(claims.targets(told["TARGETS"], studies["baselines"], told["ARMS"], RESULTS))

# %% [markdown]
# *Table 2. Mean ± standard deviation over the runs that did not diverge. The test sets are not used here:
# ours are held-out training images, which the last column spells out.*
#
# ## Claims

# %%
Markdown(claims.tables(told["CLAIMS"], studies, RESULTS).replace("](results/", "](../experiments/results/"))

# %% [markdown]
# *Table 3. What the paper and the blog post say, and what the studies found.*
