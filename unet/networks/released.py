"""The network as published with the paper's Caffe code, which differs from the drawing.

A ReLU follows every up-convolution, the last up-convolution keeps its channels, the up-sampled map comes first in the
concatenation, dropout acts at the two deepest levels before both the pooling and the crop, and up-convolutions start
with smaller weights.
"""

from unet.model import Variant

VARIANT = Variant(
    relu_after_upconv=True,
    last_upconv_halves=False,
    upsampled_first=True,
    dropout_levels_from_bottom=2,
    caffe_fan_in=True,
)
