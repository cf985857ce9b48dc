"""The app's page in a real browser, an image dropped on it (skipped where there is no Chromium)."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import tifffile

from tests.loopback import serving
from tests.report.test_browser import CONTRAST

READY = (
    "!document.getElementById('result').hidden && "
    "!document.getElementById('figure').classList.contains('busy') && document.querySelectorAll('.fact').length"
)
PROBLEM = "document.getElementById('problem').textContent"
FACT = "document.querySelector('.fact dd').textContent"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "cells.tif"
    pages = np.random.default_rng(5).integers(0, 60000, (2, 120, 160), dtype=np.uint16)
    tifffile.imwrite(path, pages, imagej=True, metadata={"axes": "ZYX"})
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone, dark"])
def test_an_image_is_dropped_and_its_objects_are_shown(app, chromium, stack, width, dark):
    chromium.open(app.server.url, width, dark=dark)
    chromium.drop("#drop", stack)
    chromium.wait(READY)
    assert chromium.complaints() == []
    assert all(url.startswith(f"http://127.0.0.1:{app.server.port}/") for url in chromium.requests())
    assert chromium.run("document.documentElement.scrollWidth") <= width
    contrast, *where = chromium.run(CONTRAST)
    assert contrast >= 4.5, where  # WCAG 2.2, 1.4.3
    assert chromium.run("[...document.querySelectorAll('.stage img')].map((image) => image.naturalWidth)") == [160, 160]

    image = next(
        path.rpartition("/")[0] for path in chromium.requests() if path.endswith("/objects?page=0&threshold=0.4")
    )
    counted = json.loads(app.ask(image.partition(str(app.server.port))[2] + "/objects?page=0&threshold=0.4")[1])
    assert chromium.run(FACT) == f"{counted['count']:,}"
    before = chromium.run("document.querySelector('.stage .over').src")
    chromium.set("#threshold", 0.99, "input")
    chromium.wait(f"{FACT} === '0' && {READY}")
    chromium.set("#page", 2, "input")
    chromium.wait(f"document.querySelector('.stage .over').src.includes('page=1&threshold=0.99') && {READY}")
    assert chromium.run("document.querySelector('.stage .over').src") != before
    links = chromium.run("[...document.querySelectorAll('.files a')].map((link) => link.getAttribute('href'))")
    assert len(links) == 5
    for link in links:
        assert app.ask(link)[0] == 200


def test_what_cannot_be_read_is_one_line_and_another_image_clears_it(app, chromium, stack, tmp_path):
    chromium.open(app.server.url)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(stack.read_bytes()[:300])
    chromium.drop("#drop", broken)
    line = chromium.wait(PROBLEM)
    assert line.startswith("broken.tif: ")
    assert chromium.run("document.getElementById('work').hidden && document.getElementById('result').hidden")
    chromium.drop("body", broken, stack)
    chromium.wait(f"{PROBLEM}.startsWith('2 files were dropped')")
    chromium.drop("#drop", stack)
    chromium.wait(READY)
    assert chromium.run(PROBLEM) == ""
    chromium.run(
        "((s) => { s.value = 'many'; s.dispatchEvent(new Event('change')) })(document.getElementById('network'))"
    )
    chromium.wait("document.getElementById('notes').textContent.startsWith('objects are made of two classes') && "
                  "!document.getElementById('result').hidden")  # fmt: skip
    assert chromium.run("document.querySelectorAll('.files a').length") == 1


class _Other(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another page</title>")

    def log_message(self, *_):
        pass


def test_a_page_of_another_port_cannot_drive_it(app, chromium, stack):
    """Another server of this machine is of the same site, so that the browser would send the cookie along."""
    chromium.open(app.server.url)
    upload = (
        "fetch('{}/api/images?name=a.png', {{method: 'POST', body: 'x', {}}}).then((a) => a.status, () => 'refused')"
    )
    before = app.store._next
    assert chromium.run(upload.format("", "mode: 'cors'")) == 400  # it came through, and is no image
    assert app.store._next == before + 1
    with serving(_Other, threading.Event()) as address:
        chromium.open(address)
        there = f"http://127.0.0.1:{app.server.port}"
        for how in ("mode: 'no-cors', credentials: 'include'", "mode: 'cors', credentials: 'include'"):
            assert chromium.run(upload.format(there, how)) in (0, "refused")
    assert app.store._next == before + 1
