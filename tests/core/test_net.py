"""Net: wiring, shared parameters, which layers need backward, and use by scripts."""

import logging

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.errors import LayerError, MinicaffeError, NetError, UsageError

INPUT = """layer { name: 'in' type: 'Input' top: 'data' top: 'label'
                   input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
"""
IP = """layer {{ name: '{0}' type: 'InnerProduct' bottom: '{1}' top: '{0}' {2}
                inner_product_param {{ num_output: {3} weight_filler {{ type: 'xavier' }} }} }}
"""
LOSS = "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' top: 'loss' }"


def net(text, phase=minicaffe.TRAIN, **options):
    return net_from_text(text, phase, **options)


def ip(name="ip", bottom="data", more="", outputs=3):
    return IP.format(name, bottom, more, outputs)


@pytest.fixture
def small():
    made = net(INPUT + ip() + LOSS)
    made.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((4, 3))
    made.blobs["label"].data[...] = [0, 1, 2, 0]
    return made


# -- building ----------------------------------------------------------------------------------------------------------


def test_names_and_shapes(small):
    assert small.layer_names == ["in", "ip", "loss"]
    assert list(small.blobs) == ["data", "label", "ip", "loss"]
    assert small.inputs == ["data", "label"] and small.outputs == ["loss"]
    assert [b.data.shape for b in small.params["ip"]] == [(3, 3), (3,)]
    assert small.layer_need_backward == [False, True, True]
    assert small.bottom_need_backward == [[], [False], [True, False]]


def test_outputs_are_sorted_by_name():
    assert net(INPUT + ip("z", "data") + ip("a", "data")).outputs == ["a", "label", "z"]


def test_two_producers_of_one_blob():
    with pytest.raises(NetError, match="layer 'b': top blob 'x' is produced by multiple sources"):
        net(INPUT + ip("x") + "layer { name: 'b' type: 'ReLU' bottom: 'label' top: 'x' }")


def test_a_blob_changed_in_place_and_read_elsewhere_is_refused():
    with pytest.raises(NetError, match="produced by multiple sources"):
        net(INPUT + ip() + "layer { name: 'r' type: 'ReLU' bottom: 'ip' top: 'ip' }" + ip("b", "data") +
            "layer { name: 's' type: 'Sigmoid' bottom: 'data' top: 'data' }")  # fmt: skip


def test_unknown_types_tell_the_nearest():
    with pytest.raises(LayerError, match='layer \'c\' has the unknown type "Convoluton" .did you mean "Convolution"'):
        net(INPUT + "layer { name: 'c' type: 'Convoluton' bottom: 'data' top: 'c' }")


def test_errors_of_shapes_name_the_layer():
    with pytest.raises(LayerError, match=r"Pooling layer 'p'.*\(4, 3\)"):
        net(INPUT + "layer { name: 'p' type: 'Pooling' bottom: 'data' top: 'p' pooling_param { kernel_size: 3 } }")


def test_propagate_down_stops_the_gradient():
    text = INPUT + ip("below") + ip("ip", "below", "propagate_down: {}") + LOSS
    assert net(text.replace("{}", "false")).layer_need_backward == [False, False, True, True]
    assert net(text.replace("{}", "true")).layer_need_backward == [False, True, True, True]


def test_force_backward_reaches_the_data_but_not_labels():
    made = net("force_backward: true " + INPUT + ip() + LOSS)
    assert made.bottom_need_backward[1:] == [[True], [True, False]]


def test_layers_that_no_loss_needs_run_no_backward():
    made = net(INPUT + ip() + LOSS + ip("aside", "data"))
    assert dict(zip(made.layer_names, made.layer_need_backward))["aside"] is False


def test_too_many_params_are_refused():
    with pytest.raises(NetError, match="'ip' has too many params specified: it has 2 parameter"):
        net(INPUT + ip("ip", "data", "param {} param {} param {}"))


# -- shared parameters -------------------------------------------------------------------------------------------------


def twins(more_a="", more_b="", outputs_b=3):
    return net(INPUT + ip("a", "data", f"param {{ name: 'w' {more_a} }}") +
               ip("b", "data", f"param {{ name: 'w' {more_b} }}", outputs_b))  # fmt: skip


def test_params_of_one_name_are_one():
    made = twins("lr_mult: 3", "decay_mult: 0")
    a, b = made.params["a"][0], made.params["b"][0]
    a.data[0, 0] = 42
    a.diff[0, 0] = 7
    assert b.data[0, 0] == 42 and b.diff[0, 0] == 7
    assert len(made.learnable_params) == 3
    assert made.lr_mults[0] == 3 and made.decay_mults[0] == 0, "each may be given once"


def test_gradients_of_sharers_add_up():
    made = net(INPUT + ip("a", "data", "param { name: 'w' }") + ip("b", "a", "param { name: 'w' }") +
               "layer { name: 'l' type: 'EuclideanLoss' bottom: 'b' bottom: 'data' }")  # fmt: skip
    rng = np.random.default_rng(0)
    x = made.blobs["data"].data[...] = rng.standard_normal((4, 3)).astype("f4")
    w = made.params["a"][0].data.copy()
    made.clear_param_diffs()
    made.forward_backward()
    d = (x @ w.T @ w.T - x) / 4
    expected = d.T @ (x @ w.T) + (d @ w).T @ x
    np.testing.assert_allclose(made.params["a"][0].diff, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "more_a, more_b, outputs, text",
    [
        ("", "", 2, r"cannot share param 'w': expected the shape of its owner \(3, 3\), got \(2, 3\)"),
        ("share_mode: PERMISSIVE", "share_mode: PERMISSIVE", 2, "expected the count"),
        ("lr_mult: 1", "lr_mult: 2", 3, "mismatched lr_mult: expected 1 as its owner says, got 2"),
        ("decay_mult: 1", "decay_mult: 2", 3, "mismatched decay_mult"),
    ],
)
def test_sharers_must_agree(more_a, more_b, outputs, text):
    with pytest.raises(NetError, match=text):
        twins(more_a, more_b, outputs)


# -- running -----------------------------------------------------------------------------------------------------------


def test_loss_is_the_weighted_sum(small):
    loss = small.forward_backward()
    assert loss == pytest.approx(float(small.blobs["loss"].data))
    doubled = net(INPUT + ip() + LOSS.replace("top: 'loss'", "top: 'loss' loss_weight: 2"))
    doubled.share_with(small)
    for name in ("data", "label"):
        doubled.blobs[name].data[...] = small.blobs[name].data
    assert doubled.forward_backward() == pytest.approx(2 * loss)


def test_param_diffs_add_up_until_cleared(small):
    small.clear_param_diffs()
    small.forward_backward()
    once = small.params["ip"][0].diff.copy()
    small.forward_backward()
    np.testing.assert_allclose(small.params["ip"][0].diff, 2 * once, rtol=1e-5)
    small.clear_param_diffs()
    assert not small.params["ip"][0].diff.any()


def test_forward_takes_inputs_by_name_and_returns_views(small):
    out = small.forward(data=np.ones((4, 3)), label=np.zeros(4), blobs=["ip"])
    assert set(out) == {"loss", "ip"}
    out["ip"][0, 0] = 99
    assert small.blobs["ip"].data[0, 0] == 99


@pytest.mark.parametrize(
    "inputs, text",
    [
        ({"data": np.ones((4, 3))}, r"expected an array for each input blob \['data', 'label'\], got \['data'\]"),
        (
            {"data": np.ones((2, 3)), "label": np.ones(4)},
            r"input 'data': expected a batch of 4 \(axis 0\), got shape \(2, 3\)",
        ),
        ({"data": np.ones((4, 5)), "label": np.ones(4)}, r"input 'data': expected shape \(4, 3\), got \(4, 5\)"),
    ],
)
def test_wrong_inputs(small, inputs, text):
    with pytest.raises(UsageError, match=text):
        small.forward(**inputs)


def test_start_and_end_run_a_part(small):
    small.forward()
    small.blobs["ip"].data[...] = 0
    assert float(small.forward(start="loss")["loss"]) == pytest.approx(np.log(3), rel=1e-5)
    assert set(small.forward(end="ip")) == {"ip"}
    with pytest.raises(UsageError, match="no layer 'nope'"):
        small.forward(start="nope")


def test_backward_from_given_diffs():
    made = net(
        "force_backward: true layer { name: 'in' type: 'Input' top: 'data' input_param { shape { dim: 4 dim: 3 } } }"
        + ip()
    )
    made.forward()
    diffs = made.backward(ip=np.ones((4, 3)))
    np.testing.assert_allclose(diffs["data"], np.ones((4, 3)) @ made.params["ip"][0].data, rtol=1e-5)


def test_forward_all_pads_and_cuts():
    made = net("layer { name: 'in' type: 'Input' top: 'data' input_param { shape { dim: 4 dim: 3 } } }" + ip())
    x = np.random.default_rng(0).standard_normal((10, 3)).astype("f4")
    out = made.forward_all(data=x)["ip"]
    w, b = (p.data for p in made.params["ip"])
    np.testing.assert_allclose(out, x @ w.T + b, rtol=1e-4, atol=1e-5)


def test_reshape_carries_new_input_shapes_through(small):
    small.blobs["data"].reshape(7, 3)
    small.blobs["label"].reshape(7)
    small.reshape()
    assert small.blobs["ip"].shape == (7, 3)
    assert small.forward()["loss"].shape == ()


def test_callbacks_are_called_in_order(small):
    seen = []
    small.before_forward(lambda i: seen.append(("before", i)))
    small.after_forward(lambda i: seen.append(("after", i)))
    small.before_backward(lambda i: seen.append(("back", i)))
    small.forward()
    small.backward()
    assert seen == [(w, i) for i in range(3) for w in ("before", "after")] + [("back", i) for i in (2, 1, 0)]


def test_share_with_is_one_memory(small):
    other = net(INPUT + ip() + LOSS, minicaffe.TEST)
    other.share_with(small)
    small.params["ip"][0].data[0, 0] = 5
    assert other.params["ip"][0].data[0, 0] == 5
    with pytest.raises(NetError, match="layer 'ip': cannot share trained parameters"):
        net(INPUT + ip("ip", outputs=2)).share_with(small)


def test_a_phase_is_needed(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT)
    with pytest.raises(UsageError, match="expected a phase"):
        minicaffe.Net(str(path))
    with pytest.raises(MinicaffeError, match="missing.prototxt"):
        minicaffe.Net(str(tmp_path / "missing.prototxt"), minicaffe.TEST)


def test_debug_info_lines(small, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    small.debug_info = True
    small.clear_param_diffs()
    small.forward_backward()
    lines = [r.getMessage() for r in caplog.records]
    mean = f"{np.abs(small.blobs['data'].data).mean():.6g}"
    assert f"    [Forward] Layer in, top blob data data: {mean}" in lines
    assert any(line.startswith("    [Forward] Layer ip, param blob 1 data: 0") for line in lines)
    assert any(line.startswith("    [Backward] Layer loss, bottom blob ip diff: ") for line in lines)
    assert any(line.startswith("    [Backward] Layer ip, param blob 0 diff: ") for line in lines)
    total = caplog.records[-1]
    assert total.levelname == "ERROR"
    assert total.getMessage().startswith("    [Backward] All net params (data, diff): L1 norm = (")


def test_force_backward_stops_at_layers_without_a_backward_pass():
    accuracy = "layer { name: 'acc' type: 'Accuracy' bottom: 'ip' bottom: 'label' top: 'acc' }"
    forced, plain = (net(force + INPUT + ip() + LOSS + accuracy) for force in ("force_backward: true ", ""))
    for each in (forced, plain):
        each.blobs["data"].data[...] = 1
        each.params["ip"][0].data[...] = np.arange(9).reshape(3, 3)
        each.forward()
        each.backward()
    assert np.abs(forced.blobs["data"].diff).sum() > 0
    np.testing.assert_array_equal(forced.params["ip"][0].diff, plain.params["ip"][0].diff)


@pytest.mark.parametrize("kept", ["type: 'Pooling' pooling_param { kernel_size: 2 }", "type: 'ReLU'"])
def test_backward_does_not_need_a_top_that_is_changed_in_place(kept, engine):
    """The same gradient as with the next layer out of place."""
    diffs = []
    for last in ("b", "c"):
        text = f"""force_backward: true
        layer {{ name: 'in' type: 'Input' top: 'a' input_param {{ shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} }} }}
        layer {{ name: 'kept' {kept} bottom: 'a' top: 'b' }}
        layer {{ name: 'scale' type: 'Scale' bottom: 'b' top: '{last}' scale_param {{ filler {{ value: -2 }} }} }}"""
        made = net(text)
        made.blobs["a"].data[...] = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
        made.forward()
        made.blobs[last].diff[...] = np.random.default_rng(1).standard_normal(made.blobs[last].data.shape)
        made.backward()
        diffs.append(made.blobs["a"].diff.copy())
    np.testing.assert_allclose(*diffs, rtol=1e-6)
    assert diffs[0].any()


def test_memory_that_is_not_there_is_told_with_the_layer(monkeypatch):
    def full(*args):
        raise MemoryError("Unable to allocate 2 TiB")

    monkeypatch.setattr("minicaffe.core.layer.fill", full)
    with pytest.raises(LayerError, match="InnerProduct layer 'ip': there is not enough memory .Unable to allocate 2"):
        net(INPUT + ip())
