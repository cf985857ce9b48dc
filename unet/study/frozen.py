"""The file of a plan: written and committed before the runs, followed ever after.

`unet study NAME --freeze` writes a page's plan, with the settings of every arm, to experiments/plans/NAME.yaml, which
is committed before the first run. From then on the page must say what the file says (`check`; arms may be added,
which no end point names), and the first run at a size notes beside the evidence which commit the file is of (`note`),
with a hash that tells a plan that was changed afterwards. Seeds and settings of a size without any run may still be
amended, in a commit of its own; the end points, their order and alpha may not.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unet.config import Config, from_dict, parse_yaml, profile, to_dict
from unet.errors import ConfigError, one_line
from unet.files import write_json, write_text
from unet.study import choice, evidence
from unet.study.design import TUNING, TUNING_SHARE, Arm, Study, make_job

FOLDER = "plans"  # beside the pages
NOTE = "plan.json"  # beside the evidence of a study


def described(study: Study) -> dict[str, Any]:
    """A study's plan with the settings of its arms and profiles, as plain values."""
    plan = study.plan
    assert plan is not None
    points = [asdict(point) | {"share": share} for point, share in zip(plan.order, plan.shares, strict=True)]
    return {
        "study": study.name,
        "question": study.question,
        "alpha": plan.alpha,
        "looks": [asdict(look) for look in plan.looks],
        "most_collapsed": plan.most_collapsed,
        "seeds": {name: dict(sets) for name, sets in plan.seeds.items()},
        "tuning": {"first_seed": TUNING, "updates_divided_by": TUNING_SHARE},
        "order": points,
        "profiles": {name: _settings(study, name) for name in plan.seeds},
    }


def _settings(study: Study, name: str) -> dict[str, Any]:
    """What a profile changes against the defaults, some data sets against it, and each arm against the profile."""
    base = from_dict(study.base, profile(name))
    arms: dict[str, Any] = {}
    for arm in study.arms:
        if arm.best_of:
            arms[arm.name] = {"best of": list(arm.best_of)}
        elif sets := [data for data in study.data_of(arm) if study.plan is not None and data in study.plan.seeds[name]]:
            arms[arm.name] = _settings_of(study, arm, {data: study.on(name, data, base) for data in sets})
    by_data = {data: _changed(from_dict(own, base), base) for data, own in study.by_data.get(name, {}).items()}
    return {"base": _changed(base, Config()), **({"by data": by_data} if by_data else {}), "arms": arms}


def _settings_of(study: Study, arm: Arm, bases: Mapping[str, Config]) -> dict[str, Any]:
    """What an arm changes against its base; ConfigError where that depends on the data, which no plan would keep."""
    changes = {data: _changed(arm.applied(own), own) for data, own in bases.items()}
    first = next(iter(changes))
    for data, other in changes.items():
        if other != changes[first]:
            raise ConfigError(
                f"{study.name}, arm {arm.name}: has other settings on {data} than on {first}; make two arms of it"
            )
    return changes[first]


def _changed(config: Config, base: Config) -> dict[str, Any]:
    ours, theirs = to_dict(config), to_dict(base)
    return {
        f"{section}.{key}": value
        for section, values in ours.items()
        for key, value in values.items()
        if value != theirs[section][key]
    }


def file_of(page: Path, study: Study) -> Path:
    """Where the frozen plan of a page's study lies."""
    return page.parent / FOLDER / f"{study.name}.yaml"


def freeze(study: Study, path: Path) -> None:
    """Write a study's plan; ConfigError when it has none."""
    if study.plan is None:
        raise ConfigError(f"{study.name}: its page names no plan")
    head = (
        f"# The plan of the study {study.name}: commit it before the first run. What it says of a size never changes\n"
        "# after the first run at that size; end points, their order and alpha never change after any run.\n"
    )
    write_text(path, head + yaml.safe_dump(_plain(described(study)), sort_keys=False, width=120))


def check(study: Study, path: Path, results: Path) -> None:
    """ConfigError when the frozen plan is missing, when the page deviates from it, or when it changed after the runs.

    results: the folder of the study's evidence, with the note that the first run left. ConfigError too when that is
    gone, RunError where a run is not of its arm's configuration.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: the study has no frozen plan; write it with --freeze and commit it before any run")
    try:
        text = path.read_text(encoding="utf-8")
        frozen = parse_yaml(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({one_line(error)}); restore it") from None
    page = _without_new_arms(_plain(described(study)), frozen)
    keys = dict.fromkeys([*page, *(frozen if isinstance(frozen, dict) else {})])
    other = [key for key in keys if not isinstance(frozen, dict) or page.get(key) != frozen.get(key)]
    if other:
        raise ConfigError(
            f"{study.name}: the page deviates from its plan {path} in {', '.join(other)}; no verdict is given. Follow "
            "the plan, or ask the new question in a study of its own"
        )
    for size, noted in noted_plan(results).items():
        if noted.get("sha256") != hash_of(frozen, size):
            raise ConfigError(
                f"{path}: was changed after the runs in {results / size} began; restore the plan of commit "
                f"{noted.get('commit')}"
            )
    _check_runs(study, results)


def _check_runs(study: Study, results: Path) -> None:
    """That every size with runs has its note, and every run the configuration that its arm has."""
    assert study.plan is not None
    noted, arms = noted_plan(results), {arm.name for arm in study.arms}
    for size in study.plan.seeds:
        runs = evidence.load_all(results / size)
        if runs and size not in noted:
            raise ConfigError(f"{results / NOTE}: says nothing of {size}, which has runs; restore it")
        for (arm, data, seed), run in choice.by_key(runs).items():
            if arm in arms:
                evidence.check_same(run.path, run.config, make_job(study, size, arm, data, seed))


def _without_new_arms(page: Any, frozen: Any) -> Any:
    """What a page says, without the arms that came after its plan: no end point can name them."""
    for name, settings in page["profiles"].items():
        try:
            known = frozen["profiles"][name]["arms"]
            settings["arms"] = {arm: changes for arm, changes in settings["arms"].items() if arm in known}
        except (LookupError, TypeError):
            continue  # damaged, or without this profile: the comparison says so
    return page


def note(path: Path, results: Path, size: str) -> None:
    """Write beside the evidence by which commit the plan of a size (a profile) was made, before its first run.

    ConfigError when it is not committed yet.
    """
    noted = noted_plan(results)
    if size in noted:
        return
    sha256 = hash_of(parse_yaml(path.read_text(encoding="utf-8")), size)
    commit, date = committed(path, size, sha256)
    write_json(results / NOTE, noted | {size: {"commit": commit, "date": date, "sha256": sha256}})


def noted_plan(results: Path) -> dict[str, dict[str, str]]:
    """The notes beside a study's evidence, by size; empty before its first run.

    commit, date, sha256: of the plan. remark: what a reader must know of how it came about, written by hand.
    """
    try:
        found = json.loads((results / NOTE).read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(note, dict) for note in found.values()):
        raise ConfigError(f"{results / NOTE}: damaged; restore it")
    return found


def committed(path: Path, size: str, sha256: str) -> tuple[str, str]:
    """Commit and date since which a plan says of a size what has this hash; ("unknown", "") outside a repository."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(path.resolve().parent), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    changed = git("status", "--porcelain", "--", path.name)
    if changed is None:
        return "unknown", ""
    history = git("log", "--format=%H %cI", "--", path.name)  # fails where nothing was ever committed
    if changed or not history:
        raise ConfigError(f"{path}: the plan is not committed; commit it before the first run")
    since, *earlier = [line.split() for line in history.splitlines()]
    for commit, date in earlier:
        try:
            if hash_of(parse_yaml(git("show", f"{commit}:./{path.name}") or ""), size) != sha256:
                break
        except (yaml.YAMLError, LookupError, AttributeError, TypeError):  # no plan yet
            break
        since = [commit, date]
    return since[0], since[1]


def hash_of(frozen: Any, size: str) -> str:
    """Hash of what a plan says of a size: all but the seeds and settings of other sizes."""
    own = {key: value for key, value in frozen.items() if key not in ("seeds", "profiles")}
    own |= {key: frozen[key].get(size) for key in ("seeds", "profiles")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """As YAML gives it back: lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
