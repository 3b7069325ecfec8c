"""The flags for device, engine, precision, threads and math mode, and a context manager that applies them."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from minicaffe.cli.command import FlagParser
from minicaffe.core.settings import (
    PRECISIONS,
    engine_names,
    restored,
    set_device,
    set_engine,
    set_mode_cpu,
    set_mode_gpu,
    set_precision,
    set_threads,
    settings,
)
from minicaffe.errors import DeviceError, UsageError
from minicaffe.proto.further import all_values

log = logging.getLogger("minicaffe")


def device_flags(flags: FlagParser) -> None:
    """Add -gpu, --engine, --precision, --threads and --math."""
    flags.section("where to compute")
    flags.flag("gpu", metavar="IDS", default="", values=("0", "all", "none"),
               help='device ids separated by commas, or "all": train starts a process for each, other commands use the '
                    'first; "none": the CPU, regardless of solver_mode')  # fmt: skip
    flags.flag("engine", metavar="NAME", default="", values=("DEFAULT", "CAFFE", "ONEDNN", "CUDNN", "TENSOR"),
               help="DEFAULT (the fastest one), CAFFE (numpy; our own kernels), ONEDNN, CUDNN or TENSOR "
                    "(with --math)")  # fmt: skip
    precision_flag(flags)
    flags.flag("threads", type=int, metavar="N",
               help="number of CPU threads (default: OMP_NUM_THREADS, or one for each core)")  # fmt: skip
    flags.flag("math", metavar="MODE", default="", values=("float32", "tf32", "bf16"),
               help="on the GPU: float32 (the default), or tensor cores: tf32 (factors of 10 bits) or bf16 (factors of "
                    "7 bits, and blobs in bfloat16)")  # fmt: skip


def precision_flag(flags: FlagParser) -> None:
    """Add --precision."""
    flags.flag("precision", metavar="NAME", default="", values=("float32", "bf16"),
               help="on the CPU: float32 (the default) or bf16 (products in bfloat16, sums in float32)")  # fmt: skip


@contextlib.contextmanager
def computing_on(
    args: argparse.Namespace, default_ids: str | None = None, local_rank: int | None = None
) -> Iterator[None]:
    """Set device, engine, precision, threads and math mode from the flags; restore the previous settings at the end.

    default_ids: device ids used without -gpu, from a solver's prototxt; None (default): the CPU.  On a machine without
        a GPU these give way to the CPU, with a warning; ids of -gpu do not.
    local_rank: index of this process among those of its machine that train together: of several GPUs it uses that of
        its index.  None (default), for commands of one process: the first, with a log line for each of the others.
    UsageError for an invalid flag, DeviceError for a device that is not available.
    """
    with _restored():
        if args.engine:
            set_engine(_engine_name(args.engine))
        if args.precision:
            _set_precision(args.precision)
        if args.math:
            _set_math(args.math.lower())
        if args.threads is not None:
            _set_threads(args.threads)
        try:
            _choose_device(gpu_ids(args.gpu or _present(default_ids)), local_rank)
        except DeviceError as error:
            if args.gpu:
                raise
            raise DeviceError(f"{error}; the solver sets solver_mode: GPU, -gpu none trains on the CPU") from error
        if args.math.lower() not in ("", "float32") and settings.engine.mode == "CPU":
            log.warning("--math %s has no effect on the CPU: --precision bf16 rounds products there", args.math.lower())
        yield


def solver_gpu(param: Any) -> str | None:
    """Return the solver's device_id, several with commas, if it sets `solver_mode: GPU`; None otherwise."""
    if param.HasField("solver_mode") and param.solver_mode == param.GPU:
        return ",".join(map(str, all_values(param, "device_id"))) or str(param.device_id)
    return None


def _present(default_ids: str | None) -> str:
    """Return the device ids of a solver's prototxt; "" without any, and, with a warning, where there is no GPU."""
    from minicaffe.cuda import context

    if default_ids is None or context.device_count():
        return default_ids or ""
    if settings.solver_rank == 0:
        log.warning("NO GPU: computing on the CPU, more slowly, although the solver sets solver_mode: GPU (-gpu none: "
                    "the CPU without this line); %s", context.reason_unavailable())  # fmt: skip
    return ""


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Restore mode, device, engine, precision, number of threads and math mode at the end of the `with` block."""
    from minicaffe.cuda import context

    math = context.math()
    try:
        with restored():
            yield
    finally:
        context.set_math(math)


def _engine_name(text: str) -> str:
    """The name as `set_engine` takes it, where it differs only in case."""
    return text.upper() if text.upper() in engine_names() else text


def gpu_ids(text: str) -> list[int]:
    """Parse device ids such as "0,1"; "all" gives all devices, "" and "none" give an empty list.

    UsageError for any other text.
    """
    if text in ("", "none"):
        return []
    if text == "all":
        from minicaffe.cuda import context

        return list(range(context.device_count()))
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f'-gpu: expected device ids separated by commas, "all" or "none", got \'{text}\'') from None


def _choose_device(ids: list[int], local_rank: int | None) -> None:
    if not ids:
        log.info("Use CPU.")
        set_mode_cpu()
        return
    index = _index(ids, local_rank)
    if local_rank is None:
        for other in reversed(ids[1:]):
            log.info("Not using GPU #%d for single-GPU function", other)
    set_device(ids[index])
    set_mode_gpu()
    from minicaffe.cuda import context

    name = context.current().name
    if local_rank is None:
        log.info("Use GPU with device ID %d", ids[0])
        log.info("GPU device name: %s", name)
    else:
        log.info("Using GPUs %s", ", ".join(map(str, ids)))
        log.info("GPU %d: %s", ids[index], name)


def _index(ids: list[int], local_rank: int | None) -> int:
    """Return which of the GPUs this process uses: a single one is that of every process."""
    if local_rank is None or len(ids) == 1:
        return 0
    if local_rank >= len(ids):
        raise UsageError(f"-gpu: this machine has more than {len(ids)} processes of the training, got {len(ids)} ids")
    return local_rank


def _set_precision(text: str) -> None:
    name = next((known for known in PRECISIONS if known.lower() == text.lower()), "")
    if not name:
        raise UsageError(f"--precision: expected float32 or bf16, got '{text}'")
    set_precision(name)


def _set_threads(count: int) -> None:
    if count < 1:
        raise UsageError(f"--threads: expected a number above 0, got {count}")
    set_threads(count)


def _set_math(mode: str) -> None:
    from minicaffe.cuda import set_math
    from minicaffe.cuda.context import MATHS

    if mode not in MATHS:
        raise UsageError(f"--math: expected float32, tf32 or bf16, got '{mode}'")

    set_math(mode)
