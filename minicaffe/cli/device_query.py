"""`minicaffe device_query`: the GPUs and CPU engines of this machine."""

from __future__ import annotations

import argparse
import logging
import platform

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.devices import gpu_ids
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cores import cores

log = logging.getLogger("minicaffe")

_EXAMPLES = """
  minicaffe device_query
  minicaffe device_query -gpu 0
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.flag("gpu", metavar="IDS", default="", help='device ids separated by commas (default: "all")')


@command("device_query", "Train and measure", "list the GPUs and CPU engines of this machine", _flags, _EXAMPLES)
def device_query(args: argparse.Namespace) -> None:
    """Log the properties of the given GPUs in Caffe's format; without -gpu, those of all GPUs and the CPU engines."""
    with logging_to(StatusLine()):
        if not args.gpu:
            _query_cpu()
        ids = gpu_ids(args.gpu or "all")
        log.info("Querying GPUs %s", args.gpu or "all")
        if not ids:
            from minicaffe.cuda import context

            log.info("%s", context.reason_unavailable())
        for index in ids:
            query_gpu(index)


def _query_cpu() -> None:
    from minicaffe import onednn
    from minicaffe.core.settings import BF16
    from minicaffe.onednn.engine import ONEDNN

    log.info("CPU: %s, %s, %d cores", platform.machine(), platform.system(), cores())
    if onednn.available():
        log.info("CPU engine ONEDNN: oneDNN %s, %d threads", onednn.version(), onednn.threads())
        log.info("CPU precision bf16: %s", "yes" if onednn.has_bf16() else f"no: {ONEDNN.lacks(BF16)}")
    else:
        log.info("CPU engine ONEDNN: not here, so nets run on engine CAFFE: %s", onednn.reason())
    log.info("CPU engine CAFFE: %s", _numpy())


def _numpy() -> str:
    """The version of numpy and the BLAS that computes its matrix products, as far as numpy reports it."""
    import numpy

    report = getattr(numpy, "__config__", None)
    blas = getattr(report, "CONFIG", {}).get("Build Dependencies", {}).get("blas", {})
    return f"numpy {numpy.__version__}, matrix products by {blas.get('name') or 'an unknown BLAS'}"


def query_gpu(index: int) -> None:
    """Log the properties of one device in the format of the original's DeviceQuery.

    DeviceError when the device is not available.
    """
    from minicaffe.cuda import context, kernels

    context.require(index)
    import pycuda.driver as driver

    device, what = driver.Device(index), driver.device_attribute
    major, minor = device.compute_capability()
    log.info("Device id:                     %d", index)
    log.info("Major revision number:         %d", major)
    log.info("Minor revision number:         %d", minor)
    log.info("Name:                          %s", device.name())
    log.info("Total global memory:           %d", device.total_memory())
    for label, names in (
        ("Total shared memory per block: ", ("MAX_SHARED_MEMORY_PER_BLOCK",)),
        ("Total registers per block:     ", ("MAX_REGISTERS_PER_BLOCK",)),
        ("Warp size:                     ", ("WARP_SIZE",)),
        ("Maximum memory pitch:          ", ("MAX_PITCH",)),
        ("Maximum threads per block:     ", ("MAX_THREADS_PER_BLOCK",)),
        ("Maximum dimension of block:    ", tuple(f"MAX_BLOCK_DIM_{axis}" for axis in "XYZ")),
        ("Maximum dimension of grid:     ", tuple(f"MAX_GRID_DIM_{axis}" for axis in "XYZ")),
        ("Clock rate:                    ", ("CLOCK_RATE",)),
        ("Total constant memory:         ", ("TOTAL_CONSTANT_MEMORY",)),
        ("Texture alignment:             ", ("TEXTURE_ALIGNMENT",)),
        ("Number of multiprocessors:     ", ("MULTIPROCESSOR_COUNT",)),
    ):
        log.info("%s%s", label, ", ".join(_attribute(device, what, name) for name in names))
    for label, name in (
        ("Concurrent copy and execution: ", "GPU_OVERLAP"),
        ("Kernel execution timeout:      ", "KERNEL_EXEC_TIMEOUT"),
    ):
        log.info("%s%s", label, "Yes" if _attribute(device, what, name) == "1" else "No")
    log.info("Kernels:                       %s", kernels.fitness())


def _attribute(device, what, name: str) -> str:
    """Return one attribute as text; "unknown" if the driver does not report it."""
    try:
        return str(device.get_attribute(getattr(what, name)))
    except Exception:  # noqa: BLE001  (PyCUDA raises its own error per driver version)
        return "unknown"
