"""Kernel files: compilation with NVIDIA's compilers, one file per layer, lookup, caching and launches by name."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicaffe.core.registry import layer_type_list
from minicaffe.cuda import compilers, context, kernels
from minicaffe.errors import DeviceError
from minicaffe.layers.shared.elementwise import Elementwise

CUDA = Path(kernels.__file__).resolve().parent
STEMS = sorted(p.relative_to(CUDA).with_suffix("").as_posix() for p in CUDA.rglob("*.cu"))
LAYERS = CUDA.parent / "layers"
ARCHS = ("sm_75", "sm_90", "sm_100", "sm_120")  # what the sources tell apart, and the newest
#: kernels of several layers
INFRASTRUCTURE = {
    *("convolution_weights", "gemm", "ops", "random", "solver", "strided"),
    *("tensor_convolution", "tensor_gemm", "transform"),
    *("channels_last", "channels_last_norm", "channels_last_pooling", "pooling_halves", "pooling_volumes"),
}


@functools.cache
def find_nvidia():
    """Return NVRTC if it is installed, else the toolkit's nvcc, else None."""
    try:
        return compilers.Nvrtc()
    except DeviceError:
        nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
        return compilers.Nvcc(nvcc) if nvcc else None


@pytest.fixture
def nvidia():
    """NVIDIA's compiler, NVRTC or nvcc; it needs no GPU."""
    compiler = find_nvidia()
    if compiler is None and os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
        pytest.fail("MINICAFFE_REQUIRE_CUDA is 1, but there is neither NVRTC nor nvcc")
    if compiler is None:
        pytest.skip("there is neither NVRTC nor nvcc")
    return compiler


def check_code(code, names):
    assert code[:4] == b"\x7fELF"
    for name in names:
        assert f".text.{name}\0".encode() in code


@pytest.mark.parametrize("arch, dtype", [(a, np.float32) for a in ARCHS] + [("sm_90", np.float64)])
@pytest.mark.parametrize("stem", STEMS)
def test_compiles_for_nvidia(nvidia, stem, arch, dtype):
    code = nvidia.compile(kernels.source(stem), f"{stem}.cu", arch, kernels.definitions(np.dtype(dtype)))
    check_code(code, kernels.signatures(stem))


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch != "sm_75"])
@pytest.mark.parametrize(
    "stem, options",
    [
        ("tensor_convolution", ["-DBF16"]),
        ("tensor_gemm", ["-DTRANS_A=true", "-DTRANS_B=false", "-DWIDE_COPIES=false"]),
        ("tensor_gemm", ["-DTRANS_A=false", "-DTRANS_B=true", "-DWIDE_COPIES=false"]),
    ],
)
def test_compiles_for_tensor_cores(nvidia, stem, options, arch):
    definitions = (*kernels.definitions(np.dtype(np.float32)), *options)
    check_code(nvidia.compile(kernels.source(stem), f"{stem}.cu", arch, definitions), kernels.signatures(stem))


@pytest.mark.parametrize(
    "stem, options",
    [
        ("gemm", ["-DTRANS_A=true", "-DTRANS_B=false", "-DWIDE_COPIES=true"]),
        ("gemm", ["-DTRANS_A=false", "-DTRANS_B=true", "-DWIDE_COPIES=true"]),
        ("gemm", ["-DTRANS_A=true", "-DTRANS_B=true", "-DWIDE_COPIES=false"]),
        ("convolution_weights", ["-DWIDE_COPIES=true", "-DPLANES=true", "-DKERNEL_WIDTH=1"]),
        ("convolution_weights", ["-DWIDE_COPIES=false", "-DPLANES=false", "-DKERNEL_WIDTH=1"]),
        ("convolution_weights", ["-DWIDE_COPIES=true", "-DPLANES=false", "-DKERNEL_WIDTH=5"]),
    ],
)
def test_variants_of_products_compile(nvidia, stem, options):
    definitions = (*kernels.definitions(np.dtype(np.float32)), *options)
    check_code(nvidia.compile(kernels.source(stem), f"{stem}.cu", "sm_90", definitions), kernels.signatures(stem))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem.startswith("channels_last")])
def test_compiles_for_bf16(nvidia, stem, arch):
    definitions = (*kernels.definitions(np.dtype(np.float32)), "-DBF16")
    check_code(nvidia.compile(kernels.source(stem), f"{stem}.cu", arch, definitions), kernels.signatures(stem))


def test_compiles_for_products_of_four_warps(nvidia):
    definitions = (*kernels.definitions(np.dtype(np.float32)), "-DBF16", "-DWGMMA")
    code = nvidia.compile(kernels.source("tensor_convolution"), "tensor_convolution.cu", "sm_90a", definitions)
    check_code(code, kernels.signatures("tensor_convolution"))


def elementwise():
    """Return the layer classes whose kernels are generated from formulas."""
    layer_type_list()
    found, rest = [], [Elementwise]
    while rest:
        rest += rest[0].__subclasses__()
        found.append(rest.pop(0))
    return sorted((c for c in found if c.cuda_forward), key=lambda c: c.__qualname__)


@pytest.mark.parametrize("layer", elementwise(), ids=lambda c: c.__qualname__)
def test_formulas_compile_for_nvidia(nvidia, layer):
    stem = layer.kernel_file()
    kernels.define(stem, layer.cuda_text())
    names = ["forward", "backward"][: 1 + bool(layer.cuda_backward)]
    for arch, dtype in (("sm_75", np.float32), ("sm_90", np.float64)):
        code = nvidia.compile(kernels.source(stem), f"{stem}.cu", arch, kernels.definitions(np.dtype(dtype)))
        check_code(code, names)


@pytest.mark.parametrize("stem", STEMS)
def test_belongs_to_a_layer(stem):
    files = [LAYERS / f"{stem}.py", LAYERS / "shared" / f"{stem}.py"]
    assert stem in INFRASTRUCTURE or any(file.exists() for file in files), f"no layers/{stem}.py for cuda/{stem}.cu"


@pytest.mark.parametrize("stem", STEMS)
def test_every_kernel_can_be_prepared(stem):
    found = kernels.signatures(stem)
    assert found, f"cuda/{stem}.cu holds no kernel"
    assert len(found) == (CUDA / f"{stem}.cu").read_text().count("__global__")


def test_signatures_name_the_types_that_calls_convert_to():
    types = kernels.signatures("gemm")["gemv_rows"]
    assert types == ("int", "Dtype", "pointer", "pointer", "Dtype", "pointer")


def test_headers_are_put_in_place_once_and_line_numbers_stay():
    text = kernels.source("gemm")
    assert "#include" not in text
    lines = (CUDA / "gemm.cu").read_text().splitlines()
    after = text[text.index('#line 3 "gemm.cu"') :].splitlines()
    assert after[1] == lines[2]


def test_unknown_names_name_the_nearest():
    with pytest.raises(DeviceError, match=r'no kernel file cuda/gem\.cu \(did you mean "gemm"\?\)'):
        kernels.source("gem")


def test_unknown_kernel_names_the_nearest(cuda_device):
    with pytest.raises(DeviceError, match=r'cuda/ops.cu has no kernel axpi \(did you mean "axpy"\?\)'):
        kernels.kernel("ops", "axpi")


def test_code_that_the_driver_refuses(cuda_device, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda *_: b"\x7fELF" + bytes(2000))
    with pytest.raises(
        DeviceError, match=r"random.cu was compiled, but the driver, made for CUDA \d+\.\d, does not load it \("
    ):
        kernels.kernel("random", "uniform_u32", np.float32, ("-DUNUSED",))


def test_only_floats_are_computed(cuda_device):
    with pytest.raises(DeviceError, match="float32 or float64, not int32"):
        kernels.kernel("ops", "fill", np.int32)


class CountingCompiler:
    """Record the requests."""

    version = "counting 1"

    def __init__(self):
        self.asked = []

    def compile(self, text, name, arch, definitions):
        self.asked.append((name, arch, definitions))
        return b"code"


def test_compiled_code_is_kept_on_disk(tmp_path, monkeypatch):
    compiler = CountingCompiler()
    monkeypatch.setattr(kernels, "compiler", lambda: compiler)
    monkeypatch.setenv("MINICAFFE_CACHE", str(tmp_path))
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for _ in range(2):
        assert kernels.compiled("ops", single, "sm_90") == b"code"
    assert len(compiler.asked) == 1
    kernels.compiled("ops", double, "sm_90")
    kernels.compiled("ops", single, "sm_80")
    compiler.version = "counting 2"
    kernels.compiled("ops", single, "sm_90")
    assert len(compiler.asked) == 4
    assert sorted(p.suffix for p in (tmp_path / "kernels").iterdir()) == [".cubin"] * 4


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernels, "compiler", CountingCompiler)
    monkeypatch.setenv("MINICAFFE_CACHE", str(tmp_path / "file"))
    assert kernels.compiled("ops", np.dtype(np.float32), "sm_90") == b"code"
    assert "cannot be kept" in capsys.readouterr().err


def test_a_mistake_in_a_kernel_shows_the_compilers_words(nvidia):
    text = '#line 1 "wrong.cu"\n__global__ void f() { undefined_name; }\n'
    with pytest.raises(DeviceError, match=r"cuda/wrong.cu does not compile for sm_90(?s:.*)wrong.cu\(1\).*undefined_"):
        nvidia.compile(text, "wrong.cu", "sm_90", kernels.definitions(np.dtype(np.float32)))


def test_more_shared_memory_than_48_kb_is_asked_for(cuda_device):
    fill = kernels.kernel("ops", "fill")
    from minicaffe.cuda.memory import DeviceBuffer

    buffer = DeviceBuffer(4 * 10)
    fill.launch((1, 1), 32, 10, 2.5, buffer, shared=60 << 10)
    assert (buffer.to_host(np.empty(10, np.float32)) == 2.5).all()


def test_a_launch_that_cannot_be_names_the_kernel(cuda_device):
    with pytest.raises(DeviceError, match=r"kernel ops.fill failed with grid \(1, 1\) and block \(4096, 1, 1\)"):
        kernels.kernel("ops", "fill").launch((1, 1), 4096, 0, 0.0, 0)


def test_importing_minicaffe_looks_for_no_gpu():
    code = "import sys, minicaffe, minicaffe.cuda; sys.exit(any(m in sys.modules for m in ('pycuda', 'cuda.bindings')))"
    root = str(CUDA.parent)
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_reason_is_one_sentence():
    reason = context.reason_unavailable()
    assert context.available() == (reason == "")
    assert "\n" not in reason
