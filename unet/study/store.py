"""Many runs in two files: how the evidence of a study and profile is kept once its runs have ended.

    runs.jsonl   a line per run: what the files of its folder hold (configuration, environment, frames, scores, record)
    curves.csv   a row per evaluation and per ten updates: run, part, update, and a column for each series

`pack` makes them of folders of evidence, `unpack` makes a folder of a run again.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from unet.config import parse_yaml, to_yaml
from unet.errors import RunError, one_line
from unet.files import write_json, write_text
from unet.runs.folder import CONFIG, ENVIRONMENT, FAILURE, METRICS, NOISE, RECORD, SCORES, SPLIT, RunFolder

RUNS, CURVES = "runs.jsonl", "curves.csv"
PARTS = {
    "config": CONFIG, "environment": ENVIRONMENT, "split": SPLIT, "scores": SCORES,
    "failure": FAILURE, "record": RECORD, "noise": NOISE,
}  # fmt: skip
"""What a line of runs.jsonl holds, by the file it was."""

Row = dict[str, Any]


def lines(folder: Path) -> Mapping[str, Row]:
    """The packed runs below a folder, by name; RunError when the file is damaged. Read once while it is the same."""
    file = folder / RUNS
    return _lines(file, file.stat().st_mtime_ns) if file.is_file() else {}


@lru_cache(maxsize=64)
def _lines(file: Path, _: int) -> Mapping[str, Row]:
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        known = {
            row["name"]: row for row in rows if isinstance(row["config"], dict) and isinstance(row["record"], dict)
        }
        if len(known) < len(rows):
            raise ValueError("a run stands there twice, or not whole")
        return known
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError(f"{file}: damaged ({one_line(error)}); restore it") from None


def curves(folder: Path, name: str) -> list[Row]:
    """The rows of a packed run's metrics."""
    file = folder / CURVES
    return _curves(file, file.stat().st_mtime_ns).get(name, []) if file.is_file() else []


@lru_cache(maxsize=8)
def _curves(file: Path, _: int) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                name, part, update = row.pop("run"), row.pop("part"), int(row.pop("update"))
                series = {key: float(value) for key, value in row.items() if value}
                found.setdefault(name, []).append({"update": update, "part": part, **series})
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise RunError(f"{file}: damaged ({one_line(error)}); restore it") from None
    return found


def pack(folder: Path, of_curves: Mapping[str, Mapping[str, float]]) -> None:
    """Move the evidence in folders below `folder` into its two files; the folders go once both are written.

    of_curves: the scores that are made of a run's curves, by the names of the folders.
    """
    known = dict(lines(folder))
    rows = {name: curves(folder, name) for name in known}
    for name, values in of_curves.items():
        known[name] = {"name": name} | _parts(folder / name) | {"of_curves": dict(values)}
        rows[name] = RunFolder(folder / name).rows(METRICS)
    order = sorted(known)
    write_text(folder / CURVES, _csv({name: rows[name] for name in order}))
    write_text(folder / RUNS, "".join(json.dumps(known[name], ensure_ascii=False) + "\n" for name in order))
    for name in of_curves:
        shutil.rmtree(folder / name)


def _parts(path: Path) -> Row:
    found: Row = {}
    for part, file in PARTS.items():
        if (path / file).is_file():
            text = (path / file).read_text(encoding="utf-8")
            found[part] = parse_yaml(text) if file == CONFIG else json.loads(text)
    return found


def _csv(rows: Mapping[str, list[Row]]) -> str:
    series = dict.fromkeys(key for own in rows.values() for row in own for key in row if key not in ("part", "update"))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["run", "part", "update", *series], lineterminator="\n", restval="")
    writer.writeheader()
    for name, own in rows.items():
        for row in own:
            writer.writerow(
                {"run": name} | {key: "" if value is None else repr_of(value) for key, value in row.items()}
            )
    return text.getvalue()


def repr_of(value: Any) -> str:
    """A number so that reading it gives the same bits; text as it is."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def holds(path: Path) -> bool:
    """Whether a path that is no folder names a packed run."""
    return not path.is_dir() and path.name in lines(path.parent)


def unpack(path: Path, target: Path) -> Path:
    """A folder of evidence at `target` of the packed run that `path` names."""
    line = lines(path.parent)[path.name]
    for part, file in PARTS.items():
        if part in line:
            if file == CONFIG:
                write_text(target / file, _yaml(line[part]))
            else:
                write_json(target / file, line[part])
    rows = curves(path.parent, path.name)
    write_text(target / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    return target


def _yaml(values: Row) -> str:
    from unet.config import from_dict

    return to_yaml(from_dict(values))
