"""Settings made by a command's flags hold while the command runs, and are restored afterwards."""

import argparse
import sys

import pytest

from minicaffe import cuda, onednn, set_device, set_engine, set_precision, set_threads
from minicaffe.cli import devices
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.cuda import context
from minicaffe.errors import DeviceError, UsageError
from minicaffe.threads import THREADS, blas_threads


def flags(**given):
    return argparse.Namespace(**{"gpu": "", "engine": "", "precision": "", "threads": None, "math": "", **given})


def all_settings():
    math = context.allows_tf32()
    return settings.engine, settings.device, settings.variants, settings.precision, math, THREADS.wanted, blas_threads()


@pytest.fixture
def other_settings():
    """Set all settings to other values than the defaults; restore them afterwards."""
    with devices._restored():
        cuda.set_math("tf32")
        set_engine("CAFFE")
        set_precision("float32")
        set_device(1)
        set_threads(2)
        yield all_settings()


def test_a_command_puts_back_what_was_set(other_settings):
    with devices.computing_on(flags(engine="onednn", precision="BF16", threads=1, math="float32")):
        assert settings.variants == "ONEDNN" and settings.precision == "bf16" and not context.allows_tf32()
        assert THREADS.count() == 1 and set(blas_threads()) <= {1}
        assert not onednn.available() or onednn.threads() == 1
    assert all_settings() == other_settings


@pytest.mark.parametrize(
    "wrong", [{"math": "fp8"}, {"engine": "none"}, {"precision": "fp8"}, {"threads": 0}, {"gpu": "x"}]
)
def test_a_command_that_fails_as_well(other_settings, wrong):
    with pytest.raises(UsageError), devices.computing_on(flags(**{"threads": 1, "math": "float32", **wrong})):
        pass
    assert all_settings() == other_settings
    with pytest.raises(RuntimeError), devices.computing_on(flags(engine="DEFAULT", threads=1)):
        raise RuntimeError
    assert all_settings() == other_settings


@pytest.mark.gpu
def test_a_command_on_the_cpu_puts_back_the_gpu(cuda_device, gpu_mode):
    with devices.computing_on(flags()):
        assert settings.engine is runner("CPU")
    assert settings.engine is runner("GPU") and context.current() is cuda_device


@pytest.mark.parametrize("math", ["float32", "tf32", "bf16"])
def test_a_math_mode_has_no_effect_on_the_cpu(log_lines, math):
    with devices.computing_on(flags(math=math)):
        pass
    lines = [line for line in log_lines if "--math" in line]
    assert len(lines) == (math != "float32")
    assert all(f"--math {math} has no effect on the CPU: --precision bf16" in line for line in lines)


def test_each_rank_of_a_machine_uses_its_gpu():
    assert [devices._index([3, 5], local_rank) for local_rank in (0, 1, None)] == [0, 1, 0]
    assert devices._index([3], 7) == 0
    with pytest.raises(UsageError, match="-gpu: this machine has more than 2 processes of the training, got 2 ids"):
        devices._index([3, 5], 2)


class WithoutPycuda:
    """Finds no package pycuda, as where it is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name == "pycuda":
            raise ModuleNotFoundError("No module named 'pycuda'", name="pycuda")


@pytest.mark.parametrize("words", ["device_query", "device_query -gpu 0", "time -model n -gpu 0"])
def test_without_pycuda_the_error_has_the_command_that_installs_it(monkeypatch, tmp_path, capsys, words):
    from minicaffe.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "n").write_text('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    runtime = context.Runtime()
    for name in ("device_count", "reason_unavailable", "require"):
        monkeypatch.setattr(context, name, getattr(runtime, name))
    for name in [name for name in sys.modules if name.split(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutPycuda(), *sys.meta_path])
    with pytest.raises(DeviceError, match="PyCUDA is not installed"):
        runtime.require(0)
    monkeypatch.setattr("minicaffe.core.settings.set_device", runtime.require)
    monkeypatch.setattr(devices, "set_device", runtime.require)
    status = main(words.split())
    assert status == (words != "device_query")
    error = capsys.readouterr().err
    assert "PyCUDA is not installed: pip install 'minicaffe[gpu]' compiles it" in error and "docs/gpu.md" in error
