"""Mode, engine and random seed are per thread, as in Caffe."""

import threading

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.testing import computing_with

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 50 weight_filler { type: "gaussian" } } }
layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "z"
        inner_product_param { num_output: 50 weight_filler { type: "gaussian" } } }
"""


@pytest.fixture(autouse=True)
def defaults():
    with computing_with("DEFAULT", gpu=False):
        yield


def in_thread(work):
    """Run `work` in a new thread and return its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join()
    return result[0]


def weights():
    net = net_from_text(NET, 0)
    return np.concatenate([blobs[0].read_data().ravel() for blobs in net.params.values()])


def test_what_a_thread_sets_is_its_own():
    def work():
        minicaffe.set_engine("CAFFE")
        settings.engine = runner("GPU")
        return settings.variants, settings.engine

    assert in_thread(work) == ("CAFFE", runner("GPU"))
    assert (settings.variants, settings.engine) == ("DEFAULT", runner("CPU"))


def test_a_thread_that_sets_nothing_reads_the_main_threads():
    minicaffe.set_engine("CAFFE")
    assert in_thread(lambda: settings.variants) == "CAFFE"
    minicaffe.set_engine("ONEDNN")
    assert in_thread(lambda: settings.variants) == "ONEDNN"


def test_a_seed_gives_the_same_weights_beside_other_threads():
    def seeded():
        minicaffe.set_random_seed(3)
        return weights()

    minicaffe.set_random_seed(3)
    alone = weights()
    turns = threading.Barrier(3)
    results = [None] * 3

    def job(i):
        turns.wait()
        results[i] = [seeded() for _ in range(5)]

    threads = [threading.Thread(target=job, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, alone) for each in results for result in each)


def test_another_threads_seed_does_not_change_the_main_threads():
    minicaffe.set_random_seed(3)
    weights()
    expected = weights()
    minicaffe.set_random_seed(3)
    weights()
    in_thread(lambda: minicaffe.set_random_seed(9))
    assert np.array_equal(weights(), expected)
