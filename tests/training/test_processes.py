"""Several processes that train one run: the same weights as by accumulation, one that writes, ends in good order."""

import json
import multiprocessing
import os
import random
import signal
import socket
import time

import pytest
import torch

from tests.runs.new import new_run
from tests.training.test_loop import configured, discs, end_state, start
from unet.errors import ConfigError, RunError
from unet.runs.checkpoint import load_weights
from unet.runs.folder import METRICS, TIMING, ReadOnly, RunFolder
from unet.signals import Interrupted
from unet.training.processes import Processes, ProcessLost, joined

CONTEXT = multiprocessing.get_context("fork")
SGD = {"optim": {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "clip_norm": 0.5}}
FOUR = {"updates": 20, "batch": 1, "accumulate": 4, "eval_every": 10, "checkpoint_every": 5}


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setattr("unet.training.loop.load", lambda *_: discs())


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _work(path, config, rank, count, port, resume, answers):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    answer = "ended"
    try:
        with joined() as processes:
            start(path, config, resume=resume, processes=processes)
    except (ProcessLost, RunError, ConfigError) as error:
        answer = str(error)
    except Interrupted as error:
        answer = error.exit_code
    answers.put((rank, answer))
    answers.close()
    answers.join_thread()
    os._exit(0)


def begin(path, config, count, resume=False):
    """Processes as torchrun starts them, and where their answers come."""
    answers, port = CONTEXT.Queue(), free_port()
    workers = [
        CONTEXT.Process(target=_work, args=(path, config, rank, count, port, resume, answers)) for rank in range(count)
    ]
    for worker in workers:
        worker.start()
    return workers, answers


def together(path, config, count, resume=False):
    """Train to the end; what each process answers, by rank."""
    workers, answers = begin(path, config, count, resume)
    found = dict(answers.get(timeout=200) for _ in workers)
    for worker in workers:
        worker.join()
    return [found[rank] for rank in range(count)]


def weights_and_losses(path):
    rows = RunFolder(path).rows(METRICS)
    return load_weights(path / "weights.safetensors")[0], [row["loss"] for row in rows if row["part"] == "train"], rows


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_processes_do_what_accumulation_does(tmp_path, reduction):
    """1, 2 and 4 of them, with dropout; without dropout also as the run that torchrun has not started."""
    sgd = SGD if reduction != "sum" else {"optim": {"name": "sgd", "lr": 1e-5}}
    for dropout in (0.3, 0.0):
        config = configured(model={"dropout": dropout}, loss={"reduction": reduction}, train=FOUR, **sgd)
        counts = (1, 2, 4) if reduction == "mean" else (1, 4)
        ends = []
        for count in counts if dropout else (2,):
            place = tmp_path / f"{dropout}-{count}"
            assert together(place, config, count) == ["ended"] * count
            ends.append(weights_and_losses(place))
        if not dropout:
            start(tmp_path / "alone", config)
            ends.append(weights_and_losses(tmp_path / "alone"))
        for weights, losses, rows in ends[1:]:
            torch.testing.assert_close(weights, ends[0][0], rtol=1e-6, atol=1e-6)
            assert losses == pytest.approx(ends[0][1], rel=1e-6, abs=1e-6)
            for row, wanted in zip(rows, ends[0][2], strict=True):
                assert row.get("mean_iou") == pytest.approx(wanted.get("mean_iou"), abs=2e-3)


def test_what_the_processes_write_and_tell(tmp_path):
    assert together(tmp_path / "run", configured(train=FOUR), 2) == ["ended"] * 2
    folder = RunFolder(tmp_path / "run")
    assert folder.environment["processes"] == 2
    assert len([row for row in folder.rows(METRICS) if row["part"] == "held_out"]) == 2
    for row in folder.rows(TIMING):
        shares = [row[f"{what}_share"] for what in ("data_wait", "process_wait", "communication")]
        assert all(share >= 0 for share in shares)
        assert 0 < sum(shares) < 1


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """To the weights of the run that was never stopped."""
    config = configured(train=FOUR, **SGD)
    together(tmp_path / "whole", config, 1)
    workers, answers = begin(tmp_path / "cut", config, 4)
    while not list((tmp_path / "cut" / "checkpoints").glob("*.pt")):
        time.sleep(0.02)
    os.kill(workers[2].pid, signal.SIGTERM)
    assert {answers.get(timeout=200)[1] for _ in workers} <= {143, "ended"}  # of all, though one was asked to end
    for worker in workers:
        worker.join()
    assert together(tmp_path / "cut", config, 2, resume=True) == ["ended"] * 2
    torch.testing.assert_close(end_state(tmp_path / "cut")[0], end_state(tmp_path / "whole")[0], rtol=1e-6, atol=1e-6)
    made = RunFolder(tmp_path / "cut").environment
    assert made["processes"] == 2
    assert made["resumed"][-1]["before"]["processes"] == 4


def killed_at_random(path, config, count, rng, resume):
    """Kill a process at a random moment of training; seconds until all have ended, and what the others said."""
    workers, answers = begin(path, config, count, resume)
    metrics = path / METRICS
    before = metrics.stat().st_size if metrics.exists() else 0
    while not metrics.exists() or metrics.stat().st_size <= before:
        if not any(worker.is_alive() for worker in workers):
            break
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    victim = rng.randrange(count)
    os.kill(workers[victim].pid, signal.SIGKILL)
    killed = time.monotonic()
    for worker in workers:
        worker.join(60)
    took = time.monotonic() - killed
    said = {}
    while not answers.empty():
        rank, answer = answers.get(timeout=5)
        said[rank] = answer
    return took, {rank: answer for rank, answer in said.items() if rank != victim}


def test_a_killed_process_ends_all_and_the_run_goes_on(tmp_path):
    config = configured(train=FOUR | {"updates": 60, "checkpoint_every": 3}, **SGD)
    rng = random.Random(0)
    together(tmp_path / "whole", config, 2)
    for number in range(3):
        took, said = killed_at_random(tmp_path / "cut", config, 2, rng, resume=number > 0)
        assert took < 30
        for answer in said.values():
            assert answer == "ended" or (
                "a process of this run has ended" in answer and "last good checkpoint" in answer
            )
            assert "\n" not in str(answer)
    assert together(tmp_path / "cut", config, 2, resume=True) == ["ended"] * 2
    torch.testing.assert_close(end_state(tmp_path / "cut")[0], end_state(tmp_path / "whole")[0], rtol=0, atol=0)
    assert (tmp_path / "cut" / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()


def _meet(rank, port, attempt, answers):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": str(attempt)}
    time.sleep(0.5 * rank)  # so that the first looks for the other before that has told its address
    try:
        with joined() as processes:
            answers.put(processes.largest(rank))
            answers.close()
            answers.join_thread()
            os._exit(0)  # as if killed, so that nothing is taken back
    except ProcessLost as error:
        answers.put(str(error))


def test_processes_that_are_started_again_do_not_look_for_the_dead():
    """Torchrun keeps one store over its restarts, in which the addresses of the first processes stand."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for attempt in range(2):
        answers = CONTEXT.Queue()
        workers = [CONTEXT.Process(target=_meet, args=(rank, store.port, attempt, answers)) for rank in range(2)]
        for worker in workers:
            worker.start()
        assert [answers.get(timeout=100) for _ in workers] == [1, 1]
        for worker in workers:
            worker.join()


def test_what_is_refused_to_the_first_is_refused_to_all(tmp_path):
    config = configured(train=FOUR)
    new_run(tmp_path / "run", config)
    first, other = together(tmp_path / "run", config, 2)
    assert first == other
    assert "exists already" in first


def test_more_processes_than_batches(tmp_path):
    answers = together(tmp_path / "run", configured(train={"accumulate": 1}), 2)
    assert all("use --train.accumulate 2 or more" in answer for answer in answers)
    assert not (tmp_path / "run").exists()


def test_one_alone_is_what_it_was():
    alone = Processes()
    tensor = torch.ones(2)
    alone.add([tensor])
    assert tensor.tolist() == [1, 1]
    assert (alone.largest(3), alone.of_first("a"), alone.collected([1, 2])) == (3, "a", [1, 2])
    assert alone.spent == {}
    assert [Processes(1, 3).takes(number) for number in range(6)] == [False, True, False, False, True, False]


def test_a_read_only_folder_writes_nothing(tmp_path):
    folder = ReadOnly(tmp_path)
    folder.append("a.jsonl", {})
    folder.write_json("b.json", {})
    folder.truncate("c.jsonl", 10)
    folder.sync("d")
    folder.set_aside("e")
    folder.data_moved("f")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "environment.json").write_text(json.dumps({"a": 1}))
    assert folder.environment == {"a": 1}
