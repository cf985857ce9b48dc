"""How far the planned studies are: runs done, runs left, hours left from the measured minutes of like runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from unet.study import choice
from unet.study.design import Study, identity
from unet.study.ledger import Ledger, Options


@dataclass(frozen=True)
class Progress:
    """Runs of a study at one size: done, left (as far as they are known), and the seconds that those take.

    left counts runs at settings that are not chosen yet, which are taken to last as long as with the first of the
    settings. shared: of those left, runs that another study waits for as well, which are made once and take no time
    here. seconds: None where a run has no like that was measured.
    """

    study: str
    profile: str
    done: int
    left: int
    shared: int
    failed: int
    seconds: float | None


def progress(study: Study, options: Options, elsewhere: set[str] | None = None) -> Progress:
    """How far a study is at the size that the options name.

    elsewhere: identities of the runs that were counted for other studies; those of this one are added.
    """
    ledger = Ledger(study, options)
    wanted = ledger.wanted()
    states = [ledger.state(job) for job in wanted]
    waiting = [job for job, state in zip(wanted, states, strict=True) if state in ("begun", "missing")]
    known = ledger.evidence()
    open_choices = choice.undecided(study, options.profile, options.seeds, choice.by_key(known))
    asked = ledger.asked()
    waiting += [job for arm, job in open_choices if asked(arm, job.data, job.seed)]
    seen = elsewhere if elsewhere is not None else set()
    own = [job for job in waiting if identity(job.config) not in seen]
    seen |= {identity(job.config) for job in own}
    seconds = ledger.seconds_left(own) if own else 0.0
    failed = sum(run.diverged or run.collapsed for run in known)
    done = sum(state in ("done", "diverged") for state in states)
    return Progress(study.name, options.profile, done, len(waiting), len(waiting) - len(own), failed, seconds)


def told(studies: Iterable[tuple[Path, Study]], options_of: Options, results: str = "") -> list[str]:
    """A line per planned study and size, and their sum; profile and seeds of the options: "" and 0 for the plan's."""
    lines, total, unknown = [], 0.0, False
    elsewhere: set[str] = set()
    head = f"{'study':<16} {'profile':<14} {'done':>5} {'left':>5} {'shared':>7} {'failed':>7} {'hours left':>11}"
    for path, study in studies:
        for profile, planned in study.plan.seeds.items() if study.plan is not None else ():
            if options_of.profile not in ("", profile):
                continue
            folder = Path(results) if results else path.parent / "results"
            seeds = options_of.seeds or max(planned.values())
            options = replace(options_of, profile=profile, seeds=seeds, results=folder)
            found = progress(study, options, elsewhere)
            hours = "unknown" if found.seconds is None else f"{found.seconds / 3600:.1f}"
            total, unknown = total + (found.seconds or 0.0), unknown or found.seconds is None
            counts = f"{found.done:>5} {found.left:>5} {found.shared:>7} {found.failed:>7}"
            lines.append(f"{study.name:<16} {profile:<14} {counts} {hours:>11}")
    if not lines:
        return [f"no study here has a plan{f' at {options_of.profile}' if options_of.profile else ''}"]
    end = f"{total / 3600:.1f} hours left at {options_of.at_once} runs at a time"
    return [head, *lines, end + (", and those that nothing alike was measured for" if unknown else "")]
