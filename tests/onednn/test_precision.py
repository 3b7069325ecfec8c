"""Precision bf16: who requests it, where it is refused, and that only products are rounded to bfloat16."""

import logging
import threading

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_bf16, needs_onednn
from helpers.nets import net_from_text
from minicaffe import onednn
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.errors import UsageError
from minicaffe.onednn import library
from minicaffe.testing import computing_with

pytestmark = needs_onednn

NET = """
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 8 dim: 9 dim: 9 }} }} }}
layer {{ name: "split" type: "Split" bottom: "x" top: "a" top: "b" }}
layer {{ name: "conv" type: "Convolution" bottom: "a" top: "y" {} convolution_param {{
         num_output: 32 kernel_size: 3 weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} }} }}
layer {{ name: "up" type: "Deconvolution" bottom: "y" top: "z" convolution_param {{
         num_output: 16 kernel_size: 3 weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "z" top: "s" inner_product_param {{
         num_output: 24 weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} }} }}
"""


@pytest.fixture(autouse=True)
def defaults():
    with computing_with("DEFAULT", gpu=False):
        minicaffe.set_precision("DEFAULT")
        yield


@pytest.fixture
def bf16_is_here(monkeypatch):
    monkeypatch.setattr(library.RUNTIME, "has_bf16", lambda: True)


def built(precision="DEFAULT", layer="", net="", phase=minicaffe.TRAIN):
    minicaffe.set_precision(precision)
    minicaffe.set_random_seed(4)
    built = net_from_text(net + NET.format(layer) + "force_backward: true", phase)
    built.blobs["x"].data[...] = np.random.default_rng(2).standard_normal(built.blobs["x"].shape)
    return built


def precisions(net):
    return {name: layer.precision for name, layer in zip(net.layer_names, net.layers, strict=True)}


# ------------------------------------------------------------------------------------------------------------ requests


def test_float32_is_the_default(bf16_is_here):
    assert set(precisions(built()).values()) == {"float32"}


def test_bf16_is_for_layers_of_onednn(bf16_is_here):
    assert precisions(built("bf16"))["conv"] == "bf16"
    minicaffe.set_engine("CAFFE")
    assert set(precisions(built("bf16")).values()) == {"float32"}


def test_a_forward_type_requests_it_for_a_layer_or_for_a_net(bf16_is_here):
    one = precisions(built(layer="forward_type: FLOAT16"))
    assert (one["conv"], one["up"]) == ("bf16", "float32")
    others = precisions(built(net="default_forward_type: FLOAT16", layer="forward_type: FLOAT"))
    assert (others["conv"], others["up"]) == ("float32", "bf16")


def test_the_setting_overrides_the_prototxt(bf16_is_here):
    assert precisions(built("float32", net="default_forward_type: FLOAT16"))["conv"] == "float32"
    assert precisions(built("bf16", layer="forward_type: FLOAT"))["conv"] == "bf16"


def test_an_unknown_precision_is_an_error():
    with pytest.raises(UsageError, match="set_precision: expected one of DEFAULT, float32, bf16, got 'fp8'"):
        minicaffe.set_precision("fp8")


def test_it_is_a_setting_of_each_thread_and_restored():
    seen = []

    def work():
        minicaffe.set_precision("float32")
        seen.append(settings.precision)

    with computing_with():
        minicaffe.set_precision("bf16")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert (seen, settings.precision) == (["float32"], "bf16")
    assert settings.precision == "DEFAULT"


# -------------------------------------------------------------------------------------------------------- in the log


def test_the_log_has_the_number_of_layers(bf16_is_here, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    found = precisions(built("bf16"))
    count = list(found.values()).count("bf16")
    assert lines(caplog) == [f"Precision bf16 in {count} of {len(found)} layers"]


def lines(caplog):
    return [message for message in caplog.messages if "bf16" in message]


def test_a_processor_without_it_computes_in_float32_after_one_line(monkeypatch, caplog):
    monkeypatch.setattr(library.load(), "dnnl_get_effective_cpu_isa", lambda: 0x67)  # AVX-512 with VNNI
    caplog.set_level(logging.INFO, "minicaffe")
    net, reference = built("bf16"), built("float32")
    assert lines(caplog) == ["Precision bf16 is not used, but float32: this processor has neither AVX512_BF16 nor AMX"]
    for each in (net, reference):
        each.run_forward()
    assert np.array_equal(net.blobs["s"].data, reference.blobs["s"].data)


@pytest.mark.parametrize("isa, has_it", [(0x27, False), (0x1F, False), (0xE7, True), (0x1EF, True), (0xFEF, True)])
def test_the_answer_is_in_the_instruction_set(isa, has_it, monkeypatch):
    monkeypatch.setattr(library.load(), "dnnl_get_effective_cpu_isa", lambda: isa)
    assert onednn.has_bf16() is has_it


def test_on_the_gpu_it_has_no_effect(bf16_is_here, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    settings.engine = runner("GPU")
    assert set(precisions(built("bf16")).values()) == {"float32"}
    assert lines(caplog) == ["Precision bf16 is not used, but float32: on the GPU --math bf16 (set_math) requests it"]
    settings.engine = runner("CPU")


def test_numpy_alone_has_not_got_it(bf16_is_here, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    minicaffe.set_engine("CAFFE")
    built("bf16")
    assert lines(caplog) == ["Precision bf16 is not used, but float32: no layer is computed by an engine that has it"]


# -------------------------------------------------------------------------------------------------------------- values


def gradients(net):
    net.clear_param_diffs()
    net.run_forward()
    net.blobs["s"].diff[...] = np.random.default_rng(3).standard_normal(net.blobs["s"].shape)
    net.run_backward()
    diffs = {f"{name} {i}": b.diff.copy() for name, blobs in net.params.items() for i, b in enumerate(blobs)}
    return {"s": net.blobs["s"].data.copy(), "x": net.blobs["x"].diff.copy(), **diffs}


@needs_bf16
def test_values_and_gradients_are_those_of_float32_to_three_digits():
    exact, rounded = gradients(built("float32")), gradients(built("bf16"))
    for key, value in exact.items():
        error = np.abs(rounded[key] - value).max() / np.abs(value).max()
        assert error < 2e-2, key
    assert np.abs(rounded["conv 0"] - exact["conv 0"]).max() > 0


@needs_bf16
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("channels", "outputs", "group"), [(25, 18, 1), (18, 75, 1), (17, 16, 1), (2, 25, 1), (50, 34, 2)]
)
def test_odd_numbers_of_channels(kind, channels, outputs, group):
    """oneDNN 3.2 has code for 1x1 kernels that adds up wrong numbers in maps of 30 places."""
    text = f"""
    force_backward: true
    layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: {channels} dim: 5 dim: 12 }} }} }}
    layer {{ name: "conv" type: "{kind}" bottom: "x" top: "y" convolution_param {{
             num_output: {outputs} group: {group} kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
    """
    found = []
    for precision in ("bf16", "float32"):
        minicaffe.set_precision(precision)
        minicaffe.set_random_seed(4)
        net, rng = net_from_text(text), np.random.default_rng(0)
        for blob, what in (("x", "data"), ("y", "diff")):
            setattr(net.blobs[blob], what, rng.standard_normal(net.blobs[blob].shape))
            (net.forward if what == "data" else net.backward)()
        found.append([net.blobs["y"].read_data(), net.blobs["x"].read_diff(), net.params["conv"][0].read_diff()])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=0.03 * np.abs(b).max())


@needs_bf16
def test_nets_of_both_precisions_do_not_disturb_each_other():
    alone = {name: gradients(built(name)) for name in ("float32", "bf16")}
    nets = {name: built(name) for name in ("float32", "bf16")}
    for _ in range(2):
        for name, net in nets.items():
            for key, value in gradients(net).items():
                assert np.array_equal(value, alone[name][key]), (name, key)


@needs_bf16
@pytest.mark.parametrize("phase", [minicaffe.TRAIN, minicaffe.TEST])
def test_what_is_read_in_bfloat16_stays_float32(phase):
    net = built("bf16", phase=phase)
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    x = net.blobs["x"].data.copy()
    for _ in range(2):
        net.run_forward()
    assert np.array_equal(net.blobs["x"].data, x) and np.array_equal(net.blobs["b"].data, x)
    for name, blobs in net.params.items():
        for blob, values in zip(blobs, before[name], strict=True):
            assert np.array_equal(blob.data, values)
