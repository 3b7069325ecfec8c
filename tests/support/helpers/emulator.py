"""Kernels that tests of the emulated device launch themselves."""

import numpy as np

from minicaffe.cuda import context
from minicaffe.cuda.memory import DeviceBuffer


def run(function, grid, block, *arguments, shared=0):
    """Launch a function of PyCUDA's on the computing stream."""
    context.current()
    function.prepared_async_call(grid, block, context.stream(), *arguments, shared_size=shared)


def on_device(array):
    """A copy of an array in a new buffer."""
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


def floats(buffer, *shape):
    """The buffer's first numbers."""
    return buffer.to_host(np.empty(shape, np.float32))
