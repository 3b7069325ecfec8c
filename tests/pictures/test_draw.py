"""Drawings of nets: blocks, edges, layout, and files."""

import io
import itertools
import xml.etree.ElementTree as ET

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from minicaffe import draw, net_spec
from minicaffe.errors import DataError, UsageError
from minicaffe.net_spec import NetSpec
from minicaffe.pictures.graph import blocks_and_edges, describe, phases, shape_text
from minicaffe.pictures.layout import Node, layout
from minicaffe.pictures.shapes import infer_shapes, parse_shapes
from minicaffe.proto import caffe_pb2

L, P = net_spec.layers, net_spec.params


def residual_net():
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 8, 8]))
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, pad=1, param=[dict(lr_mult=1), dict(lr_mult=2)])
    n.bn1 = L.BatchNorm(n.conv1, in_place=True)
    n.scale1 = L.Scale(n.bn1, in_place=True)
    n.relu1 = L.ReLU(n.scale1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, num_output=4, kernel_size=3, pad=1)
    n.conv3 = L.Convolution(n.conv2, num_output=4, kernel_size=3, pad=1)
    n.sum = L.Eltwise(n.relu1, n.conv3)
    n.prob = L.Softmax(n.sum)
    net = n.to_proto()
    net.name = "residual"
    return net


def phased_net():
    return text_format.Parse(
        """
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
                data_param { batch_size: 8 } }
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
                data_param { batch_size: 4 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
        layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }""",
        caffe_pb2.NetParameter(),
    )


def test_in_place_layers_are_rows_of_one_block():
    blocks, edges = blocks_and_edges(residual_net())
    rows = [[layer.name for layer in block.layers] for block in blocks]
    assert rows == [["data"], ["conv1", "bn1", "scale1", "relu1"], ["conv2"], ["conv3"], ["sum"], ["prob"]]
    assert [(e.source, e.target) for e in edges] == [(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (4, 5)]
    assert edges[3].port.shape == (2, 4, 8, 8)


def test_layers_of_both_phases_meet_where_a_net_can_have_both():
    blocks, edges = blocks_and_edges(phased_net())
    assert {(e.source, e.target) for e in edges} == {(0, 2), (1, 2), (2, 3), (1, 3), (2, 4), (0, 4), (1, 4)}
    assert [phases(block.layers[0]) for block in blocks] == ["TRAIN", "TEST", "", "TEST", ""]


def test_shapes_without_data():
    net = phased_net()
    shapes = infer_shapes(net, {"data": (8, 3, 2, 2)})
    assert shapes[0, 0] == (8, 3, 2, 2) and shapes[0, 1] == (8,) and shapes[2, 0] == (8, 5)
    assert (2, 0) not in infer_shapes(net)
    net.layer[0].type = net.layer[1].type = "NoSuchLayer"
    assert infer_shapes(net) == {}


def test_shapes_that_a_reader_tells():
    net = text_format.Parse(
        """
        layer { name: "a" type: "ImageData" top: "a" image_data_param { batch_size: 2 new_height: 5 new_width: 6 } }
        layer { name: "b" type: "Data" top: "b" data_param { batch_size: 2 }
                transform_param { crop_size: 7 mean_value: 1 mean_value: 2 mean_value: 3 } }""",
        caffe_pb2.NetParameter(),
    )
    assert infer_shapes(net) == {(0, 0): (2, 3, 5, 6), (1, 0): (2, 3, 7, 7)}


def test_shapes_from_the_first_image_of_a_list(tmp_path):
    Image.new("RGB", (6, 5)).save(tmp_path / "a b.png")
    Image.new("L", (6, 4)).save(tmp_path / "map.png")
    (tmp_path / "list.txt").write_text("a b.png 0\n")
    (tmp_path / "maps.txt").write_text("map.png map.png\n")
    net = text_format.Parse(
        f"""
        layer {{ name: "a" type: "ImageData" top: "a" top: "y"
                image_data_param {{ source: "{tmp_path}/list.txt" root_folder: "{tmp_path}/" batch_size: 2 }} }}
        layer {{ name: "b" type: "DenseImageData" top: "b" top: "m" dense_image_data_param {{
                source: "{tmp_path}/maps.txt" root_folder: "{tmp_path}/" batch_size: 3 is_color: false }} }}
        layer {{ name: "c" type: "ImageSegData" top: "c" transform_param {{ scale_factors: 2 }}
                image_data_param {{ source: "{tmp_path}/maps.txt" root_folder: "{tmp_path}/" batch_size: 3 }} }}
        layer {{ name: "d" type: "WindowSegData" top: "d"
                image_data_param {{ source: "{tmp_path}/maps.txt" root_folder: "{tmp_path}/" batch_size: 3 }} }}
        layer {{ name: "e" type: "ImageData" top: "e" image_data_param {{ source: "missing" batch_size: 2 }} }}""",
        caffe_pb2.NetParameter(),
    )
    shapes = infer_shapes(net)
    assert shapes == {(0, 0): (2, 3, 5, 6), (0, 1): (2,), (1, 0): (3, 1, 4, 6), (1, 1): (3, 1, 4, 6)}


def test_parse_shapes():
    assert parse_shapes(["data=1,3,4,5", "x:2x3"]) == {"data": (1, 3, 4, 5), "x": (2, 3)}
    with pytest.raises(UsageError, match="data=100,3,32,32, got 'data'"):
        parse_shapes(["data"])


@pytest.mark.parametrize(
    "text, words",
    [
        (
            'type: "Convolution" convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 group: 4 }',
            "8 3×3 /2 pad 1 group 4",
        ),
        (
            'type: "Convolution" convolution_param { num_output: 8 kernel_h: 3 kernel_w: 5 dilation: 2 }',
            "8 3×5 dilation 2",
        ),
        ('type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }', "AVE 3×3 /2"),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', "AVE global"),
        ('type: "LRN" lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }', "within 3"),
        ('type: "Eltwise" eltwise_param { operation: MAX }', "MAX"),
        ('type: "Python" python_param { module: "m" layer: "C" }', "m.C"),
        ('type: "Anything"', ""),
    ],
)
def test_describe(text, words):
    assert describe(text_format.Parse(text, caffe_pb2.LayerParameter())) == words


def test_shape_text():
    assert [shape_text(s) for s in ((2, 3), (), None)] == ["2×3", "scalar", ""]


def test_layout_keeps_distances_and_direction():
    nodes = [Node(across=40 + 7 * i, along=20) for i in range(8)]
    edges = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 5), (0, 6), (4, 6), (5, 6), (6, 7), (0, 7)]
    chains = layout(nodes, edges)
    for source, target in edges:
        assert nodes[source].y + nodes[source].along < nodes[target].y
    for a, b in itertools.combinations([*nodes, *itertools.chain(*chains)], 2):
        if a.rank == b.rank:
            assert abs(a.x - b.x) >= (a.across + b.across) / 2
    assert min(n.x - n.across / 2 for n in [*nodes, *itertools.chain(*chains)]) >= -1e-9
    assert [len(chain) for chain in chains] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]


def test_layout_uncrosses_and_straightens():
    nodes = [Node(across=30, along=10) for _ in range(7)]
    layout(nodes, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (5, 6)])
    assert (nodes[1].x < nodes[2].x) == (nodes[4].x < nodes[3].x)
    assert nodes[3].x == nodes[5].x == nodes[6].x


@pytest.mark.parametrize("rankdir", ["TB", "BT", "LR", "RL"])
def test_svg_holds_every_layer_and_shape_inside_the_page(rankdir):
    root = ET.fromstring(draw.draw_net(residual_net(), rankdir, "svg"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for words in ("residual", "conv1", "BatchNorm  bn1", "ReLU  relu1", "Eltwise  SUM", "2×4×8×8"):
        assert words in texts
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [b for b in root.iter("{http://www.w3.org/2000/svg}rect") if b.get("x")]
    assert len(boxes) == 6 + 3
    for box in boxes:
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    conv, prob = (
        next(
            float(t.get("x" if rankdir in ("LR", "RL") else "y"))
            for t in root.iter("{http://www.w3.org/2000/svg}text")
            if t.text == name
        )
        for name in ("conv1", "prob")
    )
    assert (conv < prob) == (rankdir in ("TB", "LR"))


def test_png_and_phase(tmp_path):
    train, test = (draw.draw_net(phased_net(), ext="svg", phase=phase).decode() for phase in (0, 1))
    assert "batch 8" in train and "batch 4" not in train and "accuracy" not in train
    assert "batch 4" in test and "accuracy" in test
    path = tmp_path / "net.png"
    draw.draw_net_to_file(phased_net(), str(path), phase=1)
    assert Image.open(io.BytesIO(path.read_bytes())).size[0] > 100
    assert [p.name for p in tmp_path.iterdir()] == ["net.png"]


def test_learning_rates_and_given_shapes():
    svg = draw.draw_net(residual_net(), ext="svg", display_lrm=True).decode()
    assert "lr mult 1, 2" in svg
    assert "8×3×4×4" in draw.draw_net(phased_net(), ext="svg", shapes={"data": (8, 3, 4, 4)}).decode()


def test_old_nets_are_upgraded():
    net = text_format.Parse(
        'input: "data" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 '
        'layers { name: "r" type: RELU bottom: "data" top: "r" }',
        caffe_pb2.NetParameter(),
    )
    svg = draw.draw_net(net, "LR", "svg").decode()
    assert ">ReLU<" in svg and "1×2×3×4" in svg and len(net.layers) == 1


def test_empty_net_and_errors(tmp_path):
    assert b"<svg" in draw.draw_net(caffe_pb2.NetParameter(), ext="svg")
    with pytest.raises(UsageError, match="TB, BT, LR, RL, got 'UP'"):
        draw.draw_net(residual_net(), "UP")
    with pytest.raises(UsageError, match="no extension"):
        draw.draw_net_to_file(residual_net(), tmp_path / "net")
    with pytest.raises(DataError, match="cannot write"):
        draw.draw_net_to_file(residual_net(), tmp_path / "missing" / "net.svg")


def test_words_of_pycaffe():
    conv = residual_net().layer[1]
    assert draw.get_layer_label(conv, "TB") == '"conv1 (Convolution) kernel size: 3 stride: 1 pad: 1"'
    assert draw.get_layer_label(conv, "LR", True).endswith(r'\npad: 1\nlr mult: 1.0, 2.0"')
    pool = text_format.Parse('name: "p" type: "Pooling" pooling_param { kernel_size: 2 }', caffe_pb2.LayerParameter())
    assert draw.get_layer_label(pool, "TB") == '"p (Pooling MAX) kernel size: 2 stride: 1 pad: 0"'
    assert draw.get_edge_label(conv) == "4" and draw.get_edge_label(pool) == '""'
    assert draw.get_layer_lr_mult(conv) == (1, 2)
    with pytest.raises(UsageError):
        draw.get_layer_lr_mult(pool)
    assert draw.get_pooling_types_dict()[0] == "MAX"
    assert draw.choose_color_by_layertype("Pooling") == "#FF9900"


def test_pydot_graph():
    pydot = pytest.importorskip("pydot")
    graph = draw.get_pydot_graph(phased_net(), "LR", phase=1)
    assert isinstance(graph, pydot.Dot)
    names = {node.get_name() for node in graph.get_nodes()}
    assert '"data"' in names and any("Accuracy" in name for name in names)


def test_pydot_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydot", None)
    with pytest.raises(ImportError, match="pip install pydot"):
        draw.draw_net(residual_net(), ext="dot")


def test_shapes_from_the_first_record(tmp_path):
    from minicaffe.data.db import open_db
    from minicaffe.io import array_to_datum

    with open_db(tmp_path / "db", "lmdb", "w") as writer:
        writer.put(b"0", array_to_datum(np.zeros((3, 6, 5), np.uint8)).SerializeToString())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((9, 4))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.h5\n")
    net = text_format.Parse(
        f"""layer {{ name: "d" type: "Data" top: "d" top: "l"
                     data_param {{ batch_size: 2 backend: LMDB source: "{tmp_path}/db" }} }}
            layer {{ name: "h" type: "HDF5Data" top: "x" hdf5_data_param {{ batch_size: 7
                     source: "{tmp_path}/list.txt" }} }}""",
        caffe_pb2.NetParameter(),
    )
    assert infer_shapes(net) == {(0, 0): (2, 3, 6, 5), (0, 1): (2,), (1, 0): (7, 4)}
    net.layer[0].transform_param.crop_size = 4
    net.layer[1].hdf5_data_param.source = "nothing"
    assert infer_shapes(net) == {(0, 0): (2, 3, 4, 4), (0, 1): (2,)}


def test_the_longest_edges_have_no_dummies_where_there_would_be_too_many(monkeypatch):
    monkeypatch.setattr("minicaffe.pictures.layout.MOST_DUMMIES", 5)
    nodes = [Node(across=10, along=10) for _ in range(6)]
    chains = layout(nodes, [(i, i + 1) for i in range(5)] + [(0, 2), (1, 4), (0, 5)])
    assert [len(chain) for chain in chains] == [0] * 5 + [1, 2, 0]
    assert nodes[5].rank == 5
