"""What is said of files that are not read: what they hold, and how an image that is read is made of it."""

from __future__ import annotations

from pathlib import Path

_FIJI = "open it in Fiji (with Bio-Formats) and save it as TIFF"
_PYTHON = "save its array by tifffile.imwrite('NAME.tif', array, photometric='minisblack')"
_DRAW = "images are read, no outlines or boxes: draw its objects as a label image, a number per object or class"
_UNPACK = "unpack it, and name what was in it (regions of ImageJ: draw them as a label image first)"

_ADVICE = {
    ".czi .nd2 .lif .oib .oif .oir .vsi .lsm .stk .ims .zvi .dv .svs .ndpi .scn .mrxs .qptiff .btf .tf8 .tf2 .dm3 .dm4 "
    ".mrc .ome .xdce .flex": _FIJI,
    ".npy .npz .mat .h5 .hdf5 .zarr .n5 .pt .pth .pkl": _PYTHON,
    ".json .geojson .xml .txt .csv .roi .svg .yaml .yml": _DRAW,
    ".zip .tar .gz .tgz .bz2 .7z .rar": _UNPACK,
    ".nii .dcm .nrrd .mha .mhd": "save the slices of the volume as a TIFF stack; each is segmented by itself",
    ".bmp .gif .webp .jp2 .heic .psd .pdf .tga .pgm .ppm .pnm .eps": "convert it to TIFF or PNG",
}
_BY_SUFFIX = {suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes.split()}
_OF_CELLPOSE = "of Cellpose: save the masks as PNG or TIFF (cellpose --save_tif, or in its window by the menu File)"

_SIGNATURES = (
    (b"II*\0", "a TIFF", ".tif"), (b"MM\0*", "a TIFF", ".tif"), (b"II+\0", "a TIFF", ".tif"),
    (b"\x89PNG", "a PNG", ".png"), (b"\xff\xd8\xff", "a JPEG", ".jpg"),
    (b"GIF8", "a GIF", ".gif"), (b"BM", "a BMP", ".bmp"), (b"\x93NUMPY", "a NumPy array", ".npy"),
    (b"\x89HDF", "an HDF5 file", ".h5"), (b"PK\x03\x04", "a ZIP archive", ".zip"),
)  # fmt: skip
_READ = (".tif", ".png", ".jpg")


def advice(path: Path) -> str:
    """How an image is made of a file of this name; empty where nothing is known of it."""
    if path.name.lower().endswith("_seg.npy"):
        return _OF_CELLPOSE
    if path.name.lower().endswith(".nii.gz"):
        return _BY_SUFFIX[".nii"]
    return _BY_SUFFIX.get(path.suffix.lower(), "")


def other_content(head: bytes) -> str:
    """What a file holds instead of what its name says, by its first bytes, and what to do."""
    if not head:
        return "it is empty; fetch or export it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the image; run git lfs pull"
    if head.lstrip()[:1] == b"<":
        return "it holds a web page or XML; fetch or export it again"
    for signature, what, suffix in _SIGNATURES:
        if head.startswith(signature):
            return f"it holds {what}; {f'rename it to {suffix}' if suffix in _READ else _BY_SUFFIX[suffix]}"
    return f"it begins with {head[:4]!r}; fetch or export it again"


def whereabouts(path: Path) -> str:
    """What stands where a file is missing: a folder, a broken link, a name that differs; empty: nothing like it."""
    if path.is_dir():
        return "it is a folder"
    if path.is_symlink():
        return f"it links to {path.readlink()}, which is not there"
    if path.exists():
        return "it is no regular file"
    return ""
