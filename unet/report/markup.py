"""Elements of HTML in which every text is escaped, wherever it comes from."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = ("img", "meta", "link", "br")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*( ± [\d.]+)?( %)?")


class Markup(str):
    """Text that is HTML already; everything else is escaped when it is put into an element."""

    __slots__ = ()


Content = str | int | float | None


def escape(text: object) -> Markup:
    """The text as HTML. What HTML cannot hold (control characters, lone surrogates of file names) is written out."""
    if isinstance(text, Markup):
        return text
    plain = _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", str(text))
    return Markup(html.escape(plain, quote=True))


def element(name: str, /, *children: Content, **attributes: object) -> Markup:
    """<name attributes>children</name>; None is left out, True is a bare attribute.

    Attributes: `class_` and `for_` lose their last underscore, other underscores become hyphens.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        written.append(f" {shown}" if value is True else f' {shown}="{escape(value)}"')
    opening = f"<{name}{''.join(written)}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{name}>")


def join(parts: Iterable[Content]) -> Markup:
    """The parts one behind the other."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def table(
    head: Sequence[Content], rows: Iterable[Sequence[Content]], *, caption: str = "", **attributes: object
) -> Markup:
    """A table that scrolls sideways within its own box; numbers are set to the right, headings sort on a click."""
    body = []
    for row in rows:
        cells = [_cell(cell, first=i == 0) for i, cell in enumerate(row)]
        body.append(element("tr", *cells))
    made = element(
        "table",
        element("caption", caption) if caption else None,
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *body),
        **attributes,
    )
    return element("div", made, class_="scroll", tabindex="0")


def _cell(content: Content, first: bool) -> Markup:
    numeric = isinstance(content, (int, float)) or (
        isinstance(content, str) and (content == "-" or _NUMBER.fullmatch(content) is not None)
    )
    name = "th" if first else "td"
    return element(name, content, scope="row" if first else None, class_="number" if numeric else None)


def code(text: str) -> Markup:
    """A block of lines as they are."""
    return element("pre", element("code", text), tabindex="0")


def details(summary: Content, *children: Content) -> Markup:
    """A part that opens on a click."""
    return element("details", element("summary", summary), *children)


def section(title: str, *children: Content, name: str = "") -> Markup:
    """A section of the page that its contents line links to."""
    anchor = name or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return element("section", element("h2", title), *children, id=anchor)


def note(*children: Content, kind: str = "note") -> Markup:
    """A remark; kind: note or warning."""
    return element("p", *children, class_=kind)
