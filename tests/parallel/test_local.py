"""minicaffe.parallel.run: a function of a script in several processes."""

import subprocess
import sys

import pytest

from minicaffe import parallel
from minicaffe.errors import UsageError

SCRIPT = """
import os, signal, sys
import numpy as np
import minicaffe
from minicaffe import parallel
from minicaffe.errors import ParallelError
from minicaffe.proto import caffe_pb2, parse_text

SOLVER = '''
base_lr: 0.1 lr_policy: "fixed" max_iter: 3 random_seed: 3 snapshot_after_train: false
net_param {
  layer { name: "data" type: "DummyData" top: "x" top: "t"
          dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } data_filler { type: "gaussian" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
          inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}'''


def train(group, scale):
    solver = minicaffe.get_solver(parse_text(SOLVER, caffe_pb2.SolverParameter()))
    solver.solve()
    return group.rank, scale * solver.net.params["ip"][0].data


def sums(group):
    array = np.ones(10, np.float32)
    group.sum(array)
    return array[0]


def raises(group):
    if group.rank == 1:
        raise ValueError("wrong record")
    return sums(group)


def ends(group):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return sums(group)


def leaves(group):
    if group.rank == 0:
        return sums(group)


def not_pickled(group):
    return lambda: None


if __name__ == "__main__":
    try:
        results = parallel.run(globals()[sys.argv[1]], 2, *map(float, sys.argv[2:]))
    except ParallelError as error:
        print(f"{type(error.__cause__).__name__}; {error}")
    else:
        same = sys.argv[1] == "train" and results[0][1].tobytes() == results[1][1].tobytes()
        print([rank for rank, weights in results] if same else results)
"""


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["train", "2"], "[0, 1]"),
        (["sums"], "[2.0, 2.0]"),
        (["raises"], "ValueError; rank 1 has raised ValueError: wrong record"),
        (["ends"], "NoneType; the process of rank 1 has ended without a result"),
        (["leaves"], "ParallelError; rank 0 has raised ParallelError: rank 0 has lost the connection to rank 1"),
        (["not_pickled"], "TypeError; rank "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_run(words, printed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py", *words], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.replace("np.float32(2.0)", "2.0").startswith(printed), done


def test_no_workers():
    with pytest.raises(UsageError, match="expected 1 or more workers, got 0"):
        parallel.run(print, 0)
