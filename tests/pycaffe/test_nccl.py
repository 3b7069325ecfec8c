"""pycaffe's names for training in several processes, in a script of the form of the original's python/train.py."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import minicaffe
from helpers.ranks import run_ranks
from minicaffe.errors import UsageError
from minicaffe.testing import computing_with

ROOT = Path(__file__).resolve().parents[2]

NET = """
layer { name: "data" type: "HDF5Data" top: "x" top: "t" hdf5_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "y"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.1 momentum: 0.9 weight_decay: 0.01 clip_gradients: 1 lr_policy: "fixed"
            max_iter: 4 snapshot: 2 display: 2 random_seed: 5 snapshot_prefix: "model" snapshot_after_train: false """

SCRIPT = """
import multiprocessing, sys
import numpy
import caffe


def train(method, engine, timing, snapshot):
    uid = caffe.NCCL.new_uid()
    caffe.init_log()
    caffe.log("Using 2 processes")
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=solve, args=(uid, rank, method, engine, timing, snapshot)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode for worker in workers))


def time(solver, nccl):
    backward = [caffe.Timer() for layer in solver.net.layers]
    total, allreduce = caffe.Timer(), caffe.Timer()
    solver.net.before_backward(lambda layer: backward[layer].start())
    solver.net.after_backward(lambda layer: backward[layer].stop())
    solver.add_callback(lambda: total.start(), lambda: (total.stop(), allreduce.start()))
    solver.add_callback(nccl)
    solver.add_callback(lambda: None, lambda: (allreduce.stop(), show(solver, backward, total, allreduce)))


def show(solver, backward, total, allreduce):
    if solver.iter % solver.param.display == 0:
        caffe.log("layers %r total %r allreduce %r" % (
            all(timer.ms > 0 for timer in backward[1:]), total.ms > 0, allreduce.ms > 0))


def solve(uid, rank, method, engine, timing, snapshot):
    if method == "spawn":
        caffe.init_log()
    if engine == "GPU":
        caffe.set_mode_gpu()
        caffe.set_device(0)
    else:
        caffe.set_mode_cpu()
        caffe.set_engine(engine)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)

    solver = caffe.SGDSolver("solver.prototxt")
    solver.net.params["ip"][1].data[...] = 0.25 if rank == 0 else 7  # rank 0's counts
    if snapshot:
        solver.restore(snapshot)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    if timing and rank == 0:
        time(solver, nccl)
    else:
        solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(solver.param.max_iter - solver.iter)
    numpy.savez("rank%d.npz" % rank, *(blob.data for blobs in solver.net.params.values() for blob in blobs))


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], sys.argv[3] == "timing", sys.argv[4] if len(sys.argv) > 4 else "")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("data.h5", "w") as file:
        file["x"] = random.standard_normal((12, 2, 6, 6)).astype("f4")
        file["t"] = random.integers(0, 3, (12, 1)).astype("f4")
    Path("list.txt").write_text("data.h5\n")
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    Path("script.py").write_text(SCRIPT)
    return tmp_path


def parameters(solver):
    return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def by_parallel(gpu=False, engine=None):
    """The parameters that two ranks of minicaffe.parallel get."""

    def work(group):
        with computing_with(gpu=gpu, engine=engine):
            solver = minicaffe.SGDSolver("solver.prototxt")
            solver.net.params["ip"][1].data[...] = 0.25
            solver.step(solver.param.max_iter)
            return parameters(solver)

    return run_ranks(2, work)[0]


def run_script(*words):
    words = [sys.executable, "-m", "minicaffe.run_as_caffe", "script.py", *words]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranks = [[file[name] for name in file.files] for file in (np.load(f"rank{rank}.npz") for rank in range(2))]
    return ranks, done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("engine", ["CAFFE", "ONEDNN"])
def test_a_script_of_two_processes(folder, method, engine):
    if engine not in minicaffe.core.settings.engine_names():
        pytest.skip(f"the engine {engine} is not installed")
    ranks, log = run_script(method, engine, "plain")
    expected = by_parallel(engine=engine)
    for own in ranks:
        assert len(own) == len(expected) == 4
        for value, other in zip(own, expected):
            np.testing.assert_array_equal(value, other)
    assert log.count("Iteration 2 (") == 1, "rank 0 logs, the others do not"


@pytest.mark.gpu
def test_a_script_of_two_processes_on_the_gpu(folder, cuda_device):
    ranks, _ = run_script("spawn", "GPU", "plain")
    for value, other in zip(*ranks):
        np.testing.assert_array_equal(value, other)
    for value, other in zip(ranks[0], by_parallel(engine="CAFFE")):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


def test_a_script_that_measures_times(folder):
    ranks, log = run_script("spawn", "CAFFE", "timing")
    assert log.count("layers True total True allreduce True") == 2
    for value, other in zip(ranks[0], by_parallel(engine="CAFFE")):
        np.testing.assert_array_equal(value, other)
    for value, other in zip(*ranks):
        np.testing.assert_array_equal(value, other)


def test_a_script_that_continues(folder):
    """With the random numbers and the data of each rank."""
    ranks, log = run_script("spawn", "CAFFE", "plain")
    assert log.count("Snapshotting to binary proto file") == 2, log
    for name in ("rank0.npz", "rank1.npz", "model_iter_4.caffemodel"):
        Path(name).unlink()
    again, log = run_script("spawn", "CAFFE", "plain", "model_iter_2.solverstate")
    for rank in (0, 1):
        for value, other in zip(again[rank], ranks[rank]):
            np.testing.assert_array_equal(value, other)
    assert "this training has" not in log


def test_one_process(folder):
    solver, alone = minicaffe.SGDSolver("solver.prototxt"), minicaffe.SGDSolver("solver.prototxt")
    nccl = minicaffe.NCCL(solver, minicaffe.NCCL.new_uid())
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)
    for one in (solver, alone):
        one.step(3)
    for value, other in zip(parameters(solver), parameters(alone)):
        np.testing.assert_array_equal(value, other)
    with pytest.raises(UsageError, match="an NCCL is added once, to the solver that it was made for"):
        solver.add_callback(nccl)
    with pytest.raises(UsageError, match="an NCCL is added once, to the solver that it was made for"):
        alone.add_callback(nccl)


@pytest.mark.parametrize("uid", [b"\0" * 128, "", "here", "127.0.0.1:x:secret", None])
def test_a_uid_of_something_else(folder, uid):
    solver = minicaffe.SGDSolver("solver.prototxt")
    with pytest.raises(UsageError, match="NCCL expects the result of NCCL.new_uid"):
        minicaffe.NCCL(solver, uid)


def test_a_solver_that_trains_with_others_already(folder):
    def work(group):
        solver = minicaffe.SGDSolver("solver.prototxt")
        with pytest.raises(UsageError, match="the solver trains with others already"):
            minicaffe.NCCL(solver, minicaffe.NCCL.new_uid())
        return True

    assert run_ranks(2, work) == [True, True]


def test_one_function_is_no_callback(folder):
    solver = minicaffe.SGDSolver("solver.prototxt")
    with pytest.raises(UsageError, match="add_callback expects two functions, or an NCCL, got function"):
        solver.add_callback(lambda: None)


def test_uids_differ():
    assert minicaffe.NCCL.new_uid() != minicaffe.NCCL.new_uid()
