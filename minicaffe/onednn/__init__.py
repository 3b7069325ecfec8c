"""The oneDNN engine: a ctypes binding to libdnnl.so.3, the CPU's fast convolutions and their layouts.

`available()` is whether the library was found, `reason()` why not; `set_threads` is `minicaffe.set_threads`.
"""

from minicaffe.core.settings import set_threads
from minicaffe.onednn.library import (
    OneDNNError,
    Unsupported,
    available,
    has_bf16,
    reason,
    threads,
    version,
)

__all__ = ["OneDNNError", "Unsupported", "available", "has_bf16", "reason", "set_threads", "threads", "version"]
