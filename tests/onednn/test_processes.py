"""Processes made by fork, spawn and forkserver compute what their parent computes."""

import os
import subprocess
import sys

import pytest

from helpers.engines import needs_onednn

pytestmark = [
    needs_onednn,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

NET = '''
import multiprocessing, os, sys, threading
import numpy as np
import minicaffe as caffe
from minicaffe import layers as L, onednn

def net(phase):
    caffe.set_random_seed(1)
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 12, 12]))
    n.conv = L.Convolution(n.data, num_output=16, kernel_size=3, weight_filler=dict(type="msra"))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.score = L.InnerProduct(n.relu, num_output=4, weight_filler=dict(type="xavier"))
    n.loss = L.Reduction(n.score, operation=3, loss_weight=1)
    param = n.to_proto()
    param.force_backward = True
    return caffe.Net(param, phase=phase)

def step(net):
    net.clear_param_diffs()
    net.blobs["data"].data[...] = np.random.RandomState(0).rand(2, 3, 12, 12)
    net.forward_backward()
    return [blob.data.copy() for blob in net.blobs.values()] + [b.diff.copy() for b in net.learnable_params]

def same(results, expected):
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(results, expected))

def in_child(work):
    """Whether a forked child's `work()` is true."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0

class Worker:
    def start():
        Worker.net = net(caffe.TRAIN)
    def run(_):
        return step(Worker.net)
'''


def run(code, threads="2"):
    """Run NET and code in a fresh process; ended after two minutes if a child hangs."""
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", NET + code],
        env=environment, text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_a_child_and_its_child_compute_on(phase):
    code = f"""
mine = net(caffe.{phase})
expected = step(mine)
assert onednn.threads() == 2
print(in_child(lambda: same(step(mine), expected) and in_child(lambda: same(step(mine), expected))))
print(same(step(mine), expected), in_child(lambda: same(step(net(caffe.{phase})), expected)))
"""
    assert run(code) == ["True"] * 3


def test_a_fork_from_a_thread_while_another_thread_makes_primitives():
    code = """
from minicaffe.onednn import primitives, tensors
from minicaffe.onednn.library import Alg
mine, stop, results = net(caffe.TRAIN), threading.Event(), []
expected = step(mine)

def make():
    size = 0
    while not stop.is_set():
        size += 1
        desc = tensors.plain((1, size))
        primitives.eltwise(Alg.RELU, desc, desc)

def fork():
    own = net(caffe.TRAIN)
    step(own)
    results.extend(in_child(lambda: same(step(own), expected) and same(step(net(caffe.TRAIN)), expected))
                   for _ in range(5))

maker, forker = threading.Thread(target=make), threading.Thread(target=fork)
maker.start(), forker.start()
forker.join(), stop.set(), maker.join()
print(*results, same(step(mine), expected))
"""
    assert run(code) == ["True"] * 6


def test_a_child_may_choose_its_threads():
    code = """
mine = net(caffe.TRAIN)
expected = step(mine)

def alone():
    onednn.set_threads(1)
    return onednn.threads() == 1 and same(step(mine), expected)

print(in_child(alone), onednn.threads())
"""
    assert run(code) == ["True", "2"]


def test_a_pool_by_fork_uses_the_parents_net():
    code = """
Worker.start()
expected = Worker.run(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(*(same(result, expected) for result in pool.map(Worker.run, range(4))))
"""
    assert run(code) == ["True"] * 4


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_that_builds_its_nets(tmp_path, method):
    script = tmp_path / "script.py"
    main = f"""
if __name__ == "__main__":
    Worker.start()
    expected = Worker.run(0)
    with multiprocessing.get_context("{method}").Pool(2, Worker.start) as pool:
        print(*(same(result, expected) for result in pool.map(Worker.run, range(4))))
"""
    script.write_text(NET + main)
    done = subprocess.run([sys.executable, str(script)], text=True, capture_output=True, timeout=240)
    assert done.stdout.split() == ["True"] * 4, done.stderr


def test_an_openmp_that_cannot_end_its_workers_is_an_error():
    code = """
from minicaffe.onednn import library

class Old:
    def __init__(self, new):
        self.new = new
    def __getattr__(self, name):
        if name == "omp_pause_resource_all":
            raise AttributeError(name)
        return getattr(self.new, name)

mine = net(caffe.TRAIN)
step(mine)
library.RUNTIME.loaded = Old(library.RUNTIME.loaded)

def refused():
    try:
        step(mine)
    except onednn.OneDNNError as error:
        return "OMP_NUM_THREADS=1" in str(error)

print(in_child(refused))
"""
    assert run(code) == ["True"]


def test_a_fork_does_not_load_the_library():
    code = """
from minicaffe.onednn import library
print(in_child(lambda: library.RUNTIME.loaded is None), library.RUNTIME.loaded is None)
"""
    assert run(code) == ["True", "True"]
