"""The reduction ladder: its kernels on the CPU, for every architecture, and the script that checks, times and draws."""

import csv
import re
from types import SimpleNamespace

import pytest
import torch

from tests.loss.shim import ladder
from tests.loss.shim.host import BACKWARD, FORWARD, RANDOM, compiler
from tests.loss.shim.launcher import Kernels
from tests.loss.test_compile import ARCHITECTURES
from tests.loss.test_gpu import script as of_scripts
from unet.loss.compile import compile_source, missing, resources

steps, report, script, readme = (
    ladder.script(name) for name in ("ladder_steps", "ladder_report", "ladder", "ladder_readme")
)
sass = of_scripts("sass")
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
@pytest.mark.parametrize("which", [0, 2, 8])
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


@needs_compiler
def test_rows_know_what_they_move():
    """A copy reads and writes."""
    device = ladder.ShimDevice(Kernels())
    moved = {row.title: row.bytes for row in script.measure_sums(device, vectors=3, length=64)}
    assert moved.pop("copy") == 2 * 3 * 64 * 4
    assert moved.pop("read only") == 3 * 64 * 4
    assert set(moved.values()) == {3 * 64 * 4 + 3 * 4}
    assert {row.bytes for row in script.measure_additions(device, count=64)} == {3 * 64 * 2}


def test_the_ladder_is_compiled_for_the_whole_capability(monkeypatch):
    """8.6 is not 8.0."""
    asked = []

    def capture(source, kernels, capability):
        asked.append(capability)
        raise KeyboardInterrupt

    properties = SimpleNamespace(major=8, minor=6, multi_processor_count=1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(script, "compile_source", capture)
    with pytest.raises(KeyboardInterrupt):
        script.Gpu(1)
    assert asked == [86]


def test_expectations_get_better_from_step_to_step():
    times = [step.expected_us for step in steps.STEPS]
    assert times == sorted(times, reverse=True)
    assert all(step.why and step.expected_us > 0 for step in (*steps.STEPS, steps.READ, *steps.ADDITIONS))


def test_the_readme_holds_the_expectations():
    text = (ladder.FOLDER / "README.md").read_text()
    for step in (*steps.STEPS, *steps.ADDITIONS):
        f = step.figures
        loads = f"{f.loads} x {f.bytes_of_load} B"
        row = f"| {step.title} | {step.expected_us:.0f} | {loads} | {f.barriers} | {f.shuffles} | {f.registers} |"
        assert f"{row} {step.removes} |" in text
    assert text == readme.page()


@needs_nvrtc
def test_registers_are_the_compilers(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path))
    binary = compile_source(steps.SOURCE, steps.KERNELS, 90)
    taken = {r.symbol: r.registers for r in resources(binary)}
    for step in (*steps.STEPS, steps.READ, *steps.ADDITIONS):
        assert taken[binary.symbols[step.kernel]] == step.figures.registers, step.title


@needs_nvrtc
@pytest.mark.skipif(sass.disassembler() is None, reason="nvdisasm is not installed")
def test_loads_under_way_are_those_of_the_machine_code(tmp_path, monkeypatch):
    """No more than what a step is meant to have, whatever the compiler makes of its loops."""
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path))
    for architecture in (80, 90, 120):
        binary = compile_source(steps.SOURCE, steps.KERNELS, architecture)
        functions = sass.functions(sass.disassemble(binary.image))
        width = {2: "LDG.E.U16", 4: "LDG.E", 16: "LDG.E.128"}
        for step in (*steps.STEPS, steps.READ, *steps.ADDITIONS):
            blocks = functions[binary.symbols[step.kernel]]
            loads = [[i.name for i in block.instructions if i.opcode == "LDG"] for block in blocks]
            most = max(loads, key=len)
            assert len(most) == step.figures.loads, (architecture, step.title)
            assert {n.replace(".CONSTANT", "") for n in most} == {width[step.figures.bytes_of_load]}


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_step_compiles(architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_KERNEL_CACHE", str(tmp_path))
    binary = compile_source(steps.SOURCE, steps.KERNELS, architecture)
    found = resources(binary)
    assert {r.symbol for r in found} == set(binary.symbols.values())
    assert all(r.spilled_bytes == 0 and r.registers <= 64 for r in found)
