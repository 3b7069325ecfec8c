"""Fixtures for all tests."""

import pytest

from minicaffe import onednn
from minicaffe.config import config


@pytest.fixture(params=["caffe", "onednn", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Each test once with the numpy code, once with oneDNN and once on the (real or emulated) CUDA device."""
    was = config.gpu, config.engine
    if request.param == "gpu":
        request.getfixturevalue("cuda_device")
        config.gpu = True
    elif request.param == "onednn" and not onednn.available():
        pytest.skip("there is no oneDNN library")
    config.engine = "ONEDNN" if request.param == "onednn" else "CAFFE"
    yield request.param
    config.gpu, config.engine = was
