"""Escaping, tables, charts and the small Markdown: what goes in comes out as text, at the right place."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.test_run_page import Page
from unet.report import chart, markdown
from unet.report.chart import Dots, Line
from unet.report.markup import Markup, element, escape, table

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=40)  # surrogates and control characters too


@given(TEXTS)
def test_every_text_survives_as_text(text):
    made = element("p", text, title=text)
    made.encode("utf-8")
    page = Page(made)
    assert [tag for tag, _ in page.tags] == ["p"]
    shown = page.text[:-1] if text else page.text
    assert all(c in shown for c in text if c.isprintable())
    if text.isprintable():
        assert shown == text == (page.all("p")[0]["title"] or "")


def test_markup_is_not_escaped_twice():
    inner = element("b", "a & b")
    assert element("p", inner) == "<p><b>a &amp; b</b></p>"
    assert isinstance(escape(inner), Markup)


def test_attributes():
    assert element("td", class_="x", data_name="a", hidden=True, id=None, open=False) == (
        '<td class="x" data-name="a" hidden></td>'
    )


def test_columns_of_numbers_are_set_to_the_right():
    made = table(["a", "b", "c"], [["x", "0.5", "one"], ["y", "0.7 ± 0.1", "2"], ["z", "-", "three"]])
    heads = re.findall(r'<th scope="col"( class="number")?>', made)
    assert heads == ["", ' class="number"', ""]
    assert made.count('<td class="number">') == 3


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** and `b<c`", "<p><strong>a</strong> and <code>b&lt;c</code></p>"),
        ("- one\n- two", "<ul><li>one</li><li>two</li></ul>"),
        ("### Part", "<h3>Part</h3>"),
        ("[x](results/a.md)", '<p><a href="results/a.md">x</a></p>'),
        ("[x](javascript:alert(1))", "<p>x)</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
    ],
)
def test_markdown(text, html):
    assert "".join(markdown.blocks(text)) == html


def test_markdown_tables_with_bars_in_cells():
    from unet.study.text import table as written

    (made,) = markdown.blocks(written(["arm", "score"], [["a | b", "0.5"]]))
    assert '<th scope="row" class="short">a | b</th>' in made


def test_markdown_leaves_out_comments_and_pictures():
    title, above, parts = markdown.sections("# T\n\n<!-- made -->\n\nhello\n\n## A\n\n![x](figure.png)\n\nb\n")
    assert title == "T"
    assert above == ["<p>hello</p>"]
    assert parts == [("A", ["<p>b</p>"])]


# -- charts ----------------------------------------------------------------------------------------------------------


def places(made: str) -> list[list]:
    return [line["p"] for line in json.loads(Page(made).all("svg")[0]["data-points"])]


def test_points_lie_where_their_values_are():
    (points,) = places(chart.lines("t", [Line("a", [0, 50, 100], [0.0, 5.0, 10.0])]))
    x, y = [p[0] for p in points], [p[1] for p in points]
    assert x[0] == chart.LEFT
    assert x[2] == chart.WIDTH - chart.RIGHT
    assert x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.1)
    assert y[1] == pytest.approx((y[0] + y[2]) / 2, abs=0.1)
    assert chart.TOP < y[2] < y[1] < y[0] <= chart.HEIGHT - chart.BOTTOM


def test_an_axis_that_begins_at_zero():
    (points,) = places(chart.lines("t", [Line("a", [0, 1, 2], [9.0, 9.5, 10.0])], from_zero=True))
    (other,) = places(chart.lines("t", [Line("a", [0, 1, 2], [0.0, 9.5, 10.0])]))
    zero, (nine, _, ten) = other[0][1], [p[1] for p in points]
    assert ten == other[2][1]
    assert (zero - nine) / (zero - ten) == pytest.approx(0.9, abs=0.01)


def test_a_wide_range_is_logarithmic():
    (points,) = places(chart.lines("t", [Line("a", [0, 1, 2], [1e-3, 1e-1, 10.0])]))
    y = [p[1] for p in points]
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    (points,) = places(chart.lines("t", [Line("a", [0, 1, 2], [1e-3, 1e-1, 10.0])], log=False))
    y = [p[1] for p in points]
    assert y[0] - y[1] < 0.1 * (y[1] - y[2])


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True, min_value=None, max_value=None, width=32),
        min_size=1,
        max_size=30,
    )
)
def test_any_series_gives_a_picture_within_its_frame(values):
    made = chart.lines("t", [Line("a", list(range(len(values))), values)])
    assert "nan" not in made
    assert "inf" not in made
    if "svg" in made:
        for x, y, *_ in places(made)[0]:
            assert chart.LEFT - 0.1 <= x <= chart.WIDTH - chart.RIGHT + 0.1
            assert chart.TOP - 0.1 <= y <= chart.HEIGHT - chart.BOTTOM + 0.1


def test_long_series_keep_their_extremes():
    values = [0.0] * 5000
    values[1234], values[4321] = 7.0, -3.0
    (points,) = places(chart.lines("t", [Line("a", list(range(5000)), values)]))
    assert len(points) <= chart.MOST_POINTS + 1
    assert {"7", "-3"} <= {p[3] for p in points}
    assert points[-1][2] == "4,999"


def test_dots_are_named_and_one_per_run():
    made = chart.dots("t", [Dots("arm a", [0.1, 0.3], ["r0", "r1"]), Dots("arm b", [0.2], ["r2"], 1)])
    page = Page(made)
    assert [line["l"] for line in json.loads(page.all("svg")[0]["data-points"])] == ["r0", "r1", "r2"]
    assert len(page.all("circle")) == 3
    assert "arm a 0.2" in " ".join(page.text.split())


@pytest.mark.parametrize("made", [chart.lines("t", [Line("a", [], [])]), chart.dots("t", [Dots("a", [])])])
def test_empty_charts_say_so(made):
    assert "nothing recorded" in made
