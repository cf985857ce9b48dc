"""Readers of the published data sets and of a user's own: files -> `Stack`."""
