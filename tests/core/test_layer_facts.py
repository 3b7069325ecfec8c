"""Facts about a layer type are class data of its layer: available without a net, for any type, and in one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe
from minicaffe import coord_map, draw, net_spec
from minicaffe.core.layer import Layer
from minicaffe.core.registry import facts_of, layer_type_list, register
from minicaffe.pictures import net_picture
from minicaffe.pictures.graph import describe
from minicaffe.pictures.shapes import infer_shapes
from minicaffe.pictures.summary import summarize_net
from minicaffe.proto import caffe_pb2, parse_text

ROOT = Path(minicaffe.__file__).resolve().parent.parent

#: Files that may list types, with the reason: a file format or another program fixes the list.
TABLES = {
    "minicaffe/proto/upgrade_intel.py": "the types that have a ReLU of their own in a fork",
    "minicaffe/proto/upgrade_v1.py": "the numbers that types had in the older format",
    "minicaffe/pictures/pydot_graph.py": "the colours and words of pycaffe's drawings",
    "minicaffe/checks/data/classes.py": "behind which layers labels are class labels, and scores those of classes",
    "minicaffe/checks/static/deploy.py": "what may be missing in a deploy net",
    "minicaffe/checks/static/facts.py": "the numbers of parameters, without building the layers",
    "minicaffe/checks/static/learning.py": "whose backward pass gives zeros",
    "minicaffe/checks/static/losses.py": "the functions that losses contain",
}


def test_no_module_is_imported_to_find_shapes(tmp_path, monkeypatch):
    (tmp_path / "exits.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    text = 'layer { type: "Python" top: "y" python_param { module: "exits" layer: "A" } }'
    assert infer_shapes(parse_text(text, caffe_pb2.NetParameter())) == {}


@pytest.mark.parametrize("type_name", layer_type_list())
def test_every_type_states_facts_of_the_right_kind(type_name):
    facts, empty = facts_of(type_name), caffe_pb2.LayerParameter(type=type_name, top=["a", "b"])
    assert facts.family in ("", *net_picture.FAMILY_COLORS)
    assert facts.resamples in ("", "up", "down") and not (facts.resamples and facts.keeps_coordinates)
    assert not facts.param_field or facts.param_field in empty.DESCRIPTOR.fields_by_name
    assert facts.unread_of_transform.keys() <= set(empty.transform_param.DESCRIPTOR.fields_by_name)
    assert isinstance(facts.describe(empty), str)
    shapes = facts.source_shapes(empty)
    assert shapes is None or len(shapes) == 2


def test_a_type_that_is_unknown_has_the_defaults():
    assert facts_of("NoSuchLayer") is Layer
    assert (Layer.family, Layer.keeps_coordinates, Layer.resamples, Layer.param_field) == ("", False, "", "")
    assert describe(caffe_pb2.LayerParameter(type="NoSuchLayer")) == ""


NET = """
layer { name: "data" type: "Data" top: "data" data_param { source: "missing" batch_size: 3 } }
layer { name: "own" type: "NoSuchLayer" bottom: "data" top: "x" }
layer { name: "in place" type: "NoSuchLayer" bottom: "x" top: "x" }
layer { name: "python" type: "Python" bottom: "x" top: "y" python_param { module: "missing" layer: "Missing" } }
layer { name: "conv" type: "Convolution" bottom: "y" top: "z" }
layer { name: "gain" type: "InfogainLoss" bottom: "z" bottom: "y" top: "w" infogain_loss_param { source: "missing" } }
"""


def test_nets_that_cannot_be_built_are_drawn():
    net = parse_text(NET, caffe_pb2.NetParameter())
    svg = draw.draw_net(net, ext="svg").decode()
    assert "batch 3" in svg and "missing.Missing" in svg and "NoSuchLayer" in svg
    assert len(summarize_net(net)) == 6 and infer_shapes(net) == {}


def test_a_type_of_a_script_has_its_colour_its_words_and_its_fields():
    @register("OwnActivation")
    class OwnActivation(Layer):
        family = "activation"
        keeps_coordinates = True
        param_field = "relu_param"

        @staticmethod
        def describe(layer_param):
            return f"slope {layer_param.relu_param.negative_slope:g}"

    n, L = net_spec.NetSpec(), net_spec.layers
    n.data = L.Input(shape=dict(dim=[1, 2]))
    n.own = L.OwnActivation(n.data, negative_slope=0.5)
    svg = draw.draw_net(n.to_proto(), ext="svg").decode()
    fill, border = net_picture.FAMILY_COLORS["activation"]
    assert fill in svg and border in svg and "slope 0.5" in svg
    assert coord_map.coord_map(n.own.fn) == (None, 1, 0)


def test_a_subclass_has_the_facts_of_its_base():
    n, L = net_spec.NetSpec(), net_spec.layers
    n.data = L.Input(shape=dict(dim=[1, 2, 8, 8]))
    n.conv = L.ConvolutionDepthwise(n.data, num_output=2, kernel_size=3, stride=2, pad=1)
    conv = n.to_proto().layer[1]
    assert describe(conv) == "2 3×3 /2 pad 1"
    assert coord_map.coord_map(n.conv.fn) == (1, 0.5, 0)


def test_types_that_keep_coordinates_include_pycaffes():
    pycaffe = """AbsVal BatchNorm Bias BNLL Dropout Eltwise ELU Exp Log LRN MVN Power PReLU ReLU Scale Sigmoid Split
        TanH Threshold""".split()
    assert set(pycaffe) <= set(coord_map.PASS_THROUGH_LAYERS)
    with pytest.raises(AttributeError, match="has no attribute 'PASS_THROUGH'"):
        coord_map.PASS_THROUGH  # noqa: B018


def test_importing_minicaffe_imports_no_layer():
    code = (
        "import sys, minicaffe, minicaffe.draw, minicaffe.coord_map, minicaffe.pictures.summary\n"
        "sys.exit(any(name.startswith('minicaffe.layers') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def types_together(tree, types):
    """Yield the names of registered types in each list, tuple, set or dict that contains three or more of them."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict)):
            parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else node.elts
            texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            found = types & {word for text in texts for word in text.split()}
            if len(found) >= 3:
                yield sorted(found)


def test_no_table_of_types_elsewhere():
    types, found = set(layer_type_list()), {}
    for folder in ("minicaffe", "cuda", "solvers", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if tables := list(types_together(ast.parse(path.read_text()), types)):
                found[path.relative_to(ROOT).as_posix()] = tables
    assert found.keys() == TABLES.keys(), found
