"""The reduction ladder: its kernels on the CPU, for every architecture, and the script that checks, times and draws."""

import csv
import re

import pytest
import torch

from tests.loss.shim import ladder
from tests.loss.shim.host import BACKWARD, FORWARD, RANDOM, compiler
from tests.loss.shim.launcher import Kernels
from tests.loss.test_compile import ARCHITECTURES
from unet.loss.compile import compile_source, missing, resources

steps, report, script = (ladder.script(name) for name in ("ladder_steps", "ladder_report", "ladder"))
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
needs_nvrtc = pytest.mark.skipif(missing() != "", reason=missing())


@needs_compiler
def test_the_first_steps_order_is_left_to_chance():
    """What the product must not do: other schedules give other bits."""
    values = torch.randn(4, 2048, generator=torch.Generator().manual_seed(0))
    results = [
        ladder.sums_of(Kernels(), steps.STEPS[0], values, schedule=schedule, seed=1)
        for schedule in (FORWARD, BACKWARD, RANDOM)
    ]
    assert any((result != results[0]).any() for result in results)


@needs_compiler
def test_the_script_measures_what_it_has_checked(tmp_path):
    device = ladder.ShimDevice(Kernels())
    sums = script.measure_sums(device, vectors=5, length=2052)
    additions = script.measure_additions(device, count=2064)
    text = report.write(tmp_path, sums, additions, (5, 2052, 2064))
    names = [step.title for step in steps.STEPS] + ["read only", "torch.sum", "copy"]
    assert [row.title for row in sums] == names
    for step in (*steps.STEPS, *steps.ADDITIONS):
        assert f"| {step.title} | {step.expected_us:.0f} | 2000.0 | 1400.0 - 3200.0 |" in text
    with (tmp_path / "reduction_ladder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [*names, *(step.title for step in steps.ADDITIONS), "torch.add"]
    assert {row["p50_us"] for row in rows} == {"2000.00"}
    assert float(rows[1]["expected_gain"]) == pytest.approx(
        steps.STEPS[0].expected_us / steps.STEPS[1].expected_us, abs=1e-3
    )
    assert float(rows[0]["gb_per_s"]) == pytest.approx((5 * 2052 * 4 + 20) / 2e-3 / 1e9, abs=0.1)
    assert (tmp_path / "reduction_ladder.svg").read_text().count("read only")
    report.write(tmp_path, sums, additions, (5, 2052, 2064))
    assert len((tmp_path / "reduction_ladder.csv").read_text().splitlines()) == 2 * len(rows) + 1


@needs_compiler
@pytest.mark.parametrize("which", [0, 2, 5])
def test_wrong_sums_are_not_timed(which, monkeypatch):
    device = ladder.ShimDevice(Kernels())
    honest = device.start

    def start(step, params, count):
        if step is not steps.STEPS[which]:
            honest(step, params, count)  # the other leaves what was there

    monkeypatch.setattr(device, "start", start)
    with pytest.raises(SystemExit, match=re.escape(steps.STEPS[which].title)):
        script.measure_sums(device, vectors=3, length=64)


@needs_compiler
def test_wrong_additions_are_not_timed(monkeypatch):
    device = ladder.ShimDevice(Kernels())
    monkeypatch.setattr(device, "start", lambda *_: None)
    with pytest.raises(SystemExit, match="scalar"):
        script.measure_additions(device, count=64)


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(script, "unusable", lambda _: "there is none")
    assert script.main([]) == 2
    assert capsys.readouterr().err == "the ladder needs an NVIDIA GPU: there is none\n"
    with pytest.raises(SystemExit):
        script.main(["--length", "2049"])


def test_expectations_get_better_from_step_to_step():
    times = [step.expected_us for step in steps.STEPS]
    assert times == sorted(times, reverse=True)
    assert all(step.why and step.expected_us > 0 for step in (*steps.STEPS, steps.READ, *steps.ADDITIONS))


def test_the_readme_holds_the_expectations():
    text = (ladder.FOLDER / "README.md").read_text()
    for step in (*steps.STEPS, *steps.ADDITIONS):
        assert f"| {step.title} | {step.expected_us:.0f} |" in text


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_step_compiles(architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path))
    binary = compile_source(steps.SOURCE, steps.KERNELS, architecture)
    found = resources(binary)
    assert {r.symbol for r in found} == set(binary.symbols.values())
    assert all(r.spilled_bytes == 0 and r.registers <= 64 for r in found)
