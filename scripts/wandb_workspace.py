"""The W&B dashboard as code: a view of the project with one section per study, arms coloured, seeds as bands.

    python scripts/wandb_workspace.py --entity NAME               save a view of all studies
    python scripts/wandb_workspace.py --study weight-map          save a view of one study and its runs only
    python scripts/wandb_workspace.py --study weight-map --report save a report of it: question, verdicts, plots, runs
    python scripts/wandb_workspace.py --dry-run                   print the view as JSON; needs no account, no network

Runs are grouped by study/arm and data set; a group is drawn as the mean of its seeds with their standard deviation as a
band. W&B filters runs by view, not by section: the view of all studies shows every group in every section (their eyes
in the list of runs close them), a view of one study shows its own. Needs the extra `dashboard` (wandb-workspaces).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet.config import WandbConfig
from unet.datasets import DATA_SETS
from unet.errors import ConfigError, RunError, UserError, nearest, one_line
from unet.runs.wandb_client import has_key
from unet.study import registry, wandb_report
from unet.study.design import Study

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b"),
    *("#9467bd", "#bcbd22", "#000000", "#a50026", "#3f6f00", "#f0e442", "#7b4173", "#17becf"),
)
DULLED = 0.6  # what is left of a hue in the next round
SHADES = (0.0, 0.35, 0.6)  # of white in an arm's colour, by data set
CURVES = (
    ("held_out/mean_iou", "updates", "held-out mean IoU"),
    ("held_out/mean_iou", "pixels_seen", "held-out mean IoU by pixels seen"),
    ("held_out/loss", "updates", "held-out cross-entropy"),
    ("train/loss", "updates", "training loss"),
    ("train/gradient_norm", "updates", "gradient norm"),
    ("train/pixel_accuracy", "updates", "training accuracy (where the fused loss counts it)"),
)
SUMMARY = {"mean_iou_last5": "held_out/mean_iou", "loss_last5": "held_out/loss", "spikes": "train/loss_max"}
"""Where a score that a study tests is found; the others stand under scores/."""


def colours(study: Study) -> dict[tuple[str, str], str]:
    """Colour (#rrggbb) of every arm and data set: one hue per arm, paler by data set. Chosen arms run nothing.

    Where there are more arms than hues, those of the next round are dulled.
    """
    arms = [arm for arm in study.arms if not arm.best_of]
    return {
        (arm.name, data): _paler(_hue(i), SHADES[study.data.index(data) % len(SHADES)])
        for i, arm in enumerate(arms)
        for data in study.data_of(arm)
    }


def _hue(arm: int) -> str:
    turn, place = divmod(arm, len(PALETTE))
    return _mixed(PALETTE[place], 64, 1 - DULLED**turn)


def _paler(colour: str, white: float) -> str:
    return _mixed(colour, 255, white)


def _mixed(colour: str, gray: int, share: float) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (gray - part) * share):02x}" for part in parts)


def panels_of(study: Study) -> list[Any]:
    """The panels of one study."""
    import wandb_workspaces.reports.v2 as panels

    bands = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": 100}
    curves = list(CURVES)
    kinds = {DATA_SETS[name].scores for name in study.data if name in DATA_SETS}
    if "membranes" in kinds:
        curves += [("held_out/v_rand", "updates", "held-out V_rand"),
                   ("held_out/rand_error", "updates", "held-out Rand error"),
                   ("held_out/pixel_error", "updates", "held-out pixel error")]  # fmt: skip
    if "objects" in kinds:
        curves.append(("held_out/seg_at_half", "updates", "held-out SEG at threshold 0.5"))
    tested = dict.fromkeys(score for scores in study.tested.values() for score in scores)
    drawn = [panels.LinePlot(title=title, x=x, y=[y], **bands) for y, x, title in curves]
    drawn += [
        panels.BarPlot(title=f"at the end: {score.replace('_', ' ')}", metrics=[SUMMARY.get(score, f"scores/{score}")],
                       groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=100)
        for score in tested
    ]  # fmt: skip
    drawn.append(panels.LinePlot(title="share of time waiting for data", x="updates",
                                 y=["timing/data_wait_share"], **bands))  # fmt: skip
    for key in ("held_out/frames", "held_out/probability", "weight_map"):
        drawn.append(panels.MediaBrowser(title=key, media_keys=[key], num_columns=4))
    return drawn


def workspace(studies: Sequence[Study], entity: str, project: str) -> Any:
    """The view of these studies, not saved."""
    import wandb_workspaces.workspaces as ws

    names = [study.name for study in studies]
    group_colours: dict[Any, str] = {}
    for study in studies:
        for (arm, data), colour in colours(study).items():
            group = f"{study.name}/{arm}"
            group_colours.setdefault(group, colour)
            group_colours[ws.GroupPath(group, data)] = colour
    return ws.Workspace(
        entity=entity,
        project=project,
        name=names[0] if len(names) == 1 else "All studies",
        sections=[
            ws.Section(name=f"{study.name}: {study.title}", panels=panels_of(study), is_open=True) for study in studies
        ],
        settings=ws.WorkspaceSettings(x_axis="updates", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=f"Config('study') in {json.dumps(names)}",
            groupby=[ws.Metric("Group"), ws.Config("data.name")],
            group_colors=group_colours,
        ),
    )


def reports(studies: Sequence[Study], results: Path, entity: str, project: str) -> list[Any]:
    """A report per study, not saved."""
    site = os.environ.get("WANDB_BASE_URL", "https://wandb.ai").replace("//api.", "//").rstrip("/")
    return [wandb_report.make(study, results, panels_of(study), entity, project, site) for study in studies]


def main(argv: list[str]) -> int:
    """Save or print the view or reports; returns 0, or 2 after one line about what is missing."""
    parser = argparse.ArgumentParser("wandb_workspace", description="Save the W&B view of the studies.")
    parser.add_argument("--project", default=os.environ.get("WANDB_PROJECT") or WandbConfig().project)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY", ""), help="user or team (default: your own)")
    parser.add_argument("--study", action="append", default=[], help="this study only (may be repeated)")
    parser.add_argument("--report", action="store_true", help="a report per study instead of the view")
    parser.add_argument("--results", type=Path, default=EXPERIMENTS / "results", help="the evidence, for --report")
    parser.add_argument("--dry-run", action="store_true", help="print the view as JSON; nothing is sent")
    flags = parser.parse_args(argv)
    try:
        studies = _chosen(flags.study, flags.results)
        if not flags.dry_run and not has_key():
            raise ConfigError("there is no W&B key; set WANDB_API_KEY or run `wandb login`, or use --dry-run")
        entity = flags.entity or ("entity" if flags.dry_run else _own_entity())
        if flags.report:
            made = reports(studies, flags.results, entity, flags.project)
        else:
            made = [workspace(studies, entity, flags.project)]
        for view in made:
            if flags.dry_run:
                print(json.dumps(view._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=1))
            else:
                _save(view, "report" if flags.report else "view")
    except UserError as error:
        print(f"wandb_workspace: {error}", file=sys.stderr)
        return 2
    except ImportError:
        print("wandb_workspace: wandb-workspaces is missing; pip install -c constraints.txt -e '.[dashboard]'",
              file=sys.stderr)  # fmt: skip
        return 2
    return 0


def _chosen(names: Sequence[str], results: Path) -> list[Study]:
    """The studies of these names (none: all); ConfigError when one does not follow its plan."""
    studies = registry.followed(EXPERIMENTS, results)
    for name in names:
        if name not in studies:
            raise ConfigError(f"there is no study {name!r}{nearest(name, studies)} (there are {', '.join(studies)})")
    return [study for name, study in studies.items() if not names or name in names]


def _own_entity() -> str:
    import wandb

    try:
        found = wandb.Api(timeout=15).default_entity
    except Exception as error:
        raise RunError(f"W&B cannot be reached ({one_line(error)[:160]}); name --entity, or try again later") from None
    if not found:
        raise ConfigError("the account has no default entity; name --entity")
    return str(found)


def _save(view: Any, what: str) -> None:
    try:
        view.save()
        print(view.url)
    except Exception as error:
        raise RunError(f"the {what} was not saved ({one_line(error)[:160]}); try again later") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
