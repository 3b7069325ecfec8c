"""Solvers: one module per update rule; the training loop is in base.py."""

from minicaffe.solvers.adadelta import AdaDeltaSolver
from minicaffe.solvers.adagrad import AdaGradSolver
from minicaffe.solvers.adam import AdamSolver
from minicaffe.solvers.base import Solver
from minicaffe.solvers.keeping import Keeper
from minicaffe.solvers.nesterov import NesterovSolver
from minicaffe.solvers.registry import get_solver, register_solver
from minicaffe.solvers.rmsprop import RMSPropSolver
from minicaffe.solvers.sgd import SGDSolver

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Keeper",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "get_solver",
    "register_solver",
]
