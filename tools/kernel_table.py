"""The table of kernels: resources, occupancy as launched, what their inner loops consist of, and the goals for these.

The launches of the nets of benchmarks/gpu_model.py say with how many threads and how much dynamic shared memory a
kernel runs, and for which options it is compiled; kernels that none of them launches count as blocks of 256 threads.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import sass

from minicaffe.cuda import kernels
from minicaffe.cuda.compilers import Compiler, Nvcc, Nvrtc
from minicaffe.errors import DeviceError

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs/gpu.md"
BEGIN = "<!-- made by tools/compile_kernels.py --markdown -->"
END = "<!-- end of that table -->"

FLOAT_GOAL, TENSOR_GOAL = 0.80, 0.25  # the least part of an inner loop's instructions that multiplies


@dataclass(frozen=True)
class Row:
    """A kernel: name, precision (with tensor cores "tf32", "bf16" or "wgmma"), resources, its main loop.

    The loop is that of `Kernel.main_loops` with the least part of multiplications, with tensor cores of theirs; all
    shares are of its instructions.
    """

    name: str
    math: str
    registers: int
    stack: int
    shared: int
    threads: int
    resident: int
    occupancy: float
    product: bool
    tensor: bool
    loop: int = 0
    multiply: float = 0.0
    integer: float = 0.0
    spilled: int = 0  # LDL and STL in the loop
    copies: int = 0  # LDGSTS or bulk copies
    waits: int = 0  # barriers

    @property
    def kernel(self) -> str:
        """The name without the options of a variant."""
        return self.name.split()[0]

    @property
    def fault(self) -> str:
        """The goal that a product does not reach; '' if it reaches all."""
        goal = TENSOR_GOAL if self.tensor else FLOAT_GOAL
        if not self.product or self.math == "float64":
            return ""
        if self.math == "wgmma":  # one instruction multiplies as much as 64 of HMMA
            goal = TENSOR_GOAL / 64 if "correlate" in self.name else TENSOR_GOAL
        if self.spilled:
            return f"{self.spilled} accesses to spilled registers in its inner loop"
        return (
            f"{self.multiply:.1%} of its inner loop multiplies, the goal is {goal:.0%}" if self.multiply < goal else ""
        )


def nvidia(nvcc: str | None = None) -> Compiler:
    """Return NVIDIA's compiler, whatever the kernels run with here: NVRTC, or the nvcc that is asked for."""
    if nvcc:
        return Nvcc(nvcc)
    return Nvrtc()


@functools.cache
def geometry() -> dict[str, tuple[int, int]]:
    """Return {"stem.kernel options": (threads, bytes of dynamic shared memory)} of the launches of the model's nets."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu_model.py"), "--geometry"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MINICAFFE_DEVICE_POOL": "1"})
    if done.returncode:
        raise DeviceError(f"the launches cannot be recorded:\n{done.stderr}")
    return {name: (threads, shared) for name, (threads, shared) in json.loads(done.stdout).items()}


def launched() -> set[tuple[str, tuple[str, ...]]]:
    """Return {(stem, options)} of all launches."""
    return {(key.split()[0].rsplit(".", 1)[0], tuple(key.split()[1:])) for key in geometry()}


def _geometry(name: str, options: tuple[str, ...], threads: int) -> tuple[int, int]:
    """Return threads and dynamic shared memory of a kernel: as launched, or as another variant of it is launched."""
    launched = geometry()
    others = [found for key, found in launched.items() if key.split()[0] == name and found[0] == threads]
    return launched.get(" ".join((name, *options)), max(others, default=(threads, 0)))


class Report:
    """The rows of all kernels of some jobs (stem, dtype, options), compiled for an architecture."""

    def __init__(self, arch: str, jobs: Iterable[tuple], nvcc: str | None = None, threads: int | None = None) -> None:
        self.arch, self._by = arch, nvidia(nvcc)
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            self.rows = [row for rows in pool.map(self._rows, jobs) for row in rows]

    @property
    def compiler(self) -> str:
        """The compiler in a few words."""
        words = self._by.version.strip().splitlines()
        release = re.search(r"release ([\d.]+)", self._by.version)
        return f"nvcc {release[1]}" if release else words[-1].replace("nvrtc", "NVRTC")

    def _rows(self, job: tuple) -> list[Row]:
        stem, dtype, options = job
        code = kernels.compiled(stem, dtype, self.arch, options, self._by)
        rows = [self._row(stem, dtype, options, kernel) for kernel in sass.kernels_of(code).values()]
        return [row for row in rows if row.product] if options else rows  # the others are compiled without as well

    def _row(self, stem: str, dtype: object, options: tuple[str, ...], kernel: sass.Kernel) -> Row:
        math = sass.precision(stem, str(dtype) == "float64", options)
        flags = [option[2:].removesuffix("=true") for option in options if option[-6:] != "=false"]
        variant = "".join(f" {flag}" for flag in flags if flag not in ("BF16", "TF32", "WGMMA"))
        name = f"{stem}.{kernel.name}{variant}"
        threads, dynamic = _geometry(f"{stem}.{kernel.name}", options, kernel.threads or 256)
        shared = kernel.shared + dynamic
        resident = sass.resident(self.arch, threads, kernel.registers, shared)
        occupancy = resident * threads / sass.limits(self.arch).threads
        product, loops = kernel.is_product, kernel.main_loops
        first = (name, math, kernel.registers, kernel.stack, shared, threads, resident, occupancy, product)
        if not loops:
            return Row(*first, False)
        tensor = any(kernel.counts(loop).keys() & set(sass.TENSOR) for loop in loops)
        multiply = sass.TENSOR if tensor else sass.MULTIPLY
        loop = min(loops, key=lambda loop: kernel.share(loop, *multiply))
        counts = kernel.counts(loop)
        return Row(
            *first, tensor, len(loop), kernel.share(loop, *multiply),
            kernel.share(loop, "INT"), counts["LDL"] + counts["STL"],
            counts["LDGSTS"] + counts["UBLKCP"] + counts["UTMALDG"], counts["BAR"],
        )  # fmt: skip

    def show(self) -> None:
        """Print all rows."""
        print(f"{self.arch}, {self.compiler}")
        print(
            f"{'kernel':46s}{'math':>9s}{'registers':>10s}{'stack':>6s}{'shared':>8s}{'threads':>8s}{'blocks/SM':>10s}"
            f"{'occupancy':>10s}{'loop':>6s}{'multiply':>9s}{'integer':>8s}{'LDL+STL':>8s}{'copies':>7s}"
        )
        for row in self.rows:
            loop = (
                f"{row.loop:6d}{row.multiply:9.1%}{row.integer:8.1%}{row.spilled:8d}{row.copies:7d}"
                if row.product
                else ""
            )
            print(f"{row.name:46s}{row.math:>9s}{row.registers:10d}{row.stack:6d}{row.shared:8d}{row.threads:8d}"
                  f"{row.resident:10d}{row.occupancy:10.0%}{loop}")  # fmt: skip

    def markdown(self) -> str:
        """Return the table of the products, and a sentence about the other kernels."""
        lines = [
            f"For {self.arch}, compiled by {self.compiler}; numbers of several variants (transposed, narrow copies, "
            "widths of windows) from the least to the largest:",
            "",
            "| kernel | precision | variants | registers | spilled, B | shared, KB | threads | blocks per SM | "
            "occupancy | inner loop | multiply | integer | spills in it |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        products = sorted((row for row in self.rows if row.product), key=lambda row: (row.math, row.kernel))
        for (math, kernel), group in itertools.groupby(products, key=lambda row: (row.math, row.kernel)):
            rows = list(group)

            def span(value: Callable[[Row], float], form: str = "d", rows: list[Row] = rows) -> str:
                ends = dict.fromkeys(format(end(map(value, rows)), form) for end in (min, max))
                return "-".join(ends)

            cells = [
                span(lambda row: row.registers), span(lambda row: row.stack),
                span(lambda row: row.shared / 1024, ".0f"), span(lambda row: row.threads),
                span(lambda row: row.resident), span(lambda row: row.occupancy, ".0%"),
                span(lambda row: row.loop), span(lambda row: row.multiply, ".0%"),
                span(lambda row: row.integer, ".0%"), span(lambda row: row.spilled),
            ]  # fmt: skip
            lines.append(f"| {kernel} | {math} | {len(rows)} | {' | '.join(cells)} |")
        rest = [row for row in self.rows if not row.product]
        if rest:
            spilling = ", ".join(sorted({row.name for row in rest if row.stack})) or "none"
            registers, shared = max(row.registers for row in rest), max(row.shared for row in rest) / 1024
            lines += [
                "",
                f"The other {len(rest)} kernels have at most {registers} registers and {shared:.1f} KB of shared memory"
                f"; with a stack: {spilling}.",
            ]
        return "\n".join(lines)


def write_table(report: Report, path: Path = DOCS) -> None:
    """Replace the table between the two marks of a file."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DeviceError(f"{path} lacks the lines {BEGIN} and {END}, between which the table belongs")
    path.write_text(f"{before}{BEGIN}\n\n{report.markdown()}\n\n{END}{after}", encoding="utf-8")


def written(path: Path = DOCS) -> str:
    """Return the table in a file."""
    return path.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
