"""The flags of `unet predict`, for the modules that share its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Flags of `unet predict`."""

    words: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN|em|phc|hela [RUN ...] IMAGES [IMAGES ...]")
    ] = ()
    """Run folders, weights files or the networks that come along (em: membranes; phc, hela: cells), of several the mean
    of their predictions; then image files (TIFF, a stack too, PNG or JPEG), folders of them or quoted patterns."""
    out: str = ""
    """Float32 TIFF to write (several classes: a map for each), or a folder for several images; default:
    IMAGES-probabilities here."""
    classes: bool = False
    """Also write the most probable class of every pixel, as NAME-classes.tif (8-bit)."""
    instances: bool = False
    """Also write the objects, numbered, as NAME-masks.tif (16-bit; 32-bit beyond 65535 objects)."""
    threshold: float | None = None
    """Of objects: foreground is a probability above it; default: as the run chose on its training frames."""
    overlay: bool = False
    """Also draw the outlines of the objects on the image, as NAME-overlay.png; implies --instances."""
    ctc: str = ""
    """Write instances instead, as the Cell Tracking Challenge takes them, into this folder (e.g. OUT/01_RES)."""
    preset: Literal["", "release"] = ""
    """release: as the code released with the paper made objects of PhC-U373 (flips, logits, from 500 px, no border)."""
    symmetries: Literal[0, 1, 4, 8] = 0
    """4: average over the flips, 8: over the symmetries of the square, 1: none, 0: as the (first) run was made for."""
    average: Literal["auto", "probabilities", "logits"] = "auto"
    """What is averaged over symmetries and networks; auto: as the (first) run was configured."""
    tile_px: int = 0
    """Input side of the tiles; 0 chooses one that fits the images."""
    batch: int = 1
    """Tiles that go through the network at once."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: fp32 for a run that was trained in it, else bf16 where the device computes in it."""
    resume: bool = False
    """Go on with a prediction that was stopped; of several images, do what is missing."""
    overwrite: bool = False
    """Replace outputs that exist."""
    quiet: bool = False
    """Print nothing but the path of the output."""
