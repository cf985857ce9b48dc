"""PhC-C2DH-U373 of the Cell Tracking Challenge."""

from unet.datasets.tracking import tracking

DATA_SET = tracking(
    "phc",
    "PhC-U373",
    "glioblastoma-astrocytoma U373 cells, phase contrast",
    "PhC-C2DH-U373",
    "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
    stand_in=True,
)
