"""The networks of `unet predict`: loaded as one, and how they make objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet.runs.folder import SCORES

if TYPE_CHECKING:
    from unet.commands.predict_flags import Arguments
    from unet.commands.words import Words
    from unet.prediction.ensemble import Predicting
    from unet.prediction.instances import InstanceSettings
    from unet.prediction.job import Settings
    from unet.terminal import Terminal


@dataclass(frozen=True)
class Loaded:
    """What predicts, and how."""

    network: Predicting
    settings: Settings
    class_names: list[str]
    runs: tuple[Path, ...]


def load(arguments: Arguments, named: tuple[Path, ...]) -> Loaded:
    """The networks that the words name, as one."""
    from unet.prediction.job import settings_of
    from unet.prediction.trained import load_trained

    trained = load_trained(named, arguments.device, arguments.precision)
    said = settings_of(trained)
    how = replace(
        said.how,
        tile_px=arguments.tile_px or said.how.tile_px,
        batch=arguments.batch,
        symmetries=arguments.symmetries or said.how.symmetries,
        average=said.how.average if arguments.average == "auto" else arguments.average,
    )
    settings = replace(said, how=how, label_map=arguments.classes)
    return Loaded(trained.network, settings, trained.class_names, trained.runs)


def instance_settings(arguments: Arguments, words: Words, loaded: Loaded, terminal: Terminal) -> InstanceSettings:
    """What the (first) run or the scored ensemble chose on training frames, else the defaults; says where it is from.

    ConfigError when no objects can be made of the network's classes, or for a threshold out of range.
    """
    from unet.prediction.instances import InstanceSettings
    from unet.prediction.objects import check_classes
    from unet.prediction.trained import chosen_settings

    check_classes(loaded.class_names)
    run = words.networks[0]
    chosen = chosen_settings(run)
    where = "defaults; the run has chosen none" if chosen is None else f"from {run / SCORES if run.is_dir() else run}"
    if len(words.networks) > 1:
        where += ", the first run; for the ensemble's own: unet evaluate RUN RUN --ensemble --out DIR, then predict DIR"
    chosen = chosen or InstanceSettings()
    if arguments.threshold is not None:
        chosen = replace(chosen, threshold=arguments.threshold)
        where += f"; threshold {arguments.threshold:g} as asked"
    terminal.say(f"instances: {chosen.to_dict()} ({where})")
    return chosen
