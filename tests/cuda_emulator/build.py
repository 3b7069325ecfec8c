#!/usr/bin/env python3
"""Build the emulated CUDA driver and PyCUDA for it: ``python tests/cuda_emulator/build.py DEST [--venv VENV]``.

DEST then contains

    lib/libcuda.so.1   the emulated driver
    lib/libnccl.so.2   a stand-in for NCCL, between processes that use it
    run                ``DEST/run python -m pytest tests/cuda`` runs a command with that driver, that Python and the
                       emulator's compiler

PyCUDA is built from PyPI's source into VENV (default: the environment of the Python that runs this script; it is
created if it does not exist), and NVIDIA's cuda-bindings and NVRTC are installed with it, for CUDA graphs and for
compiling every kernel as for a real GPU. Only CUDA's headers are needed: those of the toolkit in CUDA_HOME or
/usr/local/cuda, or otherwise those of NVIDIA's wheels, which are then installed as well. Needs gcc and g++.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYCUDA = "pycuda==2026.1"
COMPANIONS = ["cuda-bindings", "nvidia-cuda-nvrtc"]
HEADER_WHEELS = ["nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-cuda-profiler-api"]
RUN = """#!/bin/sh
# Runs a command with the emulated CUDA driver; EMU_REVERSE=1 runs each block's threads from the last to the first.
export LD_LIBRARY_PATH="{dest}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export MINICAFFE_NVCC="{here}/compiler.py"
export MINICAFFE_NCCL="${{MINICAFFE_NCCL-{dest}/lib/libnccl.so.2}}"
export MINICAFFE_CACHE="${{MINICAFFE_CACHE:-{dest}/cache}}"
export PATH="{bin}:$PATH"
exec "$@"
"""


def find_headers(python: str) -> Path:
    """Return the folder whose include/ contains cuda.h; install NVIDIA's wheels if there is none."""
    for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_ROOT"), "/usr/local/cuda"):
        if root and (Path(root) / "include/cuda.h").exists() and (Path(root) / "include/cudaProfiler.h").exists():
            return Path(root)
    subprocess.run([python, "-m", "pip", "install", "-q", *HEADER_WHEELS], check=True)
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    found = sorted(Path(site).glob("nvidia/**/include/cuda.h"))
    if not found:
        raise SystemExit(f"no cuda.h under {site}/nvidia after installing {', '.join(HEADER_WHEELS)}")
    return found[0].parent.parent


DRIVER = ("device.c", "driver.c", "graphs.c", "memory.c", "record.c", "streams.c", "work.c")


def build_library(path: Path, headers: Path, sources: list[Path], *flags: str) -> None:
    """Compile a shared library; processes that use the one before keep it."""
    staged = path.with_name(path.name + ".new")
    common = ["-O2", "-w", "-shared", "-fPIC", "-D_GNU_SOURCE", f"-I{headers}/include", f"-Wl,-soname,{path.name}"]
    subprocess.run(["gcc", *common, *map(str, sources), *flags, "-o", str(staged)], check=True)
    staged.replace(path)


def build_driver(dest: Path, headers: Path) -> None:
    """Compile the driver, with a function that returns CUDA_ERROR_NOT_SUPPORTED for every name in unsupported.txt."""
    lib = dest / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    names = (HERE / "unsupported.txt").read_text().split()
    with tempfile.TemporaryDirectory() as folder:
        refusals = Path(folder) / "unsupported.c"
        refusals.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in names))
        sources = [*(HERE / name for name in DRIVER), refusals]
        build_library(lib / "libcuda.so.1", headers, sources, "-ldl", "-lpthread")
    link = lib / "libcuda.so"
    if not link.is_symlink():
        link.symlink_to("libcuda.so.1")
    build_library(lib / "libnccl.so.2", headers, [HERE / "nccl.c"], f"-L{lib}", "-lcuda", "-lrt")


def runs(python: str, code: str, folder: Path) -> bool:
    """Return whether a Python runs this code; `folder` is not the checkout, whose cuda/ would hide NVIDIA's package."""
    return subprocess.run([python, "-c", code], cwd=folder, capture_output=True).returncode == 0


def install_pycuda(dest: Path, headers: Path, python: str) -> None:
    """Build PyCUDA against the driver, and install its companions, unless this Python has them already."""
    if not runs(python, "from cuda.bindings import driver, nvrtc; nvrtc.nvrtcVersion()", dest):
        subprocess.run([python, "-m", "pip", "install", "-q", *COMPANIONS], check=True)
    if runs(python, "import pycuda", dest):
        return
    home = dest / "home"
    home.mkdir(exist_ok=True)
    (home / ".aksetup-defaults.py").write_text(
        f'CUDA_ROOT = "{headers}"\nCUDA_ENABLE_CURAND = False\nCUDADRV_LIB_DIR = ["{dest}/lib"]\nLDFLAGS = ["-Wl,-s"]\n'
    )
    environment = {**os.environ, "HOME": str(home), "CUDA_ROOT": str(headers), "CFLAGS": "-g0 -O1"}
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-cache-dir", PYCUDA], env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the emulated CUDA driver, and PyCUDA against it.")
    parser.add_argument("dest", type=Path)
    parser.add_argument("--venv", type=Path, help="virtual environment for PyCUDA (default: the current Python)")
    options = parser.parse_args()
    dest, python = options.dest.resolve(), sys.executable
    if options.venv:
        if not (options.venv / "bin/python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(options.venv)], check=True)
        python = str(options.venv.absolute() / "bin/python")
    headers = find_headers(python)
    build_driver(dest, headers)
    install_pycuda(dest, headers, python)
    script = dest / "run"
    script.write_text(RUN.format(dest=dest, here=HERE, bin=Path(python).parent))
    script.chmod(0o755)
    print(f"{script} COMMAND runs a command on the emulated GPU")


if __name__ == "__main__":
    main()
