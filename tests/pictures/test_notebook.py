"""Nets and solvers as HTML for notebooks."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

import minicaffe
from minicaffe.core.notebook import Shown
from minicaffe.core.passes import insert_splits, remove_splits
from minicaffe.models import zoo
from minicaffe.pictures import notebook
from minicaffe.proto import caffe_pb2, parse_text

NET = """name: @ layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: @ type: "Convolution" bottom: "x" top: @
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: @ top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "y" top: "accuracy" include { phase: TEST } }
""".replace("@", r'"<b onclick=\"x\">&\033[31m"')
SOLVER = f"""net_param {{ {NET} }} test_iter: 1 test_interval: 3 base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 4
max_iter: 8 random_seed: 1 snapshot_after_train: false"""


class Checker(HTMLParser):
    """Collects tags that are opened, and checks that each is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.opened, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.opened.append(tag)
        assert "onclick" not in dict(attributes)
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def solver():
    return minicaffe.get_solver(parse_text(SOLVER, caffe_pb2.SolverParameter()))


def test_a_net_has_a_drawing_and_a_table(solver):
    html = solver.net._repr_html_()
    page = Checker(html)
    assert page.opened.count("svg") == 1 and page.opened.count("tr") == 1 + 4
    assert "(TRAIN): 4 layers" in page.text and "SoftmaxWithLoss" in page.text
    assert r'<b onclick="x">&\x1b[31m' in page.text and "\x1b" not in html
    ElementTree.fromstring(re.search("<svg.*</svg>", html, re.DOTALL)[0])


def test_shapes_are_those_of_the_net(solver):
    assert "4x5x4x4" in Checker(solver.net._repr_html_()).text.replace("×", "x").replace(" ", "")


def test_splits_are_not_shown(solver):
    net = solver.test_nets[0]
    assert any(layer.type == "Split" for layer in net.param.layer)
    assert "Split" not in net._repr_html_()


def test_a_large_net_is_not_drawn(solver, monkeypatch):
    monkeypatch.setattr(notebook, "_MOST_LAYERS", 3)
    page = Checker(solver.net._repr_html_())
    assert "svg" not in page.opened and page.opened.count("tr") == 1 + 3
    assert "not drawn: it has more than 3 layers" in page.text and "and 1 more layers" in page.text


def test_a_solver_before_training(solver):
    html = solver._repr_html_()
    assert "svg" not in Checker(html).opened and "iteration 0 of 8, learning rate 0.1" in html


def test_a_solver_shows_its_curves(solver):
    solver.step(8)
    html = solver._repr_html_()
    page = Checker(html)
    assert page.opened.count("svg") == 1 and "iteration 8 of 8" in page.text
    assert "SGD solver of <b" in page.text
    ElementTree.fromstring(re.search("<svg.*</svg>", html, re.DOTALL)[0])
    kinds = {(curve.of, curve.name, curve.kind, len(curve.values)) for curve in notebook._curves(solver)}
    assert kinds == {
        ("Train", "loss", "loss", 8), ("Train", "rate", "rate", 8), ("Test", "loss", "loss", 3),
        ("Test", "accuracy", "score", 3),
    }  # fmt: skip


def test_what_is_not_handed_in_has_no_html():
    assert Shown()._repr_html_() is None


# -- Splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [zoo.googlenet, zoo.resnet50, zoo.densenet121, zoo.ssd300])
def test_removing_splits_is_the_inverse(make):
    param = make()
    assert remove_splits(insert_splits(param)) == param


def test_removing_splits_gives_loss_weights_back():
    text = """layer { name: "a" type: "Input" top: "x" }
    layer { name: "b" type: "Reduction" bottom: "x" top: "l" loss_weight: 3 }
    layer { name: "c" type: "ReLU" bottom: "l" top: "m" } layer { name: "d" type: "ReLU" bottom: "l" top: "n" }"""
    param = parse_text(text, caffe_pb2.NetParameter())
    split = insert_splits(param)
    assert split.layer[1].loss_weight[0] == 0 and split.layer[2].loss_weight[0] == 3
    assert remove_splits(split) == param


def test_a_split_of_the_prototxt_stays():
    text = """layer { name: "a" type: "Input" top: "x" }
    layer { name: "x_split" type: "Split" bottom: "x" top: "y" top: "z" }"""
    param = parse_text(text, caffe_pb2.NetParameter())
    assert remove_splits(insert_splits(param)) == param
