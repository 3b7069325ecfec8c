"""Every layer in between with batches of no sample and of one: what it refuses is a LayerError, and nothing is left."""

import numpy as np
import pytest

from helpers.engines import on
from helpers.layer_cases import all_cases
from minicaffe.errors import LayerError
from minicaffe.testing import NUMPY
from minicaffe.testing.cases import Run

CASES = [pytest.param(case, id=name) for name, case in all_cases() if any(len(shape) for shape in case.shapes)]


def passes(run):
    """Tops and diffs of a forward and a backward pass, with the parameters as they were built."""
    down = [i in run.case.differentiable for i in range(len(run.bottom))]
    for blob in run.layer.blobs:
        blob.diff[...] = 0
    run.layer.load_state(run.state)
    run.layer.forward(run.bottom, run.top)
    values = [blob.read_data().copy() for blob in run.top]
    for i, blob in enumerate(run.top):
        blob.diff[...] = 1.3 if run.layer.default_loss_weight(i) else np.cos(np.arange(blob.count)).reshape(blob.shape)
    if run.case.has_gradient:
        run.layer.backward(run.top, down, run.bottom)
    diffs = [blob.read_diff().copy() for blob, wanted in zip(run.bottom, down) if wanted]
    return values + diffs + [blob.read_diff().copy() for blob in run.layer.blobs]


def feed(run, arrays):
    for blob, array in zip(run.bottom, arrays):
        blob.reshape(*array.shape)
        blob.data[...] = array


@on(NUMPY)
@pytest.mark.parametrize("case", CASES)
def test_batches_of_no_sample_and_of_one(case, engine):
    run, arrays = Run(case), case.arrays()
    parameters = [blob.read_data().copy() for blob in run.layer.blobs]
    first = passes(run)
    for samples in (0, 1):
        feed(run, [array[:samples] if array.ndim else array for array in arrays])
        try:
            found = passes(run)
        except LayerError:
            continue
        assert all(np.isfinite(values).all() for values in found)
    feed(run, arrays)
    for blob, values in zip(run.layer.blobs, parameters):
        blob.data[...] = values
    for a, b in zip(first, passes(run)):
        np.testing.assert_array_equal(a, b)
