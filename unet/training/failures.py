"""What goes wrong beneath the training loop (memory, processes that cut tiles), as one line that says what to do."""

from __future__ import annotations

import multiprocessing
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from unet.config import Config
from unet.errors import Diverged, TrainingError, one_line
from unet.loss.compile import KernelError
from unet.runs.checkpoint import newest_first
from unet.training.processes import ProcessLost

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "OUT_OF_MEMORY")
_WORKER = "DataLoader worker"


@contextmanager
def explained(config: Config, run: Path, kept: Path) -> Iterator[None]:
    """Turn exhausted memory and a process that cuts tiles and died into a TrainingError; others pass as they are.

    What is safe is said with these, and where training diverged.

    run: the run's folder; kept: the folder of its checkpoints, of which the last one is named.
    """
    try:
        yield
    except ProcessLost as error:
        raise ProcessLost(
            f"{error}; {last_checkpoint(kept)}; go on with the same torchrun command and --resume"
        ) from None
    except Diverged as error:
        raise Diverged(f"{error}; {last_checkpoint(kept)}") from None
    except (RuntimeError, MemoryError, KernelError) as error:
        line = _explain(error, config)
        if line is None:
            raise
        raise TrainingError(
            f"{line}; {last_checkpoint(kept)}; go on with `unet train --resume --run {shlex.quote(str(run))}`"
        ) from None


def last_checkpoint(kept: Path) -> str:
    """The part of a message that says what is safe."""
    found = newest_first(kept)
    return f"last good checkpoint: {found[0].name if found else 'none yet'}"


def _explain(error: BaseException, config: Config) -> str | None:
    text = one_line(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in text for words in _NO_MEMORY):
        whole = config.train.batch * config.train.accumulate
        smaller = f"train.batch 1 with train.accumulate {whole}, " if config.train.batch > 1 else ""
        return (
            f"out of memory: free some and resume, or start a new run with {smaller}a tile.input-px below "
            f"{config.tile.input_px} or a model.base-channels below {config.model.base_channels}"
        )
    if _WORKER in text:
        for other in multiprocessing.active_children():  # may wait for ever on what the dead one held
            other.kill()
        return f"a process that cuts tiles failed ({text.split('Original Traceback')[0].strip()[:200]})"
    return None
