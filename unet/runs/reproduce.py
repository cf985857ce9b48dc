"""A run made again: the command that its record calls for, what differs here from what it was made with, and, when it
has been run, what differs in its results.

A run folder is compared bit for bit; scores that were added since are named, and are no difference. Of a study's
evidence, whose curves are kept to six digits, rows are compared at these digits, and only the columns and scores that
both have: what was added or renamed since is named, and is no difference either.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.config import Config
from unet.errors import RunError, one_line
from unet.runs.environment import MADE_BY, as_begun
from unet.runs.folder import CONFIG, ENVIRONMENT, METRICS, RECORD, SCORES, SPLIT, TEST_SCORES, WEIGHTS, RunFolder

DIGITS = 6


@dataclass(frozen=True)
class Original:
    """What is known of a run: its folder, configuration and record, and whether it is a study's evidence."""

    path: Path
    config: Config
    environment: dict[str, Any]
    evidence: bool

    @classmethod
    def read(cls, path: Path) -> Original:
        """The record in a run folder or a folder of evidence; RunError when it is missing or damaged."""
        folder = RunFolder.open_existing(path)
        environment = folder.read_json(ENVIRONMENT)
        if not isinstance(environment, dict):
            raise RunError(f"{path / ENVIRONMENT}: holds no record of a run; restore it")
        return cls(path, folder.config, environment, (path / RECORD).is_file())

    def flags(self, target: Path) -> list[str]:
        """The words of `unet` that make the run again: its configuration, and what was chosen for the machine."""
        words = ["train", "--config-file", str(self.path / CONFIG), "--run", str(target)]
        asked, made = self.config.train, as_begun(self.config.train, self.environment)
        for key in ("precision", "compile", "threads"):
            if getattr(made, key) != getattr(asked, key):
                words += [f"--train.{key}", str(getattr(made, key))]
        return words

    def notes(self, now: dict[str, Any]) -> list[str]:
        """What the run was made with, and every point in which `now` (as environment.json) differs from it."""
        then = self.environment
        lines = [f"data: {then.get('data_source', 'not recorded')}"]
        if commit := then.get("commit"):
            lines.append(f"commit: {commit}")
        for key in MADE_BY:
            if key in then and key in now:
                lines += _differences(key, then[key], now[key])
        resumed = then.get("resumed")
        for entry in resumed if isinstance(resumed, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("before"), dict):
                lines.append(f"resumed after update {entry.get('update')} with another {', '.join(entry['before'])}")
        if self.on_gpu and not self.config.train.deterministic:
            lines.append("made on a GPU without train.deterministic: not the same bits twice, even there")
        return lines

    @property
    def tested(self) -> dict[str, Any] | None:
        """Its scores on the EM challenge's test slices by each protocol; None where it was not scored on them.

        A study keeps them in the scores of a run that held nothing out.
        """
        folder, kept = RunFolder(self.path), None
        if folder.file(TEST_SCORES).is_file():
            kept = folder.read_json(TEST_SCORES)
        elif folder.file(SCORES).is_file() and isinstance(stored := folder.read_json(SCORES), dict):
            kept = stored.get("test")
        protocols = kept.get("protocols") if isinstance(kept, dict) else None
        return protocols if isinstance(protocols, dict) else None

    @property
    def on_gpu(self) -> bool:
        """Whether the run was made on a GPU."""
        return self.environment.get("cuda") is not None


def _differences(key: str, then: Any, now: Any) -> list[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        return [line for name in then for line in _differences(f"{name}", then[name], now.get(name))]
    return [] if then == now else [f"differs: {key} was {_plain(then)}, is {_plain(now)}"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def command(words: list[str]) -> str:
    """The command, to be pasted into a shell."""
    return shlex.join(["unet", *words])


def compare(original: Original, again: Path) -> list[tuple[str, str]]:
    """(what, difference) of everything that can be compared; the difference is empty where there is none.

    Raises RunError when a file of either run is damaged.
    """
    first, second = RunFolder(original.path), RunFolder(again)
    known = original.evidence
    found = [("frames", _compare_json(first, second, SPLIT))] if first.file(SPLIT).is_file() else []
    found.append((METRICS, _compare_rows(first, second, known)))
    if (tested := original.tested) is not None:
        now = Original.read(again).tested
        found.append((TEST_SCORES, "not scored" if now is None else _changed(_by_protocol(tested), _by_protocol(now))))
    if first.file(SCORES).is_file() and not (known and tested is not None):  # which are those of the test slices
        found.append((SCORES, _compare_json(first, second, SCORES, "scores", shared=known)))
    if first.file(WEIGHTS).is_file():
        found.append((WEIGHTS, _compare_weights(first.file(WEIGHTS), second.file(WEIGHTS))))
    return found


def one_sided(original: Original, again: Path) -> list[str]:
    """What only one of a study's evidence and the run made again has: columns of the curves, and scores."""
    first, second = RunFolder(original.path), RunFolder(again)
    lines = []
    shared = [("columns", _columns(first.rows(METRICS)), _columns(second.rows(METRICS)))]
    if second.file(SCORES).is_file():  # else nothing was held out
        shared.append(("scores", _score_names(first), _score_names(second)))
    for what, then, now in shared:
        gone, new = [name for name in then if name not in now], [name for name in now if name not in then]
        lines += [f"{what} that only the stored run has: {', '.join(gone)}"] if gone else []
        lines += [f"{what} that only the new run has: {', '.join(new)}"] if new else []
    return lines


def _columns(rows: list[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(f"{row.get('part')} {key}" for row in rows for key in row if key not in ("part", "update"))


def _score_names(folder: RunFolder) -> dict[str, None]:
    stored = folder.read_json(SCORES) if folder.file(SCORES).is_file() else None
    scores = stored.get("scores") if isinstance(stored, dict) else None
    return dict.fromkeys(scores) if isinstance(scores, dict) else {}


def _compare_rows(first: RunFolder, second: RunFolder, short: bool) -> str:
    if not short and first.file(METRICS).is_file() and second.file(METRICS).is_file():
        try:
            if first.file(METRICS).read_bytes() == second.file(METRICS).read_bytes():
                return ""
        except OSError as error:
            raise RunError(f"{second.file(METRICS)}: cannot be read ({one_line(error)})") from None
    rows = [_rounded(folder.rows(METRICS)) if short else folder.rows(METRICS) for folder in (first, second)]
    columns = [_columns(own) for own in rows]
    shared = [name for name in columns[0] if name in columns[1]]
    if short and not shared:
        return "no column in common"
    for number, (then, now) in enumerate(zip(*rows, strict=False), start=1):
        for key in dict.fromkeys([*then, *now]):
            left_out = short and key not in ("part", "update") and f"{then.get('part')} {key}" not in shared
            if not left_out and repr(then.get(key)) != repr(now.get(key)):
                return f"row {number} (update {then.get('update')}): {key} was {then.get(key)}, is {now.get(key)}"
    if len(rows[0]) != len(rows[1]):
        return f"{len(rows[0])} rows, now {len(rows[1])}"
    return ""


def _rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _compare_json(first: RunFolder, second: RunFolder, name: str, part: str = "", *, shared: bool = False) -> str:
    then, now = first.read_json(name), second.read_json(name)
    if part:
        then, now = (value.get(part) if isinstance(value, dict) else None for value in (then, now))
    if not isinstance(then, dict) or not isinstance(now, dict):
        return "" if then == now else "holds something else"
    keys = [key for key in then if key in now] if shared else list(dict.fromkeys([*then, *([] if part else now)]))
    if shared and not keys:
        return "no score in common"
    return _changed({key: then.get(key) for key in keys}, now)


def _by_protocol(protocols: dict[str, Any]) -> dict[str, Any]:
    """All scores on the test slices, by "protocol score"."""
    return {f"{name} {score}": value for name, made in protocols.items() for score, value in made["scores"].items()}


def _changed(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The values of `then` that are others now."""
    changed = [key for key, value in then.items() if repr(value) != repr(now.get(key))]
    shown = [f"{key} was {then[key]}, is {now.get(key)}" for key in changed[:3]]
    return "; ".join(shown) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")


def _compare_weights(then: Path, now: Path) -> str:
    from unet.runs.checkpoint import load_weights

    (first, _), (second, _) = load_weights(then), load_weights(now)
    if {k: (v.shape, v.dtype) for k, v in first.items()} != {k: (v.shape, v.dtype) for k, v in second.items()}:
        return "another network"
    other = [name for name in first if first[name].numpy().tobytes() != second[name].numpy().tobytes()]
    if not other:
        return ""
    largest = max(float((first[name].double() - second[name].double()).abs().max()) for name in other)
    return f"{len(other)} of {len(first)} tensors, by at most {largest:.3g}"
