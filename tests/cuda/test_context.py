"""The GPU in a forked process whose parent has used it."""

import os
import signal

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe import set_mode_cpu, set_mode_gpu
from minicaffe.errors import DeviceError

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


def build():
    return net_from_text(NET, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_says_that_it_has_no_gpu(gpu_mode):
    net, x = build(), np.ones((2, 3))
    expected = net.forward(x=x)["y"].copy()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)
        try:
            for use in (lambda: net.forward(x=x), set_mode_gpu, lambda: build().forward(x=x)):
                with pytest.raises(DeviceError, match="forked from one which has used a GPU: start processes by spawn"):
                    use()
            set_mode_cpu()
            assert build().forward(x=x)["y"].shape == (2, 4)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    np.testing.assert_array_equal(net.forward(x=x)["y"], expected)
