"""The page of a run in every state, parsed as HTML; what comes from files stays text."""

import fcntl
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.report.conftest import EVIL
from unet.errors import RunError
from unet.report import encode, pictures, run_page
from unet.report.markup import _VOID
from unet.report.run import newest, read
from unet.views.mistakes import UNKNOWN


class Page(HTMLParser):
    """Tags with their attributes, the text of the page, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data + " "

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def page(run: Path) -> Page:
    return Page(run_page.make(read(run)))


def curve(found: Page, label: str) -> list[list[object]]:
    """The points of the first line of this name: place in the drawing, then what is shown of it."""
    lines = [line for a in found.all("svg") for line in json.loads(a["data-points"] or "[]")]
    return next(line["p"] for line in lines if line["l"] == label)


@pytest.fixture(scope="session")
def whole(trained) -> Page:
    return page(trained)


def test_the_reliability_plot_shows_the_points_of_the_scores(trained):
    points = json.loads((trained / "scores.json").read_text())["reliability"]
    assert sum(point[2] for point in points) == 2 * 150 * 170
    text = run_page.make(read(trained))
    assert "Reliability" in text
    shown = [p[2:] for p in curve(Page(text), "share that is right")]
    assert shown == [[f"{sure:.4g}", f"{right:.4g}"] for sure, right, _ in points]


def test_every_part_is_there(whole):
    assert [s["id"] for s in whole.all("section")] == [
        "pictures", "scores", "curves", "worst-tiles", "frames", "configuration", "environment", "command",
    ]  # fmt: skip
    assert [a["href"] for a in whole.all("a")] == [f"#{s['id']}" for s in whole.all("section")]
    for text in (
        "finished",
        "Training loss",
        "Held-out IoU",
        "model.base_channels",
        "torch",
        "unet reproduce",
    ):
        assert text in whole.text


def test_nothing_is_loaded_and_only_the_named_script_may_run(whole):
    policy = next(m["content"] for m in whole.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    sources = [a["src"] for tag, a in whole.tags if "src" in a]
    assert sources
    assert all(s.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for s in sources)
    assert len(whole.all("script")) == 1
    assert not [a for _, a in whole.tags if "style" in a or any(name.startswith("on") for name in a)]


def test_hostile_names_stay_text(whole):
    assert EVIL in whole.text
    assert {a["alt"] for a in whole.all("img")} >= {f"image of {EVIL}", f"mistakes of {EVIL}"}
    assert not [a for a in whole.all("img") if a.get("src") == "x"]


def test_shown_values_are_the_stored_ones(whole, trained):
    scores = json.loads((trained / "scores.json").read_text())["scores"]
    for name in ("mean_iou", "pixel_error", "v_rand"):
        assert f"{scores[name]:.4f}" in whole.text
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["part"] == "train"][-1]
    assert curve(whole, "mean of ten updates")[-1][2:] == [str(last["update"]), f"{last['loss']:.4g}"]


def test_configuration_names_what_differs_and_nothing_else(whole):
    cells = re.findall(
        r"(\w+\.\w+)", whole.text.split("settings differ from the defaults.")[1].split("all settings")[0]
    )
    assert {"data.folder", "data.split", "data.held_out", "tile.input_px", "model.base_channels"} <= set(cells)
    assert "optim.lr" not in cells


def test_pages_are_reproducible(trained, whole):
    assert run_page.make(read(trained)) == run_page.make(read(trained))


def test_the_worst_tile_is_the_one_with_the_damage(run):
    """Wrong probabilities in one corner of one frame: its tile comes first."""
    stack = tifffile.imread(run / "probabilities.tif")
    label = pictures._Shown.open(read(run), read(run).scores["frames"]).frames[1].label
    stack[:] = 0.5
    stack[1, :40, -40:] = np.where(label[:40, -40:] > 0, 0.001, 0.999)
    tifffile.imwrite(run / "probabilities.tif", stack)
    found = pictures.collect(read(run))
    assert (found.tiles[0].title, found.tiles[0].caption.split(" ", 2)[2]) == ("cell1", "(row 0, column 42)")
    assert found.tiles[0].size == (128, 128)
    losses = [float(tile.caption.split()[1]) for tile in found.tiles]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1 > losses[-1]


def test_pictures_stay_within_their_bound(trained, monkeypatch):
    def size(found: pictures.Pictures) -> int:
        return sum(len(uri) for p in [*found.tiles, *found.frames] for uri in p.layers.values()) * 3 // 4

    everything = pictures.collect(read(trained))
    bound = size(everything) * 6 // 10
    monkeypatch.setattr(encode.Budget, "__init__", lambda self: setattr(self, "left", bound))
    found = pictures.collect(read(trained))
    assert 0 < size(found) <= bound
    assert len(found.tiles) + len(found.frames) < len(everything.tiles) + len(everything.frames)
    assert "are left out" in found.notes[0]


def test_tiles_that_show_the_same_are_shown_once(trained):
    """Frames of 150 x 170 px have four tiles of 128 px that overlap: one of them is enough."""
    assert sorted(tile.title for tile in pictures.collect(read(trained)).tiles) == sorted([EVIL, "cell1"])


# -- states of a run -------------------------------------------------------------------------------------------------


def drop(run: Path, *names: str) -> None:
    for name in names:
        (run / name).unlink()


def test_not_scored(run):
    drop(run, "scores.json", "probabilities.tif", "prediction.png")
    text = page(run).text
    assert "not scored" in text
    assert f"unet evaluate {run}" in text
    assert "There are none yet." in text
    assert "no prediction to show" in text


def test_stopped(run):
    drop(run, "scores.json", "weights.safetensors")
    text = page(run).text
    assert "Training stopped at update 30 of 30" in text
    assert f"unet train --resume --run {run}" in text


def test_in_scoring(run):
    drop(run, "scores.json")
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "being scored at this moment" in page(run).text
    assert f"unet evaluate {run}" in page(run).text


def test_in_training(run):
    drop(run, "scores.json", "weights.safetensors")
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Training goes on at this moment" in page(run).text
    assert "Training stopped" in page(run).text


def test_diverged(run):
    drop(run, "scores.json", "weights.safetensors")
    (run / "failure.json").write_text(json.dumps({"diverged": "update 7: loss nan <b>"}))
    text = page(run).text
    assert "Training diverged, so there are no scores: update 7: loss nan <b>" in text


def test_values_that_are_not_finite_leave_a_gap(run):
    rows = (run / "metrics.jsonl").read_text().splitlines()
    row = json.loads(next(r for r in rows if '"train"' in r))
    (run / "metrics.jsonl").write_text(
        "".join(
            json.dumps(row | {"update": u, "loss": v}) + "\n" for u, v in ((10, 1.0), (20, float("nan")), (30, 2.0))
        )
    )
    drawn = page(run)
    assert [p[2] for p in curve(drawn, "mean of ten updates")] == ["10", "30"]
    assert not [p["d"] for p in drawn.all("path") if "nan" in p["d"]]


def test_nothing_held_out(run):
    drop(run, "scores.json", "probabilities.tif", "prediction.png")
    (run / "split.json").write_text(json.dumps({"train": ["cell1"], "held_out": []}))
    assert "no held-out frame says how good the network is" in page(run).text


def test_not_begun(run):
    for path in run.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = page(run).text
    assert "Nothing has been recorded yet." in text
    assert "environment.json is not there" in text


def test_damaged_files_are_named(run):
    (run / "environment.json").write_text("{")
    (run / "timing.jsonl").write_text("nonsense\n{}\n")
    (run / "scores.json").write_text("[1]")
    text = page(run).text
    for name in ("environment.json", "timing.jsonl", "scores.json"):
        assert re.search(f"{name}: (cannot be read|damaged|holds no)", text), name


def test_without_the_data_the_stored_picture_stands_in(run):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"folder: .*", "folder: gone", config))
    made = page(run)
    assert "No pictures: " in made.text
    assert [a["class"] for a in made.all("img")] == ["wide"]


def test_another_stack_of_the_same_names_is_refused(run):
    tifffile.imwrite(run / "probabilities.tif", np.zeros((2, 60, 60), np.float32))
    assert "another than the run's" in page(run).text


def test_maps_of_unequal_frames_are_read(tmp_path):
    maps = [np.full((5, 7), 0.25, np.float32), np.full((3, 9, 4), 0.5, np.float32)]
    from unet.prediction.output import write_probabilities

    write_probabilities(tmp_path / "probabilities.tif", maps)
    found = pictures.read_probabilities(tmp_path / "probabilities.tif", 2)
    for ours, theirs in zip(found, maps, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_single_frames_of_three_classes_are_read(tmp_path):
    from unet.prediction.output import write_probabilities

    maps = [np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)]
    write_probabilities(tmp_path / "probabilities.tif", maps)
    (found,) = pictures.read_probabilities(tmp_path / "probabilities.tif", 1)
    np.testing.assert_array_equal(found, maps[0])


def test_newest_run(run, trained, tmp_path):
    other = shutil.copytree(run, run.parent / "deeper" / "other")
    (other / "scores.json").touch()
    assert newest(tmp_path) == other
    with pytest.raises(RunError, match="there is no run below"):
        newest(tmp_path / "empty")


# -- beside the paper ------------------------------------------------------------------------------------------------


def as_em(run: Path, source: str) -> Path:
    text = (run / "config.yaml").read_text()
    text = text.replace("name: folder", "name: em").replace("scores: membranes", "scores: auto")
    text = re.sub(r"\n  folder: .*", "\n  folder: ''", text)
    (run / "config.yaml").write_text(text)
    environment = json.loads((run / "environment.json").read_text()) | {"data_source": source}
    (run / "environment.json").write_text(json.dumps(environment))
    return run


def test_numbers_of_the_paper_with_the_difference_in_protocol(run, monkeypatch, tmp_path):
    monkeypatch.delenv("UNET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    made = page(as_em(run, "EM"))
    for text in ("0.0611", "0.0382", "0.000353", "0.9728", "0.9866", "not measured alike", "the challenge's 30 test"):
        assert text in made.text
    assert "not on this machine" in made.text


def test_scores_of_the_test_slices(run):
    assert "Test slices" not in page(run).text
    stored = Path(__file__).parents[2] / "experiments/results/paper/ensembles/five/test-scores.json"
    saved = json.loads(stored.read_text())
    saved["protocols"]["paper"]["notes"] = ["v_rand: 2 slices have no cell"]
    (run / "test-scores.json").write_text(json.dumps(saved))
    made = page(run)
    for text in ("Test slices", "0.97293", "0.97276", "2.6 % of the pixels reconstructed", "2 slices have no cell"):
        assert text in made.text
    (run / "test-scores.json").write_text("{}")
    assert "Test slices" not in page(run).text
    (run / "test-scores.json").write_text('{"protocols": {}}')
    assert "test-scores.json: holds no scores" in page(run).text


def test_no_numbers_of_the_paper_beside_synthetic_images(run, monkeypatch, tmp_path):
    monkeypatch.delenv("UNET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    made = page(as_em(run, "built-in synthetic stack synthetic-em, seed 0"))
    assert "0.0611" not in made.text
    assert "The images are synthetic" in made.text


def test_pixels_without_annotation_are_not_mistakes(run):
    """A frame of which half is unknown: gray there, whatever was predicted."""
    shown = pictures._Shown.open(read(run), read(run).scores["frames"])
    label = shown.frames[1].label
    label[:, :80] = 255
    layers, caption = shown.layers(1)
    assert "; gray: not annotated (" in caption
    assert np.unique(layers["mistakes"][:, :80]).tolist() == [UNKNOWN[0]]
    assert len(np.unique(layers["mistakes"][:, 80:])) > 1
