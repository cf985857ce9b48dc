"""What a study is: arms, data sets and seeds, and the configuration of every run among them.

Seed s of a study fixes the initial weights, the tile sequence and the fold that is held out (s modulo the number of
folds), the same in every arm, so that arms are compared pair by pair and, over the seeds, all frames are held out.
Settings are tuned on seeds of their own, from TUNING on, one for each fold, with a quarter of the updates.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet.config import Config, differences, from_dict, profile, to_dict
from unet.datasets import DATA_SETS, PAPER, SYNTHETIC, find
from unet.errors import ConfigError, nearest
from unet.metrics import table
from unet.study.plan import Plan

Changes = Mapping[str, Mapping[str, Any]]

SYNTHETIC_PROFILES = ("smoke",)
"""Profiles that run on the built-in synthetic stacks: they show that a study runs, never what it finds."""

TUNING = 90
"""The first seed that settings are chosen on; no arm is compared on it or on those after it."""

TUNING_SHARE = 4  # tuning runs have the updates of a run divided by this

MACHINE_KEYS = {"device", "workers", "threads", "cuda_graphs"}  # of `train`: where a run runs, not what it is
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Arm:
    """One setting of a study: how it differs from the base configuration.

    changes: the keys that differ, or a function of the base that returns them, so that an arm can say "half the tile"
    in every profile. data: the data sets it makes sense for (empty: all of the study's). weights_of: the arm whose
    trained weights it evaluates anew, where only the evaluation differs. best_of: arms among which the one with the
    smallest training loss on the tuning seeds stands for this arm, chosen for each data set and held-out fold. grid:
    the arm exists for such a choice and runs elsewhere only where it is chosen.
    """

    name: str
    what: str
    changes: Changes | Callable[[Config], Changes] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    weights_of: str = ""
    best_of: tuple[str, ...] = ()
    grid: bool = False

    def applied(self, base: Config) -> Config:
        """The configuration of this arm."""
        return from_dict(self.changes(base) if callable(self.changes) else self.changes, base)

    def score(self, name: str) -> str:
        """The score this arm is tested on for `name`.

        An arm with another's weights was not trained: what was measured during training (names that end in _last5) is
        the other's, so that the score of the last weights stands for it.
        """
        return name.removesuffix("_last5") if self.weights_of else name


@dataclass(frozen=True)
class Comparison:
    """A question put to the runs: is `arm` better than `reference`?"""

    arm: str
    reference: str


TESTED = {name: table.tested(data_set.scores) for name, data_set in DATA_SETS.items()}
"""Scores that are tested, by data set: the blog's kind of score, and the challenge's."""


@dataclass(frozen=True)
class Study:
    """Arms, data sets and comparisons; a page in `experiments/` holds one, named STUDY.

    data: names of published sets, or "folder" for images of one's own (data.folder in the base). base: changes to the
    profile that all arms share; by_data: those on one data set, by profile and data set. tested: scores by data set
    that the comparisons are tested on. noise: arms whose gradient noise is measured, all at the trained weights of the
    first of them. plan: what the study decides; without one everything it finds is exploratory. front: from the folder
    of the results, the text of the study's own page over all profiles (results/NAME/README.md), or, where a plan makes
    that page, a section of it. picture: writes the figure that this text shows, once there are runs.
    """

    name: str
    title: str
    question: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    base: Changes = field(default_factory=dict)
    by_data: Mapping[str, Mapping[str, Changes]] = field(default_factory=dict)
    data: tuple[str, ...] = PAPER
    tested: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TESTED)
    noise: tuple[str, ...] = ()
    plan: Plan | None = None
    front: Callable[[Study, Path], str] | None = None
    picture: Callable[[Study, Path], None] | None = None

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ConfigError(f"{self.name}: two arms have the same name; give each its own")
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{name!r}: names of studies and arms are made of a-z, 0-9, - and .")
        named = [c.arm for c in self.comparisons] + [c.reference for c in self.comparisons] + list(self.noise)
        named += [name for arm in self.arms for name in (*arm.best_of, *([arm.weights_of] if arm.weights_of else []))]
        if self.plan is not None:
            named += [name for point in self.plan.order for name in (point.arm, point.reference)]
        for name in named:
            if name not in names:
                raise ConfigError(f"{self.name}: there is no arm {name!r}{nearest(name, names)}")

    def arm(self, name: str) -> Arm:
        """The arm of this name; ConfigError names the nearest when there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = [a.name for a in self.arms]
        raise ConfigError(f"{self.name}: there is no arm {name!r}{nearest(name, names)} (there are {', '.join(names)})")

    def data_of(self, arm: Arm) -> tuple[str, ...]:
        """The data sets that an arm runs on."""
        return tuple(name for name in self.data if not arm.data or name in arm.data)

    def on(self, profile_name: str, data: str, base: Config) -> Config:
        """A base of all arms on a data set."""
        named = from_dict({"data": {"name": data}}, base)
        return from_dict(self.by_data.get(profile_name, {}).get(data, {}), named)

    def seeds_of(self, profile_name: str, data: str, most: int) -> int:
        """How many seeds there are on a data set: what the plan says where it names the profile, at most `most`."""
        if self.plan is None or profile_name not in self.plan.seeds:
            return most
        return min(most, self.plan.seeds[profile_name].get(data, 0))

    @property
    def tuned(self) -> frozenset[str]:
        """The arms among which others are chosen."""
        return frozenset(name for arm in self.arms for name in arm.best_of)


@dataclass(frozen=True)
class Job:
    """One run of a study; `data` is the study's name of the data set (the run's own may be its synthetic stand-in)."""

    study: str
    profile: str
    arm: str
    data: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.arm}-{self.data}-seed{self.seed}"


def resolve(study: Study, profile_name: str, arm_name: str, data: str, seed: int) -> Config:
    """The full configuration of one run: profile, study's base, that of the data set, then the arm, fold and seed."""
    arm = study.arm(arm_name)
    synthetic = profile_name in SYNTHETIC_PROFILES and data != "folder"
    base = from_dict(study.base, profile(profile_name))
    base = study.on(profile_name, data, base)
    config = arm.applied(from_dict({"data": {"name": f"{SYNTHETIC}{data}"}}, base) if synthetic else base)
    updates = config.train.updates if seed < TUNING else max(1, config.train.updates // TUNING_SHARE)
    # Over the seeds that hold the same part out, other frames are drawn.
    drawn = {"seed": seed // folds(config)} if config.data.limit else {}
    return from_dict(
        {
            "data": drawn | {"fold": (seed if seed < TUNING else seed - TUNING) % folds(config)},
            "train": {"seed": seed, "updates": updates},
            "wandb": {"group": f"{study.name}/{arm.name}"},
        },
        config,
    )


def folds(config: Config) -> int:
    """How many parts can be held out in turn."""
    data_set = find(config.data.name)
    in_sequences = data_set is not None and data_set.folds == "sequences"
    by_sequence = in_sequences and config.data.split in ("auto", "sequences", "isolated", "leaking")
    return 2 if by_sequence else config.data.folds


def jobs(study: Study, profile_name: str, seeds: int) -> Iterator[Job]:
    """All runs that are known beforehand: those of the tuning seeds, then seed by seed, so that what is done is paired.

    Arms that stand for the best of others run nothing themselves; see unet.study.choice.
    """
    known = [(data, arm) for data in study.data for arm in study.arms if data in study.data_of(arm) and not arm.best_of]
    known = [(data, arm) for data, arm in known if study.seeds_of(profile_name, data, seeds)]
    for data, arm in known:
        if arm.name in study.tuned:
            for fold in range(folds(resolve(study, profile_name, arm.name, data, 0))):
                yield make_job(study, profile_name, arm.name, data, TUNING + fold)
    for seed in range(seeds):
        for data, arm in known:
            if not arm.grid and seed < study.seeds_of(profile_name, data, seeds):
                yield make_job(study, profile_name, arm.name, data, seed)


def make_job(study: Study, profile_name: str, arm: str, data: str, seed: int) -> Job:
    """The run of this arm, data set and seed."""
    return Job(study.name, profile_name, arm, data, seed, resolve(study, profile_name, arm, data, seed))


def identity(config: Config) -> str:
    """What decides a run's result, hashed: everything but the machine and the dashboard.

    Runs of different studies with the same identity are the same run, bit for bit, and are trained once.
    """
    values = to_dict(config)
    del values["wandb"]
    values["train"] = {key: value for key, value in values["train"].items() if key not in MACHINE_KEYS}
    return hashlib.sha256(repr(values).encode()).hexdigest()


def difference(config: Config, other: Config) -> list[str]:
    """Dotted keys in which two configurations of a run differ; the machine and the dashboard do not count."""
    machine = {f"train.{key}" for key in MACHINE_KEYS}
    return [key for key in differences(config, other) if key not in machine and not key.startswith("wandb.")]


def without_dashboard(config: Config) -> Config:
    """The configuration with its W&B section as by default, for records that say what was run."""
    return dataclasses.replace(config, wandb=Config().wandb)
