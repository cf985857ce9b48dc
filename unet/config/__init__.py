"""The configuration of a run: schema.py says what there is, convert.py reads and writes it, profiles.py names sizes.

Nothing here imports torch, so that the command line starts quickly.
"""

from unet.config.convert import MAX_YAML_BYTES as MAX_YAML_BYTES
from unet.config.convert import differences as differences
from unet.config.convert import from_dict as from_dict
from unet.config.convert import keys as keys
from unet.config.convert import load_yaml as load_yaml
from unet.config.convert import to_dict as to_dict
from unet.config.convert import to_yaml as to_yaml
from unet.config.plain_yaml import parse_yaml as parse_yaml
from unet.config.profiles import PROFILES as PROFILES
from unet.config.profiles import profile as profile
from unet.config.renamed import note_renamed as note_renamed
from unet.config.renamed import with_new_names as with_new_names
from unet.config.schema import AugmentConfig as AugmentConfig
from unet.config.schema import Config as Config
from unet.config.schema import DataConfig as DataConfig
from unet.config.schema import DataName as DataName
from unet.config.schema import LossConfig as LossConfig
from unet.config.schema import ModelConfig as ModelConfig
from unet.config.schema import OptimConfig as OptimConfig
from unet.config.schema import PredictConfig as PredictConfig
from unet.config.schema import TileConfig as TileConfig
from unet.config.schema import TrainConfig as TrainConfig
from unet.config.schema import WandbConfig as WandbConfig
from unet.config.schema import WeightConfig as WeightConfig
