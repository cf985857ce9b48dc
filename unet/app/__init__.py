"""`unet app`: a page of this machine's browser that takes images and shows what a network makes of them."""
