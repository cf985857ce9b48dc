"""Image files -> arrays: which formats, which pages, which pixel sizes."""
