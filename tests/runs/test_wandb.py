"""The W&B mirror against a server on 127.0.0.1: what arrives of real runs, and what happens when the server fails."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.study.helpers import QUIET
from tests.wandb_server import KEY, serve
from unet.cli import main
from unet.config import from_dict, profile
from unet.data.stack import Frame, Normalisation, Stack
from unet.errors import RunError
from unet.evaluation.run import evaluate_run
from unet.runs.checkpoint import load_weights
from unet.runs.dashboard import Dashboard
from unet.runs.final import send_scores
from unet.runs.folder import METRICS, RunFolder
from unet.signals import Interrupted
from unet.study import sync
from unet.study.design import Arm, Comparison, Study
from unet.study.evidence import load_all
from unet.study.ledger import Options
from unet.study.runner import Runner
from unet.training.loop import train
from unet.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")

ROOT = Path(__file__).resolve().parents[2]
BASE = {"tile": {"input_px": 52}, "train": {"updates": 12}}


def cells(frames=10, size=76) -> Stack:
    """Cells parted by membranes, dark on bright ground."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(frames):
        label = np.ones((size, size), np.uint8)
        for at in rng.integers(8, size - 8, (2, 2)):
            label[at[0] : at[0] + 3] = 0
            label[:, at[1] : at[1] + 3] = 0
        image = (0.3 + 0.4 * label + rng.normal(0, 0.1, label.shape)).astype(np.float32)
        made.append(Frame(f"slice{number}", "a", image[None], label))
    return Stack("cells", tuple(made), ("membrane", "cell"), Normalisation(), "made in the test")


@pytest.fixture(scope="module", autouse=True)
def data():
    """The stack that runs are given in place of files."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("unet.training.loop", "unet.evaluation.run"):
            patch.setattr(f"{module}.load", lambda *_: cells())
        yield


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")  # the dashboard sets it; here it is taken back
    (tmp_path / "home").mkdir()
    import wandb

    wandb.teardown()  # a process keeps the environment of its first run
    yield
    wandb.teardown()


def configured(**wandb):
    return from_dict(BASE | {"wandb": {"mode": "online", "timeout_s": 10.0} | wandb}, profile("smoke"))


def run(path, config, lines=None, resume=False):
    """What `unet train` does: train, score, mirror both."""
    started = time.monotonic()
    with Dashboard(lambda line: None if lines is None else lines.append(line)) as dashboard:
        train(config, path, resume=resume, overwrite=False, terminal=QUIET, dashboard=dashboard)
        send_scores(dashboard, RunFolder(path), evaluate_run(path, QUIET, announce=False))
    return time.monotonic() - started


def connect_to(site, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", site.address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture(scope="module")
def unmirrored(data, tmp_path_factory):
    """metrics.jsonl and duration of the run without a mirror."""
    path = tmp_path_factory.mktemp("unmirrored") / "run"
    seconds = run(path, configured(mode="disabled"))
    return (path / METRICS).read_bytes(), seconds


def pictures(arrived, entry):
    """The pictures of one logged panel."""
    return [Image.open(io.BytesIO(arrived.files[name])) for name in entry["filenames"]]


def test_a_run_arrives_whole(tmp_path, monkeypatch, unmirrored):
    with serve() as site:
        connect_to(site, monkeypatch)
        lines: list[str] = []
        path = tmp_path / "em-seed0"
        run(path, configured(group="study/arm", tags=["mine"], weights=True), lines)
        assert lines == []
        assert (path / METRICS).read_bytes() == unmirrored[0]
        (arrived,) = site.runs.values()
        assert site.unknown == []
        check_listing(arrived, RunFolder(path))
        check_rows(arrived, RunFolder(path))
        check_pictures(arrived)
        (weights,) = site.of_type("weights")
        assert weights.content("weights.safetensors") == (path / "weights.safetensors").read_bytes()
        assert weights.metadata["class_names"] == ["membrane", "cell"]
        assert [name for name in site.artifacts if site.artifacts[name].type != "weights"] == []


def check_listing(arrived, folder):
    assert (arrived.project, arrived.group, arrived.job_type) == ("unet-2015", "study/arm", "train")
    assert arrived.display_name == "em-seed0"
    assert {"em", "figure1", "sgd", "mine"} < set(arrived.tags)
    assert arrived.config["optim"]["momentum"] == 0.99
    assert arrived.config["environment"]["packages"]["wandb"]
    assert (arrived.finished, arrived.exit_code) == (True, 0)
    scores = folder.read_json("scores.json")
    assert arrived.summary["scores/v_rand"] == pytest.approx(scores["scores"]["v_rand"])
    held_out = [row for row in folder.rows(METRICS) if row["part"] == "held_out"]
    assert arrived.summary["best/mean_iou"] == max(row["mean_iou"] for row in held_out)
    assert arrived.summary["best/loss"] == min(row["loss"] for row in held_out)
    assert arrived.summary["held_out/mean_iou"] == held_out[-1]["mean_iou"]
    table = json.loads(arrived.files[arrived.summary["scores/by_frame"]["path"]])
    assert table["columns"][0] == "frame"
    by_frame = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["data"]}
    assert by_frame.keys() == scores["by_frame"].keys()
    for frame, values in scores["by_frame"].items():
        assert by_frame[frame]["mean_iou"] == values["mean_iou"]


def check_rows(arrived, folder):
    rows = folder.rows(METRICS)
    evaluations = [row for row in rows if row["part"] == "held_out"]
    found = arrived.rows("held_out/mean_iou")
    assert [row["updates"] for row in found] == [row["update"] for row in evaluations] == [4, 8, 12]
    assert [row["held_out/mean_iou"] for row in found] == [row["mean_iou"] for row in evaluations]
    assert [row["pixels_seen"] for row in found] == [4 * 52**2, 8 * 52**2, 12 * 52**2]
    for key in ("loss", "gradient_norm", "lr"):
        assert arrived.values(f"train/{key}") == [row[key] for row in rows if row["part"] == "train"]
    assert all(0 <= share < 1 for share in arrived.values("timing/data_wait_share"))
    for key in ("pixel_error", "rand_error", "v_rand", "v_info"):
        assert [row[f"held_out/{key}"] for row in found] == [row[key] for row in evaluations]
        assert evaluations[-1][key] == pytest.approx(folder.read_json("scores.json")["scores"][key], rel=1e-6)


def check_pictures(arrived):
    panel = arrived.rows("held_out/frames")[-1]
    assert panel["updates"] == 12
    entry = panel["held_out/frames"]
    assert entry["count"] == 2  # all that are held out
    shown = pictures(arrived, entry)
    assert all(max(image.size) <= 384 for image in shown)
    assert all(np.ptp(np.asarray(image)) > 100 for image in shown)
    for masks in entry["all_masks"]:
        assert masks.keys() == {"probability", "label", "errors"}
        label = np.asarray(Image.open(io.BytesIO(arrived.files[masks["label"]["path"]])))
        errors = np.asarray(Image.open(io.BytesIO(arrived.files[masks["errors"]["path"]])))
        assert set(np.unique(label)) == {0, 1}
        assert set(np.unique(errors)) <= {0, 1, 2}
        assert ((errors == 1) <= (label == 1)).all()
        assert ((errors == 2) <= (label == 0)).all()
    (weights,) = arrived.values("weight_map")
    assert "mean" in weights["captions"][0]
    assert len(pictures(arrived, weights)) == 4
    assert arrived.values("scores/worst_frames")


def test_an_offline_run_is_sent_later_from_another_place_and_leaves_nothing_outside(tmp_path, monkeypatch, unmirrored):
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    begun = tmp_path / "begun" / "em-seed0"
    begun.parent.mkdir()
    run(begun, configured(mode="offline", group="study/arm", tags=["mine"], weights=True))
    assert (begun / METRICS).read_bytes() == unmirrored[0]
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert [path for path in written if path.parent.name != "logs"] == []  # wandb's own services log their start there
    path = tmp_path / "em-seed0"
    begun.rename(path)
    with serve() as site:
        environment = {**os.environ, "WANDB_BASE_URL": site.address, "WANDB_API_KEY": KEY}
        command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, path.glob("wandb/offline-run-*"))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        (arrived,) = site.runs.values()
        check_listing(arrived, RunFolder(path))
        check_rows(arrived, RunFolder(path))
        check_pictures(arrived)
        assert arrived.files["weights.safetensors"] == (path / "weights.safetensors").read_bytes()
        assert site.artifacts == {}


@pytest.mark.parametrize(
    ("fault", "when"),
    [("absent", "from the start"), *itertools.product(["hang", "401", "500"], ["from the start", "after the start"])],
)
def test_a_server_that_fails_changes_no_bit_and_takes_bounded_time(tmp_path, monkeypatch, unmirrored, fault, when):
    lines: list[str] = []
    path = tmp_path / "run"
    with serve(fault if when == "from the start" and fault != "absent" else "") as site:
        connect_to(site, monkeypatch)
        if fault == "absent":
            monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
        elif when == "after the start":
            spoil_after_start(monkeypatch, site, fault)
        seconds = run(path, configured(timeout_s=1.5, weights=True), lines)
    assert (path / METRICS).read_bytes() == unmirrored[0]
    assert seconds < unmirrored[1] + 10
    assert len(lines) <= 2
    if when == "from the start":
        assert "wandb sync" in lines[0]
        assert list(path.glob("wandb/offline-run-*/run-*.wandb"))


def spoil_after_start(monkeypatch, site, fault):
    original = Dashboard._open

    def opened(self, start):
        made = original(self, start)
        site.fault = fault
        return made

    monkeypatch.setattr(Dashboard, "_open", opened)


def images(folder):
    """Six small images with labels, as files."""
    for frame in cells(6).frames:
        for part, values in (("images", 255 * frame.image[0]), ("labels", 255 * frame.label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(folder / part / f"{frame.name}.png")
    return folder


def two_arms(folder, seeds, updates, mode):
    """A small study on small images, and how it is run."""
    study = Study(
        name="two-arms",
        title="Two arms",
        question="Which rate?",
        base={
            "data": {"folder": str(images(folder / "images"))},
            "tile": {"input_px": 52},
            "model": {"base_channels": 2},
            "train": {"updates": updates},
            "wandb": {"mode": mode},
        },
        arms=(Arm("slow", "1e-3"), Arm("fast", "1e-2", {"optim": {"lr": 1e-2}})),
        comparisons=(Comparison("fast", "slow"),),
        data=("folder",),
    )
    return study, Options(profile="smoke", seeds=seeds, runs=folder / "runs", results=folder / "results", at_once=2)


def test_a_study_of_four_runs_is_two_groups(tmp_path, monkeypatch):
    study, options = two_arms(tmp_path, seeds=2, updates=4, mode="online")
    with serve() as site:
        connect_to(site, monkeypatch)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert Runner(study, options, QUIET).run()
        arrived = sorted(site.runs.values(), key=lambda one: one.display_name)
    assert [(one.display_name, one.group) for one in arrived] == [
        ("fast-folder-seed0", "two-arms/fast"),
        ("fast-folder-seed1", "two-arms/fast"),
        ("slow-folder-seed0", "two-arms/slow"),
        ("slow-folder-seed1", "two-arms/slow"),
    ]
    for one in arrived:
        assert (one.job_type, one.finished, one.exit_code) == ("study", True, 0)
        assert (one.config["study"], one.config["arm"]) == tuple(one.group.split("/"))
        assert one.config["optim"]["lr"] == (1e-2 if one.config["arm"] == "fast" else 1e-3)
        assert one.values("held_out/mean_iou")
        assert one.summary["scores/mean_iou"] > 0
    assert len({one.config["train"]["seed"] for one in arrived}) == 2


def test_stored_evidence_arrives_as_the_runs_it_is_of(tmp_path, monkeypatch):
    """What `--sync` sends of a study that was run without a mirror is what the mirror would have shown."""
    study, options = two_arms(tmp_path, seeds=1, updates=20, mode="disabled")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Runner(study, options, QUIET).run()
    folder, lines = tmp_path / "sync", []
    found = load_all(tmp_path / "results" / "two-arms" / "smoke")
    with serve() as site:
        connect_to(site, monkeypatch)
        assert sync.send("two-arms", "smoke", found, folder, lines.append) == 2
        assert sync.send("two-arms", "smoke", found, folder, lines.append) == 0
        scores = tmp_path / "results" / "two-arms" / "smoke" / "fast-folder-seed0" / "scores.json"
        changed = json.loads(scores.read_text())
        changed["scores"]["mean_iou"] = 0.123
        scores.write_text(json.dumps(changed))
        assert sync.send("two-arms", "smoke", load_all(scores.parents[1]), folder, lines.append) == 1
        arrived = {one.display_name: one for one in site.runs.values()}
        assert set(site.runs) == {sync.run_id("two-arms", "smoke", run) for run in found}
    assert lines == [
        f"{name}: sent (online)" for name in ("fast-folder-seed0", "slow-folder-seed0", "fast-folder-seed0")
    ]
    assert set(arrived) == {"fast-folder-seed0", "slow-folder-seed0"}
    for run in found:
        one = arrived[run.path.name]
        assert (one.group, one.job_type, one.finished, one.exit_code) == (f"two-arms/{run.arm}", "study", True, 0)
        assert one.config["optim"]["lr"] == (1e-2 if run.arm == "fast" else 1e-3)
        assert one.config["environment"]["processor"] == run.environment["processor"]
        rows = [row for row in run.rows if row["part"] == "train"]
        assert one.values("train/loss") == pytest.approx([row["loss"] for row in rows])
        assert [row["updates"] for row in one.rows("train/loss")] == [10, 20]
        assert one.rows("train/loss")[0]["pixels_seen"] == 10 * run.config.train.batch * 52**2
        assert one.values("held_out/mean_iou")
    assert arrived["fast-folder-seed0"].summary["scores/mean_iou"] == 0.123
    kept = next(run for run in found if run.arm == "slow").stored["scores"]["mean_iou"]
    assert arrived["slow-folder-seed0"].summary["scores/mean_iou"] == pytest.approx(kept)


def test_evidence_that_does_not_arrive_is_sent_again(tmp_path, monkeypatch):
    found = load_all(ROOT / "experiments" / "results" / "weight-map" / "decide-em")[:1]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(RunError, match="switched off"):
        sync.send("weight-map", "decide-em", found, tmp_path, lambda _: None)
    monkeypatch.delenv("WANDB_MODE")
    with serve("401") as site:
        connect_to(site, monkeypatch)
        with pytest.raises(RunError, match="not sent whole .*; the same command goes on with it"):
            sync.send("weight-map", "decide-em", found, tmp_path, lambda _: None)
    assert not list(tmp_path.rglob("sent.json"))
    monkeypatch.delenv("WANDB_API_KEY")
    import wandb

    wandb.teardown()  # the next command is a process of its own
    assert sync.send("weight-map", "decide-em", found, tmp_path, lambda _: None) == 1  # offline, for `wandb sync`
    assert list(tmp_path.glob("weight-map/decide-em/*/wandb/offline-run-*"))


def test_the_checks_see_what_did_not_arrive(tmp_path, monkeypatch):
    with serve() as site:
        connect_to(site, monkeypatch)
        run(tmp_path / "em-seed0", configured(group="study/arm", tags=["mine"]))
        (arrived,) = site.runs.values()
    spoiled = {
        "rows": {"history": {n: row for n, row in arrived.history.items() if row.get("updates") != 8}},
        "pictures": {"files": {name: data for name, data in arrived.files.items() if not name.endswith(".jpg")}},
        "masks": {"files": {name: data for name, data in arrived.files.items() if "mask" not in name}},
        "summary": {"summary": {name: v for name, v in arrived.summary.items() if not name.startswith("best/")}},
        "tags": {"tags": ["em"]},
    }

    def check(one):
        for checked in (check_listing, check_rows):
            checked(one, RunFolder(tmp_path / "em-seed0"))
        check_pictures(one)

    check(arrived)
    for lost in spoiled.values():
        with pytest.raises((AssertionError, KeyError)):
            check(replace(arrived, **lost))


def test_a_resumed_run_goes_on_where_it_was_and_an_evaluation_is_a_run_of_its_own(tmp_path, monkeypatch, unmirrored):
    original = Trainer._update

    def stopped(self, stream):
        if self.state.update == 9:
            signal.raise_signal(signal.SIGTERM)
        original(self, stream)

    path = tmp_path / "em-seed0"
    with serve() as site:
        connect_to(site, monkeypatch)
        monkeypatch.setattr(Trainer, "_update", stopped)
        with pytest.raises(Interrupted):
            run(path, configured())
        (first,) = site.runs.values()
        assert (first.finished, first.exit_code) == (True, 143)
        monkeypatch.setattr(Trainer, "_update", original)
        run(path, configured(), resume=True)
        assert (path / METRICS).read_bytes() == unmirrored[0]
        assert list(site.runs.values()) == [first]
        assert first.values("updates")[0] == 0
        assert [row["updates"] for row in first.rows("held_out/mean_iou")] == [4, 8, 12]
        assert first.exit_code == 0
        assert main(["evaluate", str(path), "--quiet"]) == 0
        _, second = site.runs.values()
        assert (second.job_type, second.group, second.display_name) == ("evaluate", "em", "em-seed0")
        assert second.summary["scores/v_rand"] == first.summary["scores/v_rand"]
        assert second.finished


def test_weights_are_sent_by_setting_only(tmp_path, monkeypatch):
    with serve() as site:
        connect_to(site, monkeypatch)
        run(tmp_path / "run", configured())
        assert site.of_type("weights") == []
        assert load_weights(tmp_path / "run" / "weights.safetensors")[0]
