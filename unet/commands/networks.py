"""The networks of `unet predict`: loaded as one, and how they make objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet.commands.predict_flags import Arguments
    from unet.commands.words import Words
    from unet.device import Hardware
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
    from unet.config import from_dict
    from unet.data.stack import Normalisation
    from unet.device import prepare
    from unet.files import sha256
    from unet.prediction.job import Settings
    from unet.prediction.trained import configured, load_ensemble, members, precision_of, weights_file

    def hardware_of(path: Path) -> Hardware:
        precision = precision_of(path) if arguments.precision == "auto" else arguments.precision
        return prepare(from_dict({"train": {"device": arguments.device, "precision": precision}}))

    runs = tuple(run for path in named for run in members(path))
    network, metadata = load_ensemble(runs, hardware_of)
    run = configured(runs[0])
    settings = Settings(
        normalisation=Normalisation(**metadata["normalisation"]),
        channels=metadata["channels"],
        classes=len(metadata["class_names"]),
        weights=tuple(sha256(weights_file(run)) for run in runs),
        tile_px=arguments.tile_px or metadata["tile_px"],
        batch=arguments.batch,
        symmetries=arguments.symmetries or run.symmetries,
        average=run.average if arguments.average == "auto" else arguments.average,
        label_map=arguments.classes,
    )
    return Loaded(network, settings, metadata["class_names"], runs)


def instance_settings(arguments: Arguments, words: Words, loaded: Loaded, terminal: Terminal) -> InstanceSettings:
    """What the (first) run or the scored ensemble chose on training frames, else the defaults; says where it is from.

    ConfigError when no objects can be made of the network's classes, or for a threshold out of range.
    """
    from unet.prediction.instances import InstanceSettings
    from unet.prediction.objects import check_classes
    from unet.prediction.trained import SCORES, chosen_settings

    check_classes(loaded.class_names)
    run = words.networks[0]
    chosen = chosen_settings(run)
    where = "defaults; the run has chosen none" if chosen is None else f"from {run / SCORES}"
    if len(words.networks) > 1:
        where += ", the first run; for the ensemble's own: unet evaluate RUN RUN --ensemble --out DIR, then predict DIR"
    chosen = chosen or InstanceSettings()
    if arguments.threshold is not None:
        chosen = replace(chosen, threshold=arguments.threshold)
        where += f"; threshold {arguments.threshold:g} as asked"
    terminal.say(f"instances: {chosen.to_dict()} ({where})")
    return chosen
