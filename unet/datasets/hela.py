"""DIC-C2DH-HeLa of the Cell Tracking Challenge."""

from unet.datasets.tracking import tracking

DATA_SET = tracking(
    "hela",
    "DIC-HeLa",
    "HeLa cells, differential interference contrast",
    "DIC-C2DH-HeLa",
    "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
    stand_in=True,
)
