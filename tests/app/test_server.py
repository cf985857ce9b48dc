"""The way of an image through the app, spoken to as its page does; and who may not speak to it."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import perimeter

from tests.app.conftest import App
from unet.app import store as stores
from unet.app.store import Networks, Store
from unet.cli import main
from unet.errors import DataError

PAGES = np.random.default_rng(3).integers(0, 60000, (2, 46, 60), dtype=np.uint16)


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "two pages.tif"
    tifffile.imwrite(path, PAGES, imagej=True, metadata={"axes": "ZYX"})
    return path


@pytest.fixture(scope="module")
def image(app: App, stack: Path) -> str:
    return app.predicted(stack)


@pytest.fixture(scope="module")
def expected(app: App, stack: Path, tmp_path_factory) -> dict[str, np.ndarray]:
    """What `unet predict` writes with the threshold that the tests ask for."""
    out = tmp_path_factory.mktemp("expected") / "out.tif"
    words = ["predict", str(app.files["two"]), str(stack), "--out", str(out), "--instances", "--threshold", "0.9"]
    assert main([*words, "--device", "cpu", "--precision", "fp32", "--quiet"]) == 0
    return {"probabilities": tifffile.imread(out), "instances": tifffile.imread(out.with_name("out-masks.tif"))}


def test_the_state_of_a_finished_prediction(app, image):
    told = app.told(image)
    assert told["state"] == "ready"
    assert told["done"] == told["total"] >= 2
    assert told["threshold"] == 0.4
    assert told["without"] == told["problem"] == ""


@pytest.mark.parametrize("kind", ["probabilities", "instances"])
def test_maps_are_those_of_the_command(app, image, expected, kind):
    status, body, headers = app.ask(f"{image}/files/{kind}?threshold=0.9")
    assert status == 200
    assert headers["content-disposition"] == f"attachment; filename*=utf-8''two%20pages-{kind}.tif"
    found = tifffile.imread(io.BytesIO(body))
    assert found.dtype == (np.float32 if kind == "probabilities" else np.uint16)
    np.testing.assert_array_equal(found, expected[kind])
    assert expected["instances"].max() > 3


def test_the_table_holds_each_object_of_each_page(app, image, expected):
    text = app.ask(f"{image}/files/table?threshold=0.9")[1].decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    ids = expected["instances"]
    assert len(rows) == sum(int(page.max()) for page in ids)
    for row in rows[:5] + rows[-5:]:
        own = ids[int(row["image"]) - 1] == int(row["object"])
        ys, xs = np.nonzero(own)
        assert int(row["area_px"]) == len(ys)
        assert float(row["centroid_x"]) == pytest.approx(xs.mean(), rel=1e-5)
        assert float(row["centroid_y"]) == pytest.approx(ys.mean(), rel=1e-5)
        assert float(row["perimeter_px"]) == pytest.approx(perimeter(own), rel=1e-5)
        assert float(row["mean_gray"]) == pytest.approx(PAGES[int(row["image"]) - 1][own].mean(), rel=1e-5)


def test_outlines_of_both_kinds_are_of_the_same_objects(app, image, expected):
    count = sum(int(page.max()) for page in expected["instances"])
    found = json.loads(app.ask(f"{image}/files/geojson?threshold=0.9")[1])
    assert found["type"] == "FeatureCollection"
    assert len({(f["properties"]["image"], f["properties"]["object"]) for f in found["features"]}) == count
    assert {f["geometry"]["plane"]["z"] for f in found["features"]} == {0, 1}
    with zipfile.ZipFile(io.BytesIO(app.ask(f"{image}/files/rois?threshold=0.9")[1])) as packed:
        assert packed.testzip() is None
        assert len({name.rpartition("-")[0] if name.count("-") > 1 else name for name in packed.namelist()}) == count


def test_counts_follow_the_threshold(app, image, expected):
    told = app.told(f"{image}/objects?page=1&threshold=0.9")
    areas = np.bincount(expected["instances"][1].ravel())[1:]
    assert told["count"] == len(areas)
    assert told["covered"] == pytest.approx(areas.sum() / (46 * 60))
    assert told["areas"] == [areas.min(), np.median(areas), areas.max()]
    assert [row[1] for row in told["objects"]] == areas[:200].tolist()
    assert app.told(f"{image}/objects?page=1&threshold=0.99")["count"] == 0
    assert app.told(f"{image}/objects?page=1&threshold=0.99")["areas"] == []


def test_pictures_show_the_layers(app, image, expected):
    shown = {}
    for layer in ("image", "probability", "instances"):
        status, body, headers = app.ask(f"{image}/pictures/{layer}?page=1&threshold=0.9")
        assert (status, headers["content-type"]) == (200, "image/png")
        shown[layer] = np.asarray(Image.open(io.BytesIO(body)))
        assert shown[layer].shape == (46, 60, 3)
    np.testing.assert_allclose(shown["probability"][..., 0] / 255, expected["probabilities"][1], atol=0.003)
    changed = (shown["instances"] != shown["image"]).any(axis=-1)
    assert not changed[expected["instances"][1] == 0].any()
    assert changed[expected["instances"][1] > 0].mean() > 0.95


def test_large_pictures_are_reduced(app, image, monkeypatch):
    monkeypatch.setattr("unet.app.made.LARGEST_PICTURE_PX", 20)
    for layer in ("image", "probability", "instances"):
        with Image.open(io.BytesIO(app.ask(f"{image}/pictures/{layer}")[1])) as picture:
            assert picture.size == (20, 15)


def test_classes_that_are_no_cells_have_probabilities_alone(app, stack):
    path = app.predicted(stack, "many")
    told = app.told(path)
    assert told["threshold"] is None
    assert told["without"].startswith("objects are made of two classes")
    assert app.told(f"{path}/files/instances", status=400)["error"] == told["without"]
    assert tifffile.imread(io.BytesIO(app.ask(f"{path}/files/probabilities")[1])).shape == (2, 5, 46, 60)
    assert app.ask(f"{path}/pictures/probability")[0] == 200


@pytest.mark.parametrize(
    ("name", "body", "line"),
    [
        ("cells.tif", b"II*\0" + bytes(60), "cells.tif: "),
        ("cells.tif", b"", "cells.tif: "),
        ("notes.txt", b"words", "notes.txt: .txt is not an image type"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "a.png: "),
        ("../../etc/x.tif", b"nothing", "x.tif: not a TIFF file"),
        ("..", b"nothing", "image: no suffix is not an image type"),
    ],
)
def test_a_broken_file_is_one_line_and_is_gone(app, name, body, line):
    before = {path.name for path in app.store._folder.iterdir()}
    text = app.told(f"/api/images?name={name}", "POST", body, status=400)["error"]
    assert text.startswith(line)
    assert "\n" not in text
    assert str(app.store._folder) not in text
    assert {path.name for path in app.store._folder.iterdir()} == before


def test_an_image_of_other_channels_fails_in_one_line(app, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)).save(tmp_path / "colours.png")
    told = app.told(app.predicted(tmp_path / "colours.png"))
    assert told["state"] == "failed"
    assert told["problem"].startswith("colours.png: has 3 channels; the network takes gray images, so convert it")


def test_files_too_large_are_refused(app):
    assert "larger than 2 MB" in app.told("/api/images?name=a.tif", "POST", bytes(2_000_001), status=413)["error"]


@pytest.mark.parametrize(
    "rest",
    [
        "/pictures/nothing", "/files/nothing", "/pictures/image?page=2", "/pictures/image?page=-1",
        "/objects?threshold=nan", "/objects?threshold=x", "/objects?threshold=1.5", "/predict?network=none",
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line(app, image, rest):
    method = "POST" if "predict" in rest else "GET"
    told = app.told(image + rest, method, status=400)
    assert list(told) == ["error"]
    assert 10 < len(told["error"]) < 200


def test_the_key_opens_the_page_once_and_for_this_browser(app):
    query = app.server.url.partition("?")[2]
    status, _, headers = app.ask(f"/?{query}", Cookie="")
    assert status == 303
    assert headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    status, body, headers = app.ask("/")
    assert status == 200
    assert b"Drop an image here" in body
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": ""},
        {"Cookie": "unet-app-1=x"},
        {"Host": "attacker.example"},
        {"Host": "attacker.example:{port}"},
        {"Origin": "http://attacker.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_others_are_refused(app, headers, method):
    sent = {key: value.format(port=app.server.port) for key, value in headers.items()}
    path = "/api/networks" if method == "GET" else "/api/images?name=a.tif"
    status, body, _ = app.ask(path, method, b"x" if method == "POST" else None, **sent)
    assert status == 403
    assert body.startswith(b"refused")
    own = {"Origin": f"http://127.0.0.1:{app.server.port}", "Sec-Fetch-Site": "same-origin"}
    assert app.ask("/api/networks", **own)[0] == 200


def test_old_images_are_deleted(app, tmp_path):
    files = Path(app.store._folder)
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0])
    body = (tmp_path / "a.tif").read_bytes()
    taken = [app.told("/api/images?name=a.tif", "POST", body)["id"] for _ in range(stores.KEPT + 1)]
    assert "no longer here" in app.told(f"/api/images/{taken[0]}", status=400)["error"]
    assert app.told(f"/api/images/{taken[1]}")["state"] == "none"
    assert app.ask(f"/api/images/{taken[1]}", "DELETE")[0] == 204
    limit = time.monotonic() + 30
    while {p.name for p in files.iterdir()} != set(taken[2:]):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_running_prediction_stops_when_its_image_is_deleted(app, stack, monkeypatch):
    reached = []

    def slow(_network, _task, _settings, watch):
        for step in range(2000):
            watch.rows(step)
            reached.append(step)
            time.sleep(0.01)
            watch.check()

    monkeypatch.setattr(stores, "predict_file", slow)
    with Store(Networks(app.files, device="cpu", precision="fp32")) as store:
        place = store.place("a.tif")
        place.write_bytes(stack.read_bytes())
        name = store.take(place)
        with pytest.raises(DataError, match="choose one of two, many"):
            store.wanted(name, "none")
        store.wanted(name, "two")
        prediction = store.find(name).prediction
        while not reached:
            time.sleep(0.01)
        store.drop(name)
    assert prediction.state == "failed"
    assert len(reached) < 2000
    assert not place.exists()


def test_the_port_can_be_chosen_and_a_taken_one_is_one_line(app, capsys):
    words = ["app", str(app.files["two"]), "--port", str(app.server.port), "--no-browser"]
    assert main(words) == 2
    assert f"--port {app.server.port}: cannot be used" in capsys.readouterr().err
    assert main(["app", "nothing-there"]) == 2
    assert "nothing-there: no run folder" in capsys.readouterr().err
