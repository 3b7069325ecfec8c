"""minicaffe: Caffe's nets, snapshots, scripts and conventions, in Python.

    import minicaffe as caffe

    solver = caffe.get_solver("models/cifar10_quick/solver.prototxt")
    solver.step(100)

The names here are pycaffe's; each is documented where it is defined.
"""

import os as _os
import sys as _sys

# `python -m minicaffe` puts the working folder first on sys.path, where a file such as ./numpy.py would take the place
# of a library.  Before this line nothing is imported but what Python itself has loaded already.
_word = _sys.orig_argv[-len(_sys.argv)] if _sys.argv[:1] == ["-m"] else ""
_as_module = _word == "minicaffe" or (_word.startswith("-") and _word.endswith("mminicaffe"))
if _as_module and not getattr(_sys.flags, "safe_path", False):
    del _sys.path[0]

# Ctrl-C in a command that is still importing its libraries ends it as it does later, see cli/entry.py.
import signal as _signal  # noqa: E402
import threading as _threading  # noqa: E402


def _end(number: int, frame: object) -> None:
    _os.write(2, b"minicaffe: interrupted\n")
    _os._exit(128 + number)


_handles = (
    (_as_module or any(_os.path.basename(word) == "minicaffe" for word in _sys.argv[:1]))
    and _threading.current_thread() is _threading.main_thread()
    and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
)
if _handles:
    _signal.signal(_signal.SIGINT, _end)

__version__ = "0.1.0"

# In a checkout, layers/, cuda/, solvers/ and models/ are next to this folder; once installed, inside it.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.exists(_os.path.join(_root, "setup.cfg")):
    __path__.append(_root)


from minicaffe import io, proto  # noqa: E402
from minicaffe.checks.running import check  # noqa: E402
from minicaffe.classifier import Classifier  # noqa: E402
from minicaffe.core.blob import Blob  # noqa: E402
from minicaffe.core.layer import Layer  # noqa: E402
from minicaffe.core.net import Net  # noqa: E402
from minicaffe.core.notebook import show_by as _show_by  # noqa: E402
from minicaffe.core.python_layers import allow_python_layers  # noqa: E402
from minicaffe.core.random import set_random_seed  # noqa: E402
from minicaffe.core.registry import add_package, layer_type_list, register  # noqa: E402
from minicaffe.core.settings import (  # noqa: E402
    set_device,
    set_engine,
    set_mode_cpu,
    set_mode_gpu,
    set_precision,
    set_threads,
)
from minicaffe.core.sharing import Sharing  # noqa: E402
from minicaffe.cuda import engine as _cuda  # noqa: E402, F401  (the engines register themselves)
from minicaffe.detector import Detector  # noqa: E402
from minicaffe.net_spec import NetSpec, params, to_proto  # noqa: E402
from minicaffe.onednn import engine as _onednn  # noqa: E402, F401
from minicaffe.proto import TEST, TRAIN  # noqa: E402
from minicaffe.proto.skipping import skip_unknown_fields  # noqa: E402
from minicaffe.pycaffe import (  # noqa: E402
    NCCL,
    Timer,
    has_nccl,
    init_log,
    log,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from minicaffe.solvers import (  # noqa: E402
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from minicaffe.solvers import Solver as _Solver  # noqa: E402
from minicaffe.threads import limit_blas_to_quota as _limit_blas_to_quota  # noqa: E402

# Where layers and what engines compute as one are: modules that are imported when they are first looked up.
add_package("minicaffe.layers")
add_package("minicaffe.layers.onednn", "ONEDNN")
add_package("minicaffe.layers.fused.onednn", "ONEDNN")
add_package("minicaffe.layers.fused.cuda", "CUDA")
add_package("minicaffe.layers.fused.cuda_pooling", "CUDA")
add_package("minicaffe.layers.cudnn", "CUDNN")
add_package("minicaffe.layers.tensor", "TENSOR")
add_package("minicaffe.layers.fused.tensor", "TENSOR")

_limit_blas_to_quota()


# What notebooks show of nets and solvers; the pictures are imported when the first one is shown.
def _net_html(net: Net) -> str:
    from minicaffe.pictures.notebook import net_html

    return net_html(net)


def _solver_html(solver: _Solver) -> str:
    from minicaffe.pictures.notebook import solver_html

    return solver_html(solver)


_show_by(Net, _net_html)
_show_by(_Solver, _solver_html)


def __getattr__(name: str):
    """Import `minicaffe.layers` lazily, on first access; pycaffe's `caffe.layers` needs no import either."""
    if name == "layers":
        import importlib

        return importlib.import_module("minicaffe.layers")
    raise AttributeError(f"module 'minicaffe' has no attribute {name!r}")


__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Sharing",
    "Timer",
    "allow_python_layers",
    "check",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "log",
    "params",
    "proto",
    "register",
    "set_device",
    "set_engine",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_precision",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "set_threads",
    "skip_unknown_fields",
    "solver_count",
    "solver_rank",
    "to_proto",
]

if _handles:
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
