"""From class probabilities to instances, and the search for the settings that do it best on the training part.

Axes: K classes (2: background, cell; 3: background, cell, border between touching cells), H rows, W columns. Instances
are H x W int32, 0 = background.
"""

from unet.prediction.instances.make import to_instances
from unet.prediction.instances.search import DEFAULTS, Choice, choose_settings, searched_frames
from unet.prediction.instances.settings import InstanceSettings

__all__ = ["DEFAULTS", "Choice", "InstanceSettings", "choose_settings", "searched_frames", "to_instances"]
