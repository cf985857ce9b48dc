"""Training tiles cut from a stack, their pixel weights, and batches of them."""
