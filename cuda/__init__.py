"""The GPU engine: minicaffe's own CUDA kernels, launched through PyCUDA.

``context``: the device and its two streams.  ``memory``: device buffers from one pool.  ``kernels``: compiles
``<stem>.cu`` on first use and caches it on disk.  ``ops``: linear algebra for the layers.  ``graph``: capture and
replay of steps as CUDA graphs.

Importing this package needs neither PyCUDA nor a GPU; the first call looks for them, and ``available()`` returns
whether both were found.
"""

from pkgutil import extend_path

# In a checkout this folder can also be imported as `cuda`, the name of NVIDIA's own packages (cuda.bindings).
__path__ = extend_path(__path__, __name__)

from minicaffe.cuda.context import (  # noqa: E402
    available,
    device_count,
    reason_unavailable,
    require,
    set_math,
    synchronize,
)

__all__ = ["available", "device_count", "reason_unavailable", "require", "set_math", "synchronize"]
