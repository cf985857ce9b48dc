"""Fixtures shared by all tests."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import browser
from unet.datasets import DATA_SETS

# The same examples in every run of the tests, so that CI can be reproduced; HYPOTHESIS_PROFILE=fuzz looks for new ones.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.register_profile("fuzz", derandomize=False, deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder that holds the published data sets ($UNET_DATA, else data/); the test is skipped when there is none."""
    root = Path(os.environ.get("UNET_DATA") or "data").resolve()
    missing = [d.folder for d in DATA_SETS.values() if not list((root / d.folder).rglob("*.tif"))]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {root}; set UNET_DATA or run `unet data fetch all`")
    return root


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Nothing but this machine can be reached, so that no test downloads, and none depends on what it would get."""
    original = socket.socket.connect

    def connect(self: socket.socket, address) -> None:  # type: ignore[no-untyped-def]
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(errno.ENETUNREACH, "the tests use no network")
        original(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """A headless browser for the tests of a module; they are skipped where there is none."""
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium; install it, or name it in $CHROMIUM")
    with browser.Browser(program, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
