"""bench_train.py: what is compiled is what training compiles, and each rival computes what its name says."""

import csv
import sys
from dataclasses import replace

import pytest
import torch

from tests.loss.test_gpu import script
from unet.device import allow_tf32
from unet.loss.dispatch import choose_loss

bench = script("bench_train")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The script over these cases, with a tiny network; returns its rows."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # is put back
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(*cases):
        path = tmp_path / "train.csv"
        words = ["--cases", *cases, "--base-channels", "1", "--rounds", "1", "--seconds", "0", "--csv", str(path)]
        monkeypatch.setattr(sys, "argv", ["bench_train.py", *words])
        bench.main()
        with path.open() as file:
            return list(csv.DictReader(file))

    return run


def test_every_tile_size_is_compiled_for_itself_and_the_loss_is_named(run, monkeypatch, capsys):
    compiled = []

    def backend(graph, inputs):
        compiled.append(inputs)
        return graph

    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode: compile_it(model, backend=backend))  # noqa: ARG005
    monkeypatch.setattr(bench, "choose_loss", lambda *a: choose_loss(*a)._replace(message="loss: why it is this one"))
    rows = run("188x1", "204x1")
    assert len(compiled) == 2
    assert not any(isinstance(value, torch.SymInt) for inputs in compiled for value in inputs)
    assert len(rows) == 2 * 4
    gflop = bench.flops_of_a_step(188, 1, 1) / 1e9
    assert rows[0]["case"] == f"188x1, 1 channels, reference loss, {gflop:.4g} GFLOP a step"
    assert capsys.readouterr().out.count("loss: why it is this one") == 1


def test_only_the_rival_named_so_computes_in_tf32(run, monkeypatch):
    found = {}
    ways = {name: replace(way, gpu_only=False) for name, way in bench.WAYS.items() if way.mode is None}
    monkeypatch.setattr(bench, "WAYS", ways)

    def in_turns(rivals, *_):
        for name, step in rivals.items():
            step(0)
            found[name] = torch.backends.cudnn.allow_tf32
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "in_turns", in_turns)
    allow_tf32(True)
    with pytest.raises(KeyboardInterrupt):
        run("188x1")
    assert [name for name, allowed in found.items() if allowed] == ["TF32, channels_last"]
