"""Starting kernels through NVIDIA's bindings, with a stand-in for the driver; what happens where a part is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.loss.mutants import WITH_A_DRIVER
from tests.loss.shim.host import FLAGS, HERE, compiler, made
from unet.config import LossConfig
from unet.errors import ConfigError, UserError
from unet.loss import compile as compile_module
from unet.loss import driver, fused, reference
from unet.loss.dispatch import choose_loss

ROOT = Path(__file__).parents[2]


needs_both_compilers = pytest.mark.skipif(
    compiler() is None or compile_module.missing() != "", reason="no C++ compiler or no NVRTC"
)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """What driver_trial.py prints, with the stand-in for the driver in a process apart."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    library.symlink_to(made(".so", [*FLAGS, "-shared"], [HERE / "driver.cpp"]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.loss.driver_trial", str(library)],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder), "UNET_KERNEL_CACHE": str(folder / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@needs_both_compilers
def test_from_the_operator_to_the_started_kernel(trial):
    assert trial["started"] == [
        *("forward_pass", "finish", "backward_pass"),
        *("share_pass", "one_pass", "finish", "backward_pass"),
    ]


@needs_both_compilers
@pytest.mark.parametrize("fault", WITH_A_DRIVER, ids=[m.name.replace(" ", "-") for m in WITH_A_DRIVER])
def test_the_fault_is_found(fault, trial):
    assert trial["found"][fault.name]


CUDA = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """Torch claims to see a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", None)


def test_the_cpu_takes_the_reference_without_a_word():
    assert choose_loss(LossConfig(), torch.device("cpu"))[1:3] == ("reference", "")
    assert choose_loss(LossConfig(implementation="reference"), CUDA)[1:3] == ("reference", "")


def test_training_on_the_cpu_counts_nothing_that_nobody_reads(monkeypatch):
    logits, target, weight = torch.randn(1, 2, 3, 3), torch.ones(1, 3, 3, dtype=torch.uint8), torch.rand(1, 3, 3)
    expected = reference.weighted_cross_entropy(logits, target, weight, reduction="weighted_mean").loss
    monkeypatch.setattr(reference, "confusion_counts", pytest.fail)
    loss = choose_loss(LossConfig(reduction="weighted_mean"), torch.device("cpu")).function(logits, target, weight)
    assert torch.equal(loss, expected)


def test_fused_on_the_cpu_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"fused cannot be used.*NVIDIA GPU.*use auto or reference") as error:
        choose_loss(LossConfig(implementation="fused"), torch.device("cpu"))
    assert isinstance(error.value, UserError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reason", ["no compiler", "the card is too old"])
def test_auto_says_in_one_line_why_it_takes_the_reference(monkeypatch, reason):
    monkeypatch.setattr(driver, "unusable", lambda device: reason)  # noqa: ARG005
    chosen = choose_loss(LossConfig(), CUDA)
    assert chosen.name == "reference"
    assert reason in chosen.message
    assert "\n" not in chosen.message
    with pytest.raises(ConfigError, match=reason):
        choose_loss(LossConfig(implementation="fused"), CUDA)


@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_where_the_kernels_run_they_are_taken(monkeypatch, implementation):
    monkeypatch.setattr(driver, "unusable", lambda device: "")  # noqa: ARG005
    chosen = choose_loss(LossConfig(implementation=implementation, reduction="sum"), CUDA)
    assert chosen[1:3] == ("fused", "")
    logits, target = torch.randn(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.uint8)
    loss = chosen.function(logits, target, torch.ones(1, 3, 3))
    assert loss == fused.weighted_cross_entropy(logits, target, reduction="sum").loss


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no NVIDIA GPU" in driver.unusable(CUDA)


@pytest.mark.usefixtures("gpu")
def test_another_makers_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "no NVIDIA GPU" in driver.unusable(CUDA)


@pytest.mark.usefixtures("gpu")
def test_without_the_bindings(monkeypatch):
    monkeypatch.setattr(compile_module, "find_spec", lambda name: None)  # noqa: ARG005
    assert "cuda-bindings" in driver.unusable(CUDA)


@pytest.mark.usefixtures("gpu")
def test_a_card_that_cannot_be_used(monkeypatch):
    def fails(device):
        raise driver.KernelError("compute capability 6.1 is too old")

    monkeypatch.setattr(driver, "missing", lambda: "")
    monkeypatch.setattr(driver, "launcher", fails)
    assert driver.unusable(CUDA) == "compute capability 6.1 is too old"


# -- which device ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    """Torch claims to see four GPUs, the third of which is the current one."""
    properties = SimpleNamespace(major=9, minor=0, multi_processor_count=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    driver._launcher.cache_clear()
    yield
    driver._launcher.cache_clear()


def logits_on(device, dtype=torch.float32):
    """What the operators ask of the logits before they start a kernel."""
    device = torch.device(device)
    return SimpleNamespace(is_cuda=device.type == "cuda", device=device, dtype=dtype)


def test_kernels_are_for_the_types_they_know_on_a_gpu():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert fused._has_kernels(logits_on("cuda:1", dtype))
        assert not fused._has_kernels(logits_on("cpu", dtype))
    assert not fused._has_kernels(logits_on("cuda:1", torch.float64))


@pytest.mark.usefixtures("gpus")
def test_every_gpu_has_one_launcher_of_its_own():
    for device, index in (("cuda:0", 0), ("cuda:1", 1), ("cuda:3", 3), ("cuda", 2)):
        launcher = fused._launcher(logits_on(device))
        assert launcher.index == index
        assert launcher is fused._launcher(logits_on(f"cuda:{index}"))
