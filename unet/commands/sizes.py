"""`unet sizes`: valid tile sizes, and the size of every layer for one of them."""

from __future__ import annotations

from dataclasses import dataclass

from unet.commands.parse import parse
from unet.config import ModelConfig
from unet.errors import GeometryError
from unet.geometry import context, layer_sizes, nearest_valid, output_size, skip_misalignment, stride, valid_sizes


@dataclass(frozen=True)
class Arguments:
    """Sizes of an unpadded U-Net."""

    tile: int = 0
    """Input side in pixels; 0 lists the valid ones."""
    depth: int = ModelConfig.depth
    """Resolution levels of the network."""
    allow_odd_pooling: bool = False
    """Accept a tile whose pooling drops a row and a column (512, 256)."""
    lowest: int = 1
    highest: int = 1024
    quiet: bool = False
    """Accepted as everywhere; there is nothing but the table."""


def main(argv: list[str]) -> int:
    """Print the table; a first bare number is the tile size."""
    if argv and argv[0].isdigit():
        argv = ["--tile", *argv]
    arguments = parse(Arguments, argv, "unet sizes", "Valid tile sizes, or all layers of one (unet sizes 572).")
    ModelConfig(depth=arguments.depth)
    if not arguments.tile:
        print(
            f"{arguments.depth} levels: stride {stride(arguments.depth)} px, "
            f"context {context(arguments.depth)} px per side"
        )
        print("input -> output")
        for px in valid_sizes(arguments.lowest, arguments.highest, arguments.depth):
            print(f"{px:5d} -> {output_size(px, arguments.depth)}")
        return 0
    if arguments.tile < 1:
        raise GeometryError(
            f"a tile of {arguments.tile} px is none; use {nearest_valid(1, arguments.depth)[0]} or more"
        )
    for layer in layer_sizes(arguments.tile, arguments.depth, arguments.allow_odd_pooling):
        print(f"{'  ' * layer.level}{layer.name:<14} {layer.size}")
    shifts = skip_misalignment(arguments.tile, arguments.depth)
    if any(shifts):
        print(f"skips out of line with the deep path, in input pixels, level 0 first: {shifts}")
    return 0
