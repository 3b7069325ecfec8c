"""Locks in forked processes, and pickling of nets, solvers and layers."""

import copy
import multiprocessing
import os
import pickle
import threading

import pytest

from helpers.nets import net_from_text
from minicaffe import forks, get_solver
from minicaffe.errors import UsageError

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 } }
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_another_thread_holds_is_free_in_the_child(kind):
    lock, held, done = forks.renewed(kind()), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert not lock.acquire(blocking=False)
    done.set()
    holder.join()


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_net_and_a_solver_stay_where_they_are(how, tmp_path):
    net = net_from_text(NET, 1)
    with pytest.raises(UsageError, match="a Net cannot be pickled or copied: build it where it is used"):
        how(net)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "{tmp_path}/s"'
    )
    with pytest.raises(UsageError, match="a solver cannot be pickled or copied"):
        how(get_solver(str(tmp_path / "solver.prototxt")))


def _loss(net):
    return net.forward()


def test_a_pool_that_is_given_a_net_says_what_to_do():
    net = net_from_text(NET, 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(UsageError, match="initializer"):
        pool.map(_loss, [net])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_net_that_another_thread_of_the_parent_runs_can_be_run_in_the_child():
    net, inside, done = net_from_text(NET, 1), threading.Event(), threading.Event()
    stops = [True]

    def wait(_):
        if stops:
            stops.clear()
            inside.set()
            done.wait()

    net.before_forward(wait)
    runner = threading.Thread(target=net.forward)
    runner.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        try:
            net.forward()
            net.forward()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    done.set()
    runner.join()
