"""Cases that the original Caffe computed: random configurations and values of 52 types."""

import pytest

from helpers import golden


def case(path):
    """A case with the types of its layers."""
    return pytest.param(path, id=path.stem, marks=pytest.mark.layers(*golden.layer_types(path)))


def test_the_cases_are_there():
    assert len(golden.LAYERS) == 415


@pytest.mark.parametrize("path", [case(path) for path in golden.LAYERS])
def test_layer(path, engine):
    golden.run_layer_case(path)
