"""The GPU engine: minicaffe's own CUDA kernels, launched through PyCUDA.

``context`` holds the device and its two streams, ``memory`` buffers from one pool, ``kernels`` compiles ``<stem>.cu``
on first use and remembers it on disk, ``ops`` is the algebra that layers share, ``graph`` captures whole steps.
Importing this package needs neither PyCUDA nor a GPU: both are looked for at the first call, and ``available()`` tells
whether they are there.
"""

from pkgutil import extend_path

# In a checkout this folder is also found under the name `cuda`, where NVIDIA's own packages (cuda.bindings) live.
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
