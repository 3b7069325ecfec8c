#!/usr/bin/env python
"""Compile all kernels ahead of their first use, in parallel, into the cache; or report what their machine code is.

python tools/compile_kernels.py                      # for the GPU of this machine, float32
python tools/compile_kernels.py --arch sm_90 --double
python tools/compile_kernels.py --arch sm_90 --report    # registers, spills, shared memory, occupancy, inner loops
python tools/compile_kernels.py --markdown               # the products' table for sm_90, written into docs/gpu.md

A report needs no GPU and no toolkit, but NVRTC and the package nvidia-cuda-nvdisasm (`pip install '.[gpu,test]'`).
It is of NVRTC's code, with `--nvcc` of that compiler's.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

import numpy as np  # noqa: E402  (needs the line above)

from minicaffe.core.registry import layer_type_list  # noqa: E402
from minicaffe.cuda import context, kernels  # noqa: E402
from minicaffe.errors import DeviceError  # noqa: E402
from minicaffe.layers.shared.elementwise import Elementwise  # noqa: E402

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_LONGEST = ("convolution", "gemm", "tensor_convolution", "tensor_gemm")  # take longest, so they are compiled first


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


def jobs(arch: str, double: bool) -> list[tuple[str, np.dtype, tuple[str, ...]]]:
    """Return all (stem, dtype, options) to compile for an architecture, the longest first."""
    found = []
    for stem in stems():
        text = (kernels.HERE / f"{stem}.cu").read_text() if (kernels.HERE / f"{stem}.cu").exists() else ""
        tensor = stem.startswith("tensor")
        for dtype in (SINGLE, DOUBLE) if double and not tensor else (SINGLE,):
            found += [(stem, dtype, options) for options in _options(text)]
        if stem.startswith(("tensor_convolution", "channels_last")):
            found.append((stem, SINGLE, ("-DBF16",)))
        if stem == "tensor_convolution" and arch == "sm_90":
            found.append((stem, SINGLE, ("-DBF16", "-DWGMMA")))
    return found


def _options(text: str) -> list[tuple[str, ...]]:
    """Return the options with which a source is compiled: those of each variant of a product of matrices."""
    flags = [flag for flag in ("TRANS_A", "TRANS_B", "WIDE_COPIES") if f"#define {flag} " in text]
    choices = product(("false", "true"), repeat=len(flags))
    return [tuple(f"-D{flag}={value}" for flag, value in zip(flags, values)) for values in choices]


def compile_all(arch: str, double: bool = False, threads: int | None = None) -> float:
    """Compile all kernels for an architecture into the cache; return the seconds it took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        wanted = jobs(arch, double)
        for done in [pool.submit(kernels.compiled, stem, dtype, arch, more) for stem, dtype, more in wanted]:
            done.result()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="such as sm_90; default: that of this machine's GPU")
    parser.add_argument("--double", action="store_true", help="for float64 as well")
    parser.add_argument(
        "--report", action="store_true", help="print resources, occupancy and inner loops of all kernels"
    )
    parser.add_argument("--markdown", action="store_true", help="write the products' table into docs/gpu.md (sm_90)")
    parser.add_argument("--nvcc", nargs="?", const="nvcc", metavar="PATH", help="report the code of nvcc, not of NVRTC")
    parser.add_argument("--threads", type=int, help="number of parallel compilations (default: the number of cores)")
    args = parser.parse_args()
    try:
        if args.markdown:
            args.arch = args.arch or "sm_90"
        arch = args.arch or context.current().arch
        if args.report or args.markdown:
            from kernel_table import Report, write_table

            report = Report(arch, jobs(arch, args.double), args.nvcc, args.threads)
            if args.report:
                report.show()
            if args.markdown:
                write_table(report)
        else:
            seconds = compile_all(arch, args.double, args.threads)
            print(f"compiled for {arch} in {seconds:.1f} s into {kernels.cache_dir()}")
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
