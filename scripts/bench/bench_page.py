"""Writes experiments/results/benchmarks/README.md: the latest rows of every benchmark as tables.

    python scripts/bench/bench_page.py [--check]

--check writes nothing and ends with 1 when the page is not what the CSV files say.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import RESULTS

from unet.files import write_text

HEAD = """# Benchmarks

Made from the CSV files beside this page by `python scripts/bench/bench_page.py`; do not edit. Every table is the
latest measurement of its case, all rivals in the same run. Times are of single calls; p20, p50 and p80 are percentiles.
`load` is the machine's when the rows were written (1 = one core busy). Rates per second of processor time leave out
waiting for a core.
"""
ABOUT = {
    "tiles": "Tiles: image, label and weight through one elastic deformation (`python scripts/bench/bench_tiles.py`). "
    "Targets with cubic images: 300 per second and core at 508 px, 1400 at 252 px, two workers within 15 % of twice "
    "one core.",
    "weightmap": "Weight map of a slice (`python scripts/bench/bench_weightmap.py`). Targets: 30 ms, error at "
    "most 1e-5.",
    "metrics": "Scores (`python scripts/bench/bench_metrics.py`). Targets per 512 px slice: 0.5 s for the sweep of the "
    "warping error, 0.25 s for V_rand.",
    "predict": "Prediction of one large image (`python scripts/bench/bench_predict.py`). Target: the network takes "
    "95 % of the time.",
    "predict-memory": "Peak memory of a prediction (`python scripts/bench/bench_predict.py --memory`). Target: flat "
    "within 20 %.",
    "loss": "The loss, forward and backward (`python scripts/bench/bench_loss.py`); on a CPU without a share of a "
    "copy's bandwidth or a number of launches.",
    "loss-instructions": "Machine instructions per pixel that the loss needs, counted without a GPU "
    "(`python scripts/bench/loss_instructions.py`): the cheapest turn of the loop over packs, divided by the pixels of "
    "a pack; `large one pass`: of share_pass and one_pass together for 64 x 388^2 pixels, with what every chunk costs "
    "besides. Goal for two classes of bfloat16, channels last: 90.",
    "train": "One training step (`python scripts/bench/bench_train.py`), and the same in two states of the code "
    "(`python scripts/bench/bench_before_after.py`; its times are processor time, taken in turns step by step beside "
    "other work, of which the least and p20 tell most). On a CPU torch.compile makes training slower than eager: use "
    "`train.compile off` or `auto` there.",
}
HIDDEN = ("date", "benchmark", "case", "device", "cores", "load", "versions", "torch", "cuda", "commit", "threads")
"""Columns that are the same in all rows of a table."""


def rows_of(path: Path) -> list[dict[str, str]]:
    """All rows of a CSV file, oldest first."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def latest(rows: Sequence[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The rows of every case that were written last, case by case and device by device, in the order of the file.

    Rows of one measurement share date and commit.
    """
    cases: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        key = tuple(row.get(name, "") for name in ("benchmark", "case", "device", "net"))
        group = cases.setdefault(key, [])
        if group and (group[-1]["date"], group[-1]["commit"]) != (row["date"], row["commit"]):
            group.clear()
        group.append(row)
    return list(cases.values())


def table(group: Sequence[dict[str, str]]) -> str:
    """One case: its name, its rows, and where and when they were measured."""
    first = group[0]
    columns = [name for name in first if name not in HIDDEN and any(row[name] for row in group)]
    lines = (
        [f"### {title}\n"] if (title := ": ".join(filter(None, (first.get("benchmark"), first.get("case"))))) else []
    )
    lines.append(f"| {' | '.join(name.replace('_', ' ') for name in columns)} |")
    lines.append(f"| {' | '.join('---' if name == columns[0] else '---:' for name in columns)} |")
    lines += [f"| {' | '.join(row[name] for name in columns)} |" for row in group]
    told = {
        name: first[name] for name in ("device", "cores", "threads", "load", "versions", "torch") if first.get(name)
    }
    where = ", ".join(value if name in ("device", "versions") else f"{name} {value}" for name, value in told.items())
    return "\n".join([*lines, "", f"{first['date']}, {where}, commit {first['commit'][:7] or 'unknown'}", ""])


def page(folder: Path) -> str:
    """The whole page for a folder of CSV files."""
    parts = [HEAD]
    for path in sorted(folder.glob("*.csv")):
        parts.append(f"## [{path.name}]({path.name})\n")
        if path.stem in ABOUT:
            parts.append(ABOUT[path.stem] + "\n")
        parts += [table(group) for group in latest(rows_of(path))]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    target, text = options.folder / "README.md", page(options.folder)
    if options.check:
        same = target.is_file() and target.read_text(encoding="utf-8") == text
        say = "up to date" if same else "not what the CSV files say; run python scripts/bench/bench_page.py"
        print(f"{target}: {say}")
        return 0 if same else 1
    write_text(target, text)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
