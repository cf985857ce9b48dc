"""Charts as SVG inside the page: lines with bands, dots by group. Values under the pointer are shown by the script."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from unet.report.markup import Markup, element, join

WIDTH, HEIGHT = 400.0, 240.0  # user units; about the pixels a chart gets, so that its letters keep their size
LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 10.0, 34.0
COLOURS = 10  # --series-0 .. in page.css; further series are dashed
MOST_POINTS = 400  # of a line; between them only the extremes of each stretch are kept
LOG_SPAN = 20.0  # values that span more are drawn on a logarithmic axis


@dataclass(frozen=True)
class Line:
    """One series. band: (low, high) by point; faint: a thin line without a place in the legend."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    band: tuple[Sequence[float], Sequence[float]] | None = None
    faint: bool = False


@dataclass(frozen=True)
class Dots:
    """The values of one group, drawn side by side, with their mean."""

    label: str
    values: Sequence[float]
    names: Sequence[str] = ()
    colour: int = 0


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, v = (
            (math.log10(t) for t in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (v - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        if self.log:
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            step = max(1, -(-len(decades) // wanted))
            found = [10.0**d for d in decades if (d - decades[0]) % step == 0]
            if len(found) >= 2:
                return found
            steps = [m * 10.0**d for d in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                     for m in (1, 2, 5)]  # fmt: skip
            return [t for t in steps if self.low <= t <= self.high]
        raw = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(raw))
        step_size = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step_size - 1e-9)
        return [n * step_size for n in range(first, math.floor(self.high / step_size + 1e-9) + 1)]


@dataclass
class _Drawing:
    parts: list[Markup] = field(default_factory=list)
    points: list[dict[str, object]] = field(default_factory=list)


def lines(
    title: str,
    series: Sequence[Line],
    *,
    x_name: str = "updates",
    note: str = "",
    log: bool | None = None,
    from_zero: bool = False,
) -> Markup:
    """A figure with lines over x; without any finite point it says so. log: of the y-axis, None: where it is fit.
    from_zero: the y-axis begins at 0."""
    known = [line for line in series if any(map(math.isfinite, line.y))]
    if not known:
        return _figure(title, element("p", "nothing recorded", class_="empty"), "", note)
    values = [v for line in known for v in line.y if math.isfinite(v)]
    xs = [x for line in known for x in line.x]
    y_axis = _y_axis([0.0, *values], log=False) if from_zero else _y_axis(values, log)
    x_axis = _Axis(min(0.0, *xs), max(xs) if max(xs) > min(0.0, *xs) else max(xs) + 1, LEFT, WIDTH - RIGHT)
    drawing = _Drawing([_grid(y_axis), _x_ticks(x_axis, x_name)])
    for line in known:
        _draw_line(drawing, line, x_axis, y_axis)
    told = "; ".join(f"{line.label} ends at {number(_last(line))}" for line in known if not line.faint)
    return _figure(title, _svg(drawing, f"{title}: {told}", x_name.removesuffix("s")), _legend(known), note)


def dots(title: str, groups: Sequence[Dots], *, note: str = "") -> Markup:
    """A figure with the values of each group and their means."""
    values = [v for group in groups for v in group.values if math.isfinite(v)]
    if not values:
        return _figure(title, element("p", "nothing recorded", class_="empty"), "", note)
    y_axis = _y_axis(values, log=False)
    drawing = _Drawing([_grid(y_axis)])
    width = (WIDTH - LEFT - RIGHT) / len(groups)
    for place, group in enumerate(groups):
        centre = LEFT + (place + 0.5) * width
        found = [(v, name) for v, name in zip(group.values, group.names, strict=True) if math.isfinite(v)]
        step = min(12.0, width * 0.6 / max(1, len(found)))
        style = _style(group.colour)
        for i, (value, name) in enumerate(found):
            x, y = centre + (i - (len(found) - 1) / 2) * step, y_axis.place(value)
            drawing.parts.append(element("circle", cx=_f(x), cy=_f(y), r=4, class_=f"dot {style}"))
            drawing.points.append({"l": name, "c": style, "p": [[_f(x), _f(y), group.label, number(value)]]})
        if found:
            mean = y_axis.place(sum(v for v, _ in found) / len(found))
            half = min(26.0, width * 0.4)
            ends = {"x1": _f(centre - half), "x2": _f(centre + half), "y1": _f(mean), "y2": _f(mean)}
            drawing.parts.append(element("line", **ends, class_=f"mean {style}"))
    told = "; ".join(f"{g.label}: {len(g.values)} runs" for g in groups)
    means = [Line(g.label, [0], [sum(g.values) / len(g.values)], g.colour) for g in groups if len(g.values)]
    return _figure(title, _svg(drawing, f"{title}: {told}"), _legend(means), note)


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _y_axis(values: Sequence[float], log: bool | None = None) -> _Axis:
    low, high = min(values), max(values)
    if log is None:
        log = low > 0 and high > LOG_SPAN * low
    if log:
        return _Axis(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, True)
    margin = (high - low) * 0.06 or max(abs(high) * 0.1, 1e-6)
    bottom = 0.0 if low >= 0 and low - margin < 0.35 * (high - low) else low - margin
    return _Axis(bottom, high + margin, HEIGHT - BOTTOM, TOP)


def _grid(axis: _Axis) -> Markup:
    parts = []
    for tick in axis.ticks():
        y = _f(axis.place(tick))
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", _tick(tick), x=LEFT - 6, y=y, dy="0.32em", class_="tick y"))
    return join(parts)


def _x_ticks(axis: _Axis, name: str) -> Markup:
    base = HEIGHT - BOTTOM
    parts = [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis")]
    for tick in axis.ticks(5):
        parts.append(element("text", _tick(tick), x=_f(axis.place(tick)), y=base + 14, class_="tick x"))
    parts.append(element("text", name, x=WIDTH - RIGHT, y=HEIGHT - 4, class_="tick name"))
    return join(parts)


def _tick(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.6g}"


def _draw_line(drawing: _Drawing, line: Line, x_axis: _Axis, y_axis: _Axis) -> None:
    style = _style(line.colour)
    if line.band is not None:
        low, high = ([min(max(v, y_axis.low), y_axis.high) for v in side] for side in line.band)
        edge = [*zip(line.x, high, strict=True), *reversed([*zip(line.x, low, strict=True)])]
        path = _path([(x_axis.place(x), y_axis.place(v)) for x, v in edge])
        drawing.parts.append(element("path", d=path + "Z", class_=f"band {style}"))
    pieces: list[list[tuple[float, float]]] = [[]]
    shown = []
    for x, y in _thinned(line.x, line.y):
        if not math.isfinite(y) or (y_axis.log and y <= 0):
            pieces.append([])
            continue
        point = (x_axis.place(x), y_axis.place(y))
        pieces[-1].append(point)
        shown.append([_f(point[0]), _f(point[1]), f"{x:,.0f}" if x == round(x) else number(x), number(y)])
    path = "".join(_path(piece) for piece in pieces if piece)
    drawing.parts.append(element("path", d=path, class_=f"line {style}{' faint' if line.faint else ''}"))
    for piece in pieces:
        if len(piece) == 1:  # a single point draws no line
            cx, cy = piece[0]
            drawing.parts.append(element("circle", cx=_f(cx), cy=_f(cy), r=3, class_=f"dot {style}"))
    if not line.faint:
        drawing.points.append({"l": line.label, "c": style, "p": shown})


def _thinned(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    points = list(zip(x, y, strict=True))
    if len(points) <= MOST_POINTS:
        return points
    kept = []
    stretch = 2 * len(points) / MOST_POINTS
    for i in range(MOST_POINTS // 2):
        part = points[int(i * stretch) : int((i + 1) * stretch)]
        ends = {min(part, key=_height), max(part, key=_height)}
        kept += sorted(ends)
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _height(point: tuple[float, float]) -> float:
    return point[1] if math.isfinite(point[1]) else math.inf


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_f(x)} {_f(y)}" for x, y in points)


def _last(line: Line) -> float:
    return next((v for v in reversed(line.y) if math.isfinite(v)), math.nan)


def _f(value: float) -> float:
    return round(value, 1)


def _style(colour: int) -> str:
    return f"s{colour % COLOURS}" + (" dashed" if colour >= COLOURS else "")


def _legend(series: Sequence[Line]) -> Markup:
    items = [
        element("li", element("i", class_=_style(line.colour)), line.label, " ", element("b", number(_last(line))))
        for line in series
        if not line.faint
    ]
    return element("ul", *items, class_="legend")


def _svg(drawing: _Drawing, told: str, x_name: str = "") -> Markup:
    points = json.dumps(drawing.points, separators=(",", ":"), ensure_ascii=True)
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return element("svg", *drawing.parts, viewBox=box, role="img", aria_label=told, data_points=points, data_x=x_name)


def _figure(title: str, drawing: Markup, legend: str, note: str) -> Markup:
    return element(
        "figure",
        element("figcaption", title),
        element("div", drawing, class_="plot"),
        Markup(legend),
        element("p", note, class_="small") if note else None,
        class_="chart",
    )
