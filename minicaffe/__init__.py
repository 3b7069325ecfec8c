"""minicaffe: Caffe's nets, snapshots, scripts and habits, in Python.

    import minicaffe as caffe

    solver = caffe.get_solver("models/cifar10_quick/solver.prototxt")
    solver.step(100)

The names here are pycaffe's; what they do is told where they are defined.
"""

from __future__ import annotations

import os as _os

__version__ = "0.1.0"

# In a checkout layers/, cuda/, solvers/ and models/ lie beside this folder; installed, inside it.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.exists(_os.path.join(_root, "setup.cfg")):
    __path__.append(_root)

from minicaffe.blob import Blob  # noqa: E402
from minicaffe.config import set_device, set_engine, set_mode_cpu, set_mode_gpu  # noqa: E402
from minicaffe.layer import Layer, layer_type_list, register  # noqa: E402
from minicaffe.net import Net  # noqa: E402
from minicaffe.random import set_random_seed  # noqa: E402
from minicaffe.solvers import (  # noqa: E402
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

TRAIN, TEST = 0, 1

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "layer_type_list",
    "register",
    "set_device",
    "set_engine",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
]
