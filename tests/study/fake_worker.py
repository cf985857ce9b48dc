"""Stands for unet.study.worker: leaves the same files, resumes, obeys SIGTERM, trains nothing.

`python fake_worker.py PLAN RUN_FOLDER PARENT_PID < config.yaml`; PLAN is a JSON file:
    step_s      duration of an update              log          file that gets a line at every start and end
    fail        run names that end with an error   diverge      run names that end with failure.json
    killed      run names whose worker is killed once, after update 12
    busy        run names whose folder is in use at the first try
    gain        score added by run name's arm, else 0
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

UPDATES, CHECKPOINT = 20, 5


def write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text)
    temporary.replace(path)


def append(path: Path, row: dict) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def noise(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


def main() -> int:
    plan, run = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    text = sys.stdin.read()
    if not text:
        return 2  # as the worker does: the engine was killed before it could say what to run
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    append(Path(plan["log"]), {"run": run.name, "event": "start", "time": time.monotonic()})
    if run.name in plan.get("busy", []) and not (mark := run.parent / f"{run.name}.was-busy").exists():
        mark.touch()
        return 75
    if run.name in plan.get("fail", []):
        print("unet: this run cannot be made")
        return 2
    code = train(plan, run, text, stopped)
    append(Path(plan["log"]), {"run": run.name, "event": "end", "time": time.monotonic()})
    return code


def train(plan: dict, run: Path, text: str, stopped: list) -> int:
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "config.yaml").exists():
        write(run / "config.yaml", text)
    config = parse((run / "config.yaml").read_text())
    seed, where = config["train.seed"], (config["data.name"], config["data.fold"])
    write(run / "environment.json", json.dumps({"device": "cpu", "processor": "imagined", "packages": {"torch": "0"},
                                                "precision": "fp32", "commit": "c" * 40,
                                                "data_source": "/home/somebody/data/EM (30 slices)"}))  # fmt: skip
    write(run / "split.json", "{}")
    done = json.loads((run / "checkpoint.json").read_text())["update"] if (run / "checkpoint.json").exists() else 0
    kept = (run / "metrics.jsonl").read_text().splitlines()[:done] if done else []
    write(run / "metrics.jsonl", "".join(line + "\n" for line in kept))
    for update in range(done + 1, UPDATES + 1):
        if os.getppid() != int(sys.argv[3]) or stopped:
            return 143
        time.sleep(plan.get("step_s", 0.0))
        jitter = noise(seed, where, update)
        loss = 1 / update + 0.01 * jitter + float(config["optim.lr"]) * (1 + 0.1 * jitter)
        row = {"update": update, "part": "train", "loss": loss, "loss_max": loss}
        if update % 4 == 0:
            row = {"update": update, "part": "held_out", "loss": loss, "mean_iou": score(plan, run, seed, where)}
        append(run / "metrics.jsonl", row)
        if update % CHECKPOINT == 0:
            write(run / "checkpoint.json", json.dumps({"update": update}))
        if (
            update == 12
            and run.name in plan.get("killed", [])
            and not (mark := run.parent / f"{run.name}.was-killed").exists()
        ):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if update == 10 and run.name in plan.get("diverge", []):
            write(run / "failure.json", json.dumps({"diverged": "update 10: loss nan"}))
            return 0
    write(run / "weights.safetensors", "weights")
    append(run / "attempts.jsonl", {"outcome": "ended", "seconds": 2.0})
    write(run / "scores.json", json.dumps({"scores": {"mean_iou": score(plan, run, seed, where), "seg": 0.5}}))
    return 0


def parse(text: str) -> dict[str, str]:
    """Scalars of a configuration by dotted key (a YAML reader takes longer to start than everything else here)."""
    found, section = {}, ""
    for line in text.splitlines():
        key, _, value = line.strip().partition(":")
        if line and not line.startswith(" "):
            section = key
        else:
            found[f"{section}.{key}"] = value.strip()
    return found


def score(plan: dict, run: Path, seed: str, where: tuple) -> float:
    """Differences between arms are the same at every seed but for a hundredth of them."""
    arm = run.name.rsplit("-", 2)[0]
    return 0.5 + 0.1 * noise(seed, where) + plan.get("gain", {}).get(arm, 0.0) * (1 + 0.01 * noise(arm, seed, where))


if __name__ == "__main__":
    sys.exit(main())
