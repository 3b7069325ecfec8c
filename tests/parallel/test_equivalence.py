"""Ranks with batches of B against one process with the same records in one batch: losses, and bit-equal ranks.

tools/compare_ranks.py makes the same comparison with processes, at full size and over more updates.
"""

import functools

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_onednn
from helpers.equal_training import differences, model_solver, text_solver, together, trained, write_records
from helpers.ranks import run_ranks
from minicaffe.core.settings import restored, settings

COUNT = 50  # records, which no batch divides
SMALL = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
        data_param { source: "lenet" backend: LMDB batch_size: %d } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 4 stride: 4 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool" top: "ip1"
        inner_product_param { num_output: 20 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SHARED = SMALL.replace(
    'layer { name: "ip2"',
    """layer { name: "again" type: "InnerProduct" bottom: "ip1" top: "ip1b" param { name: "w" } param { name: "b" }
            inner_product_param { num_output: 20 weight_filler { type: "xavier" } } }
    layer { name: "more" type: "InnerProduct" bottom: "ip1b" top: "ip1c" param { name: "w" } param { name: "b" }
            inner_product_param { num_output: 20 weight_filler { type: "xavier" } } }
    layer { name: "ip2\"""",
).replace('bottom: "ip1" top: "ip2"', 'bottom: "ip1c" top: "ip2"')
FROZEN = SMALL.replace('top: "ip1"\n', 'top: "ip1" param { lr_mult: 0 } param { lr_mult: 0 }\n')


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    for name in ("lenet", "cifar10_full", "cifar10_resnet20"):
        write_records(folder / name, name, COUNT)
    return folder


@pytest.fixture(autouse=True)
def in_folder(data, monkeypatch):
    monkeypatch.chdir(data)
    with restored():
        yield


def compare(solver, updates=4, size=2, batch=3, **more):
    """Differences of `size` ranks from one process with the whole batch.

    solver: function of a batch size that returns a SolverParameter.  more: see `trained`.
    """
    ranks = together(run_ranks(size, lambda group: trained(solver(batch), updates, **more)))
    (one,) = run_ranks(1, lambda group: trained(solver(size * batch), updates, **more))
    return differences(ranks, one)


@pytest.mark.parametrize("engine", ["CAFFE", pytest.param("ONEDNN", marks=needs_onednn)])
@pytest.mark.parametrize("name, size", [("lenet", 2), ("lenet", 4), ("cifar10_full", 2)])
def test_a_model(name, size, engine):
    found = compare(lambda batch: model_solver(name, name, batch), size=size, engine=engine)
    assert found.losses <= 1e-6 and found.parameters <= 1e-5


@pytest.mark.skipif(not hasattr(settings, "sync_bn"), reason="needs the exchange of BatchNorm's statistics")
@pytest.mark.parametrize("engine", ["CAFFE", pytest.param("ONEDNN", marks=needs_onednn)])
def test_a_model_with_batch_norm(engine):
    name = "cifar10_resnet20"
    found = compare(lambda batch: model_solver(name, name, batch), engine=engine, sync_bn=True)
    assert found.losses <= 1e-6


RULES = {
    "SGD": {"base_lr": 0.1, "momentum": 0.9},
    "Nesterov": {"base_lr": 0.1, "momentum": 0.9},
    "AdaGrad": {"base_lr": 0.05},
    "RMSProp": {"base_lr": 0.01, "rms_decay": 0.9},
    "AdaDelta": {"base_lr": 1, "momentum": 0.95, "delta": 1e-6},
    "Adam": {"base_lr": 0.01, "momentum": 0.9, "momentum2": 0.99},
}
OPTIONS = {
    "clip": {"clip_gradients": 0.05},
    "iter_size": {"iter_size": 2},
    "L1": {"regularization_type": "L1", "weight_decay": 0.01},
    "all": {"clip_gradients": 0.05, "iter_size": 2, "weight_decay": 0.01},
    "warm-up": {"rampup_interval": 20, "rampup_lr": 0.01},
}


def small(batch, net=SMALL, **fields):
    return text_solver(net % batch, **fields)


@pytest.mark.parametrize("kind", RULES)
def test_every_solver_type(kind):
    found = compare(functools.partial(small, type=kind, weight_decay=0.001, **RULES[kind]))
    assert found.losses <= 1e-6


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [2, 3])
def test_options_of_the_update(option, size):
    assert compare(functools.partial(small, **RULES["SGD"], **OPTIONS[option]), size=size).losses <= 1e-6


@pytest.mark.parametrize("net", [SHARED, FROZEN], ids=["shared", "frozen"])
def test_parameters_that_are_shared_or_frozen(net):
    found = compare(functools.partial(small, net=net, weight_decay=0.01, **RULES["SGD"]))
    assert found.losses <= 1e-6


def test_sixty_updates():
    assert compare(functools.partial(small, **RULES["SGD"]), updates=60).losses <= 1e-3


def test_float64():
    found = compare(functools.partial(small, **RULES["SGD"]), updates=60, dtype=np.float64, engine="CAFFE")
    assert found.losses <= 1e-12 and found.parameters <= 1e-12


def test_only_parameters_with_gradients_are_exchanged():
    """Not those of frozen layers; a shared one once."""

    def counts(net):
        solver = minicaffe.get_solver(small(2, net=net, **RULES["SGD"]))
        return len(solver.net.learnable_params), len(solver.ranks.exchanged(solver.net))

    assert counts(SMALL) == (4, 4) and counts(SHARED) == (6, 6) and counts(FROZEN) == (4, 2)
