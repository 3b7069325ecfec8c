"""Which of NVIDIA's compilers is used, and whether its code fits the driver and the GPU."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from minicaffe.cuda import compilers
from minicaffe.errors import DeviceError


class Given:
    """A compiler of a version of CUDA."""

    def __init__(self, name, release, architectures=(75, 80, 90)):
        self.name, self.version = name, name
        self.release, self.architectures = tuple(map(int, release.split("."))), architectures


@pytest.fixture
def choose(monkeypatch):
    """Function that chooses for a driver, with programs {path: version} and libraries (versions) installed."""

    def make(programs=(), libraries=("13.5",), driver=0, **environment):
        for name in ("MINICAFFE_NVCC", "CUDA_HOME", "CUDA_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        programs = dict(programs)
        monkeypatch.setattr(shutil, "which", lambda path: path if path in programs else None)
        monkeypatch.setattr(compilers, "Nvcc", lambda path: Given(path, programs.get(path, "13.0")))
        monkeypatch.setattr(compilers, "Nvrtc", lambda library="13.5": Given("NVRTC", library))
        monkeypatch.setattr(compilers, "libraries", lambda: list(libraries))
        monkeypatch.setattr(compilers, "_SYSTEM", ())
        found = compilers.choose(driver)
        return found.name, ".".join(map(str, found.release))

    return make


NVCC = {"nvcc": "13.0"}


def test_nvcc_where_it_is_and_nvrtc_where_it_is_not(choose):
    usual = "/usr/local/cuda/bin/nvcc"
    assert choose() == ("NVRTC", "13.5")
    assert choose({**NVCC, usual: "12.8"}) == ("nvcc", "13.0")
    assert choose({usual: "12.8"}) == (usual, "12.8")
    assert choose({"/opt/cuda/bin/nvcc": "12.1", **NVCC}, CUDA_HOME="/opt/cuda") == ("/opt/cuda/bin/nvcc", "12.1")
    assert choose(NVCC, MINICAFFE_NVCC="/my/nvcc") == ("/my/nvcc", "13.0")
    assert choose(NVCC, MINICAFFE_NVCC="nvrtc") == ("NVRTC", "13.5")


def test_the_first_whose_code_the_driver_loads(choose):
    assert choose(NVCC, ["13.5", "12.9"], driver=13000) == ("nvcc", "13.0")
    assert choose(NVCC, ["13.5", "12.9"], driver=12040) == ("NVRTC", "12.9")  # of the driver's major version
    assert choose({}, ["12.9"], driver=13000) == ("NVRTC", "12.9")  # older code runs on newer drivers


def test_none_fits_the_driver(choose):
    expected = (
        r"the driver is made for CUDA 12\.4 and does not load code of NVRTC 13\.5: install driver 580 or newer, "
        r"or pip install 'minicaffe\[gpu-cuda12\]'$"
    )
    with pytest.raises(DeviceError, match=expected):
        choose(NVCC, driver=12040)
    with pytest.raises(DeviceError, match="made for CUDA 11.8 .*: install driver 525 or newer$"):
        choose({}, ["12.9"], driver=11080)


def test_an_architecture_that_the_compiler_does_not_know():
    old = Given("NVRTC", "12.4")
    assert compilers.too_new(old, "sm_90a") == ""
    assert compilers.too_new(old, "sm_120") == (
        "NVRTC 12.4 compiles for sm_75 to sm_90 and not for sm_120, which is newer than the compiler: install a newer "
        "one, pip install -U nvidia-cuda-nvrtc"
    )
    assert "older than sm_75" in compilers.too_new(old, "sm_61")
    assert compilers.too_new(Given("nvcc", "13.0", ()), "sm_61") == ""  # it does not say what it knows


@pytest.mark.skipif(not compilers.libraries(), reason="there is no NVRTC")
def test_nvrtc_says_that_it_does_not_know_an_architecture():
    nvrtc = compilers.Nvrtc()
    assert {75, 90, 120} <= set(nvrtc.architectures) and nvrtc.release >= (12, 8)
    with pytest.raises(DeviceError, match=r"a.cu does not compile for sm_61 with NVRTC:\nNVRTC .* not for sm_61"):
        nvrtc.compile("__global__ void f() {}", "a.cu", "sm_61", ())


def test_without_any_compiler_the_remedy_is_named():
    with pytest.raises(DeviceError, match="install the CUDA toolkit .nvcc., or pip install nvidia-cuda-nvrtc"):
        compilers.Nvrtc("/no/libnvrtc.so.13")


def test_a_compiler_that_is_not_there():
    with pytest.raises(DeviceError, match="/no/nvcc cannot be run"):
        compilers.Nvcc("/no/nvcc")


def test_libraries_of_packages_newest_first(tmp_path, monkeypatch):
    for name in ("libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc-builtins.so.13.5", "libnvrtc.alt.so.12"):
        (tmp_path / name).touch()

    class File(str):
        name = property(os.path.basename)

        def locate(self):
            return tmp_path / self

    given = {
        "nvidia-cuda-nvrtc-cu12": [File("libnvrtc.so.12"), File("libnvrtc.alt.so.12")],
        "nvidia-cuda-nvrtc": [File("libnvrtc-builtins.so.13.5"), File("libnvrtc.so.13"), File("gone/libnvrtc.so.13")],
    }
    monkeypatch.setattr(compilers.importlib.metadata, "files", lambda package: given.get(package))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    assert [os.path.basename(path) for path in compilers.libraries()] == ["libnvrtc.so.13", "libnvrtc.so.12"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "driver, line",
    [
        ("13000", r"compiled for sm_90 by nvcc emulated CUDA compiler.*; the driver is made for CUDA 13\.0"),
        ("12040", r"cannot be compiled: the driver is made for CUDA 12\.4 and does not load code of NVRTC 13"),
    ],
)
def test_device_query_says_what_does_not_fit(cuda_device, driver, line):
    if "emulated" not in cuda_device.name:
        pytest.skip("needs the emulated driver, whose version can be chosen")
    environment = {**os.environ, "EMU_DRIVER_VERSION": driver}
    if driver == "12040":
        environment["MINICAFFE_NVCC"] = "nvrtc"
    command = [sys.executable, "-m", "minicaffe", "device_query", "-gpu", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"Kernels: +{line}", done.stdout + done.stderr), done.stdout + done.stderr
