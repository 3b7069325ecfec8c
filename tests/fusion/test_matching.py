"""The matcher and the protocol of fused groups, with groups of the numpy engine that record calls."""

import numpy as np
import pytest

from helpers.engines import needs_onednn
from helpers.nets import layer_text, net_from_text
from minicaffe import TEST, TRAIN
from minicaffe.core import fusion
from minicaffe.core.fusion import Fused, fuses
from minicaffe.core.places import observed
from minicaffe.testing import NUMPY, ONEDNN


class Refused(Exception):
    """Raised by `compute` for a batch of 3."""


class Noted(Fused):
    """Computes its layers one by one in one call."""

    refusals = (Refused,)

    def __init__(self, *args):
        super().__init__(*args)
        self.notes = []

    def compute(self):
        self.notes.append("compute")
        if self.bottom[0].shape[0] == 3:
            raise Refused
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.forward_and_keep(bottom, top)

    def finish(self):
        self.notes.append("finish")

    def restore(self, layer):
        self.notes.append(f"restore {layer.name}")


class Backward(Noted):
    @property
    def runs_backward(self):
        return self.intact

    def gradients(self):
        self.notes.append("gradients")


@pytest.fixture(autouse=True)
def in_numpy():
    with NUMPY.chosen():
        yield


@pytest.fixture
def listed(monkeypatch):
    """A function that lists a class for each pattern for the numpy engine."""

    def add(*patterns, base=Noted, **attributes):
        classes = [type(f"Group{i}", (base,), {"patterns": (each,), **attributes}) for i, each in enumerate(patterns)]
        monkeypatch.setitem(fusion._classes, "NUMPY", classes)
        return classes

    return add


MORE = {
    "Convolution": "convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: 'xavier' } }",
    "ConvolutionDepthwise": "convolution_param { kernel_size: 1 num_output: 4 weight_filler { type: 'xavier' } }",
}


def build(*layers, phase=TRAIN, force=True):
    """The net of layers such as "Convolution x a"; the last word is the top, the others are bottoms."""
    text = f"force_backward: {str(force).lower()} "
    text += layer_text("in", "Input", "", "x", "input_param { shape { dim: 2 dim: 4 dim: 3 dim: 3 } }")
    for i, (kind, *bottoms, top) in enumerate(map(str.split, layers), 1):
        text += layer_text(str(i), kind, " ".join(bottoms), top, MORE.get(kind, ""))
    return net_from_text(text, phase)


def names(net):
    """The names of the layers of each group."""
    return ["-".join(layer.name for layer in group.layers) for group in net.fused.values()]


CHAIN = ["Convolution x a", "BatchNorm a a", "Scale a a", "ReLU a a"]


@pytest.mark.parametrize(
    ("pattern", "layers", "expected"),
    [
        ("Convolution ReLU", ["Convolution x a", "ReLU a a"], ["1-2"]),
        ("Convolution ReLU", ["Convolution x a", "ReLU a b"], []),
        (
            "Convolution ReLU",
            ["Convolution x a", "ReLU a a", "ReLU a a", "Convolution a b", "ReLU b b"],
            ["1-2", "4-5"],
        ),
        ("Convolution ReLU", ["ConvolutionDepthwise x a", "ReLU a a"], ["1-2"]),
        ("Convolution ReLU", CHAIN, []),
        ("Convolution ReLU", ["Convolution x a"], []),
        ("Convolution BatchNorm [Scale] [ReLU]", CHAIN, ["1-2-3-4"]),
        ("Convolution BatchNorm [Scale] [ReLU]", [*CHAIN[:2], CHAIN[3]], ["1-2-3"]),
        ("Convolution BatchNorm [Scale] [ReLU]", CHAIN[:2], ["1-2"]),
        ("Convolution BatchNorm [Scale] [ReLU]", [CHAIN[0], CHAIN[2]], []),
        ("Convolution [ReLU]", ["Convolution x a"], []),
        ("Eltwise ReLU", ["Power x a", "Power x b", "Eltwise a b c", "ReLU c c"], ["3-4"]),
        ("Convolution +Eltwise [ReLU]", ["Power x b", "Convolution x a", "Eltwise a b c", "ReLU c c"], ["2-3-4"]),
        ("Convolution +Eltwise [ReLU]", ["Power x b", "Convolution x a", "Eltwise b a c"], ["2-3"]),
        ("Convolution +Eltwise [ReLU]", ["Convolution x a", "Power x b", "Eltwise a b c"], []),
        ("Convolution [ReLU] +Eltwise", ["Power x b", "Convolution x a", "ReLU a a", "Eltwise a b c"], ["2-3-4"]),
    ],
)
def test_patterns(listed, pattern, layers, expected):
    """A Split, named after the blob, counts as a layer of its own."""
    listed(pattern)
    assert names(build(*layers)) == expected


def test_an_engine_lists_a_class(monkeypatch):
    monkeypatch.setattr(fusion, "_classes", {})
    net = build("Convolution x a", "ReLU a a")

    @fuses("NUMPY")
    class ConvolutionReLU(Noted):
        patterns = ("Convolution ReLU",)

    (group,) = net.fused.values()
    assert type(group) is ConvolutionReLU and group.layers == net.layers[1:]


@pytest.mark.parametrize("pattern", ["", "ReLU", "Convolution  ReLU", "Convolution [ReLU", "[Convolution] ReLU"])
def test_a_pattern_that_cannot_be_read(monkeypatch, pattern):
    monkeypatch.setattr(fusion, "_classes", {})
    with pytest.raises(ValueError, match="expected a pattern such as 'Convolution .* got '"):
        fuses("NUMPY")(type("Group", (Noted,), {"patterns": ("Convolution ReLU", pattern)}))
    assert fusion._classes == {}


def test_the_class_that_is_listed_first_comes_first(listed):
    first, second = listed("Convolution BatchNorm", "Convolution BatchNorm [Scale] [ReLU]")
    net = build(*CHAIN)
    assert [type(group) for group in net.fused.values()] == [first]
    listed("BatchNorm Scale", "Convolution BatchNorm [Scale] [ReLU]")
    assert names(build(*CHAIN)) == ["1-2-3-4"]
    assert names(build("Power x a", *CHAIN[1:])) == ["2-3"]


def test_a_top_that_another_layer_reads_is_not_left_out(listed):
    listed("Convolution +Eltwise")
    layers = ["Power x b", "Convolution x a", "Eltwise a b c"]
    assert names(build(*layers)) == ["2-3"]
    assert names(build(*layers, "Power a d")) == []  # both read copies, made by a Split
    assert names(build(*layers[1:2], "Eltwise a a c")) == []


def test_what_layers_behind_overwrite_is_not_part_of_a_group(listed):
    listed("Convolution Sigmoid")
    layers = ["Convolution x a", "Sigmoid a a"]
    assert names(build(*layers)) == names(build(*layers, "Scale a a", force=False, phase=TEST)) == ["1-2"]
    assert names(build(*layers, "Scale a a")) == []


def test_a_class_may_refuse_layers(listed):
    listed("Convolution BatchNorm", fits=lambda self: self.layer_for("BatchNorm").use_global_stats)
    assert names(build(*CHAIN[:2], phase=TEST)) == ["1-2"]
    assert names(build(*CHAIN[:2], phase=TRAIN)) == []
    assert build(*CHAIN[:2]).fused == {}


@needs_onednn
def test_only_layers_that_the_engine_computes(listed):
    """Variants of other engines are not part of a group, unless its class names their engine."""
    with ONEDNN.chosen():
        net, other = (build("Convolution x a", "Sigmoid a a") for _ in range(2))
    listed("Convolution Sigmoid")
    assert net.layers[1].engine == "ONEDNN" and names(net) == []
    listed("Convolution Sigmoid", also=("ONEDNN",))
    assert names(other) == ["1-2"]


# -- passes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def net(listed):
    """A net of one group, layers 1 to 4, and one layer behind it."""
    listed("Convolution BatchNorm [Scale] [ReLU]")
    return build(*CHAIN, "Power a b")


def notes(net):
    """The calls since the last use of this function."""
    (group,) = net.fused.values()
    called, group.notes[:] = list(group.notes), []
    return called


def test_forward_and_backward(net):
    net.run_forward()
    assert notes(net) == ["compute", "finish"]
    assert net.fused[1].intact
    net.run_backward()
    assert notes(net) == ["restore 1", "restore 2", "restore 3", "restore 4"]
    assert not any(layer.fused for layer in net.layers)
    net.run_backward()
    assert notes(net) == []


def test_a_backward_pass_of_its_own(listed):
    listed("Convolution ReLU", base=Backward)
    net = build("Convolution x a", "ReLU a a", "Power a b")
    net.run_forward()
    net.run_backward()
    net.run_backward()
    assert notes(net) == ["compute", "finish", "gradients", "gradients"]
    net.backward(end="2")  # cuts the group
    assert notes(net) == ["restore 1", "restore 2"]
    net.run_backward()
    assert notes(net) == []


def test_passes_that_cut_the_group(net):
    net.forward(end="2")
    net.forward(start="3")
    assert notes(net) == []
    net.run_forward()
    net.forward(start="2", end="2")
    assert notes(net) == ["compute", "finish"]
    assert [layer.fused is net.fused[1] for layer in net.layers[1:5]] == [True, False, True, True]
    net.run_backward()
    assert notes(net) == ["restore 1", "restore 3", "restore 4"]


def test_observers_see_layers_one_by_one(net):
    net.after_forward(lambda i: None)
    net.run_forward()
    assert notes(net) == []
    net.callbacks.after_forward.clear()
    net.debug_info = True
    net.run_forward()
    assert notes(net) == []
    net.debug_info = False
    net.run_forward()
    assert notes(net) == ["compute", "finish"]


def test_shapes_without_code_run_one_by_one(net):
    """Only the shapes that were refused last are not tried again."""
    results = []
    for samples in (2, 3, 3, 2, 3):
        net.blobs["x"].reshape(samples, 4, 3, 3)
        net.blobs["x"].data[...] = 1
        net.run_forward()
        results.append((samples, "compute" in notes(net), net.layers[1].fused is not None))
        assert np.isfinite(net.blobs["b"].data).all()
    assert results == [(2, True, True), (3, True, False), (3, False, False), (2, True, True), (3, False, False)]


def test_a_group_may_be_impossible_with_some_shapes(listed):
    listed("Convolution ReLU", possible=lambda self: self.bottom[0].shape[0] == 2)
    net = build("Convolution x a", "ReLU a a")
    net.run_forward()
    net.blobs["x"].reshape(4, 4, 3, 3)
    net.run_forward()
    assert notes(net) == ["compute", "finish", "finish"]


def test_groups_for_nets_that_run_no_backward_pass(listed):
    first, second = listed("Convolution BatchNorm [Scale] [ReLU]", "BatchNorm [Scale] [ReLU]")
    first.until_backward = True
    net = build(*CHAIN)
    net.run_forward()
    assert names(net) == ["1-2-3-4"]
    group = net.fused[1]
    net.run_backward()
    assert group.notes == ["compute", "finish", "restore 1", "restore 2", "restore 3", "restore 4"]
    assert names(net) == ["2-3-4"] and type(net.fused[2]) is second


def test_groups_stay_where_all_are_for_backward(net):
    group = net.fused[1]
    net.run_forward()
    net.run_backward()
    assert net.fused[1] is group


def test_a_recorded_step_marks_the_layers_before_each_replay(net, monkeypatch):
    class Observer:
        actions: list = []

        def used_on_host(self, memory):
            pass

        def before_replay(self, action):
            self.actions.append(action)

    monkeypatch.setattr(observed, "observer", Observer())
    net.run_forward()
    net.run_backward()
    assert not any(layer.fused for layer in net.layers)
    for action in Observer.actions:
        action()
    assert net.fused[1].intact
