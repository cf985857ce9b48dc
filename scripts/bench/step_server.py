"""Training steps of the code in any checkout, one at a time on demand: what bench_before_after.py talks to.

    python scripts/bench/step_server.py CHECKOUT TILE_PX BATCH BASE_CHANNELS

Makes an update for every line of standard input and answers with the seconds of processor time it took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main(checkout: Path, tile_px: int, batch: int, base_channels: int) -> None:
    """Serve until standard input ends."""
    folders = [
        checkout,
        checkout / "scripts" / "bench",
        checkout / "scripts",
    ]  # the last is where earlier states have it
    sys.path[:0] = map(str, folders)  # before anything of this checkout is imported
    import torch
    from bench_train import BF16, WAYS, step_function

    import unet.device
    from unet.config import LossConfig
    from unet.loss.dispatch import choose_loss

    torch.set_num_threads(1)
    keep = getattr(unet.device, "keep_freed_memory", None)  # earlier states have none
    if keep is not None:
        keep()
    device = torch.device("cpu")
    loss = choose_loss(LossConfig(), device).function
    step = step_function(WAYS[BF16], tile_px, batch, base_channels, loss, device)
    for _ in sys.stdin:
        before = time.process_time()
        step(0)
        print(time.process_time() - before, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
