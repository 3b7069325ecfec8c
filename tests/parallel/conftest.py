"""Ranks for the tests of this folder."""

import pytest

from helpers.rank_process import Processes


@pytest.fixture(scope="session")
def ranks(cuda_device):
    """Two processes that use a GPU each; skips on one real GPU, which NCCL cannot use twice."""
    from minicaffe.cuda import context

    if cuda_device.name != "emulated GPU" and context.device_count() < 2:
        pytest.skip("two ranks need two GPUs")
    processes = Processes(2)
    yield processes
    assert processes.close() == [0, 0]
