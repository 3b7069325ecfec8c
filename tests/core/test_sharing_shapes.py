"""Plans for shared buffers where blobs change their shapes from batch to batch, as the labels of detectors do."""

import weakref

import pytest

from helpers.nets import net_from_text
from minicaffe import Sharing, onednn
from minicaffe.proto import TRAIN
from minicaffe.testing import computing_with

ENGINES = ["CAFFE", *(["ONEDNN"] if onednn.available() else [])]

CONVOLUTION = "convolution_param { num_output: 8 kernel_size: 3 pad: 1 }"
NET = f"""
layer {{ name: 'in' type: 'Input' top: 'data' top: 'target' top: 'label'
        input_param {{ shape {{ dim: 2 dim: 3 dim: 16 dim: 16 }}
                      shape {{ dim: 2 dim: 1 }} shape {{ dim: 3 dim: 8 }} }} }}
layer {{ name: 'a' type: 'Convolution' bottom: 'data' top: 'a' {CONVOLUTION} }}
layer {{ name: 'b' type: 'Convolution' bottom: 'a' top: 'b' {CONVOLUTION} }}
layer {{ name: 'c' type: 'Convolution' bottom: 'b' top: 'c' {CONVOLUTION} }}
layer {{ name: 'out' type: 'InnerProduct' bottom: 'c' top: 'out' inner_product_param {{ num_output: 1 }} }}
layer {{ name: 'loss' type: 'SmoothL1Loss' bottom: 'out' bottom: 'target' top: 'loss' }}
layer {{ name: 'boxes' type: 'Reduction' bottom: 'label' top: 'boxes' }}
layer {{ name: 'label_again' type: 'Reduction' bottom: 'label' top: 'label_again' }}
"""


def passes(net, sizes):
    """Run passes with labels of each size; return what the plan's buffers are after each."""
    found = []
    for size in sizes:
        net.blobs["label"].reshape(size, 8)
        net.forward()
        net.backward()
        found.append(net.plan.slabs)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_labels_of_another_size_leave_the_plan(engine):
    with computing_with(engine, gpu=False):
        net = net_from_text(NET, TRAIN)
        net.share_memory(Sharing.FORGET)
        first, *others = passes(net, (3, 2, 5, 1, 8))
    assert first.shared
    assert all(each is first for each in others)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_new_plan_leaves_no_buffers_of_the_one_before(engine):
    """Layers keep primitives that are bound to buffers, for the next pass."""
    with computing_with(engine, gpu=False):
        net = net_from_text(NET, TRAIN)
        net.share_memory(Sharing.FORGET)
        (before,) = passes(net, (3,))
        buffers = [weakref.ref(slab._buffer.base) for slab in before._all if slab._buffer is not None]
        blob = net.blobs["b"]
        blob.reshape(*(2 * length for length in blob.shape))  # other memory for the same shape afterwards
        (after,) = passes(net, (3,))
    assert after is not before
    del before
    assert buffers
    assert all(buffer() is None for buffer in buffers)
