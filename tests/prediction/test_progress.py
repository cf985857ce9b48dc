"""The record of an unfinished prediction survives what can happen to it."""

import errno
import fcntl
import json
import os
import time

import pytest

from unet.errors import RunError
from unet.prediction.progress import Record, identity

JOB = {"input": {"name": "a.tif"}, "rows": [1, 2.5, None]}


def begun(path, rows=(1, 2)):
    with Record(path) as record:
        record.start(JOB)
        for row in rows:
            record.advance(row)


def test_what_was_noted_is_read_again(tmp_path):
    begun(tmp_path / "r")
    with Record(tmp_path / "r") as record:
        assert (record.job, record.rows) == (JOB, 2)
        record.advance(3)
    with Record(tmp_path / "r") as record:
        assert record.rows == 3
        record.start({"other": 1})
    with Record(tmp_path / "r") as record:
        assert (record.job, record.rows) == ({"other": 1}, 0)
        record.forget()
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("torn", [b"3", b"{", b"\x00\xff"])
def test_a_line_cut_short_does_not_count(tmp_path, torn):
    begun(tmp_path / "r")
    with (tmp_path / "r").open("ab") as file:
        file.write(torn)
    with Record(tmp_path / "r") as record:
        assert (record.job, record.rows) == (JOB, 2)
        record.advance(3)
    with Record(tmp_path / "r") as record:
        assert record.rows == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"\n", b"nonsense\n1\n", json.dumps(JOB).encode()[:9]])
def test_a_record_without_a_whole_job_is_none(tmp_path, content):
    (tmp_path / "r").write_bytes(content)
    with Record(tmp_path / "r") as record:
        assert (record.job, record.rows) == (None, 0)
    assert not (tmp_path / "r").exists()


def test_only_one_process_at_a_time(tmp_path):
    with Record(tmp_path / "r") as record:
        record.start(JOB)
        with pytest.raises(RunError, match="another process"), Record(tmp_path / "r"):
            pass
    with Record(tmp_path / "r") as record:
        assert record.job == JOB


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EWOULDBLOCK, "another process is writing"), (errno.ENOSYS, "cannot lock files")]
)
def test_a_file_system_without_locks_is_told_from_another_process(tmp_path, monkeypatch, number, said):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(RunError, match=said), Record(tmp_path / "r"):
        pass


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"), Record(tmp_path / "file" / "r"):
        pass


def test_identity_changes_with_every_part(tmp_path):
    path = tmp_path / "a.bin"
    content = bytearray(os.urandom(3_000_000))
    path.write_bytes(content)
    first = identity(path)
    assert identity(path) == first
    stat = path.stat()
    for place in (0, len(content) - 1):  # the same size and time, one byte another
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert identity(path)["sha256_of_parts"] != first["sha256_of_parts"]
        assert identity(path)["mtime_ns"] == first["mtime_ns"]
    path.write_bytes(content)
    assert identity(path)["sha256_of_parts"] == first["sha256_of_parts"]
    assert identity(path)["mtime_ns"] <= time.time_ns()
    path.write_bytes(content + b"x")
    assert identity(path)["bytes"] == 3_000_001


def test_identity_of_a_tiny_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"1")
    assert identity(tmp_path / "a")["sha256_of_parts"] != identity(tmp_path / "b")["sha256_of_parts"]
