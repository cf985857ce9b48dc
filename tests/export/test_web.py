"""The page that predicts in the browser, from a file and from a server (skipped without Chromium, npm or a network)."""

from __future__ import annotations

import functools
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.loopback import serving
from tests.report.test_browser import CONTRAST
from tests.test_api import weights
from unet.cli import main
from unet.errors import RunError
from unet.export import network, npm, web

pytestmark = pytest.mark.timeout(900)

SHOWN = "!document.getElementById('result').hidden && !document.getElementById('figure').classList.contains('busy')"
PROBLEM = "document.getElementById('problem').textContent"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Weights, and the page made of them: gray images with three classes, colours, gray values by their deviation."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("web")
    gray = weights(folder / "gray.safetensors", classes=3, predict={"symmetries": 8, "average": "logits"},
                   instances={"threshold": 0.4})  # fmt: skip
    fixed = {"kind": "fixed", "offset": 5.0, "scale": 200.0, "low": 0.0, "high": 100.0}
    rgb = weights(folder / "rgb.safetensors", channels=3, normalisation=fixed)
    zscore = weights(folder / "zscore.safetensors", normalisation=fixed | {"kind": "zscore"})
    made = {}
    once = functools.cache(npm.fetch)
    patched = pytest.MonkeyPatch()
    patched.setattr(npm, "fetch", once)
    for file in (gray, rgb, zscore):
        try:
            page = web.write_page(network.load(file), folder / file.stem, f"a <network> of {file.stem}")
        except RunError as error:
            if "npm" in str(error) and "checksum" not in str(error):
                pytest.skip(str(error))
            raise
        made[file.stem] = (file, page)
    patched.undo()
    return made


def predicted(file, image, folder, symmetries):
    out = folder / f"ours-{symmetries}.tif"
    said = ["predict", str(file), str(image), "--out", str(out), "--symmetries", str(symmetries)]
    assert main([*said, "--precision", "fp32", "--device", "cpu", "--quiet"]) == 0
    return tifffile.imread(out)


def saved(chromium, folder, name):
    folder.mkdir()
    return tifffile.imread(chromium.downloaded("#save", folder, name))


def test_a_page_from_a_folder_gives_the_probabilities_of_unet_predict(networks, chromium, tmp_path):
    """16 bit, two pages, odd sides, several tiles along one axis, the mean of logits over eight symmetries."""
    file, page = networks["gray"]
    pages = np.random.default_rng(5).integers(0, 60000, (2, 47, 371), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", pages, photometric="minisblack")
    chromium.open(page)
    assert chromium.run("document.querySelector('h1').textContent") == "a <network> of gray"
    chromium.drop("#drop", tmp_path / "cells.tif")
    chromium.wait(f"{PROBLEM} || {SHOWN}")
    assert chromium.run(PROBLEM) == ""
    single = saved(chromium, tmp_path / "single", "cells-probabilities.tif")
    np.testing.assert_allclose(single, predicted(file, tmp_path / "cells.tif", tmp_path, 1)[0], rtol=0, atol=1e-5)
    assert chromium.run("document.getElementById('threshold-shown').textContent") == "0.40"
    share = f"{100 * (single[1] > 0.4).mean():.1f} %"
    assert chromium.run("document.getElementById('covered').textContent") == share
    assert chromium.run("[...document.querySelectorAll('.stage img')].map((image) => image.naturalWidth)") == [371, 371]

    chromium.set("#page", 2, "change")
    chromium.wait(f"{SHOWN} && document.getElementById('page-shown').textContent === '2 of 2'")
    chromium.run("document.getElementById('symmetries').click()")
    chromium.wait(f"{PROBLEM} || {SHOWN}")
    mean = saved(chromium, tmp_path / "mean", "cells-probabilities.tif")
    expected = predicted(file, tmp_path / "cells.tif", tmp_path, 8)[1]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-5)
    assert np.abs(mean - single).max() > 1e-2
    assert chromium.complaints() == []
    assert all(url.startswith("blob:") for url in chromium.requests())


def test_gray_values_of_mean_0_and_deviation_1_are_those_of_unet_predict(networks, chromium, tmp_path):
    file, page = networks["zscore"]
    image = np.random.default_rng(6).gamma(2, 900, (52, 61)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", image)
    chromium.open(page)
    chromium.drop("#drop", tmp_path / "cells.tif")
    chromium.wait(f"{PROBLEM} || {SHOWN}")
    assert chromium.run(PROBLEM) == ""
    found = saved(chromium, tmp_path / "found", "cells-probabilities.tif")
    np.testing.assert_allclose(found, predicted(file, tmp_path / "cells.tif", tmp_path, 1), rtol=0, atol=1e-5)


def server_of(page):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.read_bytes())

        def log_message(self, *_):
            pass

    return serving(Handler, threading.Event())


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone, dark"])
def test_a_page_from_a_server_takes_colours_and_asks_for_nothing(networks, chromium, tmp_path, width, dark):
    file, page = networks["rgb"]
    pixels = np.random.default_rng(6).integers(0, 256, (61, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colours.png")
    with server_of(page) as address:
        chromium.open(address, width, dark=dark)
        chromium.drop("#drop", tmp_path / "colours.png")
        chromium.wait(f"{PROBLEM} || {SHOWN}")
        assert chromium.run(PROBLEM) == ""
        found = saved(chromium, tmp_path / "found", "colours-probabilities.tif")
        np.testing.assert_allclose(found, predicted(file, tmp_path / "colours.png", tmp_path, 1), rtol=0, atol=1e-5)
        assert chromium.complaints() == []
        assert all(url.startswith("blob:") for url in chromium.requests())
        assert chromium.run("document.documentElement.scrollWidth") <= width
        contrast, *where = chromium.run(CONTRAST)
        assert contrast >= 4.5, where  # WCAG 2.2, 1.4.3
        asked = chromium.run(f"fetch({json.dumps(address)}).then(() => 'answered', () => 'refused')")
        assert asked == "refused"  # by its own policy


def test_what_cannot_be_predicted_is_one_line_and_another_image_clears_it(networks, chromium, tmp_path):
    _, page = networks["gray"]
    values = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    names = ("g.tif", "b.tif", "d.png", "s.png", "c.png", "n.tif")
    good, broken, deep, shallow, colours, nan = (tmp_path / name for name in names)
    tifffile.imwrite(good, values[..., 0])
    broken.write_bytes(good.read_bytes()[:60])
    Image.fromarray(values[..., 0].astype(np.uint16) * 256).save(deep)
    Image.fromarray(values[..., 0] > 99).save(shallow)
    Image.fromarray(values).save(colours)
    tifffile.imwrite(nan, np.full((40, 50), np.nan, np.float32))
    chromium.open(page)
    for file, told in (
        (broken, "b.tif: "),
        (deep, "d.png: a browser keeps 8 bits of a PNG of 16; save it as TIFF"),
        (shallow, "s.png: a browser stretches a PNG of fewer than 8 bits; save it as TIFF"),
        (colours, "c.png: has 3 channels; the network takes gray images"),
        (nan, "n.tif: gray values that are NaN or infinite; repair it"),
    ):
        chromium.drop("#drop", file)
        line = chromium.wait(PROBLEM)
        assert line.startswith(told)
        assert "\n" not in line
        assert chromium.run("document.getElementById('work').hidden && document.getElementById('result').hidden")
    chromium.drop("body", good, deep)
    chromium.wait(f"{PROBLEM}.startsWith('2 files were dropped')")
    chromium.drop("#drop", good)
    chromium.wait(SHOWN)
    assert chromium.run(PROBLEM) == ""


def test_a_package_is_refused_without_npm_or_with_another_checksum(tmp_path, monkeypatch):
    package = npm.Package("onnxruntime-web", "1.2.3", "sha512-" + "A" * 86 + "==")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RunError, match=r"onnxruntime-web@1.2.3 is fetched by npm, which is not there; install Node"):
        npm.fetch(package, "package.json")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "package.json").write_text("{}")
    with tarfile.open(tmp_path / "it.tgz", "w:gz") as tar:
        tar.add(tmp_path / "package", "package")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n/bin/cp "{tmp_path}/it.tgz" "$4"\n')
    program.chmod(0o755)
    with pytest.raises(RunError, match="has another checksum than the one known here"):
        npm.fetch(package, "package.json")
    program.write_text("#!/bin/sh\necho 'npm error network ENOTFOUND' >&2\nexit 1\n")
    with pytest.raises(RunError, match=r"npm cannot fetch onnxruntime-web@1.2.3 \(npm error network ENOTFOUND\)"):
        npm.fetch(package, "package.json")
