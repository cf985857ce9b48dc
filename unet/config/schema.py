"""The configuration of a run: frozen dataclasses, checked when they are made.

Every field is a key of the YAML file and a flag of the command line (`optim.lr` is `--optim.lr`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from unet.datasets import DATA_SETS, STAND_INS
from unet.errors import ConfigError, is_unicode
from unet.geometry import layer_sizes

if TYPE_CHECKING:
    DataName = str
else:
    DataName = Literal[(*DATA_SETS, "folder", *STAND_INS)]


def _check(condition: bool, key: str, value: object, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{key}: {value!r} is not allowed; {rule}")


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are normalised, and which of them are held out."""

    name: DataName = "em"
    root: str = ""  # folder that holds the data sets; empty: $UNET_DATA, else data/
    folder: str = ""  # a folder of one's own with images/ and labels/; sets name to "folder"
    labels: Literal["gold", "silver"] = "gold"  # Cell Tracking Challenge truth to train on
    foi_px: int = 0
    """Cell tracking sets: width of the border outside the field of interest (50 in the challenge), where background is
    unknown, because cells that lie wholly in it were not annotated."""
    label_kind: Literal["auto", "binary", "classes", "instances"] = "auto"  # what the labels of data.folder mean
    label_map: tuple[str, ...] = ()
    """Table of label values, each VALUES=CLASS with VALUES a number, FIRST-LAST or a colour #RRGGBB, background first;
    the class `ignore` carries no loss and no score. classes.txt may hold the same, one per line."""
    foreground: Literal["high", "low"] = "high"  # which of the two values of binary labels is the foreground
    scores: Literal["auto", "classes", "membranes", "objects"] = "auto"
    """Which scores beside those of pixels. membranes: of the EM challenge (class 1 = cells), objects: SEG and others.
    auto: objects where every object has its number, membranes for EM and where class 0 is named membrane."""
    target: Literal["cell", "cell-border"] = "cell"
    """Training target of instance labels. cell: background and cell, touching cells parted by a ridge of background.
    cell-border: background, cell and the border between touching cells."""
    ridge_px: int = 2  # target cell: width of the background ridge drawn between touching instances, 0: none
    border_px: int = 4  # target cell-border: pixels within border_px of two cells are border
    normalise: Literal["auto", "percentile", "minmax", "zscore", "fixed"] = "auto"  # auto: EM / 255, else percentile
    percentiles: tuple[float, float] = (0.1, 99.9)
    split: Literal["auto", "blocks", "sequences", "random", "isolated", "leaking", "list", "all"] = "auto"
    folds: int = 5  # blocks of consecutive slices, or random folds
    fold: int = 0  # the fold (or sequence) that is held out
    held_out: tuple[str, ...] = ()  # frame names for split=list
    limit: int = 0  # training frames that are kept, drawn by seed and fold; 0: all
    seed: int = 0  # of the random split, of the frames kept, and of the synthetic images

    def __post_init__(self) -> None:
        _check(self.ridge_px >= 0, "data.ridge_px", self.ridge_px, "use 0 or more pixels")
        _check(self.foi_px >= 0, "data.foi_px", self.foi_px, "use 0 (everything is annotated) or more pixels")
        _check(1 <= self.border_px <= 100, "data.border_px", self.border_px, "use 1..100 pixels")
        low, high = self.percentiles
        _check(0 <= low < high <= 100, "data.percentiles", self.percentiles, "use 0 <= low < high <= 100")
        _check(self.folds >= 2, "data.folds", self.folds, "use at least 2 folds")
        _check(self.fold >= 0, "data.fold", self.fold, "folds count from 0")
        _check(self.limit >= 0, "data.limit", self.limit, "use 0 (all) or a number of frames")
        _check((self.split == "list") == bool(self.held_out), "data.held_out", list(self.held_out),
               "name frames exactly when data.split is list")  # fmt: skip
        if self.folder:
            _check(is_unicode(self.folder), "data.folder", self.folder, "the name is not UTF-8; rename the folder")
            _check(self.name in ("em", "folder"), "data.name", self.name, "a data.folder goes with name folder only")
            object.__setattr__(self, "name", "folder")
        for key, usual in (("foreground", "high"), ("scores", "auto")):
            _check(self.name == "folder" or getattr(self, key) == usual, f"data.{key}", getattr(self, key),
                   "it is for data.folder; published sets have their own")  # fmt: skip
        _check(self.name != "folder" or bool(self.folder), "data.folder", self.folder, "name the folder of your data")


@dataclass(frozen=True)
class TileConfig:
    """Training tiles: the input side in pixels; the output side follows from the network."""

    input_px: int = 508
    loss_windows: int = 0  # squares of the output, drawn anew for every tile, that alone carry loss; 0: all of it does
    loss_window_px: int = 68

    def __post_init__(self) -> None:
        _check(0 < self.input_px <= 16384, "tile.input_px", self.input_px, "use 1..16384 pixels")
        _check(0 <= self.loss_windows <= 1000, "tile.loss_windows", self.loss_windows, "use 0 (all) to 1000 windows")
        _check(self.loss_window_px >= 1, "tile.loss_window_px", self.loss_window_px, "use 1 pixel or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random deformation of a tile (one coordinate map) and variation of its gray values."""

    rotation_deg: float = 180.0  # angle uniform in +-rotation_deg
    flips: bool = True
    elastic_std_px: float = 10.0  # standard deviation of the displacements on the coarse grid, 0: none
    elastic_grid: int = 3
    zoom: float = 1.0  # content is magnified by a factor between 1 / zoom and zoom, log-uniform; 1: none
    interpolation: Literal["cubic", "linear"] = "cubic"  # of the image; labels are nearest, weights linear
    gray: tuple[str, ...] = ("RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.5)",)
    """albumentations transforms, applied in order, each written as a call with keyword arguments, or the preset
    `strong` (brightness 0.2, contrast 0.3, gamma 0.7..1.4)."""

    def __post_init__(self) -> None:
        _check(0 <= self.rotation_deg <= 180, "augment.rotation_deg", self.rotation_deg, "use 0..180 degrees")
        _check(0 <= self.elastic_std_px < 1000, "augment.elastic_std_px", self.elastic_std_px, "use 0 px or more")
        _check(2 <= self.elastic_grid <= 16, "augment.elastic_grid", self.elastic_grid, "use a grid of 2..16 points")
        _check(1 <= self.zoom <= 4, "augment.zoom", self.zoom, "use a largest factor of 1 (no zoom) to 4")


@dataclass(frozen=True)
class WeightConfig:
    """The weight map w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))."""

    balance: Literal["none", "inverse_frequency", "blog"] = "inverse_frequency"  # w_c: 1, N / (K n_c), or 1 / n_c
    classes: tuple[float, ...] = ()  # w_c as a number per class, in place of balance
    w0: float = 10.0  # 0: no border term
    sigma_px: float = 5.0

    def __post_init__(self) -> None:
        _check(not self.classes or (all(0 <= w < math.inf for w in self.classes) and any(self.classes)),
               "weight.classes", list(self.classes), "use a number of 0 or more per class, not all 0")  # fmt: skip
        _check(0 <= self.w0 < math.inf, "weight.w0", self.w0, "use 0 (no border term) or more")
        _check(0 < self.sigma_px < math.inf, "weight.sigma_px", self.sigma_px, "use more than 0 pixels")


@dataclass(frozen=True)
class ModelConfig:
    """The network: variant, width, depth, dropout."""

    variant: Literal["figure1", "released"] = "figure1"
    base_channels: int = 64
    depth: int = 5  # resolution levels
    dropout: float = 0.5
    dropout_at: Literal["variant", "bottleneck", "last-two", "none"] = "variant"
    allow_odd_pooling: bool = False  # let a pooling drop the last row and column, as tiles of 512 and 256 px need

    def __post_init__(self) -> None:
        _check(1 <= self.base_channels <= 1024, "model.base_channels", self.base_channels, "use 1..1024 channels")
        _check(2 <= self.depth <= 8, "model.depth", self.depth, "use 2..8 levels")
        _check(0 <= self.dropout < 1, "model.dropout", self.dropout, "use a rate in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """The loss: a file of unet.loss by its name; cross_entropy is the paper's weighted softmax cross-entropy."""

    name: Literal["cross_entropy"] = "cross_entropy"
    implementation: Literal["auto", "reference", "fused"] = "auto"
    reduction: Literal["mean", "weighted_mean", "sum"] = "mean"


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule; the schedule counts updates."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.99
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_updates: int = 0  # linear from 0
    warmup_from: float = 0.0  # share of lr that the warm-up begins at
    warmup_shape: Literal["gradual", "constant"] = "gradual"  # constant: warmup_from x lr throughout, then lr
    step_updates: int = 1000
    step_factor: float = 0.1
    final_factor: float = 0.0  # of the cosine schedule
    clip_norm: float = 0.0  # largest gradient norm, 0: no clipping
    average: float = 0.0  # decay of the exponential average of the weights, which is then what is scored; 0: none

    def __post_init__(self) -> None:
        _check(0 < self.lr < 1e3, "optim.lr", self.lr, "use a learning rate above 0")
        _check(0 <= self.momentum < 1, "optim.momentum", self.momentum, "use 0 <= momentum < 1")
        _check(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "use 0 <= beta < 1")
        _check(0 <= self.weight_decay < math.inf, "optim.weight_decay", self.weight_decay, "use 0 or more")
        _check(self.warmup_updates >= 0, "optim.warmup_updates", self.warmup_updates, "use 0 or more updates")
        _check(0 <= self.warmup_from <= 1, "optim.warmup_from", self.warmup_from, "use 0..1")
        constant = self.warmup_shape == "constant" and self.warmup_updates > 0
        _check(
            not constant or self.warmup_from > 0, "optim.warmup_from", self.warmup_from, "use more than 0 (constant)"
        )
        _check(self.step_updates >= 1, "optim.step_updates", self.step_updates, "use at least 1 update")
        _check(0 < self.step_factor <= 1, "optim.step_factor", self.step_factor, "use 0 < factor <= 1")
        _check(0 <= self.final_factor <= 1, "optim.final_factor", self.final_factor, "use 0..1")
        _check(0 <= self.clip_norm < math.inf, "optim.clip_norm", self.clip_norm, "use 0 (off) or more")
        _check(0 <= self.average < 1, "optim.average", self.average, "use 0 (off) or a decay below 1, such as 0.999")


@dataclass(frozen=True)
class TrainConfig:
    """Length, batch, precision and rhythm of training."""

    updates: int = 4000
    parent: str = ""  # run folder or weights file whose weights are the initial ones; empty: random ones
    batch: int = 4
    accumulate: int = 1  # batches per update
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: Literal["auto", "on", "off"] = "auto"
    cuda_graphs: Literal["auto", "on", "off"] = "auto"  # the step as one CUDA graph; auto: on an NVIDIA GPU
    deterministic: bool = False
    workers: int = -1  # processes that cut tiles; -1: none on a CPU, up to 4 beside a GPU
    threads: int = 0  # of the CPU arithmetic, 0: as torch chooses, said when training begins
    eval_every: int = 200
    checkpoint_every: int = 200
    explode_factor: float = 1e4  # stop when the loss exceeds this multiple of the first one, 0: never

    def __post_init__(self) -> None:
        _check(is_unicode(self.parent), "train.parent", self.parent, "the name is not UTF-8; rename the folder")
        for key in ("updates", "batch", "accumulate", "eval_every", "checkpoint_every"):
            _check(getattr(self, key) >= 1, f"train.{key}", getattr(self, key), "use 1 or more")
        _check(self.workers >= -1, "train.workers", self.workers, "use -1 (automatic), 0 or more")
        _check(self.threads >= 0, "train.threads", self.threads, "use 0 (automatic) or more")
        _check(0 <= self.seed < 2**63, "train.seed", self.seed, "use 0..2^63-1")
        _check(self.explode_factor >= 0, "train.explode_factor", self.explode_factor, "use 0 (never) or more")


@dataclass(frozen=True)
class PredictConfig:
    """Overlap-tile prediction."""

    tile_px: int = 0  # input side of the tiles, 0: as in training
    symmetries: Literal[1, 4, 8] = 1  # average over the 4 flips or the 8 symmetries of the square
    average: Literal["probabilities", "logits"] = "probabilities"  # what is averaged, over symmetries and networks
    batch: int = 1

    def __post_init__(self) -> None:
        _check(self.tile_px >= 0, "predict.tile_px", self.tile_px, "use 0 (as in training) or a valid size")
        _check(self.batch >= 1, "predict.batch", self.batch, "use 1 or more")


@dataclass(frozen=True)
class WandbConfig:
    """The mirror of the run on a W&B dashboard; the run folder is the truth."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"  # auto: online with a key, else offline
    project: str = "unet-2015"
    entity: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    weights: bool = False  # send the final weights as an artifact
    timeout_s: float = 15.0

    def __post_init__(self) -> None:
        _check(self.timeout_s > 0, "wandb.timeout_s", self.timeout_s, "use more than 0 seconds")


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    data: DataConfig = field(default_factory=DataConfig)
    tile: TileConfig = field(default_factory=TileConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    weight: WeightConfig = field(default_factory=WeightConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        for px in (self.tile.input_px, self.predict.tile_px):
            if px:
                layer_sizes(px, self.model.depth, self.model.allow_odd_pooling)
