"""Folders as people bring them: each is read as what it is, or asked back with the flags that say it."""

import re
import unicodedata

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from tests.data import cases
from unet.cli import main
from unet.config import DataConfig
from unet.data import own
from unet.data.split import split
from unet.errors import ConfigError, DataError, Problems


def read(folder, **settings):
    return own.read(folder, DataConfig(folder=str(folder), **settings), lambda _: None)


def expected(wanted):
    """Class indices of all scenes."""
    return [wanted(labels) for _, labels in cases.SCENES]


def same(stack, wanted):
    for frame, label in zip(stack.frames, expected(wanted), strict=True):
        np.testing.assert_array_equal(frame.label, label)


def cells(labels):
    return (labels > 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("{i}.png", "{i}.png"), ("images", "labels")),
        (("{i}.png", "{i}.png"), ("images", "masks")),
        (("img_{i}.png", "img_{i}_mask.png"), ("images", "labels")),
        (("img_{i}.png", "img_{i}_masks.png"), ("images", "masks")),
        (("c_{i:03}_0000.png", "c_{i:03}.png"), ("imagesTr", "labelsTr")),
        (("{i}.tif", "{i}.ome.tif"), ("images", "labels")),
        (("zürich{i}.png", unicodedata.normalize("NFD", "zürich{i}.png")), ("images", "labels")),
    ],
)
def test_pairs_are_found(tmp_path, names, folders):
    same(read(cases.write(tmp_path, names=names, folders=folders)), cells)


def test_a_label_of_another_name_shows_the_nearest_and_ten_problems_are_enough(tmp_path, capsys):
    cases.write(tmp_path, names=("field_{i}.png", "feld_{i}.png"))
    with pytest.raises(Problems) as caught:
        read(tmp_path)
    assert len(caught.value.problems) == 12
    assert "images/field_0.png: no label of this name in labels/ (nearest: feld_0.png)" in caught.value.problems
    assert main(["data", "preview", str(tmp_path), "--quiet"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12  # the head, ten problems, how many more
    assert lines[0].endswith("12 problems to fix:")
    assert lines[-1].strip() == "and 2 more"


def test_a_label_in_another_subfolder_is_the_nearest(tmp_path):
    cases.write(tmp_path, names=("{i}.png", "exp 1/{i}.png"))
    with pytest.raises(Problems) as caught:
        read(tmp_path)
    assert "images/0.png: no label of this name in labels/ (nearest: exp 1/0.png)" in caught.value.problems


def test_more_objects_than_8_bits_hold_are_asked_about(tmp_path):
    def overflown(_labels, _seed):
        """300 squares, numbered modulo 256."""
        numbers = np.zeros((160, 192), int)
        for number in range(300):
            y, x = divmod(number, 23)
            numbers[8 * y + 1 : 8 * y + 6, 8 * x + 1 : 8 * x + 6] = number + 1
        return numbers

    cases.write(tmp_path / "wide", lambda *a: overflown(*a).astype(np.uint16))
    assert read(tmp_path / "wide").frames[0].instances.max() == 300
    cases.write(tmp_path, lambda *a: overflown(*a).astype(np.uint8))
    with pytest.raises(DataError, match="8-bit numbers up to 255, 17% of them in several pieces: were more than 255"):
        read(tmp_path)
    assert read(tmp_path, label_kind="instances").frames[0].instances.max() == 255


def test_a_foreground_that_fills_most_is_said(tmp_path):
    for label_of, told in ((cases.inverted, True), (cases.mask, False)):
        said = []
        folder = cases.write(tmp_path / label_of.__name__, label_of)
        own.read(folder, DataConfig(folder=str(folder)), said.append)
        assert ("the foreground fills 92%: if it is the low value, say --data.foreground low" in said[0]) == told


def test_a_second_channel_in_its_own_file_is_said(tmp_path):
    cases.write(tmp_path, names=("c_{i}_0000.png", "c_{i}.png"), folders=("imagesTr", "labelsTr"))
    (tmp_path / "imagesTr" / "c_0_0001.png").write_bytes((tmp_path / "imagesTr" / "c_0_0000.png").read_bytes())
    with pytest.raises(DataError, match=r"c_0_0001.png: a second channel in its own file"):
        read(tmp_path)


def test_channels_behind_the_image_are_said_to_be_so(tmp_path):
    cases.write(tmp_path, image_of=lambda im: np.stack([im, 255 - im], -1), names=("{i}.tif", "{i}.tif"))
    with pytest.raises(DataError, match=r"images/0.tif: reads as 160 images of 192 x 2 px; .* channel axis"):
        read(tmp_path)


def flags_of(error):
    """What the message says to give as --data.label-map."""
    return tuple(re.findall(r"\S+=\S+", str(error).split("--data.label-map ")[1].split(";")[0]))


def spread(*levels):
    """Objects of as many gray levels as are given, the background 0."""
    return lambda labels, _: np.array([0, *levels], np.uint8)[np.minimum(labels, len(levels))]


def jpeg_rims(labels, _seed):
    """A mask of 0 and 255 with 1 and 2 around its objects, in rings rather than specks, as JPEG leaves them."""
    near = ndimage.binary_dilation(labels > 0, iterations=2)
    wide = ndimage.binary_dilation(labels == 3, iterations=3)
    return np.where(labels > 0, 255, np.where(near & (labels == 0) & wide, 1 + (labels % 2), 0)).astype(np.uint8)


@pytest.mark.parametrize(
    ("label_of", "message"),
    [
        (jpeg_rims, "grays at the rims of a mask.* if 255 marks pixels to ignore, --data.label-kind classes"),
        (spread(127, 255), "values 0, 127, 255 lie evenly up to 255"),
        (spread(85, 170, 255), "values 0, 85, 170, 255 lie evenly up to 255"),
        (cases.few_gray, "0 and 255 fill all but 240 pixels"),
        (cases.one_two, r"no pixel is 0 \(values 1, 2\)"),
        (cases.gaps, "50% of the numbers lie in pieces"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_asked_back_with_the_flag_of_each(tmp_path, label_of, message):
    with pytest.raises(DataError, match=message) as caught:
        read(cases.write(tmp_path, label_of))
    assert "--data.label-kind instances" in str(caught.value)
    if label_of is not cases.gaps:  # of many values the message shows the first
        stack = read(tmp_path, label_map=flags_of(caught.value))
        for i, frame in enumerate(stack.frames):
            values = label_of(cases.SCENES[i][1], i)
            wanted = np.unique(values, return_inverse=True)[1].reshape(values.shape)
            if label_of in (cases.few_gray, jpeg_rims):
                wanted = values > 127
            np.testing.assert_array_equal(frame.label, wanted)
    assert read(tmp_path, label_kind="instances").frames[0].instances is not None


def test_a_table_names_classes_ranges_and_what_is_ignored(tmp_path):
    cases.write(tmp_path, cases.gaps)
    stack = read(tmp_path, label_map=("0=ground", "1-99=cell", "100=ignore", "200-201=debris"))
    assert stack.class_names == ("ground", "cell", "debris")

    def wanted(labels):
        values = cases.gaps(labels)
        return np.select([values == 0, values < 100, values == 100], [0, 1, 255], 2).astype(np.uint8)

    same(stack, wanted)
    with pytest.raises(DataError, match=r"labels/0.png: label values 200, 201 are not in data.label_map"):
        read(tmp_path, label_map=("0=ground", "1-100=cell"))
    (tmp_path / "classes.txt").write_text("0=ground\n1-99=cell\n100=ignore\n200-201=debris\n")
    same(read(tmp_path), wanted)
    assert own.instances(tmp_path, DataConfig(folder=str(tmp_path))) == {}
    table = "0=ground\r\n1-99=cell\r\n100=ignore\r\n200-201=debris\r\n"
    (tmp_path / "classes.txt").write_bytes(table.encode("utf-8-sig"))  # as Windows writes it
    same(read(tmp_path), wanted)
    (tmp_path / "classes.txt").write_text("0=ground\n1-201=cell\n255 ignore\n")
    with pytest.raises(ConfigError, match="'255 ignore' is not VALUE=CLASS"):  # and no three class names
        read(tmp_path)


def test_colours_can_be_classes(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 64]], np.uint8)
    cases.write(tmp_path, lambda labels, _: colours[np.where(labels > 6, 2, labels > 0)])
    with pytest.raises(DataError, match=r"--data.label-map '#000000=background' '#008040=class-1' '#ff0000"):
        read(tmp_path)
    stack = read(tmp_path, label_map=("#000000=ground", "#FF0000=cell", "#008040=nucleus"))
    same(stack, lambda labels: np.where(labels > 6, 2, labels > 0).astype(np.uint8))
    with pytest.raises(DataError, match="label values #008040 are not in"):
        read(tmp_path, label_map=("#000000=ground", "#ff0000=cell"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (("0=a", "x=b"), "'x=b' is not VALUE=CLASS"),
        (("0=a", "0-4=b"), "'0-4=b' names no value, or one that another"),
        (("0=a", "1=a"), "names 1 classes"),
        (("0=a", "#ffffff=b"), "names numbers and colours"),
    ],
)
def test_tables_that_make_no_sense(tmp_path, table, message):
    with pytest.raises(ConfigError, match=message):
        read(cases.write(tmp_path), label_map=table)


def test_one_large_image_is_trained_on_in_blocks(tmp_path):
    image, labels = cases.SCENES[0]
    for part, pixels in (("images", image), ("labels", cases.mask(labels))):
        (tmp_path / part).mkdir()
        Image.fromarray(pixels).save(tmp_path / part / "slide.png")
    config = DataConfig(folder=str(tmp_path), folds=4, fold=1)
    stack = own.read(tmp_path, config, lambda _: None)
    assert [frame.name for frame in stack.frames] == [f"slide[{i:02}]" for i in range(4)]
    np.testing.assert_array_equal(np.concatenate([frame.label for frame in stack.frames], axis=1), cells(labels))
    parts = split(stack, config)
    assert (parts.train, parts.held_out) == ((0, 2, 3), (1,))
    assert len(read(tmp_path, split="all").frames) == 1


def test_objects_of_a_single_image_are_cut_like_it(tmp_path):
    image, labels = cases.SCENES[0]
    for part, pixels in (("images", image), ("labels", labels.astype(np.uint16))):
        (tmp_path / part).mkdir()
        tifffile.imwrite(tmp_path / part / "slide.tif", pixels)
    gold = own.instances(tmp_path, DataConfig(folder=str(tmp_path)))
    assert list(gold) == [frame.name for frame in read(tmp_path).frames]
    np.testing.assert_array_equal(np.concatenate(list(gold.values()), axis=1), labels)


def test_pixels_of_no_data_are_said(tmp_path):
    """A fill value that a percentile falls on squeezes the gray values of the image into a corner."""

    def filled(image):
        image = image.astype(np.float32)
        image[:16] = -9999
        return image

    lines = []
    folder = cases.write(tmp_path, image_of=filled, names=("{i}.tif", "{i}.tif"))
    own.read(folder, DataConfig(folder=str(folder)), lines.append)
    assert lines[0].startswith("data: images/0.tif: 10.0% of the pixels are -9999, far from all others (")
    assert lines[0].endswith(" (and so in 5 more images)")
