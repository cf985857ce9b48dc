"""Packs what was measured on a GPU into one file, to be handed back.

    python scripts/bench/pack_gpu_results.py [--folder FOLDER] [--to FILE.zip]

Takes the records of gpu_check, the benchmarks and the ladder as they lie in experiments/results/benchmarks, and a page
that says where they come from. Ends with 1 where no record names a GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import zipfile
from pathlib import Path

from measure import RESULTS

NAMES = ("gpu_check.json", "loss.csv", "train.csv", "predict.csv", "reduction_ladder.csv", "reduction_ladder.md",
         "reduction_ladder.svg", "loss-instructions.csv")  # fmt: skip


def gpus(folder: Path) -> dict[str, set[str]]:
    """The GPUs that each record names (by torch's name of the device)."""
    found: dict[str, set[str]] = {}
    for path in (folder / name for name in NAMES):
        if path.name == "gpu_check.json" and path.is_file():
            device = json.loads(path.read_text(encoding="utf-8"))["environment"]["device"]
            found[path.name] = {device} - {"cpu"}
        elif path.suffix == ".csv" and path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                found[path.name] = {row["device"] for row in csv.DictReader(file) if row.get("cuda")}
    return {name: devices for name, devices in found.items() if devices}


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--to", type=Path, default=Path("gpu-results.zip"))
    options = parser.parse_args(arguments)
    measured = gpus(options.folder)
    if not measured:
        print(f"{options.folder}: nothing was measured on a GPU yet (docs/nvidia.md)", file=sys.stderr)
        return 1
    said = "".join(f"{name}: {', '.join(sorted(devices))}\n" for name, devices in sorted(measured.items()))
    with zipfile.ZipFile(options.to, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", said)
        for path in sorted(options.folder / name for name in NAMES):
            if path.is_file():
                archive.write(path, path.name)
    print(f"{said}{options.to}: {options.to.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
