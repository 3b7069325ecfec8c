"""What a launch would cost on an H100: seconds from its machine code, its geometry and the bytes behind its arguments.

Assumed are

- a clock of 1.755 GHz, 132 multiprocessors, 4 instructions of a warp per cycle;
- 75 % of these slots are used while a multiprocessor has 16 warps or more (two blocks of 256 threads), 50 % with fewer.
  That cp.async stages hide latency within a block is not credited, unless `stages` is given: then kernels with LDGSTS,
  UBLKCP or UTMALDG in their loop use 75 % in any case;
- blocks go to the multiprocessors in equal numbers; the one with most decides. How many run at once follows from
  registers, shared memory and threads;
- tensor cores: 1024 multiplications of TF32, or 2048 of bf16, a cycle; mma.sync reaches 65 % of that, wgmma 100 %;
- each byte of the operands is read or written once for each launch: 3 TB/s below 30 MB (from L2), 2.5 TB/s above;
- a launch takes 3 us at least, and else the longer of its instructions and its bytes; launches do not overlap.

Instructions of a product: those on the longest path outside of the main loop once, and the main loop as often as the
depth of the product, the tile and the number of blocks say. Other kernels: the longest loop, once for each element and
thread (the mean of the longest and the shortest path in it), where an iteration computes as many elements as it has
stores (of 4 bytes) for each output; inner loops as often as the size of the window, the slices or the parts in the
arguments say. Conflicts in shared memory, hit rates of caches, unequal work inside a phase of a strided convolution and
clocks under load are not in it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

CLOCK, PROCESSORS, ISSUE = 1.755e9, 132, 4
FULL, HALF, MANY_WARPS = 0.75, 0.5, 16
NEAR, FAR, L2 = 3.0e12, 2.5e12, 30e6
LEAST = 3e-6
TENSOR_RATE = {"TF32": 1024, "BF16": 2048}  # multiplications a cycle of a multiprocessor
MMA_SYNC = 0.65  # of that rate
ARCH = "sm_90"
_UPDATE = {"clear_diffs": 1, "sum_squares": 1}  # arrays that a kernel of the solver moves; the others: 6


@dataclass
class Cost:
    """A launch: seconds that its instructions, its tensor instructions and its bytes take, and what decides."""

    kernel: str
    blocks: int
    what: str
    instructions: float  # of warps, in all
    bytes: float
    flop: float
    issue: float
    tensor: float
    memory: float

    @property
    def seconds(self) -> float:
        return max(LEAST, self.issue, self.tensor, self.memory)


def cost(launch: Any, kernel: Any, parameters: int, stages: bool = False) -> Cost:
    """Return the modelled cost of a launch, whose machine code is `kernel`, in a net with so many parameters."""
    import sass

    warps = -(-launch.threads // 32)
    product = kernel.is_product and launch.work is not None
    each = _product_instructions(launch, kernel) if product else _plain_instructions(launch, kernel, parameters)
    fits = sass.resident(ARCH, launch.threads, kernel.registers, kernel.shared + launch.shared)
    staged = stages and any(kernel.counts(loop).keys() & {"LDGSTS", "UBLKCP", "UTMALDG"} for loop in kernel.main_loops)
    work = launch.work if product else None
    what = ""
    if work:
        what = f"{work.kind} {work.rows} x {work.columns} x {work.depth}" + f" x {work.batch}" * (work.batch > 1)
    moved = _bytes(launch, parameters, product)
    return Cost(
        launch.kernel, launch.blocks, what, each * warps * launch.blocks, moved,
        2.0 * work.rows * work.columns * work.depth * work.batch if work else 0.0,
        _issue_seconds(launch.blocks, each * warps, warps, max(fits, 1), staged),
        _tensor_seconds(launch, kernel) if product else 0.0,
        moved / (NEAR if moved < L2 else FAR),
    )  # fmt: skip


def _issue_seconds(blocks: int, instructions: float, warps: int, fits: int, staged: bool) -> float:
    """Return the time of the busiest multiprocessor; instructions: of all warps of a block."""
    most = -(-blocks // PROCESSORS)
    used = FULL if staged or min(most, fits) * warps >= MANY_WARPS else HALF
    return most * instructions / (ISSUE * used) / CLOCK


def tile_of(launch: Any) -> tuple[int, int]:
    """Return rows and columns of the tile that a block of a product computes: from the kernel's name, or its source."""
    from minicaffe.cuda.kernels import source

    if sizes := re.search(r"(\d+)x(\d+)", launch.name):
        return int(sizes[1]), int(sizes[2])
    text = source(launch.stem)
    constants = dict(re.findall(r"const int (\w+) = (\d+);", text))
    body = text[re.search(rf"\b{launch.name}\s*\(", text).start() :].split("__global__", 1)[0]  # type: ignore[union-attr]
    shapes = {name: shape for shape, name in reversed(re.findall(r"typedef \w+(<\d+, \d+,[^;]*>) (\w+);", text))}
    body = next((shapes[word] for word in re.findall(r"<(\w+)", body) if word in shapes), body)
    for sizes in re.finditer(r"(?:<|\b[A-Z_]+\()\s*(\w+)\s*,\s*(\w+)\s*,", body):
        found = [constants.get(word, word) for word in sizes.groups()]
        if all(word.isdigit() for word in found):
            return int(found[0]), int(found[1])
    raise ValueError(f"the tile of {launch.kernel} is neither in its name nor in its source")


def _trips(launch: Any, kernel: Any, loop: Any) -> float:
    """Return how often a block runs the main loop of a product."""
    work, values, (rows, columns) = launch.work, launch.arguments, tile_of(launch)
    depth = _depth(launch, kernel, loop, rows * columns)
    if {"count", "share"} <= values.keys():
        tiles = values["count"]
    elif {"columns", "rows"} <= values.keys():
        tiles = values["columns"] * values["rows"] * values.get("groups", values.get("batch", 1))
    else:
        tiles = -(-work.rows // rows) * -(-work.columns // columns) * work.batch
    return math.ceil(tiles * -(-work.depth // depth) / launch.blocks)


def _multiplications(instruction: Any) -> int:
    """Return the multiplications that an instruction does for a warp."""
    if instruction.base not in ("HMMA", "HGMMA"):
        return 64 if instruction.base == "FFMA2" else 32
    if sizes := re.search(r"(\d+)x(\d+)x(\d+)", instruction.op):
        return math.prod(map(int, sizes.groups()))
    return {"1688": 16 * 8 * 8, "16816": 16 * 8 * 16, "1684": 16 * 8 * 4}[instruction.op.split(".")[1]]


def _depth(launch: Any, kernel: Any, loop: Any, tile: int) -> int:
    """Return how far along k a trip of the main loop goes."""
    import sass

    inside = kernel.code[loop.begin : loop.end]
    warps = launch.threads // 32
    done = sum(_multiplications(i) for i in inside if i.base in sass.MULTIPLY)
    groups = warps // 4 if any(i.base == "HGMMA" for i in inside) else warps  # wgmma is of four warps together
    return max(1, round(done * groups / tile))


def _product_instructions(launch: Any, kernel: Any) -> float:
    """Return the instructions of a warp of a product."""
    loops = kernel.main_loops
    inside = sum(_trips(launch, kernel, loop) * len(loop) for loop in loops) / len(loops)
    return kernel.path(without=loops) + inside


def _tensor_seconds(launch: Any, kernel: Any) -> float:
    loop = kernel.main_loops[0]
    inside = [i for i in kernel.code[loop.begin : loop.end] if i.base in ("HMMA", "HGMMA")]
    if not inside:
        return 0.0
    rate = TENSOR_RATE["TF32" if "TF32" in inside[0].op else "BF16"] * (MMA_SYNC if inside[0].base == "HMMA" else 1)
    groups = launch.threads // 32 // (4 if inside[0].base == "HGMMA" else 1)
    each = sum(map(_multiplications, inside)) * groups * _trips(launch, kernel, loop)
    return -(-launch.blocks // PROCESSORS) * each / rate / CLOCK


_TABLES = {"geometry", "phases", "phase", "taps", "tensors", "chunks", "t", "knobs", "tickets"}


def _elements(launch: Any, parameters: int) -> float:
    """Return over how many elements all threads of a launch loop together."""
    first = next(iter(launch.arguments), "")
    if launch.stem == "solver":
        return parameters if launch.blocks > 1 else 1
    if first in ("n", "count") and first == "n":
        return launch.arguments["n"]
    sizes = [size for name, size in launch.bytes.items() if name not in _TABLES and name not in launch.scratch]
    return max(sizes, default=0) / (8 if launch.double else 4)


def _inner_trips(launch: Any, depth: int) -> float:
    """Return how often the loops at this depth inside of the main one run."""
    values = launch.arguments
    depth -= {"planes", "out_h"} <= values.keys()  # rows and columns are loops of their own
    for name in ("slices", "shares", "parts"):
        if name in values:
            return values[name] if depth == 1 else 1
    if "kernel_h" in values:
        axis = "h" if depth == 1 else "w"
        trips = values["kernel_" + axis] / (values.get("stride_" + axis, 1) if "backward" in launch.name else 1)
        return min(trips, values["out_" + axis]) if "backward" in launch.name else trips
    for name in ("size", "classes", "inner"):
        if name in values:
            return values[name] if depth == 1 else 1
    return 1


def _plain_instructions(launch: Any, kernel: Any, parameters: int) -> float:
    """Return the instructions of a thread of a kernel that is no product."""
    outer = [loop for loop in kernel.loops if not loop.depth]
    if {"planes", "out_h"} <= launch.arguments.keys():
        return _pooling_instructions(launch, kernel)
    threads = launch.threads * launch.blocks
    if not outer:
        return len(kernel.code)
    main = max(outer, key=len)
    trips = math.ceil(_elements(launch, parameters) / threads / _unrolled(launch, kernel, main))
    return kernel.path(without=outer) + trips * _loop_cost(launch, kernel, main)


def _pooling_instructions(launch: Any, kernel: Any) -> float:
    """Return the instructions of a thread of a kernel that loops over rows, columns, and the places of windows.

    A kernel has such a loop for each combination of what it may do; the mean is taken.
    """
    values, outer = launch.arguments, [loop for loop in kernel.loops if not loop.depth]
    sizes = ("height", "width") if launch.name == "backward" else ("out_h", "out_w")
    places = values["planes"] * values[sizes[0]] * values[sizes[1]]
    if launch.name == "backward" and values["width"] % 4 == 0:
        places //= 4  # a thread has four neighbours
    each = [_loop_cost(launch, kernel, loop) for loop in kernel.loops if loop.depth == 1 and not loop.innermost]
    trips = math.ceil(places / (launch.threads * launch.blocks))
    return kernel.path(without=outer) + trips * sum(each) / len(each)


def _loop_cost(launch: Any, kernel: Any, loop: Any) -> float:
    """Return the instructions of one iteration, with those of the loops inside.

    Own ones are the mean of the longest and the shortest path; the shortest where a loop inside is unrolled, since the
    others of its copies that are outside of it compute the rest of its iterations.
    """
    inside = [other for other in kernel.loops if loop.contains(other) and other.depth == loop.depth + 1]
    at_once = [_at_once(launch, kernel, other) for other in inside]
    shortest = kernel.path(loop, inside, longest=False)
    own = shortest if max(at_once, default=1) > 1 else (kernel.path(loop, inside) + shortest) / 2
    for other, count in zip(inside, at_once, strict=True):
        own += _inner_trips(launch, other.depth) / count * _loop_cost(launch, kernel, other)
    return own


def _at_once(launch: Any, kernel: Any, loop: Any) -> int:
    """Return how many iterations as written an innermost loop does at once: its loads for each array."""
    arrays = 2 if launch.name == "max_backward" else 1
    return 1 if any(loop.contains(other) for other in kernel.loops) else max(1, kernel.counts(loop)["LDG"] // arrays)


def _unrolled(launch: Any, kernel: Any, loop: Any) -> float:
    """Return how many elements of 4 bytes (8: double) an iteration of a loop without products computes."""
    stores = [i for i in kernel.code[loop.begin : loop.end] if i.base in ("STG", "LDG")]
    kind = "STG" if any(i.base == "STG" for i in stores) else "LDG"
    width = sum(i.bytes for i in stores if i.base == kind) / (8 if launch.double else 4)
    pointers = [name for name, size in launch.bytes.items() if size and name not in _TABLES]
    outputs = 1 if launch.stem == "solver" and kind == "LDG" else _outputs(launch) if kind == "STG" else len(pointers)
    return max(1.0, width / max(1, outputs))


def _outputs(launch: Any) -> int:
    """Return how many arrays a kernel writes: its pointers that are not const."""
    from minicaffe.cuda.sources import SOURCES

    if launch.stem == "solver":
        return {"sgd": 3, "nesterov": 3, "clear_diffs": 1}.get(launch.name, 3)
    written = [p for p in SOURCES.parameters(launch.stem)[launch.name] if "*" in p and "const" not in p]
    return sum(1 for p in written if launch.bytes.get(p.split()[-1].lstrip("*")))


def _bytes(launch: Any, parameters: int, product: bool) -> float:
    """Return the bytes that a launch reads and writes."""
    size = 8 if launch.double else 4
    if launch.stem == "solver":
        return size * parameters * _UPDATE.get(launch.name, 6) if launch.blocks > 1 else 0
    values, found = launch.arguments, 0.0
    pieces = next((values[name] for name in ("slices", "shares", "parts") if isinstance(values.get(name), int)), 1)
    for name, behind in launch.bytes.items():
        if name == "tickets":
            continue
        if name not in launch.scratch:
            found += behind
        elif product and "share" in values:  # the sums of blocks that end within a tile: written, and read by another
            found += min(behind, 2 * launch.blocks * math.prod(tile_of(launch)) * size)
        else:
            work, n = launch.work, values.get("n", 0)
            whole = work.rows * work.columns * work.batch if product and work else n
            found += min(behind, (whole * pieces if whole else launch.blocks) * size)
    return found
