"""A trained network as a page: one HTML file that predicts dropped images in the browser, without a server.

The network (ONNX), ONNX Runtime Web and a reader of TIFF files lie in it, so that it works from a folder, where a page
may ask for no second file. Its content security policy lets no request leave it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import tempfile
from importlib import resources
from pathlib import Path

from unet import __version__
from unet.export import npm
from unet.export.bioimage import card
from unet.export.formats import write_onnx
from unet.export.network import Exported
from unet.files import write_text

PAGE = "index.html"
RUNTIME = npm.Package(
    "onnxruntime-web", "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)  # fmt: skip
TIFF = npm.Package(
    "geotiff", "3.0.5",
    "sha512-OWcL9S9+yDZ6iAlXMt32T1iwUApJM8UiD47xbm6ZP1h33d10fqkPs14EG/ttT5EnefpZSx3G15iDFC5FxUNUwA==",
)  # fmt: skip
_THRESHOLD = 0.5  # where the weights name none


def write_page(exported: Exported, folder: Path, name: str) -> Path:
    """index.html, 11 MB with the network em; returns it.

    RunError when packages are missing, or as from `npm.fetch` and `write_onnx`.
    """
    runtime, wasm = npm.fetch(RUNTIME, "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm")
    tiff, licence = npm.fetch(TIFF, "dist-browser/geotiff.js", "LICENSE")
    with tempfile.TemporaryDirectory(prefix="unet-web-") as scratch:
        model = write_onnx(exported, Path(scratch)).read_bytes()
    data = {
        "said": json.dumps(_said(exported)).replace("<", "\\u003c"),
        "worker": _asset("unet.export", "worker.js"),
        **{key: _packed(value) for key, value in
           {"runtime": runtime, "tiff": tiff, "wasm": wasm, "model": model}.items()},
    }  # fmt: skip
    style = _asset("unet.report", "page.css") + _asset("unet.app", "app.css")
    compare, script = _asset("unet.report", "page.js"), _asset("unet.app", "drop.js") + _asset("unet.export", "web.js")
    licences = (
        f"{RUNTIME}: MIT License, Copyright (c) Microsoft Corporation\n{TIFF}: as follows\n"
        f"unet-2015 {__version__}: MIT License\n\n{licence.decode()}"
    )
    page = _filled(
        _asset("unet.export", "web.html"),
        policy=html.escape(_policy(style, compare, script)),
        name=html.escape(name),
        version=__version__,
        card=html.escape(card(exported, name)),
        licences=html.escape(licences),
        data="\n".join(f'<script type="text/plain" id="{key}">{text}</script>' for key, text in data.items()),
        style=style,
        compare=compare,
        script=script,
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _said(exported: Exported) -> dict[str, object]:
    """What the page must know: the description of every export, and how the weights want to be used."""
    how, objects = exported.metadata.get("predict") or {}, exported.metadata.get("instances") or {}
    return exported.described() | {
        "symmetries": how.get("symmetries", 1),
        "average": how.get("average", "probabilities"),
        "threshold": objects.get("threshold", _THRESHOLD),
    }


def _policy(style: str, *scripts: str) -> str:
    """Its own style and scripts, what they make themselves (the worker and the runtime in it), and nothing else."""
    allowed = " ".join(f"'{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed} blob: 'wasm-unsafe-eval'; worker-src blob:; img-src blob: data:; "
        f"style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _packed(data: bytes) -> str:
    """Compressed, as text."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _filled(template: str, **values: str) -> str:
    """The template with a value for every {{name}}; values may hold braces themselves."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _asset(package: str, name: str) -> str:
    return (resources.files(package) / "assets" / name).read_text(encoding="utf-8")
