"""Cases that the original Caffe computed: random configurations and values of 52 types."""

import numpy as np
import pytest

import minicaffe
from helpers import golden
from helpers.engines import needs_bf16
from minicaffe.core.layer import Layer
from minicaffe.testing import computing_with

#: cases of the layers that multiply in bfloat16 with precision bf16
PRODUCTS = [path for path in golden.LAYERS if path.stem.startswith(("Convolution", "Deconvolution", "InnerProduct"))]


def case(path):
    """A case with the types of its layers."""
    return pytest.param(path, id=path.stem, marks=pytest.mark.layers(*golden.layer_types(path)))


def test_the_cases_are_there():
    assert len(golden.LAYERS) == 415


@pytest.mark.parametrize("path", [case(path) for path in golden.LAYERS])
def test_layer(path, engine):
    golden.run_layer_case(path)


@needs_bf16
@pytest.mark.parametrize("path", PRODUCTS, ids=lambda path: path.stem)
def test_products_in_bf16(path):
    with computing_with("ONEDNN", gpu=False):
        minicaffe.set_precision("bf16")
        golden.run_layer_case(path, rtol=0, atol=2e-2)


@pytest.mark.parametrize("path", [case(path) for path in golden.LAYERS])
def test_a_layer_writes_all_of_its_tops_and_diffs(path, monkeypatch):
    """As it must where blobs share buffers (`minicaffe.core.sharing`): whatever they hold before is overwritten."""
    forward, backward = Layer.forward_and_keep, Layer.backward

    def poisoned_forward(self, bottom, top):
        others = {blob.data_memory for blob in (*bottom, *self.blobs)}
        for blob in top if bottom and not self.has_loss else ():
            if blob.data_memory not in others:
                blob.data[...] = np.nan
        forward(self, bottom, top)

    def poisoned_backward(self, top, propagate_down, bottom):
        others = {blob.diff_memory for blob in top}
        for blob, wanted in zip(bottom, propagate_down):
            if wanted and blob.diff_memory not in others and not self.has_loss:
                blob.diff[...] = np.nan
        backward(self, top, propagate_down, bottom)

    monkeypatch.setattr(Layer, "forward_and_keep", poisoned_forward)
    monkeypatch.setattr(Layer, "backward", poisoned_backward)
    golden.run_layer_case(path)
