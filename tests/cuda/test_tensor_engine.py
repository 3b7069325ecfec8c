"""Where the engine for tensor cores is used: by math mode, device, prototxt and thread."""

import os
import threading

import numpy as np
import pytest

from helpers.nets import net_from_text
from helpers.residual import residual_net
from minicaffe import TEST, cuda, set_random_seed
from minicaffe.core.settings import set_engine
from minicaffe.cuda import context
from minicaffe.errors import DeviceError
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode")]


def engines_of(net):
    return {layer.engine for layer in net.layers if layer.type in ("Convolution", "BatchNorm", "Pooling", "Split")}


@pytest.mark.parametrize("math, engine", [("float32", "CAFFE"), ("tf32", "TENSOR"), ("bf16", "TENSOR")])
def test_math_mode_chooses_it(math, engine):
    with computing_with(math=math):
        net = net_from_text(residual_net())
        assert engines_of(net) == {engine}
        assert {layer.precision for layer in net.layers if layer.engine == "TENSOR"} <= {
            "bf16" if math == "bf16" else "float32"
        }


def test_precision_is_logged(log_lines):
    with computing_with(math="bf16"):
        net = net_from_text(residual_net())
    count = sum(layer.engine == "TENSOR" for layer in net.layers)
    assert [line.split("] ", 1)[1] for line in log_lines if "Precision" in line] == [
        f"Precision bf16 in {count} of {len(net.layers)} layers"
    ]


def test_older_device_says_so_in_one_line(monkeypatch, log_lines):
    monkeypatch.setattr(context.current(), "arch", "sm_75")
    with computing_with(math="bf16"):
        assert engines_of(net_from_text(residual_net())) == {"CAFFE"}
    (line,) = [line.split("] ", 1)[1] for line in log_lines if "] Engine" in line]
    gpu = f"GPU {context.current().index} ({context.current().name}, sm_75)"
    why = f"{gpu} has no tensor cores for TF32 and bf16 (from sm_80)"
    assert line == f"Engine CAFFE (CUDA) computes in place of TENSOR: {why}"


def test_named_engines_take_precedence():
    with computing_with(math="tf32"):
        net = net_from_text(residual_net().replace('name: "c1"', 'name: "c1" engine: "CAFFE"', 1))
        assert net.layer_dict["c1"].engine == "CAFFE" and net.layer_dict["a1"].engine == "TENSOR"
        set_engine("CAFFE")
        assert engines_of(net_from_text(residual_net())) == {"CAFFE"}
    with computing_with("TENSOR", math="float32"):
        assert engines_of(net_from_text(residual_net())) == {"CAFFE"}


def test_float64_is_left_alone():
    with computing_with(math="bf16"):
        assert engines_of(net_from_text(residual_net(), dtype=np.float64)) == {"CAFFE"}


def forward(net, seed):
    rng = np.random.default_rng(seed)
    net.blobs["data"].data = rng.standard_normal(net.blobs["data"].shape)
    net.forward(end="ip")
    return net.blobs["ip"].read_data().copy()


def test_nets_in_threads_share_parameters():
    """Each thread has a math mode of its own; packed weights are made once for all nets."""
    with computing_with(math="bf16"):
        set_random_seed(1)
        nets = [net_from_text(residual_net(2), TEST) for _ in range(3)]
        for net in nets[1:]:
            net.share_with(nets[0])
        want = [forward(net, seed) for seed, net in enumerate(nets)]
        nets[0].params["c1"][0].data *= 1.0  # is packed again, by the first thread that needs it
        got = [[] for _ in nets]

        def work(seed):
            cuda.set_math("bf16")
            got[seed] += [forward(nets[seed], seed) for _ in range(3)]

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for each, found in zip(want, got, strict=True):
        assert len(found) == 3 and all((one == each).all() for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_forked_process_says_that_it_has_no_gpu():
    with computing_with(math="bf16"):
        net = net_from_text(residual_net(2), TEST)
        want = forward(net, 0)
        child = os.fork()
        if not child:
            try:
                net.blobs["a1"].read_data()
            except DeviceError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert (forward(net, 0) == want).all()
