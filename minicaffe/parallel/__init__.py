"""Training in several processes: data parallelism, as with `caffe train -gpu 0,1`.

Each process (rank) has a solver and reads its share of the data; the gradients are averaged before each update
(`minicaffe.solvers.ranks`).  `start` makes this process a rank: solvers that are built afterwards train with the rest.
"""

from minicaffe.parallel.group import ALONE, Group
from minicaffe.parallel.local import run
from minicaffe.parallel.starting import current, guarded, start, stop

__all__ = ["ALONE", "Group", "current", "guarded", "run", "start", "stop"]
