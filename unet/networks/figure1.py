"""The network as drawn in Ronneberger, Fischer, Brox 2015 (doi:10.1007/978-3-319-24574-4_28), Figure 1."""

from unet.model import Variant

VARIANT = Variant(
    relu_after_upconv=False,
    last_upconv_halves=True,
    upsampled_first=False,
    dropout_levels_from_bottom=1,
    caffe_fan_in=False,
)
