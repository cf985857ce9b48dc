"""The loss: weighted softmax cross-entropy. `reference` is the contract every other implementation is held against."""
