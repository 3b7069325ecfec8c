"""Kernels of a test's own, compiled for the emulated device."""

import pytest

from minicaffe.cuda import context, kernels


@pytest.fixture
def emulated(cuda_device, monkeypatch):
    if cuda_device.name != "emulated GPU":
        pytest.skip("this is a real device")
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "0")
    monkeypatch.setenv("EMU_RACE", "0")  # some of these tests compile kernels with races
    return cuda_device


@pytest.fixture
def build(emulated):
    """Return a function that compiles a kernel for the emulated device and prepares it."""
    modules = []

    def make(text, types, name="k"):
        code = kernels.compiler().compile(f'extern "C" {text}', "k.cu", "sm_90", ())
        modules.append(emulated.driver.module_from_buffer(code))
        return modules[-1].get_function(name).prepare(types)

    yield make
    context.synchronize()
