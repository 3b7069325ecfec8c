"""NVIDIA's compilers: nvcc, a program of the toolkit, and NVRTC, a library; and which of them fits the driver.

Machine code (a cubin) runs on every driver of the compiler's major version of CUDA, and on newer ones; never on drivers
of an older major version. PTX, which the driver would translate, is no way out: a driver refuses PTX of a newer CUDA
than its own, even of a newer minor version. So a compiler fits a driver if its major version is not the greater one.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minicaffe.errors import DeviceError

OPTIONS = ("-O3", "--std=c++17")
NVRTC_OPTIONS = ("--std=c++17",)
#: the oldest driver that runs code of a major version of CUDA, and the extra of minicaffe that has its NVRTC
DRIVERS = {12: ("525", "gpu-cuda12"), 13: ("580", "gpu")}
_PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12")
_SYSTEM = ("libnvrtc.so.13", "libnvrtc.so.12")
_LIBRARY = re.compile(r"libnvrtc\.so\.\d+|nvrtc64_\d+_0\.dll")


class Nvcc:
    """The toolkit's compiler, or a program that takes its arguments.

    version: what it prints; release: its version of CUDA, such as (13, 0), () if it does not say.
    """

    name = "nvcc"

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise DeviceError(f"the CUDA compiler {path} cannot be run: {error}") from error
        found = re.search(r"release (\d+)\.(\d+)", self.version)
        self.release: tuple[int, ...] = (int(found[1]), int(found[2])) if found else ()

    def compile(self, text: str, name: str, arch: str, definitions: tuple[str, ...]) -> bytes:
        """The machine code of a text; raises DeviceError with the compiler's messages."""
        with tempfile.TemporaryDirectory(prefix="minicaffe") as folder:
            file, out = Path(folder, Path(name).name), Path(folder, "kernel.cubin")
            file.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [self.path, "--cubin", f"-arch={arch}", *OPTIONS, *definitions, "-o", str(out), str(file)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                messages = too_new(self, arch) or f"{done.stdout}{done.stderr}"
                raise DeviceError(f"cuda/{name} does not compile for {arch} with {self.path}:\n{messages}")
            return out.read_bytes()

    @functools.cached_property
    def architectures(self) -> tuple[int, ...]:
        """The architectures that it compiles for, such as 90; () if it does not say."""
        done = subprocess.run([self.path, "--list-gpu-code"], capture_output=True, text=True)
        return tuple(sorted({int(n) for n in re.findall(r"sm_(\d+)\b", done.stdout)}))


class Nvrtc:
    """NVIDIA's compiler as a library, from the package nvidia-cuda-nvrtc (CUDA 13) or -cu12, or the system.

    library: its path, or a name that the system finds; by default that of the newest version that is installed.
    """

    name = "NVRTC"

    def __init__(self, library: str | None = None) -> None:
        if library is None:
            library = next(iter(libraries()), _SYSTEM[0])
        try:
            self._library = ctypes.CDLL(library)
            major, minor = ctypes.c_int(), ctypes.c_int()
            self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        except (OSError, AttributeError) as error:
            raise DeviceError(
                "no CUDA compiler was found: install the CUDA toolkit (nvcc), or pip install nvidia-cuda-nvrtc "
                f"({error})"
            ) from error
        self.release: tuple[int, ...] = (major.value, minor.value)
        self.version = f"nvrtc {major.value}.{minor.value}"

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, "nvrtc" + function)(*arguments)
        if code:
            describe = self._library.nvrtcGetErrorString
            describe.restype = ctypes.c_char_p
            raise RuntimeError(f"nvrtc{function} failed: {describe(code).decode()}")

    def _bytes(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(what, program, buffer)
        return buffer.raw

    def compile(self, text: str, name: str, arch: str, definitions: tuple[str, ...]) -> bytes:
        """The machine code of a text; raises DeviceError with the compiler's messages."""
        program, options = ctypes.c_void_p(), (f"--gpu-architecture={arch}", *NVRTC_OPTIONS, *definitions)
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        self._call("CreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            self._call("CompileProgram", program, len(options), given)
            return self._bytes("GetCUBIN", program)
        except RuntimeError as error:
            messages = too_new(self, arch) or self._bytes("GetProgramLog", program).rstrip(b"\0").decode()
            raise DeviceError(f"cuda/{name} does not compile for {arch} with NVRTC:\n{messages}") from error
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    @functools.cached_property
    def architectures(self) -> tuple[int, ...]:
        """The architectures that it compiles for, such as 90."""
        count = ctypes.c_int()
        self._call("GetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._call("GetSupportedArchs", found)
        return tuple(found)


Compiler = Nvcc | Nvrtc


def libraries() -> list[str]:
    """The NVRTC libraries of installed packages and of the toolkit, the newest version first."""
    found: dict[str, int] = {}
    for package in _PACKAGES:
        try:
            files = importlib.metadata.files(package) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        found.update({str(file.locate()): 0 for file in files if _LIBRARY.fullmatch(file.name)})
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found.update({str(file): 0 for file in Path(home, "lib64").glob("libnvrtc.so.*") if _LIBRARY.fullmatch(file.name)})
    paths = [path for path in found if os.path.exists(path)]
    return sorted(
        paths, key=lambda path: int(re.findall(r"(\d\d)\d?(?:_0)?", os.path.basename(path))[-1]), reverse=True
    )


def candidates() -> Iterator[Compiler]:
    """The compilers that are installed: nvcc in ``CUDA_HOME``, on the PATH or in /usr/local/cuda, then NVRTCs."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    for path in (home and f"{home}/bin/nvcc", "nvcc", "/usr/local/cuda/bin/nvcc"):
        program = path and shutil.which(path)
        if program:
            yield Nvcc(program)
    for library in (*libraries(), *_SYSTEM):
        try:
            yield Nvrtc(library)
        except DeviceError:
            continue


def choose(driver: int) -> Compiler:
    """The first compiler that fits a driver's version (12040: CUDA 12.4; 0: any); see `candidates`.

    ``MINICAFFE_NVCC`` overrides the choice. Raises DeviceError when there is none, or none that fits.
    """
    chosen = os.environ.get("MINICAFFE_NVCC", "")
    if chosen not in ("", "nvrtc"):
        return Nvcc(chosen)
    refused = []
    for compiler in candidates():
        if chosen and compiler.name != "NVRTC":
            continue
        if fits(compiler, driver):
            return compiler
        refused.append(compiler)
    if not refused:
        return Nvrtc()  # raises the error that names the remedy
    raise DeviceError(too_old(refused[-1], driver))


def fits(compiler: Compiler, driver: int) -> bool:
    """Whether a driver of this version (0: any) loads the compiler's code."""
    return not driver or not compiler.release or compiler.release[0] <= driver // 1000


def too_old(compiler: Compiler, driver: int) -> str:
    """Say in a sentence why a driver of this version does not load the compiler's code; '' if it does."""
    if fits(compiler, driver):
        return ""
    major = compiler.release[0]
    least = DRIVERS[major][0] if major in DRIVERS else f"for CUDA {major}"
    extra = DRIVERS.get(driver // 1000, ("", ""))[1]
    remedy = f", or pip install 'minicaffe[{extra}]'" if extra else ""
    return (
        f"the driver is made for CUDA {driver // 1000}.{driver % 1000 // 10} and does not load code of "
        f"{compiler.name} {'.'.join(map(str, compiler.release))}: install driver {least} or newer{remedy}"
    )


def too_new(compiler: Compiler, arch: str) -> str:
    """Say in a sentence that the compiler does not know an architecture; '' if it does, or does not say."""
    known, number = compiler.architectures, int(re.sub(r"\D", "", arch))
    if not known or number in known:
        return ""
    kind = "older than sm_75, the oldest that minicaffe supports" if number < min(known) else "newer than the compiler"
    remedy = "" if number < min(known) else ": install a newer one, pip install -U nvidia-cuda-nvrtc"
    release = ".".join(map(str, compiler.release))
    return (
        f"{compiler.name} {release} compiles for sm_{min(known)} to sm_{max(known)} and not for {arch}, "
        f"which is {kind}{remedy}"
    )
