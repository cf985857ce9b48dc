"""Everything that reads what it did not write, with generated files, settings and flags: part of fuzz.py.

Every case gets a folder of its own and hypothesis's source of choices; it may end in a result or in a declared error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_images import (
    INTERESTING,
    Draw,
    mutated,
    read_calibration,
    read_ctc,
    read_isbi,
    read_own,
    read_picture,
    read_tiff,
    unpack,
)
from hypothesis import strategies as st

from unet.config import from_dict, keys, load_yaml, profile, to_dict, to_yaml
from unet.runs.folder import CONFIG, ENVIRONMENT, METRICS, NOISE, RECORD, SCORES, SPLIT, WEIGHTS

Case = Callable[[Draw, Path], object]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=12), INTERESTING,
    st.sampled_from(["em", "auto", "on", "1e-3", ".nan", "0x10", "1:30", "~", "99999999999", "-1", "cuda:7", "../.."]),
)  # fmt: skip


# -- settings ----------------------------------------------------------------------------------------------------------


YAML_PARTS = [
    "&a ", "*a", "!!python/object:os.system", "!!binary", "- ", "? ", ": ", "{", "}", "[", "\n", "  ", "optim", "lr",
    "1e-3", "<<: ", "---", "...", "%YAML 9.9", "|", ">", "#", "\t", "'", '"', "2001-01-01", "0o7", "1:2:3",
    "!!timestamp 9", "!!int x", "!!set {a}", "!!omap",
]  # fmt: skip
GRAY_PARTS = [
    "GaussNoise", "RandomGamma", "Rotate", "ToGray", "(", ")", "p=", "0.5", ",", "gamma_limit=", "(80, 120)",
    "__import__('os')", "lambda: 0", "'", "-1", "1e999", "x", "**{}", "*[]", "[", "]", "\n", "None",
]  # fmt: skip


def _settings(draw: Draw) -> dict[str, Any]:
    """Nested keys, most of them known, with any values."""
    known = list(keys())
    found: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(known), max_size=6)):
        section, _, name = key.partition(".")
        target = found.setdefault(section, {}) if isinstance(found.get(section, {}), dict) else {}
        target[name] = draw(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))
    for key in draw(st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["data", "optim", "trian"])), max_size=2)):
        found[key] = draw(st.one_of(SCALARS, st.dictionaries(st.text(max_size=5), SCALARS, max_size=2)))
    return found


def read_yaml(draw: Draw, folder: Path) -> object:
    """A configuration file: generated settings, a damaged good one, or any text."""
    import yaml

    path = folder / "c.yaml"
    kind = draw(st.sampled_from(["settings", "damaged", "text", "bytes"]))
    if kind == "settings":
        path.write_text(yaml.safe_dump(_settings(draw), allow_unicode=True), encoding="utf-8", errors="replace")
    elif kind == "damaged":
        path.write_bytes(mutated(draw, to_yaml(profile(draw(st.sampled_from(["full", "quick"])))).encode()))
    elif kind == "text":
        path.write_text("".join(draw(st.lists(st.sampled_from(YAML_PARTS), max_size=25))))
    else:
        path.write_bytes(draw(st.binary(max_size=80)))
    config = load_yaml(path)
    assert from_dict(to_dict(config)) == config
    return config


def read_flags(draw: Draw, _: Path) -> object:
    """Words of the command line: known flags with any values, and anything else."""
    from unet.commands.train import resolve

    known = ["--profile", "--config-file", "--run", "--resume", "--overwrite", "--dry-run", *("--" + k for k in keys())]
    words: list[str] = []
    for flag in draw(st.lists(st.sampled_from(known), max_size=4)):
        flag = flag.replace("_", "-") if draw(st.booleans()) else flag
        value = str(draw(SCALARS))
        words += draw(st.sampled_from([[flag], [flag, value], [f"{flag}={value}"], [flag, value, value]]))
    words += draw(
        st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["--", "-", "=", "--=", "--no-resume"])), max_size=2)
    )
    words = [word for word in words if word not in ("-h", "--help") and "\0" not in word]
    return resolve(words)


def read_command(draw: Draw, folder: Path) -> object:
    """Words for the other commands, whose mistakes must be found before anything heavy is begun."""
    from unet.cli import _dispatch

    name = draw(st.sampled_from(["evaluate", "predict", "reproduce", "sizes", "study", "data", "report", "xyz"]))
    absent = str(folder / "absent")
    flags = st.sampled_from(
        ["--out", "--symmetries", "--run", "--go", "--depth", "--seeds", "--tile-px", "--quiet", "--batch", "--ctc"]
    )
    values = st.one_of(
        st.sampled_from([absent, "0", "-1", "1e9", "show", "verify", "572", "claims"]), st.text(max_size=5)
    )
    words = draw(st.lists(st.one_of(flags, values), max_size=4))
    if name == "data" and "fetch" in words:
        return None
    words = [word for word in words if word not in ("-h", "--help")]
    return _dispatch([name, *words])


def read_gray(draw: Draw, _: Path) -> object:
    """Text that names gray-value transforms."""
    from unet.tiles.gray import GrayTransforms

    good = [
        "RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.5)",
        "RandomGamma(gamma_limit=(80, 120))",
    ]
    text = draw(
        st.one_of(
            st.sampled_from(good), st.lists(st.sampled_from(GRAY_PARTS), max_size=10).map("".join), st.text(max_size=20)
        )
    )
    text = mutated(draw, text.encode(), 2).decode(errors="replace") if draw(st.booleans()) else text
    return GrayTransforms([text], draw(st.integers(1, 3)))


# -- run folders -------------------------------------------------------------------------------------------------------


def read_checkpoint(draw: Draw, folder: Path) -> object:
    """A folder of checkpoints of which files and records are damaged or replaced."""
    import torch

    from unet.runs.checkpoint import load_latest, save_checkpoint

    for update in (3, 7):
        path = save_checkpoint(folder, update, {"state": {"update": update}, "model": {"w": torch.zeros(3)}})
        record = path.with_suffix(".json")
        kind = draw(st.sampled_from(["whole", "damaged", "record", "json", "both", "name"]))
        if kind in ("damaged", "both"):
            path.write_bytes(mutated(draw, path.read_bytes()))
        if kind in ("record", "both"):
            record.write_bytes(mutated(draw, record.read_bytes()))
        if kind == "json":
            record.write_text(json.dumps(draw(JSON)))
        if kind == "both" and draw(st.booleans()):  # the damage is signed for
            content = path.read_bytes()
            record.write_text(json.dumps({"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}))
        if kind == "name":
            letters = st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"])
            path.rename(folder / f"update-{draw(st.text(letters, max_size=6))}.pt")
    saved, complaints = load_latest(folder)
    assert saved is None or isinstance(saved, dict)
    return complaints


def read_weights(draw: Draw, folder: Path) -> object:
    """A weights file with any metadata, whole or damaged, loaded as the network of a run."""
    import torch

    from unet.config import ModelConfig
    from unet.device import Hardware
    from unet.networks import build
    from unet.prediction.trained import load_network
    from unet.runs.checkpoint import save_weights

    model = ModelConfig(base_channels=2, depth=2)
    metadata: dict[str, Any] = {
        "model": to_dict(model), "channels": 1, "class_names": ["a", "b"], "tile_px": 0, "data": "x",
        "normalisation": {"kind": "fixed", "offset": 0.0, "scale": 255.0, "low": 0.0, "high": 100.0},
    }  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([metadata, *(v for v in metadata.values() if isinstance(v, dict))]))
        key = draw(st.one_of(st.sampled_from(sorted(place)), st.text(max_size=4))) if place else "x"
        place[key] = draw(st.one_of(JSON, SCALARS))
    path = folder / WEIGHTS
    state = build(model, 1, 2, 0).state_dict()
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(state)))
        state[name] = draw(
            st.sampled_from([torch.zeros(1), state[name].half(), torch.zeros(2, 3, 4, dtype=torch.int64)])
        )
    save_weights(path, state, metadata)
    if draw(st.booleans()):
        path.write_bytes(mutated(draw, path.read_bytes()))
    return load_network(path, Hardware(torch.device("cpu"), "fp32", False, False, 0))[1]


def read_run(draw: Draw, folder: Path) -> object:
    """The small files of a run folder, damaged or replaced."""
    from unet.evaluation.held_out import named_frames
    from unet.prediction.progress import Record
    from unet.runs.folder import METRICS, taken
    from unet.runs.reproduce import Original, compare

    path = folder / draw(st.sampled_from(["run", "it's", "new\nline"]))
    with taken(path, profile("smoke"), resume=False, overwrite=False) as run:
        pass
    contents = {
        SPLIT: '{"train": ["a"], "held_out": ["b"]}', SCORES: '{"scores": {"mean_iou": 0.5}}',
        METRICS: '{"update": 1, "part": "train", "loss": 0.5}\n', ".lock": "12", ENVIRONMENT: '{"commit": "x"}',
    }  # fmt: skip
    for name, text in contents.items():
        kind = draw(st.sampled_from(["whole", "damaged", "json", "bytes"]))
        content = {
            "whole": text.encode(),
            "damaged": mutated(draw, text.encode()),
            "json": json.dumps(draw(JSON)).encode(),
        }
        run.file(name).write_bytes(content.get(kind) or draw(st.binary(max_size=30)))
    with taken(run.path, run.config, resume=True, overwrite=False):
        run.append(METRICS, {"update": 2})
    (folder / "p.json").write_bytes(mutated(draw, b'{"a": 1}\n3\n4\n'))
    with Record(folder / "p.json") as record:
        assert record.rows >= 0
    original = Original.read(run.path)
    original.notes({"commit": "y", "packages": {"torch": "1"}})
    compare(original, run.path)
    return named_frames(run, _stack(), draw(st.sampled_from(["train", "held_out"])))


def _stack() -> Any:
    from unet.data.stack import Frame, Normalisation, Stack

    frames = tuple(Frame(name, "s", np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), np.uint8)) for name in "ab")
    return Stack("s", frames, ("x", "y"), Normalisation(), "here")


def read_evidence(draw: Draw, folder: Path) -> object:
    """A study's evidence, damaged or replaced; its page is made of what is left."""
    from unet.study import collect
    from unet.study import report as study_report
    from unet.study.design import Arm, Comparison, Study, make_job

    study = Study("fuzz", "Fuzz", "?", (Arm("a", "a"), Arm("b", "b", {"optim": {"lr": 2e-3}})), (Comparison("b", "a"),))
    for arm in ("a", "b"):
        job = make_job(study, "smoke", arm, "em", 0)
        kept = folder / job.name
        kept.mkdir()
        contents = {
            CONFIG: to_yaml(job.config),
            ENVIRONMENT: '{"device": "cpu", "processor": "p", "packages": {"torch": "2"}, "precision": "fp32"}',
            RECORD: json.dumps({"study": "fuzz", "profile": "smoke", "arm": arm, "data": "em", "seed": 0,
                                       "seconds": 3.0, "command": collect.command(job)}),
            METRICS: '{"update": 4, "part": "held_out", "loss": 0.5, "mean_iou": 0.5}\n'
                             '{"update": 5, "part": "train", "loss": 0.5, "loss_max": 0.6}\n',
            SCORES: '{"scores": {"mean_iou": 0.5, "v_rand": 0.9}, "notes": []}',
        }  # fmt: skip
        if draw(st.booleans()):
            contents[NOISE] = "{}"
        for name, text in contents.items():
            kind = draw(st.sampled_from(["whole", "whole", "whole", "damaged", "json"]))
            changed = {"damaged": mutated(draw, text.encode(), 2), "json": json.dumps(draw(JSON)).encode()}
            (kept / name).write_bytes(changed.get(kind, text.encode()))
    return study_report.make(study, "smoke", folder)


def read_manifest(draw: Draw, folder: Path) -> object:
    """A manifest of checksums."""
    from unet.data.published.manifest import read_manifest as read

    good = f"# x\n{'0' * 64}  a/b.tif\n#bytes 12 a/b.tif\n#pixels {'1' * 64} a/b.tif\n"
    path = folder / "manifest.sha256"
    path.write_bytes(mutated(draw, good.encode()))
    return read(path)


READERS: dict[str, Case] = {
    "TIFF": read_tiff,
    "PNG and JPEG": read_picture,
    "folder of one's own": read_own,
    "Cell Tracking Challenge folder": read_ctc,
    "EM challenge folder": read_isbi,
    "archive": unpack,
    "manifest": read_manifest,
    "calibration of an image": read_calibration,
    "configuration in YAML": read_yaml,
    "flags of unet train": read_flags,
    "words of the other commands": read_command,
    "gray-value transforms": read_gray,
    "checkpoints": read_checkpoint,
    "weights and their metadata": read_weights,
    "files of a run folder": read_run,
    "evidence of a study": read_evidence,
}
