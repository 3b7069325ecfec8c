"""Machine code of kernels: what a cubin's tables and NVIDIA's disassembler (`nvdisasm`) say about each of them.

`kernels_of(cubin)` gives for each kernel its registers, shared memory, stack, instructions and loops. A loop is a
branch backwards; `Kernel.main_loops` are the innermost ones with (nearly) most multiplications. Needs no GPU and no
toolkit: nvdisasm is in the package nvidia-cuda-nvdisasm.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TENSOR = ("HMMA", "HGMMA", "IMMA", "IGMMA", "DMMA", "UTCHMMA", "UTCQMMA")
MULTIPLY = ("FFMA", "FFMA2", "DFMA", *TENSOR)
_INTEGER = (
    "IMAD IADD UIADD UIMAD LOP ULOP SHF USHF LEA ULEA ISETP UISETP SEL USEL IABS VIADD IMNMX VIMNMX UIMNMX PLOP3 "
    "UPLOP3 PRMT UPRMT FLO POPC BREV SGXT BMSK IDP R2P P2R I2I I2F F2I"
).split()
_MOVES = "LDG STG LDS STS LDL STL LDGSTS LDSM BAR UBLKCP UTMALDG".split()
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}

_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:\{\s*)?(@!?U?PT?\d*\s+)?([A-Z][A-Z0-9_.x]*)\s*([^;]*);")
_LABEL = re.compile(r"\s*(\.L_\w+):")
_TARGET = re.compile(r"`\((\.L_\w+)\)")


class SassError(RuntimeError):
    """The disassembler is missing, or does not read the code."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: "LDG.E.128", its operands, and its predicate ("@!P0", or "")."""

    op: str
    operands: str
    predicate: str = ""

    @property
    def base(self) -> str:
        return self.op.split(".", 1)[0]

    @property
    def group(self) -> str:
        """The row of a table that counts it: FFMA, HMMA, LDG, ..., INT or OTHER."""
        base = self.base
        if base in MULTIPLY or base in _MOVES:
            return base
        return "INT" if base.startswith(tuple(_INTEGER)) else "OTHER"

    @property
    def bytes(self) -> int:
        """Bytes for each thread that a load or store moves."""
        return max((_BYTES.get(part, 0) for part in self.op.split(".")), default=0) or 4


@dataclass(frozen=True)
class Loop:
    """Instructions [begin, end); depth: the number of loops around it."""

    begin: int
    end: int
    depth: int
    innermost: bool

    def __len__(self) -> int:
        return self.end - self.begin

    def contains(self, other: Loop) -> bool:
        return self != other and self.begin <= other.begin and other.end <= self.end


@dataclass
class Kernel:
    """A kernel: registers of a thread, static shared memory and stack in bytes, and its code."""

    name: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    threads: int = 0  # of a block at most; 0 without launch bounds
    code: list[Instruction] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    targets: dict[int, int] = field(default_factory=dict)  # of branches, by their place in the code

    def counts(self, loop: Loop | None = None) -> Counter[str]:
        """Return how many instructions of each group a loop, or the whole kernel, has."""
        code = self.code[loop.begin : loop.end] if loop else self.code
        return Counter(instruction.group for instruction in code)

    def multiplications(self, loop: Loop | None = None) -> int:
        counts = self.counts(loop)
        return sum(counts[name] for name in MULTIPLY)

    @property
    def main_loops(self) -> list[Loop]:
        """The innermost loops with at least half as many multiplications as that with most; [] without any."""
        inner = [(self.multiplications(loop), loop) for loop in self.loops if loop.innermost]
        most = max((count for count, _ in inner), default=0)
        return [loop for count, loop in inner if most and 2 * count >= most]

    def share(self, loop: Loop, *groups: str) -> float:
        """Return the part of a loop's instructions that is of these groups."""
        counts = self.counts(loop)
        return sum(counts[group] for group in groups) / len(loop)

    @property
    def is_product(self) -> bool:
        """Whether a main loop is that of a matrix product: tens of multiplications of values in shared memory."""
        loops = [self.counts(loop) for loop in self.main_loops]
        return any(c.keys() & set(TENSOR) or (c["LDS"] and sum(c[m] for m in MULTIPLY) >= 64) for c in loops)

    @property
    def spills(self) -> int:
        """Loads from and stores to the stack, in the whole kernel."""
        counts = self.counts()
        return counts["LDL"] + counts["STL"]

    def path(self, within: Loop | None = None, without: Sequence[Loop] = (), longest: bool = True) -> int:
        """Return the most (or fewest) instructions from begin to end of the kernel, or of one iteration of a loop.

        Loops inside count once, and those of `without` not at all.
        """
        begin, end = (within.begin, within.end) if within else (0, len(self.code))
        free = {at for loop in without for at in range(loop.begin, loop.end)}
        choose, found = (max if longest else min), {end: 0}
        for at in range(end - 1, begin - 1, -1):
            instruction, target = self.code[at], self.targets.get(at, -1)
            always = instruction.predicate in ("", "@PT") and ", " not in instruction.operands
            after = found[at + 1]
            if instruction.base in ("EXIT", "RET") and always:
                after = 0
            elif target > at:
                after = found[min(target, end)] if always else choose(after, found[min(target, end)])
            found[at] = after + (at not in free)
        return found[begin]


def precision(stem: str, double: bool, options: Sequence[str]) -> str:
    """Return in which precision a source multiplies that is compiled with these options; "wgmma" is bf16 as well."""
    if "-DBF16" in options:
        return "wgmma" if "-DWGMMA" in options else "bf16"
    if stem.startswith("tensor_"):
        return "tf32"
    return "float64" if double else "float32"


def nvdisasm() -> str:
    """Return the path of nvdisasm: the package's, else that on the PATH or of the toolkit."""
    try:
        for file in importlib.metadata.files("nvidia-cuda-nvdisasm") or ():
            if Path(str(file)).name.startswith("nvdisasm"):
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    found = shutil.which("nvdisasm") or shutil.which("/usr/local/cuda/bin/nvdisasm")
    if not found:
        raise SassError("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm, or CUDA's toolkit has it")
    return found


def kernels_of(cubin: bytes) -> dict[str, Kernel]:
    """Return the kernels of a cubin by name."""
    with tempfile.TemporaryDirectory(prefix="minicaffe") as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        done = subprocess.run([nvdisasm(), "-c", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise SassError(f"nvdisasm does not read the code: {done.stderr.strip()}")
    found = parse(done.stdout)
    for name, (registers, stack, shared) in resources(cubin).items():
        if name in found:
            found[name].registers, found[name].stack, found[name].shared = registers, stack, shared
            found[name].threads = bounds(cubin, name)
    return found


def parse(listing: str) -> dict[str, Kernel]:
    """Return the kernels of a listing of `nvdisasm -c`, without registers and shared memory."""
    found = {}
    for section in re.split(r"\.section\s+\.text\.", listing)[1:]:
        match = re.match(r"[\w$]+", section)
        assert match, section[:80]
        kernel, labels = Kernel(match[0]), {}
        for line in section.splitlines():
            if label := _LABEL.match(line):
                labels[label[1]] = len(kernel.code)
            elif instruction := _INSTRUCTION.match(line):
                predicate, op, operands = instruction.groups()
                kernel.code.append(Instruction(op, operands.strip(), (predicate or "").strip()))
        kernel.targets = _targets(kernel.code, labels)
        kernel.loops = _loops(kernel)
        found[kernel.name] = kernel
    return found


def _targets(code: list[Instruction], labels: dict[str, int]) -> dict[int, int]:
    """Return where the branches lead."""
    found = {}
    for at, instruction in enumerate(code):
        if instruction.base == "BRA" and (target := _TARGET.search(instruction.operands)) and target[1] in labels:
            found[at] = labels[target[1]]
    return found


def _loops(kernel: Kernel) -> list[Loop]:
    """Return a loop for each target of branches backwards, from the outermost on."""
    ends: dict[int, int] = {}
    for at, begin in kernel.targets.items():
        if begin < at or (begin == at and kernel.code[at].predicate):  # a branch to itself ends a kernel's text
            ends[begin] = max(ends.get(begin, 0), at + 1)
    spans = sorted(ends.items(), key=lambda span: (span[0], -span[1]))
    loops = []
    for begin, end in spans:
        around = [span for span in spans if span != (begin, end) and span[0] <= begin and end <= span[1]]
        inside = [span for span in spans if span != (begin, end) and begin <= span[0] and span[1] <= end]
        loops.append(Loop(begin, end, len(around), not inside))
    return loops


# ---- tables of a cubin, an ELF file ----------------------------------------------------------------------------------

_REGISTERS, _STACK = 0x2F, 0x11  # attributes of .nv.info: (symbol, value)
_THREADS = 0x05  # of .nv.info.KERNEL: the launch bounds along x, y and z


@functools.lru_cache(maxsize=4)
def _sections(cubin: bytes) -> dict[str, tuple[int, int, bytes]]:
    """Return {name: (type, size, contents)} of all sections."""
    if cubin[:4] != b"\x7fELF":
        raise SassError("this is no cubin: it does not begin as an ELF file does")
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    entry, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + i * entry) for i in range(count)]
    text = headers[names]

    def name(at: int) -> str:
        begin = text[4] + at
        return cubin[begin : cubin.index(b"\0", begin)].decode()

    return {name(h[0]): (h[1], h[5], b"" if h[1] == 8 else cubin[h[4] : h[4] + h[5]]) for h in headers}  # 8: NOBITS


def resources(cubin: bytes) -> dict[str, tuple[int, int, int]]:
    """Return {kernel: (registers, bytes of stack, bytes of static shared memory)}."""
    sections = _sections(cubin)
    table, strings = sections[".symtab"][2], sections[".strtab"][2]

    def symbol(index: int) -> str:
        (at,) = struct.unpack_from("<I", table, index * 24)
        return strings[at : strings.index(b"\0", at)].decode()

    values: dict[int, dict[str, int]] = {_REGISTERS: {}, _STACK: {}}
    info, at = sections[".nv.info"][2], 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        if kind == 4 and attribute in values and size == 8:
            index, value = struct.unpack_from("<II", info, at + 4)
            values[attribute][symbol(index)] = value
        at += 4 + (size if kind == 4 else 0)
    shared = {name: sections.get(f".nv.shared.{name}", (0, 0, b""))[1] for name in values[_REGISTERS]}
    return {name: (count, values[_STACK].get(name, 0), shared[name]) for name, count in values[_REGISTERS].items()}


def bounds(cubin: bytes, name: str) -> int:
    """Return the threads of a block that a kernel's launch bounds allow; 0 if it has none."""
    info, at = _sections(cubin).get(f".nv.info.{name}", (0, 0, b""))[2], 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        if (kind, attribute, size) == (4, _THREADS, 12):
            return math.prod(struct.unpack_from("<III", info, at + 4))
        at += 4 + (size if kind == 4 else 0)
    return 0


# ---- occupancy -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor has; shared memory in bytes, of which `reserved` are taken by each block."""

    threads: int
    blocks: int
    registers: int = 65536
    shared: int = 100 << 10
    reserved: int = 1 << 10


LIMITS = {
    "sm_75": Limits(1024, 16, shared=64 << 10, reserved=0),
    "sm_80": Limits(2048, 32, shared=164 << 10),
    "sm_86": Limits(1536, 16),
    "sm_89": Limits(1536, 24),
    "sm_90": Limits(2048, 32, shared=228 << 10),
    "sm_100": Limits(2048, 32, shared=228 << 10),
    "sm_120": Limits(1536, 24),
}


def limits(arch: str) -> Limits:
    """Return the limits of an architecture ("sm_90a" is as "sm_90")."""
    return LIMITS[arch.rstrip("af")]


def resident(arch: str, threads: int, registers: int, shared: int) -> int:
    """Return how many blocks fit into a multiprocessor at once; shared: static and dynamic bytes of a block."""
    has = limits(arch)
    warps = -(-threads // 32)
    by_registers = has.registers // (warps * (-(-max(registers, 1) * 32 // 256) * 256))
    by_shared = has.shared // (-(-(shared + has.reserved) // 128) * 128) if shared + has.reserved else has.blocks
    return min(has.threads // (warps * 32), has.blocks, by_registers, by_shared)
