"""Scores: NumPy arrays in, floats out; nothing else of this package is imported here."""
