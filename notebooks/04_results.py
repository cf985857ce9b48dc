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
import io
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import Image, Markdown, display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image as Picture

from unet.study import power
from unet.study import choice, claims, compare, decide, evidence, figure, report as study_report, registry, tables, text, verdicts

os.chdir(Path(unet.__file__).parents[1])
plt.style.use("notebooks/style.mplstyle")
set_matplotlib_formats("png")
RESULTS = Path(os.environ.get("UNET_RESULTS") or "experiments/results")

# %% [markdown]
# ## What is there
#
# A study is a page in `experiments/` that names its arms and its plan; a profile is a size at which it is run. Results
# of different profiles are never mixed.

# %%
studies = registry.followed(registry.home(), RESULTS)
found = {
    (name, profile): choice.by_key(runs)
    for name, study in studies.items()
    for profile in tables.profiles_of(study, RESULTS)
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
            "`unet study leakage --jobs 2`; then run this notebook again (`make notebooks`)."
        )
    )

# %% [markdown]
# ## How a verdict is reached
#
# Arms are compared seed by seed: both runs of a pair have the same initial weights, held-out frames and tiles, except
# where the arm itself changes the network, the split or the sizes. A plan that was committed before the runs names the
# end points, their order, the seeds and two looks; p of the paired t test below the level of the look is **better** or
# **worse**, two one-sided tests below it are **equal** within the margin, everything else is **open**. What no plan
# names is exploratory.
#
# What a number of pairs can show, in standard deviations of the differences:

# %%
rows = ["| pairs | smallest difference found at half the seeds (p < 0.0005) | at all of them (p < 0.0095) |",
        "| ---: | ---: | ---: |"]  # fmt: skip
for pairs in (4, 5, 8, 10, 20, 40):
    early, final = (power.smallest_effect(1.0, n, p) for n, p in ((max(2, pairs // 2), 0.0005), (pairs, 0.0095)))
    rows.append(f"| {pairs} | {early:.2f} | {final:.2f} |")
Markdown("\n".join(rows))

# %% [markdown]
# *Table 1. With a chance of 80 %, from the noncentral t distribution.*
#
# ## Verdicts

# %%
planned = {name: study for name, study in studies.items() if study.plan is not None}
for name, study in planned.items():
    runs_of = verdicts.load(study, RESULTS)
    known = [(d, tables.details(study, d, runs_of[d.point.profile])) for d in decide.decisions(study, runs_of)]
    known = [(d, f) for d, f in known if f is not None]
    if known:
        plot, axis = plt.subplots(figsize=(10, 1.0 + 0.45 * len(known)))
        verdicts.forest(axis, studies[name], known)
        axis.set_title(studies[name].title)
        plt.show()
Markdown(claims.questions(studies.values(), RESULTS).replace("](results/", "](../experiments/results/"))

# %% [markdown]
# *Figure 1 (one for each study with a plan) and Table 2. Effects in margins of equality, better to the right; line:
# 95 % interval, ticks: the pairs.*
#
# ## All comparisons

# %%
made = [
    row
    for name, study in studies.items()
    for row in tables.comparison_rows(study, {p: runs for (other, p), runs in found.items() if other == name})
    if "effect" in row
]
columns = ["study", "profile", "data", "score", "arm", "reference", "kind", "pairs", "effect", "low", "high", "p"]
cells = [[f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in made]
Markdown("### Comparisons\n\n" + text.table(columns, cells) if made else "No comparison has a pair of runs yet.")

# %% [markdown]
# *Table 3. As in `experiments/results/comparisons.csv`, which has more columns.*
#
# ## Study by study

# %%
for (name, profile), runs in found.items():
    folder = RESULTS / name / profile
    title, _, rest = study_report.make(studies[name], profile, folder).partition("\n")
    before, _, after = rest.partition(f"![curves and scores of all runs]({study_report.FIGURE})")
    before = before.replace("<!-- made from the runs in this folder by `unet study`; do not edit -->", "")
    display(Markdown(f"#{title}\n" + before.replace("\n## ", "\n### ")))
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / study_report.FIGURE
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
told = registry.read(registry.home() / registry.CLAIMS)
Markdown(claims.targets(told["TARGETS"], studies["baselines"], told["ARMS"], RESULTS))

# %% [markdown]
# *Table 4. Mean ± standard deviation over the runs that did not diverge. The test sets are not used here:
# ours are held-out training images, which the last column spells out.*
#
# ## Claims

# %%
Markdown(claims.claims_table(told["CLAIMS"], studies, RESULTS).replace("](results/", "](../experiments/results/"))

# %% [markdown]
# *Table 5. What the paper and the blog post say, and what the studies found.*
