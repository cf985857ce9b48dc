"""Labels and class lists as other programs and systems write them: read for what they are, or refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.config import DataConfig
from unet.data import own
from unet.data.doubts import doubts
from unet.errors import DataError

LABELS = np.zeros((5, 32, 40), np.uint8)
LABELS[:, 4:10, 4:10], LABELS[:, 20:28, 20:28] = 1, 2
IMAGES = np.random.default_rng(0).integers(0, 50, LABELS.shape, np.uint8) + 60 * LABELS


def write(folder: Path, labels: np.ndarray = LABELS) -> Path:
    for i, (image, label) in enumerate(zip(IMAGES, labels, strict=True)):
        for part, pixels in (("images", image), ("labels", label)):
            (folder / part).mkdir(exist_ok=True)
            tifffile.imwrite(folder / part / f"{i}.tif", pixels)
    return folder


def read(folder: Path, **changes: object) -> tuple[tuple[str, ...], list[str]]:
    """Names of the classes, and the doubts about the images."""
    config = DataConfig(folder=str(folder), **changes)  # type: ignore[arg-type]
    stack = own.read(folder, config, lambda _: None)
    return stack.class_names, doubts(stack, range(len(stack)), ())


@pytest.mark.parametrize("name", ["classes.txt", "Classes.TXT"])
@pytest.mark.parametrize(
    "text",
    [
        b"background\r\ncell\r\nrim\r\n",
        b"# of plate 3\nbackground\ncell\n#\nrim # thin\n",
        b"0 = background\n1=cell\n2=rim # thin\n",
        b"\xef\xbb\xbf0=background\r\n1=cell\r\n2=rim",
    ],
)
def test_class_lists_of_any_system_and_with_comments(tmp_path: Path, name: str, text: bytes) -> None:
    (write(tmp_path) / name).write_bytes(text)
    assert read(tmp_path)[0] == ("background", "cell", "rim")


def test_the_sign_of_colours_begins_no_comment(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 64]], np.uint8)[LABELS]
    write(tmp_path)
    for i, label in enumerate(colours):
        Image.fromarray(label).save(tmp_path / "labels" / f"{i}.png")
        (tmp_path / "labels" / f"{i}.tif").unlink()
    (tmp_path / "classes.txt").write_text("#000000=background\n#ff0000=cell # red\n#008040=rim\n")
    assert read(tmp_path)[0] == ("background", "cell", "rim")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 background\n1 cell\n2 rim\n", "'0 background' is a number and a name; write 0=background and so on"),
        ("0: background\n1: cell\n2: rim\n", "write 0=background"),
        ("0,background\n1,cell\n2,rim\n", "write 0=background"),
        ("1. background\n2. cell\n3. rim\n", "write 1=background"),
    ],
)
def test_numbers_beside_names_are_no_names(tmp_path: Path, text: str, said: str) -> None:
    (write(tmp_path) / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path)
    (tmp_path / "classes.txt").write_text("background\n3T3 cell\n2 nuclei\n")  # names may begin with a number
    assert read(tmp_path)[0] == ("background", "3T3 cell", "2 nuclei")


def test_another_encoding_is_told(tmp_path: Path) -> None:
    (write(tmp_path) / "classes.txt").write_bytes("background\ncell\nrim".encode("utf-16"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["classes", "instances"])
def test_frames_that_nobody_labelled_are_doubted(tmp_path: Path, kind: str) -> None:
    labels = LABELS.copy()
    labels[[0, 1, 3]] = 0
    _, said = read(write(tmp_path, labels), label_kind=kind)
    assert [line for line in said if "3 of 5 labels hold background alone (0, 1, 3)" in line]
    labels[1] = LABELS[1]
    assert not [line for line in read(write(tmp_path, labels), label_kind=kind)[1] if "background alone" in line]


@pytest.mark.parametrize("name", ["0.png", "0.tif"])
def test_labels_that_were_jpeg_are_refused_by_whatever_name(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / "labels" / "0.tif").unlink()
    if name == "0.png":
        Image.fromarray(LABELS[0]).save(tmp_path / "labels" / name, "JPEG")
    else:
        tifffile.imwrite(tmp_path / "labels" / name, LABELS[0], compression="jpeg")
    with pytest.raises(DataError, match=rf"labels/{name}: JPEG alters label values"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (LABELS[0, 1:, 1:], "its image .32, 40.; export both again, at one size"),
        (LABELS[0] * np.uint32(2_000_000_000), "label value 4000000000 is too large; number from 1"),
        (LABELS[0].astype(np.int16) - 1, "label value -1 is below 0; pixels to ignore are 255"),
    ],
)
def test_what_is_wrong_with_a_label_says_what_to_do(tmp_path: Path, label: np.ndarray, said: str) -> None:
    tifffile.imwrite(write(tmp_path) / "labels" / "0.tif", label)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_indices_of_colours_that_are_taken_for_grays_are_said(tmp_path: Path) -> None:
    grays = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    for table, told in ((grays[:, ::-1], False), (np.random.default_rng(0).permuted(grays, axis=1), True)):
        write(tmp_path)
        for i in (2, 4):
            path = tmp_path / "images" / f"{i}.tif"
            tifffile.imwrite(path, IMAGES[i], photometric="palette", colormap=table)
        said: list[str] = []
        own.read(tmp_path, DataConfig(folder=str(tmp_path)), said.append)
        found = [line for line in said if "images/2.tif: has a table of colours" in line]
        assert [line.endswith("(and so in 1 more images)") for line in found] == [True] * told
