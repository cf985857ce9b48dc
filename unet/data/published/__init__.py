"""The published data sets: catalogue, download, checksums."""
