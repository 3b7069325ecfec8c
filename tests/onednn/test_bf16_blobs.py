"""bfloat16 between layers: which blobs are in it, and that layers outside it read float32."""

import threading

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_bf16
from helpers.nets import net_from_text
from minicaffe.onednn import layouts
from minicaffe.onednn.library import BF16
from minicaffe.testing import computing_with

pytestmark = needs_bf16

NET = """
layer {{ name: "in" type: "Input" top: "x" top: "t" input_param {{
         shape {{ dim: 4 dim: 3 dim: 12 dim: 12 }} shape {{ dim: 4 dim: 5 }} }} }}
layer {{ name: "first" type: "Convolution" bottom: "x" top: "a" convolution_param {{
         num_output: 32 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "other" type: "Convolution" bottom: "x" top: "b" convolution_param {{
         num_output: 32 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}
{}
layer {{ name: "last" type: "Convolution" bottom: "y" top: "z" convolution_param {{
         num_output: 16 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "z" top: "s" inner_product_param {{
         num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "s" bottom: "t" top: "loss" }}
"""
BETWEEN = {
    "ReLU": 'bottom: "a" top: "y"',
    "ReLU in place": 'bottom: "a" top: "a" } layer { name: "c" type: "ReLU" bottom: "a" top: "y"',
    "Sigmoid": 'bottom: "a" top: "y"',
    "TanH": 'bottom: "a" top: "y"',
    "ELU": 'bottom: "a" top: "y"',
    "Power": 'bottom: "a" top: "y" power_param { scale: 2 shift: 1 }',
    "Pooling": 'bottom: "a" top: "y" pooling_param { kernel_size: 3 stride: 2 }',
    "Pooling AVE": 'bottom: "a" top: "y" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
    "LRN": 'bottom: "a" top: "y" lrn_param { local_size: 5 alpha: 0.1 }',
    "LRN within": 'bottom: "a" top: "y" lrn_param { local_size: 3 alpha: 0.1 norm_region: WITHIN_CHANNEL }',
    "BatchNorm": 'bottom: "a" top: "y"',
    "Scale": 'bottom: "a" top: "y" scale_param { bias_term: true }',
    "BatchNorm group": 'bottom: "a" top: "y" } layer { name: "s" type: "Scale" bottom: "y" top: "y" scale_param '
    '{ bias_term: true } } layer { name: "r" type: "ReLU" bottom: "y" top: "y"',
    "Eltwise": 'bottom: "a" bottom: "b" top: "y"',
    "Eltwise group": 'bottom: "a" bottom: "b" top: "y" } layer { name: "r" type: "ReLU" bottom: "y" top: "y"',
    "Concat": 'bottom: "a" bottom: "b" top: "y"',
}
RELU = 'layer { name: "between" type: "ReLU" bottom: "a" top: "y" }'
LATE = {  # layers that read and write float32
    "LRN": 'bottom: "a" top: "y" lrn_param { local_size: 3 alpha: 0.1 }',
    "PReLU": 'bottom: "a" top: "y"',
    "Exp": 'bottom: "a" top: "y" exp_param { scale: 0.1 }',
    "Dropout": 'bottom: "a" top: "y" dropout_param { dropout_ratio: 0 }',
}


def built(name, text, precision, phase=minicaffe.TRAIN):
    """A net with a layer of a type between convolutions, and a layer that reads whatever the others leave."""
    layer = f'layer {{ name: "between" type: "{name.split()[0]}" {text} }}'
    silence = "" if '"b"' in text else 'layer { name: "no" type: "Silence" bottom: "b" }'
    minicaffe.set_random_seed(5)
    with computing_with("ONEDNN", gpu=False):
        minicaffe.set_precision(precision)
        net = net_from_text(NET.format(layer + silence) + "force_backward: true", phase)
    rng = np.random.default_rng(1)
    net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
    net.blobs["t"].data[...] = rng.standard_normal(net.blobs["t"].shape)
    return net


def results(net):
    """Loss, the input's diff and the gradients of one pass."""
    net.clear_param_diffs()
    found = {"loss": np.float32(net.forward_backward()), "x": net.blobs["x"].diff.copy()}
    for name, blobs in net.params.items():
        found.update((f"{name} {i}", blob.diff.copy()) for i, blob in enumerate(blobs))
    return found


def assert_similar(got, expected):
    """The loss to two digits; gradients to a tenth, for rounding decides signs in ReLUs and the places of maxima."""
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-2)
    for key, values in expected.items():
        largest = max(float(np.linalg.norm(values)), 1e-2 * float(np.linalg.norm(expected["first 0"])))
        assert np.linalg.norm(got[key] - values) < 0.1 * largest, key


def newest(blob):
    return layouts.read(blob.data_memory, blob.shape).desc.dtype


@pytest.mark.parametrize("name", BETWEEN)
def test_a_layer_passes_bfloat16_on(name):
    net, exact = (built(name, BETWEEN[name], precision) for precision in ("bf16", "float32"))
    for _ in range(2):
        assert_similar(results(net), results(exact))
    assert newest(net.blobs["y"]) == BF16 and newest(exact.blobs["y"]) != BF16
    assert newest(net.blobs["s"]) != BF16 and net.blobs["y"].data.dtype == np.float32


@pytest.mark.parametrize("name", LATE)
def test_before_a_layer_in_float32_blobs_are_float32(name):
    net, exact = (built(name, LATE[name], precision) for precision in ("bf16", "float32"))
    net.run_forward()
    assert newest(net.blobs["a"]) != BF16
    assert_similar(results(net), results(exact))


@pytest.mark.parametrize("name", ["ReLU", "Pooling AVE", "BatchNorm group", "Concat"])
def test_channels_that_do_not_fill_their_blocks(name, monkeypatch):
    monkeypatch.setattr(f"{__name__}.NET", NET.replace("num_output: 32", "num_output: 20"))
    net, exact = (built(name, BETWEEN[name], precision) for precision in ("bf16", "float32"))
    assert_similar(results(net), results(exact))
    assert newest(net.blobs["y"]) == BF16


def test_outputs_and_what_a_loss_reads_are_float32():
    net = built("ReLU", BETWEEN["ReLU"], "bf16")
    types = {name: (layer.bf16_bottom, layer.bf16_top) for name, layer in zip(net.layer_names, net.layers, strict=True)}
    assert types["first"] == (False, True) and types["between"] == (True, True)
    assert types["last"] == (True, True) and types["ip"] == (True, False) and types["loss"] == (False, False)
    with computing_with("ONEDNN", gpu=False):
        minicaffe.set_precision("bf16")
        without_loss = net_from_text(NET.format(RELU).split('layer { name: "ip"')[0])
    assert not without_loss.layers[-1].bf16_top


def test_a_script_reads_and_writes_float32_in_between():
    net = built("ReLU", BETWEEN["ReLU"], "bf16")
    net.run_forward()
    y = net.blobs["y"].data.copy()
    assert np.array_equal(np.maximum(net.blobs["a"].data, 0), y)
    net.blobs["y"].data[...] = y * 2
    before = net.blobs["z"].data.copy()
    net.forward(start="last", end="last")
    np.testing.assert_allclose(net.blobs["z"].data, before * 2, rtol=1e-2, atol=1e-2)


def test_folded_groups_compute_in_it():
    text = BETWEEN["BatchNorm group"]
    net, exact = (built("BatchNorm", text, precision, minicaffe.TEST) for precision in ("bf16", "float32"))
    for each in (net, exact):
        for i, values in enumerate((0.5, 2.0, 1.0)):
            each.params["between"][i].data[...] = values
        each.run_forward()
    assert newest(net.blobs["y"]) == BF16 and net.fused
    for blob in ("y", "s"):
        largest = np.abs(exact.blobs[blob].data).max()
        assert np.abs(net.blobs[blob].data - exact.blobs[blob].data).max() < 3e-2 * largest


def test_nets_of_both_precisions_in_threads():
    nets = [built("BatchNorm", BETWEEN["BatchNorm group"], precision) for precision in ("bf16", "float32") * 2]
    alone = [results(net) for net in nets]
    found = [None] * len(nets)

    def work(i):
        for _ in range(5):
            found[i] = results(nets[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, expected in zip(found, alone, strict=True):
        assert all(np.array_equal(got[key], values) for key, values in expected.items())


def test_a_resumed_training_continues_bit_for_bit(tmp_path):
    def solver():
        minicaffe.set_random_seed(5)
        param = minicaffe.proto.caffe_pb2.SolverParameter(
            base_lr=1e-5, lr_policy="fixed", momentum=0.9, snapshot_prefix=str(tmp_path / "net")
        )
        net = NET.replace(', "t"', "").format(RELU)
        minicaffe.proto.parse_text(net.replace("{{", "{").replace("}}", "}"), param.net_param)
        with computing_with("ONEDNN", gpu=False):
            minicaffe.set_precision("bf16")
            made = minicaffe.SGDSolver(param)
        rng = np.random.default_rng(1)
        for name in ("x", "t"):
            made.net.blobs[name].data[...] = rng.standard_normal(made.net.blobs[name].shape)
        return made

    whole, resumed = solver(), solver()
    whole.step(3)
    whole.snapshot()
    whole.step(3)
    resumed.restore(str(tmp_path / "net_iter_3.solverstate"))
    resumed.step(3)
    assert whole.net.layers[1].precision == "bf16"
    for blobs, others in zip(whole.net.params.values(), resumed.net.params.values(), strict=True):
        assert all(np.array_equal(a.data, b.data) for a, b in zip(blobs, others, strict=True))


@pytest.mark.parametrize("name", ["Pooling", "BatchNorm group", "Eltwise group", "Concat"])
def test_blobs_that_share_buffers_have_the_same_values(name):
    alone, shared = (built(name, BETWEEN[name], "bf16") for _ in range(2))
    alone.share_memory(minicaffe.Sharing.NEVER)
    shared.share_memory(minicaffe.Sharing.FORGET)
    for _ in range(2):
        losses = [net.forward_backward() for net in (alone, shared)]
        assert losses[0] == losses[1]
    for name in ("first", "last", "ip"):
        for a, b in zip(alone.params[name], shared.params[name], strict=True):
            assert np.array_equal(a.diff, b.diff)


def test_values_that_are_computed_again_are_the_same():
    alone, shared = (built("ReLU", BETWEEN["ReLU"], "bf16", minicaffe.TEST) for _ in range(2))
    alone.share_memory(minicaffe.Sharing.NEVER)
    for net in (alone, shared):
        net.run_forward()
    for blob in ("a", "y", "z", "s"):
        assert np.array_equal(shared.blobs[blob].data, alone.blobs[blob].data)
