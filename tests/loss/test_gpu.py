"""The checks of scripts/gpu_check.py: on a GPU all of them; on the CPU those that need nothing but the kernels."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.loss.shim.host import compiler
from tests.loss.shim.launcher import ShimLauncher, product
from unet.loss import fused, launch

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name):
    if str(SCRIPTS) not in sys.path:
        sys.path.append(str(SCRIPTS))
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

    def resident_blocks(self, *_):
        return min(self.blocks, self.most_blocks or self.blocks)


@pytest.fixture
def kernels(monkeypatch):
    """The operators call the kernels for tensors on the CPU."""
    launcher = Launcher(product(), 5)
    monkeypatch.setattr(fused, "_has_kernels", launch.supported)
    monkeypatch.setattr(fused, "_launcher", lambda _: launcher)
    return launcher


ARGUMENTS = {"errors_against_float64": {"classes": (2, 17)}, "same_bits_every_time": {"reruns": 2}}


@needs_compiler
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "check", [*checks.CHECKS, gpu_checks.operators, gpu_checks.small_for_the_sanitizer], ids=name_of
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
    ],
)
def test_the_checks_can_fail(how, name, monkeypatch):
    spoil(monkeypatch, how)
    with pytest.raises(AssertionError):
        getattr(checks, name)(torch.device("cpu"), **ARGUMENTS.get(name, {}))


def test_a_wrong_derivative_is_found(monkeypatch):
    honest = checks.run
    monkeypatch.setattr(
        checks, "run", lambda *a: (r := honest(*a)) and checks.Result(r.loss, r.confusion, r.gradient * 1.01)
    )
    with pytest.raises(AssertionError):
        checks.gradient_is_that_of_finite_differences(torch.device("cpu"))


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "unusable", lambda _: "there is none")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().err == "gpu_check needs an NVIDIA GPU: there is none\n"


def test_a_failed_check_is_reported_and_the_others_run(monkeypatch, tmp_path, capsys):
    def good(device):
        return f"fine on {device}"

    def bad(device):
        raise ValueError("two\nlines")

    monkeypatch.setattr(gpu_check, "unusable", lambda _: "")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(gpu_check, "describe", lambda _: {"device": "none"})
    monkeypatch.setattr(gpu_check, "CHECKS", (bad, good))
    monkeypatch.setattr(gpu_check, "GPU_CHECKS", ())
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


def test_all_kinds_are_listed():
    kinds = gpu_check.all_kinds()
    assert len(kinds) == len(set(kinds)) == 15 * 3 * 2 * 3 + 6
    assert {kind for portion in product().portions for kind in portion} <= set(kinds)


def test_the_sanitizer_is_left_out_where_there_is_none(monkeypatch):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda _: None)
    result = gpu_check.sanitize("memcheck")
    assert result["passed"]
    assert "left out" in result["detail"]
