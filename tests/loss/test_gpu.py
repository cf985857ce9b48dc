"""The checks of scripts/gpu/gpu_check.py: on a GPU all of them; on the CPU those that need nothing but the kernels."""

import importlib
import json
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tests.loss.shim.host import compiler
from tests.loss.shim.launcher import ShimLauncher, product
from unet.loss import fused, launch
from unet.loss.compile import Resources

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name):
    folder = str(next(SCRIPTS.rglob(f"{name}.py")).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


checks, gpu_checks, gpu_check = (script(name) for name in ("loss_checks", "gpu_only_checks", "gpu_check"))
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")


def name_of(check):
    return check.__name__


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("check", [*checks.CHECKS, *gpu_checks.GPU_CHECKS], ids=name_of)
def test_on_a_gpu(check):
    assert check(torch.device("cuda", 0))


class Launcher(ShimLauncher):
    """Also bounds the grid, as the launcher of a GPU can."""

    most_blocks = None

    @property
    def holds(self):
        return self.blocks, self.most_blocks

    def resident_blocks(self, *kernel):
        resident = super().resident_blocks(*kernel)
        return min(resident, self.most_blocks or resident)


@pytest.fixture
def kernels(monkeypatch):
    """The operators call the kernels for tensors on the CPU."""
    launcher = Launcher(product(), 5)
    monkeypatch.setattr(fused, "_has_kernels", launch.supported)
    monkeypatch.setattr(fused, "_launcher", lambda _: launcher)
    return launcher


ARGUMENTS = {
    "errors_against_float64": {"classes": (2, 17)},
    "same_bits_every_time": {"reruns": 2},
    "the_size_that_matters": {"shape": (2, 2, 36, 44)},
}


@needs_compiler
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "check",
    [*checks.CHECKS, gpu_checks.the_size_that_matters, gpu_checks.operators, gpu_checks.small_for_the_sanitizer],
    ids=name_of,
)
def test_the_checks_pass_on_the_cpu(check):
    assert check(torch.device("cpu"), **ARGUMENTS.get(check.__name__, {}))


def spoil(monkeypatch, how):
    """The operators give results that are not right."""
    honest = launch.forward, launch.backward
    if how == "loss":
        monkeypatch.setattr(launch, "forward", lambda *a: (r := honest[0](*a))._replace(loss=r.loss * 1.00001))
    elif how == "gradient":
        monkeypatch.setattr(launch, "backward", lambda *a: honest[1](*a) * 1.00001)
    elif how == "counts":
        monkeypatch.setattr(launch, "forward", lambda *a: (r := honest[0](*a))._replace(confusion=r.confusion + 1))
    else:
        noise = iter(range(1, 10**6))
        monkeypatch.setattr(launch, "backward", lambda *a: honest[1](*a) + next(noise) * 1e-9)


@needs_compiler
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("loss", "errors_against_float64"),
        ("gradient", "errors_against_float64"),
        ("counts", "errors_against_float64"),
        ("gradient", "upstream_gradients"),
        ("chance", "same_bits_every_time"),
        ("chance", "same_bits_on_every_grid"),
        ("counts", "not_finite"),
        ("counts", "pixels_without_loss"),
        ("counts", "the_size_that_matters"),
        ("gradient", "the_size_that_matters"),
    ],
)
def test_the_checks_can_fail(how, name, monkeypatch):
    spoil(monkeypatch, how)
    check = getattr(checks, name, None) or getattr(gpu_checks, name)
    with pytest.raises(AssertionError):
        check(torch.device("cpu"), **ARGUMENTS.get(name, {}))


def test_errors_are_those_over_torchs(monkeypatch):
    """Of what torch's own operations in the same type err by, and half a unit of the result's type."""
    one = torch.ones(())
    results = {
        "ours": checks.Result(one * 1.003, one.long(), one * 1.5),
        torch.float32: checks.Result(one * 1.001, one.long(), one * 1.25),
        torch.float64: checks.Result(one, one.long(), one),
    }
    monkeypatch.setattr(checks, "run", lambda *_: results["ours"])
    monkeypatch.setattr(checks, "plain", lambda _, dtype=torch.float32: results[dtype])
    case = checks.make_case(torch.device("cpu"), (1, 2, 2, 2))
    assert checks.agreement(case, "one_pass") == pytest.approx((3, 2), rel=1e-3)


@pytest.mark.parametrize(("ratios", "passes"), [((2.0, 2.0), True), ((2.01, 0.0), False), ((0.0, 2.01), False)])
@pytest.mark.parametrize("name", ["errors_against_float64", "upstream_gradients", "the_size_that_matters"])
@needs_compiler
@pytest.mark.usefixtures("kernels")
def test_errors_are_held_to_twice_torchs(name, ratios, passes, monkeypatch):
    monkeypatch.setattr(checks, "agreement", lambda *_: ratios)
    monkeypatch.setattr(checks, "all_cases", lambda *_: [checks.make_case(torch.device("cpu"))])
    check = getattr(checks, name, None) or getattr(gpu_checks, name)
    with nullcontext() if passes else pytest.raises(AssertionError, match="of torch's error"):
        check(torch.device("cpu"), **ARGUMENTS.get(name, {}))


@pytest.mark.parametrize(("spilled", "passed"), [(0, True), (8, False)])
def test_spilled_registers_are_a_failure(spilled, passed, monkeypatch):
    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        map = staticmethod(map)

    monkeypatch.setattr(gpu_check, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(gpu_check, "all_kinds", lambda: ["one", "two"])
    monkeypatch.setattr(gpu_check, "compiled", lambda kind, at: (kind, at, 0, spilled if kind == "two" else 0))
    result = gpu_check.compile_everything(86)
    assert result["passed"] is passed
    assert result["check"] == "compilation_for_86"
    assert [k["registers"] for k in result["kernels"]] == [86, 86]


def test_what_the_compiler_reports_of_a_kind(monkeypatch):
    found = [Resources("a", 40, 0, 0), Resources("b", 64, 16, 0), Resources("c", 50, 0, 4)]
    monkeypatch.setattr(gpu_check, "compile_source", lambda *_: None)
    monkeypatch.setattr(gpu_check, "resources", lambda _: found)
    assert gpu_check.compiled("kind", 90) == ("kind", 64, 16, 4)


def test_a_wrong_derivative_is_found(monkeypatch):
    honest = checks.run
    monkeypatch.setattr(
        checks, "run", lambda *a: (r := honest(*a)) and checks.Result(r.loss, r.confusion, r.gradient * 1.01)
    )
    with pytest.raises(AssertionError):
        checks.gradient_is_that_of_finite_differences(torch.device("cpu"))


@needs_compiler
@pytest.mark.usefixtures("kernels")
def test_the_check_that_nothing_waits_passes_and_leaves_the_mode_as_it_was(monkeypatch):
    """Torch warns where the mode is first set, and sets it."""
    modes = []

    def set_mode(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    assert gpu_checks.nothing_waits_for_the_device(torch.device("cpu")) == "none"
    assert modes == ["error", "default"] * len(checks.MODES)


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "unusable", lambda _: "there is none")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().err == "gpu_check needs an NVIDIA GPU: there is none\n"


def good(device):
    return f"fine on {device}"


def bad(device):
    raise ValueError("two\nlines")


@pytest.fixture
def two_checks(monkeypatch):
    """A GPU is claimed, and two checks need none."""
    monkeypatch.setattr(gpu_check, "unusable", lambda _: "")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(gpu_check, "describe", lambda _: {"device": "none", "commit": "1", "packages": {}})
    monkeypatch.setattr(gpu_check, "compile_everything", lambda at: gpu_check.run_check(good, f"a compiler for {at}"))
    monkeypatch.setattr(gpu_check, "CHECKS", (bad, good))
    monkeypatch.setattr(gpu_check, "GPU_CHECKS", ())


@pytest.mark.usefixtures("two_checks")
def test_a_failed_check_is_reported_and_the_others_run(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert gpu_check.main(["--json", str(path), "--only", "good", "bad"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL")
    assert "ValueError: two lines" in lines[0]
    assert lines[1].startswith("ok")
    assert lines[2].startswith("1 of 2 passed")
    record = json.loads(path.read_text())
    assert [(r["check"], r["passed"]) for r in record["results"]] == [("bad", False), ("good", True)]
    assert gpu_check.main(["--json", str(path), "--only", "good"]) == 0


@pytest.mark.usefixtures("two_checks")
def test_what_was_found_outlives_the_machine(monkeypatch, tmp_path):
    """A check that ends the program leaves a record of those before it."""

    def taken_away(device):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_check, "GPU_CHECKS", (taken_away,))
    path = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main(["--json", str(path)])
    assert [r["check"] for r in json.loads(path.read_text())["results"]] == ["bad", "good"]


@pytest.mark.usefixtures("two_checks")
def test_kernels_are_compiled_for_the_whole_capability(tmp_path):
    """8.6 is not 8.0."""
    path = tmp_path / "result.json"
    gpu_check.main(["--json", str(path), "--no-sanitizer"])
    assert json.loads(path.read_text())["results"][-1]["detail"] == "fine on a compiler for 86"


@pytest.mark.usefixtures("two_checks")
def test_what_passed_is_not_repeated(monkeypatch, tmp_path):
    """On the same device, of the same commit; what failed is."""
    calls = []

    def good(device):
        calls.append("good")

    def bad(device):
        calls.append("bad")
        raise AssertionError

    monkeypatch.setattr(gpu_check, "CHECKS", (good, bad))
    monkeypatch.setattr(gpu_check, "sanitize", lambda tool, _: gpu_check.run_check(good, None) | {"check": tool})
    path = tmp_path / "result.json"
    asked = ["--json", str(path), "--only", "good", "bad", "--resume"]
    for _ in range(2):
        assert gpu_check.main(asked) == 1
    assert calls == ["good", "bad", "bad"]
    assert [r["check"] for r in json.loads(path.read_text())["results"]] == ["good", "bad"]
    gpu_check.main(asked[:-1])
    assert calls[3:] == ["good", "bad"]
    monkeypatch.setattr(gpu_check, "describe", lambda _: {"device": "none", "commit": "2", "packages": {}})
    gpu_check.main(asked)
    assert calls[5:] == ["good", "bad"]
    path.write_text("{")
    gpu_check.main(asked)
    assert calls[7:] == ["good", "bad"]


def test_all_kinds_are_listed():
    kinds = gpu_check.all_kinds()
    assert len(kinds) == len(set(kinds)) == 15 * 3 * 2 * 3 + 6
    assert {kind for portion in product().portions for kind in portion} <= set(kinds)


def test_the_sanitizer_is_left_out_where_there_is_none(monkeypatch):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda _: None)
    result = gpu_check.sanitize("memcheck", 1)
    assert result["passed"]
    assert "left out" in result["detail"]


@pytest.fixture
def sanitizer(monkeypatch):
    """Stands in for compute-sanitizer: a function that sets its answer, and the list of how it was called."""
    calls = []

    def answers(stdout, code=0):
        def run(command, **options):
            calls.append((command, options))
            return subprocess.CompletedProcess(command, code, stdout, "")

        monkeypatch.setattr(gpu_check.subprocess, "run", run)
        return calls

    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: f"/bin/{name}")
    return answers


def test_the_sanitizer_sees_every_tensor_and_no_question_put_to_the_driver(sanitizer):
    calls = sanitizer("========= ERROR SUMMARY: 0 errors")
    assert gpu_check.sanitize("memcheck", 7)["passed"]
    ((command, options),) = calls
    assert command[:3] == ["/bin/compute-sanitizer", "--tool", "memcheck"]
    assert command[command.index("--report-api-errors") + 1] == "no"
    assert options["env"]["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert options["env"]["PATH"]
    assert options["timeout"] == 7


@pytest.mark.parametrize(
    ("stdout", "code", "passed", "detail"),
    [
        ("========= ERROR SUMMARY: 0 errors", 0, True, "0 errors"),
        ("========= ERROR SUMMARY: 3 errors", 9, False, "3 errors"),
        ("Unable to open a file\n========= ERROR SUMMARY: 3 errors", 9, False, "3 errors"),
        ("not supported\n========= RACECHECK SUMMARY: 1 hazard displayed (1 error)", 9, False, "1 hazard"),
        ("========= Error: Device not supported", 1, True, "left out"),
        ("========= Error: Unable to attach", 1, True, "left out"),
        ("nothing of note", 2, False, ""),
    ],
)
def test_only_a_sanitizer_that_judged_nothing_is_excused(sanitizer, stdout, code, passed, detail):
    sanitizer(stdout, code)
    result = gpu_check.sanitize("racecheck", 7)
    assert result["passed"] is passed
    assert detail in result["detail"]


@pytest.mark.usefixtures("two_checks", "sanitizer")
def test_a_sanitizer_that_takes_too_long_has_failed(monkeypatch, tmp_path):
    def hangs(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu_check, "CHECKS", (good,))
    monkeypatch.setattr(gpu_check.subprocess, "run", hangs)
    path = tmp_path / "result.json"
    assert gpu_check.main(["--json", str(path), "--sanitizer-seconds", "60"]) == 1
    results = json.loads(path.read_text())["results"]
    assert [r["passed"] for r in results] == [True, True, False, False]
    assert results[-1]["detail"] == "not done after 60 s"
