"""Automatic settings, and the memory a tile needs."""

import platform
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from unet.config import ModelConfig, from_dict
from unet.device import Hardware, available_bytes, check_memory, choose, keep_freed_memory, training_bytes
from unet.errors import ConfigError, TrainingError
from unet.geometry import is_valid

CPU = Hardware(torch.device("cpu"), "fp32", False, True, 0)


def test_automatic_settings_on_a_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("unet.device.cpu_features", lambda: ["amx"])
    assert choose(from_dict({})) == Hardware(torch.device("cpu"), "bf16", False, True, 0)
    monkeypatch.setattr("unet.device.cpu_features", list)
    assert choose(from_dict({})).precision == "fp32"


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(monkeypatch, bf16, precision):
    """A T4, say: torch calls bf16 supported there unless it is asked to leave emulation out."""
    monkeypatch.setattr("unet.device._device", torch.device)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16)
    assert choose(from_dict({"train": {"device": "cuda"}})).precision == precision
    assert choose(from_dict({"train": {"device": "cuda", "precision": "bf16"}})).precision == "bf16"


def test_settings_are_followed():
    chosen = choose(from_dict({"train": {"device": "cpu", "precision": "fp32", "compile": "on", "workers": 3}}))
    assert (chosen.precision, chosen.compile, chosen.workers) == ("fp32", True, 3)


@pytest.mark.parametrize("name", ["cuda:99", "quantum"])
def test_an_unusable_device_is_one_line(name):
    with pytest.raises(ConfigError, match=f"'{name}' is not usable"):
        choose(from_dict({"train": {"device": name}}))


FAULTS = """
import resource, sys
import torch
from unet.device import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    maps = [torch.ones(8 << 20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_used_again():
    """Three steps of 128 MiB in pages of 4 KiB are 98,304 page faults (fewer where pages are huge), or none."""
    faults = {}
    for how in ("returned", "kept"):
        command = [sys.executable, "-c", FAULTS, how]
        faults[how] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults["kept"] < 64 < faults["returned"]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def library(_):
        raise error

    monkeypatch.setattr("ctypes.CDLL", library)
    keep_freed_memory()


def test_the_estimate_grows_with_everything():
    base = training_bytes(ModelConfig(), 508, 1, 1, "fp32")
    assert training_bytes(ModelConfig(), 572, 1, 1, "fp32") > base
    assert training_bytes(ModelConfig(), 508, 2, 1, "fp32") > base
    assert training_bytes(ModelConfig(base_channels=128), 508, 1, 1, "fp32") > base
    assert training_bytes(ModelConfig(), 508, 1, 1, "bf16") < base


def test_the_estimate_is_near_the_measured_peak():
    """Measured on Linux with torch 2.13 (peak resident size less that of the idle process): 0.93 GiB for one 508 px
    tile
    in fp32 and 1.40 GiB for two, weights included."""
    one, two = (training_bytes(ModelConfig(), 508, batch, 1, "fp32") / 2**30 for batch in (1, 2))
    assert one == pytest.approx(0.93 + 0.12, rel=0.25)
    assert two == pytest.approx(1.40 + 0.12, rel=0.25)


def test_a_tile_too_large_names_one_that_fits(monkeypatch):
    config = from_dict({"tile": {"input_px": 2044}, "train": {"batch": 4}})
    monkeypatch.setattr("unet.device.available_bytes", lambda _: 4 * 2**30)
    with pytest.raises(
        TrainingError, match=r"a tile of (\d+) px would fit, or train.batch 1 with train.accumulate 4"
    ) as e:
        check_memory(config, CPU, 1)
    named = int(str(e.value).split("a tile of ")[1].split()[0])
    assert is_valid(named)
    check_memory(from_dict({"tile": {"input_px": named}}, config), CPU, 1)
    with pytest.raises(TrainingError):
        check_memory(from_dict({"tile": {"input_px": named + 16}}, config), CPU, 1)


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr("unet.device.available_bytes", lambda _: 1000)
    with pytest.raises(TrainingError, match="lower model.base-channels"):
        check_memory(from_dict({}), CPU, 1)


def test_a_machine_that_does_not_say_is_trusted(monkeypatch):
    monkeypatch.setattr("unet.device.available_bytes", lambda _: None)
    check_memory(from_dict({"tile": {"input_px": 16380}}), CPU, 1)


def test_free_memory_is_read():
    found = available_bytes(torch.device("cpu"))
    assert found is None or found > 2**20


GB = 10**9
STAT = "anon 1000000000\nfile 14600000000\nshmem 500000000\ninactive_file 12000000000\nactive_file 2000000000\n"
OLD_STAT = (
    "cache 14600000000\ninactive_file 1\nactive_file 1\ntotal_inactive_file 12000000000\ntotal_active_file 2000000000\n"
)


NEW = {"memory.max": str(16 * GB), "memory.current": str(int(15.6 * GB)), "memory.stat": STAT}
OLD = {
    "memory/memory.limit_in_bytes": str(16 * GB),
    "memory/memory.usage_in_bytes": str(int(15.6 * GB)),
    "memory/memory.stat": OLD_STAT,
}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        pytest.param(NEW, 14.4 * GB, id="version 2"),
        pytest.param(OLD, 14.4 * GB, id="version 1"),
        pytest.param({**NEW, "memory.stat": STAT.replace("12000000000", "x\n\n- -")}, 2.4 * GB, id="odd rows"),
        pytest.param({**NEW, "memory.stat": b"\xff\xfe"}, 0.4 * GB, id="no text"),
        pytest.param({**NEW, "memory.stat": None}, 0.4 * GB, id="no statistics"),
        pytest.param({**NEW, "memory.current": str(GB)}, 16 * GB, id="more cache than is used"),
        pytest.param({**NEW, "memory.current": str(40 * GB)}, 0, id="over the limit"),
        pytest.param({**NEW, "memory.max": "max"}, None, id="no limit"),
        pytest.param({**NEW, "memory.max": "-1"}, None, id="odd limit"),
        pytest.param({**NEW, "memory.current": ""}, None, id="use not told"),
        pytest.param({}, None, id="no groups"),
    ],
)
def test_the_cache_of_files_is_not_taken_for_used_memory(tmp_path, monkeypatch, files, left):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr("unet.device._CGROUPS", tmp_path)
    monkeypatch.setattr("unet.device._meminfo", lambda: None)
    assert available_bytes(torch.device("cpu")) == left


def test_a_small_run_fits_into_a_container_full_of_cache(tmp_path, monkeypatch):
    for name, content in NEW.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr("unet.device._CGROUPS", tmp_path)
    monkeypatch.setattr("unet.device._meminfo", lambda: 64 * GB)
    check_memory(from_dict({"train": {"batch": 4}}), CPU, 1)
