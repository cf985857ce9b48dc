"""The commands of `unet`, one module each; imports that cost time stand inside the functions that need them."""
