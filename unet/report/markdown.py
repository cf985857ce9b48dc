"""The few forms of Markdown that the generated pages of a study use, as HTML: headings, lists, tables, paragraphs."""

from __future__ import annotations

import re

from unet.report.markup import Markup, element, escape, join, table

_SPAN = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>[^`]+)`|\[(?P<text>[^\]]+)\]\((?P<link>[^)\s]+)\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")


def blocks(text: str) -> list[Markup]:
    """The paragraphs, lists, tables and headings of a text; comments and pictures are left out."""
    return [made for block in re.split(r"\n\s*\n", text) if (made := _block(block.strip())) is not None]


def sections(text: str) -> tuple[str, list[Markup], list[tuple[str, list[Markup]]]]:
    """(title, what stands under the title, [(heading, what stands under it)]) of a page."""
    first, *rest = re.split(r"^## +(.+)$", text, flags=re.M)
    found = re.match(r"\s*# +(.+)\n", first)
    title = found[1] if found else ""
    above = blocks(first[found.end() :] if found else first)
    return title, above, [(rest[i], blocks(rest[i + 1])) for i in range(0, len(rest), 2)]


def inline(text: str) -> Markup:
    """Bold, code and links within a line; everything else is escaped."""
    made, at = [], 0
    for span in _SPAN.finditer(text):
        made.append(escape(text[at : span.start()]))
        if span["bold"] is not None:
            made.append(element("strong", inline(span["bold"])))
        elif span["code"] is not None:
            made.append(element("code", span["code"]))
        else:
            made.append(_link(span["text"], span["link"]))
        at = span.end()
    return join([*made, escape(text[at:])])


def _link(text: str, target: str) -> Markup:
    """A relative link or one to the web; other kinds (javascript:, data:) stay text."""
    harmless = re.match(r"https?://", target) or not re.match(r"[^/?#]*:", target)
    return element("a", inline(text), href=target) if harmless else escape(text)


def _block(block: str) -> Markup | None:
    if not block or block.startswith("<!--") or _IMAGE.fullmatch(block):
        return None
    lines = block.splitlines()
    if heading := re.fullmatch(r"#{3,6} +(.+)", block):
        return element("h3", inline(heading[1]))
    if len(lines) >= 2 and lines[0].startswith("|") and re.fullmatch(r"[|\s:-]+", lines[1]):
        head, *body = [_cells(line) for i, line in enumerate(lines) if i != 1]
        return table(head, body)
    if all(re.match(r"- |  ", line) for line in lines) and lines[0].startswith("- "):
        items = re.split(r"^- ", block, flags=re.M)[1:]
        return element("ul", *(element("li", inline(" ".join(item.split()))) for item in items))
    return element("p", inline(" ".join(lines)))


def _cells(line: str) -> list[Markup]:
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [inline(part.strip().replace("\\|", "|")) for part in parts]
