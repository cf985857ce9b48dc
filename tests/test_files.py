"""No file is ever half-written under its final name."""

import errno
import itertools
import subprocess
import sys

import pytest

from unet.errors import DataError, RunError, printable
from unet.files import (
    append_csv,
    atomic_write,
    natural_key,
    reading,
    sha256,
    sweep,
    write_error,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RunError, match="no space left.*free some space"), atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")
    assert "permissions" in str(write_error(tmp_path, PermissionError(errno.EACCES, "Permission denied")))


def test_folders_are_made_and_content_arrives(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": [1, "ü"]})
    assert path.read_text(encoding="utf-8") == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))


def test_the_checksum_is_that_of_the_standard(tmp_path):
    write_text(tmp_path / "abc", "abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_names_with_control_characters_print_on_one_line():
    assert printable("a name, 'quoted' \"twice\" ä 日") == "a name, 'quoted' \"twice\" ä 日"
    assert printable("a\nb\r\t\x1b[31mred\x00\udcff\u2028") == "a\\nb\\r\\t\\x1b[31mred\\x00\\udcff\\u2028"
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_only_what_killed_writers_left_is_swept(tmp_path):
    names = (".a.json.12.part", ".a\nb.1.part", ".out.tif.part", "a.12.part", ".a.json.12.part.txt", "b.tif")
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[2:])
    sweep(tmp_path / "absent")


def test_a_write_cut_short_is_a_full_disk(tmp_path):
    """NumPy's tofile names no error number: "18432 requested and 4908 written"."""
    code = (
        "import resource, sys, pathlib, numpy\nfrom unet.errors import RunError\n"
        "from unet.prediction.output import write_probabilities\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try:\n    write_probabilities(pathlib.Path(sys.argv[1]), [numpy.zeros((90, 90), 'f4')])\n"
        "except RunError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.tif")], capture_output=True, text=True, check=True
    )
    assert "p.tif: no space left on the device" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_rows_are_added_to_a_csv_file_under_one_header(tmp_path):
    path = tmp_path / "new" / "a.csv"
    append_csv(path, ("name", "value"), [{"name": "a, b", "value": 1}])
    append_csv(path, ("name", "value"), [{"name": "c", "value": 2}, {"name": "d", "value": ""}])
    assert path.read_text() == 'name,value\n"a, b",1\nc,2\nd,\n'


def test_natural_order_is_one_order():
    """Names alike but for zeros have places of their own: sets come in another order in every process."""
    names = ("t", "s2", "s1_10", "s1_2", "s01_2", "s1_1")
    assert sorted(names, key=natural_key) == ["s1_1", "s01_2", "s1_2", "s1_10", "s2", "t"]
    for names in itertools.permutations(("s1_1", "s01_1", "s001_1", "s10_1")):
        assert sorted(names, key=natural_key) == ["s001_1", "s01_1", "s1_1", "s10_1"]


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    inside = tmp_path / "inside"
    with pytest.raises(DataError) as caught, reading(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(inside))
    assert str(caught.value) == f"{inside}: cannot be read (Permission denied); check the path and its rights"
    with pytest.raises(DataError, match="inside: cannot be read"), reading(tmp_path):
        inside.read_text()
    with pytest.raises(ZeroDivisionError), reading(tmp_path):
        raise ZeroDivisionError
