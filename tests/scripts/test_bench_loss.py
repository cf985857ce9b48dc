"""scripts/bench/bench_loss.py: what it compares, what it refuses to time, what it writes."""

import csv
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tests.loss.test_gpu import script

bench = script("bench_loss")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(bench, "CASES", {"tiny": (2, 12)})
    monkeypatch.setattr(bench, "CPU_CASES", ("tiny",))
    monkeypatch.setattr(bench, "unusable", lambda _: "there is no GPU")


@pytest.fixture
def gpu(monkeypatch):
    """A stand-in for every call that needs a GPU."""

    class Event:
        def __init__(self, **_):
            pass

        def record(self):
            pass

        synchronize = record

        def elapsed_time(self, _):
            return 0.5

    class Stream:
        def wait_stream(self, _):
            pass

    class Graph:
        def replay(self):
            pass

    profile = SimpleNamespace(
        events=lambda: [SimpleNamespace(device_type=d) for d in ("DeviceType.CUDA", "DeviceType.CPU")]
    )
    for name, value in (
        ("Event", Event),
        ("Stream", Stream),
        ("CUDAGraph", Graph),
        ("current_stream", Stream),
        ("stream", lambda _: nullcontext()),
        ("graph", lambda _: nullcontext()),
        ("synchronize", lambda: None),
        ("reset_peak_memory_stats", lambda: None),
        ("memory_allocated", lambda: 1 << 20),
        ("max_memory_allocated", lambda: 3 << 20),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: nullcontext(profile))


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("tiny")
def test_on_the_cpu_it_says_so_and_compares_its_paths(tmp_path, capsys):
    path = tmp_path / "loss.csv"
    for _ in range(2):
        assert bench.main(["--seconds", "0", "--no-compile", "--csv", str(path)]) == 0
    out = capsys.readouterr().out
    assert "no fused kernels here" in out
    assert "comparing the paths of the CPU" in out
    rows = rows_of(path)
    assert len(rows) == 2 * 4 * 3
    assert {(r["classes"], r["dtype"]) for r in rows} == {(c, d) for c in "28" for d in ("float32", "bfloat16")}
    assert all(float(r["p50_us"]) > 0 and int(r["calls"]) >= 3 and not r["share_of_copy"] for r in rows)
    assert int(rows[0]["least_bytes"]) == 2 * 144 * (2 * 2 * 4 + 1 + 4)


@pytest.mark.usefixtures("tiny")
def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch, capsys):
    """On this device and of this commit: an interrupted run goes on where it stopped."""
    path = tmp_path / "loss.csv"
    here = bench.here(torch.device("cpu")) | {"commit": "1"}
    monkeypatch.setattr(bench, "here", lambda _: here)
    asked = ["--seconds", "0", "--no-compile", "--csv", str(path), "--resume"]
    bench.main(asked)
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 4 * 3
    path.write_text("\n".join(lines[:-3]) + "\n")  # the last case is lost
    capsys.readouterr()
    bench.main(asked)
    assert capsys.readouterr().out.count("measured before") == 3
    assert len(path.read_text().splitlines()) == len(lines)
    monkeypatch.setattr(bench, "here", lambda _: here | {"commit": "2"})
    bench.main(asked)
    assert len(path.read_text().splitlines()) == 2 * len(lines) - 1


@pytest.mark.usefixtures("tiny")
def test_a_rival_that_computes_something_else_is_not_timed(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "torchs_own", lambda x, *_: x.float().square().mean())
    with pytest.raises(AssertionError, match="eager"):
        bench.main(["--seconds", "0", "--no-compile", "--csv", str(tmp_path / "loss.csv")])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 8])
@pytest.mark.parametrize("case", bench.CASES)
def test_no_cache_holds_what_is_read(case, classes, dtype):
    images, side = bench.CASES[case]
    shape = (images, side, side)
    with torch.device("meta"):
        logits = torch.empty(images, classes, side, side, dtype=dtype)
        inputs = bench.Inputs(logits, torch.empty(shape, dtype=torch.uint8), torch.empty(shape))
    count = bench.number_of_sets(inputs.read_bytes)
    assert count * inputs.read_bytes >= bench.CACHES_BYTES
    assert (count - 1) * inputs.read_bytes < bench.CACHES_BYTES


@pytest.mark.usefixtures("gpu")
def test_no_gradient_is_written_where_the_last_one_was(monkeypatch):
    """There it would stay in a cache: as many results are alive as there are sets."""

    class Result:
        pass

    alive, most = weakref.WeakSet(), []

    def step(_):
        alive.add(result := Result())
        most.append(len(alive))
        return result

    bench.captured(step, range(3))
    assert max(most) == 3
    most.clear()
    monkeypatch.setattr(bench, "captured", lambda *_: torch.cuda.CUDAGraph())
    bench.measure_on_gpu({"one": step}, range(3), 0)
    assert max(most) >= 3


@pytest.mark.usefixtures("gpu")
def test_the_way_of_a_gpu(tmp_path, capsys):
    cpu = torch.device("cpu")
    inputs = [bench.make_inputs(cpu, (2, 12), 2, torch.float32, layout) for layout in ("contiguous", "channels_last")]
    steps = bench.rivals(False, True)
    assert list(steps)[-2:] == ["fused, recompute (with counts)", "fused, one_pass (with counts)"]
    for name, step in steps.items():
        bench.check(step, inputs[1], name)
    rows = bench.measure_on_gpu(steps, inputs, 0)
    assert [(r.rival, r.way) for r in rows] == [(name, way) for name in steps for way in ("calls", "graph")]
    assert all(r.launches == 1 and r.peak_mib == 2 for r in rows)
    assert rows[0].seconds[0] == 0.5e-3
    assert rows[1].seconds[0] == 0.25e-3  # two sets in a graph
    path = tmp_path / "loss.csv"
    bench.append(path, bench.here(cpu), rows, 1000, 1e9)
    assert rows_of(path)[0]["share_of_copy"] == "0.0020"
    print(bench.table("title", rows, 1000, 1e9))
    assert "0.2%" in capsys.readouterr().out
