"""The page in a real browser: it loads nothing, complains of nothing, shows its figures, fits a phone.

Needs Chromium ($CHROMIUM, or one of the usual names on the path); skipped where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.study.helpers import STUDY
from tests.study.helpers import run as run_study
from unet.report import page, run_page, study_page
from unet.report.run import read

DESKTOP, PHONE = 1280, 390
FIGURES = """[...document.querySelectorAll('svg, .stage img')].map((figure) => {
  const box = figure.getBoundingClientRect();
  return [figure.tagName, box.width, box.height, box.left, box.right, figure.naturalWidth ?? 1];
})"""
CONTRAST = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
  };
  const found = [];
  const texts = 'h1, h2, p, th, td, dt, dd, a, summary, figcaption, .tick, .badge, b, select';
  for (const node of document.querySelectorAll(texts)) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.classList.contains('tick') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(node))].sort((x, y) => y - x);
    const name = node.className.baseVal ?? node.className;
    found.push([(a + 0.05) / (b + 0.05), node.tagName, name, node.textContent.slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()"""


@pytest.fixture(scope="module")
def pages(trained, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    run_study(folder / "study")
    results = folder / "study" / "results" / STUDY.name / "smoke"
    out = folder / "study.html"
    written = {"run": run_page.make(read(trained)), "study": study_page.make(STUDY, "smoke", results, out, folder)}
    return {name: page.write(folder / f"{name}.html", text) for name, text in written.items()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", ["run", "study"])
def test_pages_are_readable(chromium, pages, name, width, dark):
    chromium.open(pages[name], width, dark=dark)
    assert chromium.complaints() == []
    assert chromium.requests() == []
    assert chromium.run("document.documentElement.scrollWidth") <= width
    figures = chromium.run(FIGURES)
    assert len(figures) >= 6
    for tag, w, h, left, right, natural in figures:
        assert min(w, h) >= 100, (tag, w, h)
        assert left >= 0, tag
        assert right <= width, tag
        assert natural > 0, tag
    assert chromium.run("Math.min(...[...document.querySelectorAll('p, td, th, a')].map("
                        "(n) => parseFloat(getComputedStyle(n).fontSize)))") >= 11  # fmt: skip
    assert chromium.run(
        "[...document.querySelectorAll('.sides select')].filter((s) => s.getBoundingClientRect().right > "
        "s.closest('figure').getBoundingClientRect().right + 1).length"
    ) == 0  # fmt: skip
    contrast, *where = chromium.run(CONTRAST)
    assert contrast >= 4.5, where  # WCAG 2.2, 1.4.3


def test_both_schemes_differ(chromium, pages, tmp_path):
    means = []
    for dark in (False, True):
        chromium.open(pages["run"], DESKTOP, dark=dark)
        with Image.open(chromium.shot(tmp_path / "shot.jpg", whole=False)) as picture:
            means.append(sum(picture.convert("L").histogram()[:128]) / (picture.width * picture.height))
    assert means[0] < 0.5 < means[1]


def test_the_slider_follows_the_pointer_and_the_keys(chromium, pages):
    chromium.open(pages["run"], DESKTOP)
    x, y, w, h = chromium.box(".stage")
    clip = "document.querySelector('.stage .over').style.clipPath"
    assert chromium.run(clip) == "inset(0px 0px 0px 50%)"
    chromium.drag(x + w / 2, y + h / 2, x + 0.9 * w)
    moved = float(chromium.run(clip).split()[-1].rstrip("%)"))
    assert 82 <= moved <= 97
    assert chromium.run("document.querySelector('.stage .bar').style.left") == f"{moved:g}%"
    chromium.set(".stage input", 20, "input")
    assert chromium.run(clip) == "inset(0px 0px 0px 20%)"
    assert chromium.run("document.querySelector('.stage input').ariaLabel") == "image left, mistakes right"


def test_the_pixels_left_and_right_of_the_line_are_those_of_the_layers(chromium, pages, tmp_path):
    chromium.open(pages["run"], DESKTOP)
    x, y, w, h = chromium.box(".stage")
    box = tuple(map(int, (x, y, x + w, y + h)))
    shots = {}
    for value in (0, 100):
        chromium.set(".stage input", value, "input")
        with Image.open(chromium.shot(tmp_path / f"{value}.jpg", whole=False)) as picture:
            shots[value] = picture.crop(box).convert("L").resize((32, 32)).tobytes()
    difference = sum(abs(a - b) for a, b in zip(shots[0], shots[100], strict=True)) / 1024
    assert difference > 10


def test_layers_can_be_chosen(chromium, pages):
    chromium.open(pages["run"], DESKTOP)
    over = "((o) => [o.src, o.alt])(document.querySelector('.stage .over'))"
    before, _ = chromium.run(over)
    chromium.set(".sides select:last-child", 1, "change")
    after, alt = chromium.run(over)
    assert before != after
    assert before.startswith("data:image/png")
    assert alt.startswith("probability of ")


def test_values_appear_under_the_pointer(chromium, pages):
    chromium.open(pages["run"], DESKTOP)
    for chart, first, second in (
        ("#scores", "probability of the class chosen 0.", "share that is right: "),
        ("#curves", "update 30", "mean of ten updates: "),
    ):
        x, y, w, h = chromium.box(f"{chart} svg")
        chromium.point(x + 0.97 * w, y + h / 2)
        shown = chromium.run("document.querySelector('.tip:not([hidden])').innerText").splitlines()
        assert shown[0].startswith(first)
        assert shown[1].startswith(second)
    chromium.point(1, 1)
    assert chromium.run("document.querySelectorAll('.tip:not([hidden])').length") == 0


def test_tables_are_sorted_by_a_click(chromium, pages):
    chromium.open(pages["run"], DESKTOP)
    column = "[...document.querySelectorAll('#scores tbody tr')].map((row) => row.cells[0].textContent)"
    first = chromium.run(column)
    chromium.run("document.querySelector('#scores thead button').click(); 1")
    assert chromium.run(column) == sorted(first, key=str.lower)


def test_hostile_names_run_nothing(chromium, pages):
    chromium.open(pages["run"], DESKTOP)
    assert chromium.run("document.body.innerText.includes('<img src=x onerror=alert(1)>')")
    assert chromium.run("document.querySelectorAll('img[src=x]').length") == 0


def test_without_the_script_all_layers_are_visible(chromium, pages, tmp_path):
    text = pages["run"].read_text().split("<script>")[0] + "</body></html>"
    (tmp_path / "plain.html").write_text(text)
    chromium.open(tmp_path / "plain.html", PHONE)
    widths = chromium.run("[...document.querySelectorAll('.layer img')].map((i) => i.getBoundingClientRect().width)")
    assert len(widths) >= 8
    assert min(widths) > 60


def test_the_checks_can_fail(chromium, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><img src='https://localhost:9/x.png' width=2000><script>missing()</script>")
    chromium.open(bad, PHONE)
    assert any("missing" in line for line in chromium.complaints())
    assert chromium.requests() == ["https://localhost:9/x.png"]
    assert chromium.run("document.documentElement.scrollWidth") > PHONE


def test_the_policy_stops_what_is_smuggled_in(chromium, pages, tmp_path):
    """Were a name ever not escaped: the browser refuses the script, the style and the request."""
    text = pages["run"].read_text()
    smuggled = "<main><script>document.title = 'broken'</script><img src='https://localhost:9/x.png' onerror='x()'>"
    (tmp_path / "smuggled.html").write_text(text.replace("<main>", smuggled, 1))
    chromium.open(tmp_path / "smuggled.html", DESKTOP)
    assert chromium.run("document.title") != "broken"
    assert any("Content Security Policy" in line for line in chromium.complaints())
