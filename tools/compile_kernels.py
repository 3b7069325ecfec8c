#!/usr/bin/env python
"""Compile all kernels ahead of their first use, in parallel, into the cache; or report their use of resources.

python tools/compile_kernels.py                      # for the GPU of this machine, float32
python tools/compile_kernels.py --arch sm_90 --double
python tools/compile_kernels.py --arch sm_90 --report    # registers, spills, shared memory (needs nvcc, no GPU)
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

import numpy as np  # noqa: E402  (needs the line above)

from minicaffe.core.registry import layer_type_list  # noqa: E402
from minicaffe.cuda import context, kernels  # noqa: E402
from minicaffe.errors import DeviceError  # noqa: E402
from minicaffe.layers.shared.elementwise import Elementwise  # noqa: E402

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_TENSOR_CORES = ("gemm", "convolution")  # compiled a second time for TF32
_LONGEST = ("convolution", "gemm")  # take longest, so they are compiled first


def stems() -> list[str]:
    """Return the stems of all kernel sources: the .cu files, and those generated from formulas of layers."""
    layer_type_list()
    found, rest = [], [Elementwise]
    while rest:
        rest += rest[0].__subclasses__()
        found.append(rest.pop(0))
    written = {cls.kernel_file(): cls for cls in found if cls.cuda_forward}
    for stem, cls in written.items():
        kernels.define(stem, cls.cuda_text())
    files = {path.relative_to(kernels.HERE).with_suffix("").as_posix() for path in kernels.HERE.rglob("*.cu")}
    return sorted(files | set(written), key=lambda stem: (stem not in _LONGEST, stem))


def jobs(double: bool) -> list[tuple[str, np.dtype, tuple[str, ...]]]:
    """Return all (stem, dtype, options) to compile, the longest first."""
    plain = [(stem, dtype, ()) for stem in stems() for dtype in ((SINGLE, DOUBLE) if double else (SINGLE,))]
    return [(stem, SINGLE, ("-DTF32",)) for stem in _TENSOR_CORES] + plain


def compile_all(arch: str, double: bool = False, threads: int | None = None) -> float:
    """Compile all kernels for an architecture into the cache; return the seconds it took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for done in [pool.submit(kernels.compiled, stem, dtype, arch, more) for stem, dtype, more in jobs(double)]:
            done.result()
    return time.perf_counter() - began


def report(arch: str, double: bool) -> int:
    """Print registers, spilled bytes and shared memory of each kernel; return the total of spilled bytes."""
    compiler, spilled = kernels.compiler(), 0
    if not isinstance(compiler, kernels.Nvcc):
        raise DeviceError("--report needs nvcc, of which ptxas is a part: only NVRTC was found")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def ptxas_output(job: tuple) -> str:
            stem, dtype, more = job
            file = Path(folder, f"{stem.replace('/', '-')}{dtype}{len(more)}.cu")
            file.write_text(kernels.source(stem))
            command = [compiler.path, "--cubin", f"-arch={arch}", "-O3", "--std=c++17", "-Xptxas", "-v"]
            command += [*kernels.definitions(dtype), *more, "-o", str(file.with_suffix(".cubin")), str(file)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise DeviceError(f"cuda/{stem}.cu does not compile for {arch}:\n{done.stderr}")
            return done.stderr

        print(f"{'kernel':46s}{'dtype':>9s}{'registers':>10s}{'spilled':>8s}{'shared':>8s}")
        all_jobs = jobs(double)
        for (stem, dtype, more), text in zip(all_jobs, pool.map(ptxas_output, all_jobs), strict=True):
            for name, registers, spill, shared in resources(text):
                spilled += spill
                kind = "tf32" if more else str(dtype)
                print(f"{stem + '.' + name:46s}{kind:>9s}{registers:10d}{spill:8d}{shared:8d}")
    return spilled


def resources(text: str) -> list[tuple[str, int, int, int]]:
    """Parse the output of `ptxas -v`: [(kernel, registers, bytes spilled, bytes of shared memory)]."""
    found = []
    for part in text.split("Compiling entry function '")[1:]:
        words = r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes smem"
        numbers = [re.search(pattern, part) for pattern in words]
        found.append((part.split("'")[0], *(int(n[1]) if n else 0 for n in numbers)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="such as sm_90; default: that of this machine's GPU")
    parser.add_argument("--double", action="store_true", help="for float64 as well")
    parser.add_argument("--report", action="store_true", help="print registers, spills, shared memory; cache nothing")
    parser.add_argument("--threads", type=int, help="number of parallel compilations (default: the number of cores)")
    args = parser.parse_args()
    try:
        arch = args.arch or context.current().arch
        if args.report:
            print(f"{report(arch, args.double)} bytes are spilled in all")
        else:
            seconds = compile_all(arch, args.double, args.threads)
            print(f"compiled for {arch} in {seconds:.1f} s into {kernels.cache_dir()}")
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
