"""What all elementwise layers share: flat arrays, and kernels made from formulas."""

import functools
import os

import numpy as np
import pytest

import minicaffe.layers  # noqa: F401  (registers them)
from minicaffe.cuda import compilers, kernels
from minicaffe.errors import DeviceError
from minicaffe.layers.shared.elementwise import Elementwise
from minicaffe.testing import run_layer

FAMILY = sorted((cls for cls in Elementwise.__subclasses__() if cls.type), key=lambda cls: cls.type)


def test_the_family_is_found():
    names = {cls.type for cls in FAMILY}
    assert {
        "AbsVal",
        "BNLL",
        "Clip",
        "ELU",
        "Exp",
        "Log",
        "Power",
        "ReLU",
        "ReLU6",
        "Sigmoid",
        "Swish",
        "TanH",
    } <= names


@functools.cache
def nvidia_compiler():
    try:
        return compilers.Nvrtc()
    except DeviceError:
        return None


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
@pytest.mark.parametrize("cls", FAMILY, ids=lambda cls: cls.type)
def test_formulas_compile_for_nvidia(cls, arch):
    compiler = nvidia_compiler()
    if compiler is None:
        if os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
            pytest.fail("MINICAFFE_REQUIRE_CUDA is 1, but there is no NVRTC")
        pytest.skip("there is no NVRTC")
    stem = cls.kernel_file()
    kernels.define(stem, cls.cuda_text())
    for dtype in (np.float32, np.float64):
        code = compiler.compile(kernels.source(stem), f"{stem}.cu", arch, kernels.definitions(np.dtype(dtype)))
        assert b".text.forward\0" in code
        assert (b".text.backward\0" in code) == bool(cls.cuda_backward)


@pytest.mark.parametrize("cls", FAMILY, ids=lambda cls: cls.type)
def test_float32_stays_float32(cls):
    """Formulas get flat float32 arrays."""
    seen = []

    class Spy(cls):
        def numpy_forward(self, x, y):
            seen.extend([x.dtype, y.dtype, x.ndim, y.ndim])
            super().numpy_forward(x, y)

    text = f"type: '{cls.type}' clip_param {{ min: -1 max: 1 }}"
    layer, bottom, top = run_layer(text, np.full((2, 3), 0.5), dtype=np.float32)
    layer.__class__ = Spy
    layer.forward(bottom, top)
    assert seen == [np.float32, np.float32, 1, 1]


def test_empty_blobs_pass_through():
    for cls in FAMILY:
        _, _, top = run_layer(f"type: '{cls.type}' clip_param {{ min: -1 max: 1 }}", np.zeros((0, 3)))
        assert top[0].shape == (0, 3)
