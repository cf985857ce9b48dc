"""A contact sheet of a stack: images, labels, objects, weight maps, and tiles as the network will see them.

Axes: C channels, H rows, W columns.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config import Config
from unet.data.stack import IGNORE, FloatImage, Frame, Stack, labelled
from unet.errors import printable
from unet.geometry import mirror_indices
from unet.tiles.deform import CoordinateMap
from unet.tiles.source import TileSource
from unet.tiles.weightmap import components
from unet.views.display import IGNORE_COLOUR, gray_limits, label_colours, object_colours, stretched, visible
from unet.views.figure import png_figure

PANEL_INCHES = 3.1
COLUMNS = 4
FRAMES = TILES = 3  # rows of each
TITLE_CHARACTERS = 150
GRID_LINES = 9
WINDOW_COLOUR, GRID_COLOUR, BORDER_COLOUR = "#ff9f1c", "#4cc9f0", "#ff4d6d"
_DARKENED = 0.6  # brightness of what is mirrored


def contact_sheet(stack: Stack, config: Config, path: Path) -> None:
    """Write a PNG with rows of frames (image, label, objects, weight map), then rows of tiles.

    A tile's row: where its pixels lie in the mirrored image (deformed grid, output window), its input with the output
    window, its target, its weights. The frames are spread evenly over those with a label, or over all if none has one;
    the tiles are the first that training with `config` would cut from these frames. Raises GeometryError and
    ConfigError for settings that cannot be used, RunError when the file cannot be written.
    """
    known = labelled(stack.frames)
    available = known or list(range(len(stack)))
    wanted = np.linspace(0, len(available) - 1, min(FRAMES, len(available))).round().astype(int)
    shown = stack.select([available[i] for i in wanted])
    source = TileSource(shown, config, config.train.seed) if known else None
    tile_rows = TILES if source is not None else 0
    heights = [min(2.0, f.size[0] / f.size[1]) for f in shown.frames] + [1.0] * tile_rows
    inches = sum(h * PANEL_INCHES + 0.3 for h in heights) + 0.8
    with png_figure(path, (COLUMNS * PANEL_INCHES, inches)) as figure:
        figure.suptitle(printable(_title(stack, config, source), keep="\n"), fontsize=10, parse_math=False)
        panels = figure.subplots(len(heights), COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axis in panels.flat:
            axis.set_axis_off()
        for index, frame in enumerate(shown.frames):
            _draw_frame(panels[index], frame, stack.classes, None if source is None else source.weight_map(index))
        for number in range(tile_rows):
            assert source is not None
            _draw_tile(panels[len(shown) + number], shown, source, number)


def _title(stack: Stack, config: Config, source: TileSource | None) -> str:
    sentences = [
        f"{stack.name}: {len(stack)} images, {len(labelled(stack.frames))} with a label, {stack.classes} classes "
        f"({', '.join(stack.class_names)}); {stack.source}"
    ]
    if source is not None:
        augment, weight = config.augment, config.weight
        sentences.append(
            f"tiles {source.input_px} px in, {source.output_px} px out; rotation up to {augment.rotation_deg:g} "
            f"degrees, flips {'on' if augment.flips else 'off'}, elastic grid {augment.elastic_grid} x "
            f"{augment.elastic_grid} of {augment.elastic_std_px:g} px; weights: balance {weight.balance}, "
            f"w0 {weight.w0:g}, sigma {weight.sigma_px:g} px"
        )
    return "\n".join(line for sentence in sentences for line in textwrap.wrap(sentence, TITLE_CHARACTERS))


def _draw_frame(panels: NDArray[Any], frame: Frame, classes: int, weight: FloatImage | None) -> None:
    height, width = frame.size
    image, limits = visible(frame.image), gray_limits(frame.image)
    _show(panels[0], stretched(image, limits), f"{frame.name}: image, {width} x {height} px")
    if frame.label is None or weight is None:
        return
    _show(panels[1], label_colours(frame.label, classes), "label" + _ignored(frame.label))
    cells = components(frame.label) if frame.instances is None else frame.instances
    count = len(np.unique(cells[cells != 0]))
    _show(panels[2], object_colours(cells), f"{count} objects" + (", 4-connected" if frame.instances is None else ""))
    _show_weight(panels[3], weight, "weight")


def _draw_tile(panels: NDArray[Any], stack: Stack, source: TileSource, number: int) -> None:
    from matplotlib.patches import Rectangle

    tile = source[number]
    frame = stack.frames[tile.frame]
    limits = gray_limits(frame.image)
    where = source.coordinates(number).part(slice(None), slice(None))
    draw_place(panels[0], frame, where, source)
    panels[0].set_title(printable(f"tile {number}: its place in {frame.name}"), fontsize=8, parse_math=False)
    _show(panels[1], stretched(visible(tile.image), limits), f"input, {source.input_px} px, with the output window")
    corner, side = source.margin - 0.5, source.output_px
    panels[1].add_patch(Rectangle((corner, corner), side, side, fill=False, edgecolor=WINDOW_COLOUR, linewidth=1.5))
    _show(panels[2], label_colours(tile.target, stack.classes), f"target, {side} px" + _ignored(tile.target))
    _show_weight(panels[3], tile.weight, "weight")


def draw_place(axis: Any, frame: Frame, where: CoordinateMap, source: TileSource) -> None:
    """The mirrored image around a tile, darker where mirrored, with the deformed grid and the output window.

    axis: of matplotlib. where: coordinates of a tile of `source` in `frame`, or part of them (`CoordinateMap.part`).
    """
    height, width = frame.size
    rows = mirror_indices(where.top, where.bottom, height)
    columns = mirror_indices(where.left, where.right, width)
    picture = stretched(visible(frame.image[:, rows[:, None], columns]), gray_limits(frame.image))
    y, x = np.arange(where.top, where.bottom), np.arange(where.left, where.right)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
    picture = picture * np.where(inside, 1, _DARKENED)[..., None]
    extent = (where.left - 0.5, where.right - 0.5, where.bottom - 0.5, where.top - 0.5)
    axis.imshow(picture, extent=extent, interpolation="nearest")
    image_x, image_y = where.x_HW + where.left, where.y_HW + where.top
    for at in np.linspace(0, source.input_px - 1, GRID_LINES).round().astype(int):
        axis.plot(image_x[at], image_y[at], color=GRID_COLOUR, linewidth=0.6)
        axis.plot(image_x[:, at], image_y[:, at], color=GRID_COLOUR, linewidth=0.6)
    first, last = source.margin, source.margin + source.output_px - 1
    side = np.arange(first, last + 1)
    outline_y = np.concatenate([np.full(side.size, first), side, np.full(side.size, last), side[::-1]])
    outline_x = np.concatenate([side, np.full(side.size, last), side[::-1], np.full(side.size, first)])
    axis.plot(image_x[outline_y, outline_x], image_y[outline_y, outline_x], color=WINDOW_COLOUR, linewidth=1.5)
    axis.plot(
        [-0.5, width - 0.5, width - 0.5, -0.5, -0.5],
        [-0.5, -0.5, height - 0.5, height - 0.5, -0.5],
        color=BORDER_COLOUR,
        linewidth=1,
        linestyle="--",
    )
    axis.set_xlim(extent[0], extent[1])
    axis.set_ylim(extent[2], extent[3])


def _show(axis: Any, picture: NDArray[Any], title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(printable(title), fontsize=8, parse_math=False)


def _show_weight(axis: Any, weight_HW: FloatImage, title: str) -> None:
    from matplotlib import colormaps

    shown = np.ma.masked_equal(weight_HW, 0)
    colours = colormaps["magma"].with_extremes(bad=IGNORE_COLOUR)
    drawn = axis.imshow(shown, cmap=colours, vmin=0, vmax=max(float(weight_HW.max()), 1e-12), interpolation="nearest")
    told = f"{title} {weight_HW.min():.3g} .. {weight_HW.max():.3g}, mean {weight_HW.mean():.3g}"
    axis.set_title(printable(told), fontsize=8, parse_math=False)
    bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.04, pad=0.02)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)


def _ignored(label_HW: NDArray[np.uint8]) -> str:
    share = float((label_HW == IGNORE).mean())
    return f" ({share:.1%} ignored, violet)" if share else ""
