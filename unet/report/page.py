"""The frame of a report: one HTML file with its style, script and images inside.

The page forbids itself everything it does not need: its content security policy lets no request leave it and runs the
one script and the one style whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

from unet import __version__
from unet.errors import RunError
from unet.files import write_text
from unet.report.markup import Markup, element, join

GENERATOR = "unet-2015 report"
_HEAD_BYTES = 4096


def document(title: str, header: Markup, sections: list[Markup]) -> str:
    """The whole file. header: what stands above the sections; the sections' headings become the contents line."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        Markup(f"<style>{style}</style>"),
    )
    body = element(
        "body",
        element("header", header),
        element("nav", *map(_contents_link, sections), aria_label="contents"),
        element("main", *sections),
        element("footer", f"Made by unet-2015 {__version__} from the files alone. It loads nothing and sends nothing."),
        Markup(f"<script>{script}</script>"),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def check(path: Path) -> None:
    """RunError when something that is no report stands where one is to be written."""
    if path.is_dir():
        raise RunError(f"{path} is a folder; name a file with --out")
    if path.exists():
        with path.open("rb") as file:
            if GENERATOR.encode() not in file.read(_HEAD_BYTES):
                raise RunError(f"{path} exists and is no report of unet; name another file with --out")


def write(path: Path, text: str) -> Path:
    """Write a report atomically; RunError as from `check`."""
    check(path)
    write_text(path, text)
    return path


def _contents_link(part: Markup) -> Markup:
    found = re.match(r'<section id="([^"]*)"><h2>(.*?)</h2>', part)
    assert found is not None, "sections are made by markup.section"
    return element("a", Markup(found[2]), href=Markup("#" + found[1]))


def _asset(name: str) -> str:
    return (resources.files("unet.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def headline(kind: str, title: str, state: Markup, *below: Markup) -> Markup:
    """The top of a page: what it is about, and what a reader must know first."""
    return join([element("p", kind, class_="kind"), element("h1", title, " ", state), *below])


def fact_tiles(facts: list[tuple[str, str, str]]) -> Markup:
    """A few telling numbers as (name, value, remark)."""
    tiles = [
        element(
            "div", element("dt", name), element("dd", value), element("p", remark) if remark else None, class_="fact"
        )
        for name, value, remark in facts
    ]
    return element("dl", *tiles, class_="facts")


def badge(text: str, kind: str) -> Markup:
    """A word about the state; kind: good, bad or open."""
    return element("span", text, class_=f"badge {kind}")
