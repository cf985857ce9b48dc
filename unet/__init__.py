"""The 2015 U-Net paper, reproduced. From Python: `unet.load("em").predict(image)`; else the command `unet`."""

import importlib
from typing import Any

__version__ = "0.1.0"
_API = ("Model", "evaluate", "load")


def __getattr__(name: str) -> Any:
    """What `unet.api` holds, imported when it is asked for: torch takes seconds, and most commands need none."""
    if name in _API:
        return getattr(importlib.import_module("unet.api"), name)
    raise AttributeError(f"module 'unet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
