"""Elements of HTML in which every text is escaped, wherever it comes from."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff\ufffe\uffff]")
_TAG = re.compile(r"<[^>]*>")
_VOID = ("img", "meta", "link", "br")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*( ± [\d.]+)?( %)?")


class Markup(str):
    """Text that is HTML already; everything else is escaped when it is put into an element."""

    __slots__ = ()


SHORT, LONG = 18, 26  # characters of a cell that is not broken, and of one that needs a column of some width

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


def table(head: Sequence[Content], rows: Iterable[Sequence[Content]], *, plain: bool = False) -> Markup:
    """A table that scrolls sideways within its own box; headings sort on a click.

    Columns that hold numbers for the greater part are set to the right, unless `plain`.
    """
    rows = list(rows)
    right = [not plain and 2 * sum(_is_number(row[i]) for row in rows) > len(rows) for i in range(len(head))]
    names = [element("th", name, scope="col", class_=_number_class(r)) for name, r in zip(head, right, strict=True)]
    body = [
        element("tr", *(_cell(cell, i == 0, r) for i, (cell, r) in enumerate(zip(row, right, strict=True))))
        for row in rows
    ]
    made = element("table", element("thead", element("tr", *names)), element("tbody", *body))
    return element("div", made, class_="scroll", tabindex="0")


def _is_number(content: Content) -> bool:
    if isinstance(content, str):
        return content == "-" or _NUMBER.fullmatch(content) is not None
    return isinstance(content, (int, float))


def _number_class(right: bool) -> str | None:
    return "number" if right else None


def _cell(content: Content, first: bool, right: bool) -> Markup:
    shown = _TAG.sub("", content) if isinstance(content, Markup) else str(content)
    kind = _number_class(right) or ("long" if len(shown) > LONG else "short" if len(shown) <= SHORT else None)
    return element("th" if first else "td", content, scope="row" if first else None, class_=kind)


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
