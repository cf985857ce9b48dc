"""Small folders of images and labels as people bring them; one function per kind, each writes six pairs."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

GAPS = np.array([1, 2, 3, 4, 5, 100, 200, 201])


def scene(seed, height=160, width=192, count=12):
    """Bright discs on a dark field: image uint8, instances int32."""
    random = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    y, x = np.mgrid[:height, :width]
    for _ in range(400):
        if labels.max() == count:
            break
        cy, cx, radius = random.integers(12, height - 12), random.integers(12, width - 12), random.integers(6, 11)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        if not labels[disc].any():
            labels[disc] = labels.max() + 1
    image = 40 + 120 * ndimage.gaussian_filter((labels > 0).astype(float), 1) + random.normal(0, 8, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


SCENES = [scene(i) for i in range(6)]


def mask(labels, _seed=0):
    return ((labels > 0) * 255).astype(np.uint8)


def few_gray(labels, seed):
    """A mask of 0 and 255 with 40 stray gray pixels at the rims."""
    out, random = mask(labels), np.random.default_rng(seed)
    ys, xs = np.nonzero(ndimage.binary_dilation(out > 0) ^ (out > 0))
    chosen = random.choice(len(ys), 40, replace=False)
    out[ys[chosen], xs[chosen]] = random.integers(1, 255, 40)
    return out


def one_two(labels, _seed=0):
    """1 = background, 2 = cell, no 0 anywhere."""
    return (1 + (labels > 0)).astype(np.uint8)


def gaps(labels, _seed=0):
    """Class numbers that leave others out."""
    return np.where(labels == 0, 0, GAPS[labels % 8]).astype(np.uint8)


def all_background(labels, _seed=0):
    return np.zeros(labels.shape, np.uint8)


def inverted(labels, _seed=0):
    """0 = cell, 255 = background."""
    return 255 - mask(labels)


def write(
    root, label_of=mask, image_of=lambda image: image, names=("{i}.png", "{i}.png"), folders=("images", "labels")
):
    """Six pairs below `root`; returns it."""
    for i, (image, labels) in enumerate(SCENES):
        for folder, pattern, array in zip(folders, names, (image_of(image), label_of(labels, i)), strict=True):
            path = Path(root) / folder / pattern.format(i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array) if path.suffix == ".tif" else Image.fromarray(array).save(path)
    return Path(root)
