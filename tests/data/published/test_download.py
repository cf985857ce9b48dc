from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.server import Site, serve
from unet.data.published.download import Limits, Unavailable, download

CONTENT = np.random.default_rng(0).bytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(answer_s=1.0, stall_s=0.3, retries=2, pause_s=0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(files={"/file.zip": CONTENT})) as running:
        yield running


def test_a_file_arrives_whole(site: Site, tmp_path: Path) -> None:
    counted: list[int] = []
    download(site.url("/file.zip"), tmp_path / "f.zip", sha256=DIGEST, on_bytes=lambda n, _total: counted.append(n))
    assert (tmp_path / "f.zip").read_bytes() == CONTENT
    assert sum(counted) == len(CONTENT)
    assert [p.name for p in tmp_path.iterdir()] == ["f.zip"]


@pytest.mark.parametrize(
    "faults",
    [
        ["cut"],
        ["cut", "cut"],
        ["stall"],
        ["500"],
        ["cut", "503"],
        ["longer"],
        ["redirect:/file.zip"],
        ["cut", "redirect:/file.zip"],
    ],
)
def test_what_can_be_mended_is(site: Site, tmp_path: Path, faults: list[str]) -> None:
    site.faults["/file.zip"] = list(faults)
    download(site.url("/file.zip"), tmp_path / "f.zip", sha256=DIGEST, limits=QUICK)
    assert (tmp_path / "f.zip").read_bytes() == CONTENT
    assert len(list(tmp_path.iterdir())) == 1
    assert site.requests["/file.zip"] == len(faults) + 1


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (["404"], "404"),
        (["403"], "403"),
        (["500"] * 9, "500"),
        (["cut"] * 9, "transfer"),
        (["stall", "404"], "404"),
        (["wrong"], "wrong content"),
        (["shorter"], "wrong content"),
        (["redirect:file:///etc/passwd"], "not allowed"),
        (["redirect:/file.zip"] * 50, "redirect"),
    ],
)
def test_what_cannot_be_mended_is_refused_with_a_reason(
    site: Site, tmp_path: Path, faults: list[str], reason: str
) -> None:
    site.faults["/file.zip"] = list(faults)
    with pytest.raises(Unavailable) as caught:
        download(site.url("/file.zip"), tmp_path / "f.zip", sha256=DIGEST, limits=QUICK)
    assert reason in caught.value.reason
    assert list(tmp_path.iterdir()) == []


def test_more_than_allowed_is_refused(site: Site, tmp_path: Path) -> None:
    small = Limits(answer_s=1.0, stall_s=0.3, retries=2, pause_s=0.01, max_bytes=100_000)
    with pytest.raises(Unavailable, match="more than"):
        download(site.url("/file.zip"), tmp_path / "f.zip", limits=small)
    assert not (tmp_path / "f.zip").exists()


def test_offline_shows_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be reached"):
        download(f"http://127.0.0.1:{port}/f.zip", tmp_path / "f.zip")
    with pytest.raises(Unavailable, match="cannot be reached"):
        download("http://no-such-host.invalid/f.zip", tmp_path / "f.zip")
    assert time.monotonic() - started < 9


def test_a_server_that_says_nothing_is_left_within_the_time_limit(site: Site, tmp_path: Path) -> None:
    site.faults["/file.zip"] = ["silent"]
    started = time.monotonic()
    with pytest.raises(Unavailable, match="no answer|timed out"):
        download(
            site.url("/file.zip"), tmp_path / "f.zip", limits=Limits(answer_s=0.3, stall_s=20, retries=1, pause_s=0.01)
        )
    assert time.monotonic() - started < 2
