"""The `unet` command: finds the subcommand, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys

from unet import __version__
from unet.errors import ConfigError, Problems, UserError, nearest, one_line, printable

COMMANDS = {
    "train": "train a network on a data set or a folder of your own",
    "evaluate": "score a finished run, or any prediction against labels",
    "predict": "segment images of any size with a trained network",
    "app": "drop images on a page of the browser, see and take away what a network makes of them",
    "export": "write a trained network as ONNX, TorchScript or a package of bioimage.io",
    "data": "fetch, verify, show and preview the data sets",
    "study": "run what is missing of a study, and redraw its tables",
    "report": "one HTML page about a run or a study",
    "reproduce": "the command that makes a run again; --go runs it and compares the results",
    "sizes": "valid tile sizes, and the size of every layer for one of them",
    "completion": "a script that lets bash and zsh complete commands and options",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of `unet`; returns the exit code (0 well, 1 program error, 2 user error, 130 Ctrl-C)."""
    words = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the package asks the network for news when imported
    # A waiting thread gives up its core after some 0.1 ms. At once: training with two threads took 40 % longer on free
    # cores. After 3 ms, as libgomp does by itself: twice as long on cores that others use too.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        return _dispatch(words)
    except UserError as error:
        lines = [error.head, *error.shown] if isinstance(error, Problems) and len(error.shown) > 1 else [str(error)]
        print(f"unet: {f'{chr(10)}  '.join(map(printable, lines))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("unet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:  # of files and folders that no command has met with a line of its own
        where = f"{error.filename}: " if error.filename else ""
        line = f"{where}{error.strerror or one_line(error)}; check the path and its rights"
        print(f"unet: {printable(line)}", file=sys.stderr)
        return 2
    except MemoryError:
        print("unet: out of memory; lower --tile.input-px or --train.batch", file=sys.stderr)
        return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"unet-2015 {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}{nearest(name, COMMANDS)} (see unet --help)")
    module = importlib.import_module(f"unet.commands.{name}")
    from unet.config import with_new_names

    code: int = module.main(with_new_names(words[1:]))
    return code


def usage() -> str:
    """The text of `unet --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"unet {__version__}: the 2015 U-Net paper, reproduced",
            "",
            "usage: unet COMMAND [OPTIONS]     (unet COMMAND --help for its options)",
            "",
            *lines,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
