"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unet.data.catalogue import data_sets


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder that holds the published data sets ($UNET_DATA, else data/); the test is skipped when there is none."""
    root = Path(os.environ.get("UNET_DATA") or "data").resolve()
    missing = [d.folder for d in data_sets().values() if not any((root / d.folder).rglob("*.tif"))]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {root}; set UNET_DATA or run `unet data fetch all`")
    return root
