"""One thread at a time runs a net; nets in several threads do not affect each other."""

import threading

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import NetError

# a residual block that ends in two convolutions without in-place layers after them
CONV = 'convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }'
NET = f"""
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 8 dim: 12 dim: 12 }} }} }}
layer {{ name: "c0" type: "Convolution" bottom: "x" top: "c0" {CONV} }}
layer {{ name: "c1" type: "Convolution" bottom: "c0" top: "c1" {CONV} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }}
layer {{ name: "scale" type: "Scale" bottom: "c1" top: "c1" }}
layer {{ name: "sum" type: "Eltwise" bottom: "c0" bottom: "c1" top: "sum" }}
layer {{ name: "c2" type: "Convolution" bottom: "sum" top: "c2" {CONV} }}
layer {{ name: "c3" type: "Convolution" bottom: "sum" top: "c3" {CONV} }}
"""


def build():
    net = net_from_text(NET, 1)
    for blob, value in zip(net.params["bn"], (0.1, 1, 1)):
        blob.data[...] = value
    return net


def in_threads(work, count):
    """Run work(0) to work(count - 1), each in a thread; return their results."""
    results = [None] * count
    failures = []

    def job(i):
        try:
            results[i] = work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=job, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


@pytest.mark.parametrize("share", [False, True], ids=["own weights", "shared weights"])
def test_each_thread_has_a_net(share):
    """The views of the outputs in `out = net.forward(data=x)` exist during the next pass."""
    nets = [build() for _ in range(4)]
    if share:
        for net in nets[1:]:
            net.share_with(nets[0])
    xs = [np.random.default_rng(seed).standard_normal((2, 8, 12, 12)).astype("f") for seed in range(2)]
    expected = [[outputs_alone(net, x) for x in xs] for net in nets]

    def work(i):
        wrong = 0
        for k in range(60):
            out = nets[i].forward(x=xs[k % 2])
            wrong += any(not np.allclose(out[name], a, atol=1e-4) for name, a in expected[i][k % 2].items())
        return wrong

    assert in_threads(work, 4) == [0] * 4


def outputs_alone(net, x):
    """The result of a net with the same weights, not shared, in one thread."""
    other = build()
    for name, blobs in net.params.items():
        for mine, theirs in zip(other.params[name], blobs):
            mine.data[...] = theirs.read_data()
    return {name: array.copy() for name, array in other.forward(x=x).items()}


@pytest.mark.parametrize("action", ["forward", "backward", "reshape", "forward_all", "forward_backward"])
def test_a_second_thread_in_one_net_gets_an_error(action):
    net = build()
    inside, leave = threading.Event(), threading.Event()

    def wait(i):
        inside.set()
        assert leave.wait(60)

    net.before_forward(wait)
    first = threading.Thread(target=net.forward)
    first.start()
    assert inside.wait(60)
    try:
        arguments = {"x": np.zeros((2, 8, 12, 12))} if action == "forward_all" else {}
        with pytest.raises(NetError, match="net '' is being run by another thread: give each thread a net of its own"):
            getattr(net, action)(**arguments)
        for name in ("blobs", "params"):  # writing to these blobs could change values during the pass
            with pytest.raises(NetError, match="is being run by another thread"):
                getattr(net, name)
    finally:
        leave.set()
        first.join()
    net.forward()  # no other thread runs the net


def test_the_thread_that_runs_a_net_may_enter_it_again():
    net, seen = build(), []

    def look(i):
        if i == 2 and not seen:
            seen.append(net.forward(end="c0")["c0"].copy())

    net.after_forward(look)
    net.forward()
    assert len(seen) == 1


def test_an_error_leaves_the_net_free():
    net = build()

    def fail(i):
        raise ZeroDivisionError

    net.before_forward(fail)
    with pytest.raises(ZeroDivisionError):
        net.forward()
    net.callbacks.before_forward.clear()
    assert in_threads(lambda i: sorted(net.forward()), 1) == [["c2", "c3"]]
