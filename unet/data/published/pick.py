"""Which files of a folder or an unpacked archive are the data set's own, and a checked copy of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from unet.data import isbi_labels
from unet.data.published.manifest import find_manifest, verify
from unet.data.readers import READERS
from unet.datasets import DataSet
from unet.errors import DataError

Say = Callable[[str], None]

SPARE = "test"
"""What the names of the EM challenge's test slices and of their labels begin with: training does without them, so that
none is better than wrong ones."""

_DEPTH = 4  # folders below an archive's root in which the data set is looked for


def picked(data_set: DataSet, base: Path, target: Path, jpeg: bool, say: Say) -> Path:
    """A copy of the data set's own files in `target`, in their usual places, checked against the manifest.

    DataError when they are not the published ones; test slices and their labels are left out then.
    """
    shutil.rmtree(target, ignore_errors=True)
    for path, place in READERS[data_set.reader].places(base, jpeg):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)
    wrong = verify(data_set, target, manifest=find_manifest(data_set, target.parents[1]), jpeg=jpeg)
    if data_set.reader == "isbi":
        wrong = _without_spare(data_set, target, wrong, say)
    if wrong and not (data_set.reader != "isbi" and find_manifest(data_set, target.parents[1]) is None):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{base}: not the published {data_set.folder}: {'; '.join(wrong[:3])}{more}; fetch it again")
    return target


def _without_spare(data_set: DataSet, target: Path, wrong: list[str], say: Say) -> list[str]:
    """What is wrong beside the test slices and their labels; of these, what is not as published is left out."""
    labels = [w for w in wrong if w.startswith(isbi_labels.NAME)]
    volume = [w for w in wrong if w.startswith(SPARE) and w not in labels]
    for what, found, places in (
        ("test volume", volume, ("test", "test-volume.tif")),
        ("labels of the test slices", labels, (isbi_labels.NAME,)),
    ):
        if found:
            say(f"{data_set.folder}: the source has no usable {what} ({found[0]}); left out")
        for path in (target / place for place in places if found):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return [w for w in wrong if not w.startswith(SPARE)]


def locate(data_set: DataSet, tree: Path, jpeg: bool) -> Path:
    """The folder below `tree` that holds the data set; one of the data set's own name is preferred.

    DataError when there is none.
    """
    level, candidates = [tree], []
    for _ in range(_DEPTH + 1):
        candidates += [p for p in level if holds(data_set, p, jpeg, only_jpeg=jpeg)]
        level = sorted(p for parent in level for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not candidates:
        raise DataError(f"{tree}: holds no {data_set.folder} ({data_set.title}); name its archive or folder")
    return next((p for p in candidates if p.name == data_set.folder), candidates[0])


def holds(data_set: DataSet, folder: Path, jpeg: bool, *, only_jpeg: bool = False) -> bool:
    """Whether a folder holds the data set; jpeg: the lossy copies count, only_jpeg: nothing else does."""
    return READERS[data_set.reader].holds(folder, jpeg, only_jpeg)
