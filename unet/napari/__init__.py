"""A widget for napari: a network is run on a layer and gives layers of probabilities and labels (extra `napari`)."""
