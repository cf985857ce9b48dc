"""`unet reproduce`: the command of a run's record makes the same bits; what differs is named."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.commands.test_bad_input import TINY, write_stack
from unet.cli import main
from unet.errors import RunError
from unet.runs.reproduce import Original, compare
from unet.training.trainer import Trainer

FLAGS = [*TINY[:-2], "--train.updates", "12", "--train.eval-every", "5", "--train.checkpoint-every", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run that was resumed at its end, so that its record is not that of one command, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        write_stack(folder)
        patch.chdir(folder)
        patch.setenv("UNET_DATA", str(folder / "data"))
        path = folder / "first run"
        assert main([*FLAGS, "--run", str(path)]) == 0
        (path / "weights.safetensors").unlink()
        assert main(["train", "--resume", "--run", str(path), "--quiet"]) == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A working folder from which the data is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNET_DATA", str(trained / "data"))
    return tmp_path


@pytest.fixture
def run(trained, place):
    """A copy of the run."""
    return Path(shutil.copytree(trained / "first run", place / "first run"))


def printed_command(text):
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    return shlex.split(line)


def test_the_command_that_is_printed_makes_the_same_bits(run, place, capsys):
    assert main(["reproduce", str(run)]) == 0
    text = capsys.readouterr().out
    words = printed_command(text)
    assert words[:2] == ["unet", "train"]
    assert "# data: " in text
    assert "differs" not in text
    assert not (place / "first run-again").exists()
    assert main([*words[1:], "--quiet"]) == 0
    assert all(difference == "" for _, difference in compare(Original.read(run), place / "first run-again"))
    assert (run / "metrics.jsonl").read_bytes() == (place / "first run-again" / "metrics.jsonl").read_bytes()


def test_go_runs_it_and_compares(run, place, capsys):
    scores = json.loads((run / "scores.json").read_text())
    scores["scores"].pop("expected_calibration_error")  # as a run of before there was one
    (run / "scores.json").write_text(json.dumps(scores))
    assert main(["reproduce", str(run), "--go", "--quiet", "--out", str(place / "again")]) == 0
    text = capsys.readouterr().out
    for name in ("frames", "metrics.jsonl", "scores.json", "weights.safetensors"):
        assert f"{name}:".ljust(21) + "the same bits" in text
    assert "# scores that only the new run has: expected_calibration_error" in text
    assert main(["reproduce", str(run), "--go", "--out", str(place / "again")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_go_goes_on_with_a_run_that_was_stopped(run, place, capsys, monkeypatch):
    original, again = Trainer._update, ["reproduce", str(run), "--go", "--quiet", "--resume"]

    def dies(self, stream):
        if self.state.update == 9:
            raise KeyboardInterrupt
        original(self, stream)

    monkeypatch.setattr(Trainer, "_update", dies)
    assert main(again) == 130
    updates = []

    def counts(self, stream):
        updates.append(self.state.update)
        original(self, stream)

    monkeypatch.setattr(Trainer, "_update", counts)
    assert main(again) == 0
    assert updates[0] > 0
    assert capsys.readouterr().out.count("the same bits") == 4
    assert main(again) == 0  # ended by now: compared once more


def test_what_differs_is_named(run, place, capsys):
    record = json.loads((run / "environment.json").read_text())
    record |= {"commit": "b" * 40 + "+changes", "processor": "another", "data_sha256": "0" * 64,
               "resumed": [{"update": 5, "before": {"commit": "c" * 40}}]}  # fmt: skip
    record["packages"]["torch"] = "0.1"
    (run / "environment.json").write_text(json.dumps(record))
    scores = json.loads((run / "scores.json").read_text())
    scores["scores"]["mean_iou"] += 1e-12
    (run / "scores.json").write_text(json.dumps(scores))
    rows = (run / "metrics.jsonl").read_text().splitlines()
    changed = json.loads(rows[1]) | {"loss": 0.123}
    (run / "metrics.jsonl").write_text("\n".join([rows[0], json.dumps(changed), *rows[2:]]) + "\n")
    assert main(["reproduce", str(run), "--go", "--quiet", "--out", str(place / "again")]) == 1
    text = capsys.readouterr().out
    assert f"# commit: {'b' * 40}+changes" in text
    assert f"git checkout {'b' * 40}\n" in text
    assert "# differs: torch was 0.1, is 2" in text
    assert "# differs: processor was another, is " in text
    assert "# resumed after update 5 with another commit" in text
    assert "data: other images or labels" in text
    assert f"metrics.jsonl:       row 2 (update {changed['update']}): loss was 0.123, is " in text
    assert "scores.json:         mean_iou was " in text
    assert "weights.safetensors: the same bits" in text


def test_weights_are_compared_bit_by_bit(run, place):
    from unet.runs.checkpoint import load_weights, save_weights

    other = place / "other"
    shutil.copytree(run, other)
    weights, metadata = load_weights(run / "weights.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[0] += 0.25
    save_weights(other / "weights.safetensors", weights, metadata)
    found = dict(compare(Original.read(run), other))
    assert found.pop("weights.safetensors") == f"1 of {len(weights)} tensors, by at most 0.25"
    assert set(found.values()) == {""}
    (other / "metrics.jsonl").write_bytes(b"{oh no}\n")
    with pytest.raises(RunError, match="damaged"):
        compare(Original.read(run), other)


def test_the_evidence_of_a_study_is_compared_at_its_digits(run, place, capsys, monkeypatch):
    kept = place / "evidence"
    kept.mkdir()
    for name in ("config.yaml", "environment.json", "scores.json"):
        shutil.copy(run / name, kept / name)
    (kept / "record.json").write_text("{}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    short = [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    (kept / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
    assert main(["reproduce", str(kept), "--go", "--quiet"]) == 0
    assert "metrics.jsonl:       the same\n" in capsys.readouterr().out
    assert (place / "runs" / "evidence-again" / "scores.json").exists()
    short[0]["loss"] += 0.001
    (kept / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
    found = dict(compare(Original.read(kept), place / "runs" / "evidence-again"))
    assert found["metrics.jsonl"].startswith("row 1")


@pytest.mark.parametrize("packed", [True, False])
def test_a_run_on_all_slices_is_scored_on_the_test_slices_again(run, place, capsys, monkeypatch, packed):
    """Its folder has no held-out scores, the evidence of a study holds those of the test slices in their place."""

    def protocols(error):
        return {"protocols": {"paper": {"scores": {"rand_error": error}}, "archive": {"scores": {"v_rand": 0.9}}}}

    def trained(words):
        again = Path(words[words.index("--run") + 1])
        shutil.copytree(run, again)
        (again / "scores.json").unlink()
        return 0

    def evaluated(words):
        assert words[1:] == ["--test", "--quiet"]
        (Path(words[0]) / "test-scores.json").write_text(json.dumps(protocols(error)))
        return 0

    first = Path(shutil.copytree(run, place / "all"))
    (first / "scores.json").unlink()
    if packed:
        (first / "record.json").write_text("{}")
        stored = {"scores": {"test_rand_error": 0.05}, "test": protocols(0.05)}
        (first / "scores.json").write_text(json.dumps(stored))
    else:
        (first / "test-scores.json").write_text(json.dumps(protocols(0.05)))
    monkeypatch.setattr("unet.commands.train.main", trained)
    monkeypatch.setattr("unet.commands.evaluate.main", evaluated)
    for error, code, told in ((0.05, 0, "the same"), (0.06, 1, "paper rand_error was 0.05, is 0.06\n")):
        out = str(place / f"again {error}")
        assert main(["reproduce", str(first), "--go", "--quiet", "--out", out]) == code
        assert f"test-scores.json:    {told}" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["absent", "list", "cut"])
def test_a_run_without_a_record_is_one_line(run, capsys, damage):
    file = run / "environment.json"
    file.unlink()
    if damage != "absent":
        file.write_text("[1]" if damage == "list" else '{"commit": "')
    assert main(["reproduce", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["reproduce", str(run.parent)]) == 2


def evidence_of(run, place):
    """The run as a study's evidence, with the old name of a column and one score fewer."""
    kept = place / "evidence" / "a-em-seed0"
    kept.mkdir(parents=True)
    for name in ("config.yaml", "environment.json", "split.json"):
        shutil.copy(run / name, kept / name)
    scores = json.loads((run / "scores.json").read_text())
    del scores["scores"]["pixel_accuracy"]
    (kept / "scores.json").write_text(json.dumps(scores))
    record = {"study": "s", "profile": "smoke", "arm": "a", "data": "em", "seed": 0, "seconds": 1.5}
    (kept / "record.json").write_text(json.dumps(record))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{"old_name" if k == "blog_iou" else k: v for k, v in row.items()} for row in rows]
    rows = [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    (kept / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return kept


def test_a_packed_run_is_made_again_and_renamed_columns_are_no_difference(run, place, capsys):
    from unet.study import evidence, store

    kept = evidence_of(run, place)
    assert evidence.pack(kept.parent) == 1
    assert not kept.exists()
    name = str(kept.relative_to(place))
    assert main(["reproduce", name, "--go", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "metrics.jsonl:       the same\n" in text
    assert "scores.json:         the same\n" in text
    assert "# columns that only the stored run has: held_out old_name" in text
    assert "# columns that only the new run has: held_out blog_iou" in text
    assert "# scores that only the new run has: pixel_accuracy" in text
    rows = (kept.parent / store.CURVES).read_text().replace("0.", "0.1", 1)
    (kept.parent / store.CURVES).write_text(rows)
    assert main(["reproduce", name, "--go", "--quiet", "--out", "again"]) == 1
    assert "metrics.jsonl:       row 1 (update 5)" in capsys.readouterr().out


def test_nothing_in_common_is_a_difference(run, place):
    kept = evidence_of(run, place)
    (kept / "metrics.jsonl").write_text('{"update": 5, "part": "train", "other": 1.0}\n')
    scores = json.loads((kept / "scores.json").read_text()) | {"scores": {"other": 1.0}}
    (kept / "scores.json").write_text(json.dumps(scores))
    found = dict(compare(Original.read(kept), run))
    assert found["metrics.jsonl"] == "no column in common"
    assert found["scores.json"] == "no score in common"


RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"
STORED = sorted(file.parent for file in RESULTS.glob("*/decide-*/runs.jsonl"))


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("UNET_LONG"), reason="takes minutes a study; set UNET_LONG=1 to run it")
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("folder", STORED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_stored_run_of_every_study_is_made_again(folder, tmp_path, capsys, monkeypatch):
    """The shortest run of each, on the processor and with the code that its record names, gives the same digits."""
    from unet.study import evidence

    runs = [run for run in evidence.load_all(folder) if "same_run_as" not in run.record and not run.diverged]
    monkeypatch.chdir(tmp_path)
    shortest = min(runs, key=lambda run: run.record["seconds"])
    assert main(["reproduce", str(shortest.path), "--go", "--quiet", "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.count("the same\n") >= 2
