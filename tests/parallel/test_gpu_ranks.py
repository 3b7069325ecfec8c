"""Ranks with a GPU each: gradients averaged by NCCL inside the captured step.

On the emulated device, processes use a stand-in of NCCL (tests/cuda_emulator/nccl.c).
"""

import contextlib
import logging
import os

import numpy as np
import pytest

import minicaffe
from helpers.nets import solver_from_text
from helpers.rank_process import Processes
from helpers.ranks import run_ranks
from helpers.readers import write_images
from minicaffe.core.settings import settings
from minicaffe.cuda import context
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_graphs")]

RATE = "base_lr: 0.05 lr_policy: 'inv' gamma: 0.1 power: 0.5 weight_decay: 0.01 random_seed: 3"
NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{source}" backend: LMDB batch_size: {batch} }}
        transform_param {{ scale: 0.01 mean_value: 120 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
{more}
layer {{ name: "pool" type: "Pooling" bottom: "{last}" top: "pool" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
        inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SHARED = """
layer { name: "conv2" type: "Convolution" bottom: "conv" top: "conv2" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "conv3" type: "Convolution" bottom: "conv2" top: "conv3" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    write_images(folder / "db", rng.integers(0, 256, (10, 3, 8, 8), np.uint8), labels=3)
    return str(folder / "db")


# -- what a rank does --------------------------------------------------------------------------------------------------


def make(source, text="", batch=4, outputs=3, more=""):
    last = "conv3" if more else "conv"
    net = NET.format(source=source, batch=batch, outputs=outputs, more=more, last=last)
    return solver_from_text(f"{RATE} {text}", net)


def weights(solver):
    return [blob.data.copy() for blob in solver.net.learnable_params]


@contextlib.contextmanager
def on_gpu(group, environment=None):
    """GPU mode in this block, on the rank's GPU; yields the lines that are logged."""
    lines, environment = [], environment or {}
    before = {name: os.environ.get(name) for name in environment}
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("minicaffe")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    os.environ.update(environment)
    try:
        with computing_with(gpu=True):
            minicaffe.set_device(group.rank if context.device_count() > 1 else 0)
            yield lines
    finally:
        logger.removeHandler(handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def about_graphs(lines):
    return [line for line in lines if "CUDA graph" in line]


def train(group, source, text="", steps=(4,), environment=None, **options):
    """Train; return weights, whether the last step was a graph, lines about graphs."""
    with on_gpu(group, environment) as lines:
        settings.sync_bn = True
        solver = make(source, text, **options)
        for count in steps:
            solver.step(count)
        return weights(solver), solver.engine_step.captured, about_graphs(lines)


# -- numbers -----------------------------------------------------------------------------------------------------------

SOLVERS = {
    "SGD": "momentum: 0.9",
    "Nesterov": "type: 'Nesterov' momentum: 0.9",
    "AdaGrad": "type: 'AdaGrad'",
    "RMSProp": "type: 'RMSProp' rms_decay: 0.9",
    "AdaDelta": "type: 'AdaDelta' momentum: 0.9 delta: 1e-6",
    "Adam": "type: 'Adam' momentum: 0.9 momentum2: 0.999",
    "clip": "momentum: 0.9 clip_gradients: 0.1",
    "iter_size": "momentum: 0.9 iter_size: 2",
    "clip, iter_size, L1": "momentum: 0.9 clip_gradients: 0.1 iter_size: 2 regularization_type: 'L1'",
    "losses": "momentum: 0.9 average_loss: 3 display: 2",
    "shared": "momentum: 0.9",
    "sync_bn": "momentum: 0.9",
    "sync_bn, iter_size": "momentum: 0.9 iter_size: 2",
}
BATCH_NORM = """
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu2" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "bn2" type: "BN" bottom: "conv" top: "conv3" bn_param { momentum: 0.9 slope_filler { value: 1 } } }
"""
MORE = {"shared": SHARED, "sync_bn": BATCH_NORM, "sync_bn, iter_size": BATCH_NORM}


@pytest.mark.parametrize("name", SOLVERS)
def test_two_ranks_get_what_one_gets_with_twice_the_batch(ranks, source, gpu_mode, name):
    more = MORE.get(name, "")
    (first, captured, lines), (second, *_) = ranks.run(train, source, SOLVERS[name], more=more)
    assert captured and not lines
    alone = make(source, SOLVERS[name], batch=8, more=more)
    alone.step(4)
    for a, b, c in zip(first, second, weights(alone)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-7)


def test_three_ranks(source, gpu_mode):
    if context.current().name != "emulated GPU" and context.device_count() < 3:
        pytest.skip("three ranks need three GPUs")
    processes = Processes(3)
    results = processes.run(train, source, "momentum: 0.9 clip_gradients: 0.1")
    alone = make(source, "momentum: 0.9 clip_gradients: 0.1", batch=12)
    alone.step(4)
    for found, captured, lines in results:
        assert captured and not lines
        for a, b, c in zip(found, results[0][0], weights(alone)):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-7)
    assert processes.close() == [0, 0, 0]


@pytest.mark.parametrize("environment", [{"MINICAFFE_GRAPH": "0"}, {"MINICAFFE_NCCL": "/no/such/library"}], ids=str)
def test_other_ways_give_the_same_bits(ranks, source, environment):
    text = "momentum: 0.9 clip_gradients: 0.1 iter_size: 2"
    (first, captured, _), _ = ranks.run(train, source, text, steps=(3, 3))
    others = ranks.run(train, source, text, steps=(3, 3), environment=environment)
    assert captured
    for second, captured, lines in others:
        assert not captured and len(lines) == 1 and "without a CUDA graph: rank 0: " in lines[0]
        for a, b in zip(first, second):
            np.testing.assert_array_equal(a, b)


def test_ranks_with_one_gpu_use_the_host(source, gpu_mode, monkeypatch):
    """Threads of this process, which have one GPU."""
    results = run_ranks(2, lambda group: train(group, source, "momentum: 0.9"))
    for found, captured, lines in results:
        assert not captured and "rank 1: NCCL cannot use the GPU of rank 0 (" in lines[0]
        for a, b in zip(found, results[0][0]):
            np.testing.assert_array_equal(a, b)


def test_snapshots_resume_to_the_bit(ranks, source, tmp_path):
    results = ranks.run(resume, source, str(tmp_path))
    for whole, resumed, captured in results:
        assert captured
        for a, b in zip(whole, resumed):
            np.testing.assert_array_equal(a, b)
    assert (tmp_path / "0_iter_9.caffemodel").exists()


def resume(group, source, folder):
    text = f"momentum: 0.9 snapshot_prefix: '{folder}/{group.rank}' snapshot: 4 max_iter: 9"
    with on_gpu(group):
        whole, resumed = make(source, text), make(source, text)
        whole.solve()
        resumed.solve(whole.param.snapshot_prefix + "_iter_4.solverstate")
        return weights(whole), weights(resumed), resumed.engine_step.captured


# -- what the ranks agree on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_all_stop_after_the_iteration_in_which_a_rank_stops(ranks, source, rank):
    assert ranks.run(stop, source, rank) == [5, 5]


class Stopper:
    """Stops a solver in its fifth iteration."""

    def on_iteration(self, solver, loss):
        if solver.iter == 4:
            solver.stop()


def stop(group, source, rank):
    with on_gpu(group):
        solver = make(source)
        solver.observers = [Stopper()] if group.rank == rank else []
        solver.step(9)
        assert solver.stopped
        return solver.iter


def test_a_snapshot_that_a_rank_requests(ranks, source, tmp_path):
    ranks.run(request, source, str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("0*.caffemodel")) == ["0_iter_3.caffemodel"]


def request(group, source, folder):
    with on_gpu(group):
        solver = make(source, f"snapshot_prefix: '{folder}/{group.rank}'")
        requests = {1: [None, None, "snapshot"]}.get(group.rank, [])
        solver.action = lambda: requests.pop(0) if requests else None
        solver.step(5)


def both(results):
    """The weights and lines of two ranks that have no graph, with equal weights."""
    (first, captured, lines), (second, captured_there, lines_there) = results
    assert not captured and not captured_there
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert lines == lines_there
    return first, lines


@pytest.mark.parametrize("hindrance", ["callback", "hook", "layer", "early", "late"])
def test_where_one_rank_has_no_graph_no_rank_has(ranks, source, hindrance):
    """early, late: the capture fails before the gradients are averaged, or after."""
    (expected, captured, _), _ = ranks.run(train, source, "momentum: 0.9", steps=(3, 3))
    found, lines = both(ranks.run(hinder, source, hindrance))
    reasons = {
        "callback": "it calls functions of a script",
        "hook": "it calls functions of a script",
        "layer": "ReLU layer 'relu' works on the host",
        "early": "this layer waits",
        "late": "this update waits",
    }
    assert captured and lines == [f"The step runs without a CUDA graph: rank 1: {reasons[hindrance]}"]
    for a, b in zip(expected, found):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def hinder(group, source, hindrance):
    from minicaffe.cuda import graph

    with on_gpu(group) as lines:
        solver = make(source, "momentum: 0.9")
        relu, step = solver.net.layers[2], solver.engine_step
        if group.rank == 1 and hindrance == "callback":
            solver.add_callback(lambda: None, lambda: None)
        elif group.rank == 1 and hindrance == "hook":
            solver.add_gradient_hook(lambda made: None)
        elif group.rank == 1 and hindrance == "layer":
            relu.capturable = False
        elif group.rank == 1 and hindrance == "early":
            solver.net.run_backward = forbidding(graph, "this layer waits", solver.net.run_backward)
        elif group.rank == 1 and hindrance == "late":
            fused = step.fused_update()
            fused.apply = forbidding(graph, "this update waits", fused.apply)
        solver.step(3)
        solver.step(3)
        return weights(solver), step.captured, about_graphs(lines)


def forbidding(graph, reason, function):
    def call():
        graph.forbid(reason)
        function()

    return call


def test_a_display_of_one_rank(ranks, source):
    """Iterations in which one rank shows every layer are no graphs, the others are."""
    (first, captured, lines), (second, *_) = ranks.run(display, source, "momentum: 0.9")
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert captured and not lines


def display(group, source, text):
    with on_gpu(group) as lines:
        solver = make(source, text)
        if group.rank == 1:
            solver.param.display, solver.param.debug_info = 4, True
        solver.step(8)
        return weights(solver), solver.engine_step.captured, about_graphs(lines)


def test_what_changes_at_one_rank_is_captured_anew_by_all(ranks, source):
    (first, captured, runs), (second, captured_there, runs_there) = ranks.run(change, source)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert captured and captured_there and runs == runs_there == 4


def change(group, source):
    """Train, change a layer of rank 1, train on; return weights, whether it is captured, how often the work was run."""
    with on_gpu(group):
        solver, runs = make(source, "momentum: 0.9"), []
        step = solver.engine_step
        work = step._work
        step._work = lambda fused: (runs.append(1), work(fused))
        solver.step(4)
        if group.rank == 1:
            solver.net.layers[2].negative_slope = 0.1
        solver.step(4)
        return weights(solver), step.captured, len(runs)


def test_a_diff_with_other_memory_is_moved_again(ranks, source):
    (first, captured, lines), (second, *_) = ranks.run(replace, source)
    (expected, *_), _ = ranks.run(train, source, "momentum: 0.9", steps=(6,))
    for a, b, c in zip(first, second, expected):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert captured and not lines


def replace(group, source):
    from minicaffe.core.blob import Blob

    with on_gpu(group) as lines:
        solver = make(source, "momentum: 0.9")
        solver.step(3)
        if group.rank == 1:
            blob = solver.net.params["ip"][0]
            blob.restore((blob.shape, blob.data_memory, Blob(blob.shape).diff_memory))
        solver.step(3)
        return weights(solver), solver.engine_step.captured, about_graphs(lines)


def test_views_and_diffs_show_the_averages(ranks, source):
    (first, second) = ranks.run(look, source)
    for a, b in zip(first, second):
        assert np.abs(a).max() > 0
        np.testing.assert_array_equal(a, b)


def look(group, source):
    with on_gpu(group):
        solver = make(source)
        held = [blob.diff for blob in solver.net.learnable_params]
        seen = []
        solver.add_gradient_hook(lambda made: seen.extend(b.diff.copy() for b in made.net.learnable_params))
        solver.step(2)
        return [*seen, *(view.copy() for view in held)]


def test_ranks_with_different_nets(ranks, source):
    for rank, text in enumerate(ranks.run(differ, source)):
        shapes = "shape (3, 64) (float32) at rank 0", "shape (2, 64) (float32) at rank 1"
        assert text == (f"the ranks train different nets: parameter 2 has {shapes[rank]}, {shapes[1 - rank]}")


def differ(group, source):
    from minicaffe.errors import SolverError

    with on_gpu(group):
        solver = make(source, outputs=3 - group.rank)
        solver.ranks._wishes.clear()  # without the comparison before the parameters are broadcast
        with pytest.raises(SolverError) as raised:
            solver.step(1)
        return str(raised.value)


def test_the_failure_of_a_rank_ends_the_wait_of_the_others(ranks, source):
    assert ranks.run(fail, source) == ["ParallelError", "ValueError"]
    ranks.run(train, source)  # a new group has a new connection


def fail(group, source):
    """Let a layer of rank 1 raise, while rank 0 waits for its gradients."""
    with on_gpu(group):
        solver = make(source)
        solver.step(3)
        if group.rank == 1:
            solver.net.run_backward = mistake
            solver.net.layers[2].negative_slope = 0.1  # so that this step is no replay
        try:
            solver.step(1)
        except Exception as error:
            group.close()  # as at the end of its process
            return type(error).__name__


def mistake():
    raise ValueError("a mistake")
