"""Overlap-tile prediction: of arrays and of files, by one network or several, to probabilities and objects."""
