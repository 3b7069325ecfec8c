"""Drawings of nets as geometry: edges pass no label and no box, and long drawings are folded into rows."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from minicaffe import draw
from minicaffe.models import zoo
from minicaffe.pictures.canvas import rounded, text_width
from minicaffe.pictures.layout import Node, layout
from minicaffe.pictures.net_picture import LABEL_COLOR
from minicaffe.pictures.rows import fold, row_starts

SVG = "{http://www.w3.org/2000/svg}"
NETS = {
    "googlenet": lambda: zoo.googlenet(training=True),
    "resnet50": zoo.resnet50,
    "ssd300": zoo.ssd300,
    "unet": zoo.unet,
    "captioner": lambda: zoo.captioner(training=True),
}


@pytest.fixture(scope="module")
def drawing():
    """Return a function that gives the SVG's root for a net and a direction."""
    drawn = {}

    def find(name, rankdir):
        if (name, rankdir) not in drawn:
            drawn[name, rankdir] = ET.fromstring(draw.draw_net(NETS[name](), rankdir, "svg"))
        return drawn[name, rankdir]

    return find


def points(path):
    """Return points of an SVG path of lines and cubic curves, at most a few units apart."""
    found = []
    for kind, numbers in re.findall(r"([MLC])([^MLC]+)", path):
        values = [float(number) for number in numbers.split()]
        ends = list(zip(values[::2], values[1::2]))
        if kind == "M":
            found += ends
            continue
        x0, y0 = found[-1]
        if kind == "L":
            ends = [((x0 + ends[0][0]) / 2, (y0 + ends[0][1]) / 2)] * 2 + ends
        (x1, y1), (x2, y2), (x3, y3) = ends
        count = int(max(abs(x3 - x0), abs(y3 - y0)) / 2) + 2
        for i in range(1, count + 1):
            t = i / count
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            found.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return found


def edges(root):
    return [points(path.get("d")) for path in root.iter(f"{SVG}path")]


def labels(root):
    """Return (left, top, right, bottom) of the text of each shape."""
    found = []
    for text in root.iter(f"{SVG}text"):
        if text.get("fill") == LABEL_COLOR:
            x, y = float(text.get("x")), float(text.get("y"))
            found.append((x, y - 7, x + text_width(text.text, 9), y + 1))
    return found


def boxes(root):
    """Return (left, top, right, bottom) of the box of each block, without its border."""
    rects = [r for r in root.iter(f"{SVG}rect") if r.get("rx") == "4"]
    corners = [[float(r.get(key)) for key in ("x", "y", "width", "height")] for r in rects]
    return [(x + 1, y + 1, x + w - 1, y + h - 1) for x, y, w, h in corners]


@pytest.mark.parametrize("rankdir", draw.RANKDIRS)
@pytest.mark.parametrize("name", NETS)
def test_no_edge_passes_a_label_or_a_box(drawing, name, rankdir):
    root = drawing(name, rankdir)
    taken = [*labels(root), *boxes(root)]
    assert len(labels(root)) > 8
    for edge in edges(root):
        for x, y in edge:
            inside = [box for box in taken if box[0] < x < box[2] and box[1] < y < box[3]]
            assert not inside, (name, rankdir, x, y, inside)


@pytest.mark.parametrize("rankdir", draw.RANKDIRS)
@pytest.mark.parametrize("name", NETS)
def test_labels_and_boxes_do_not_overlap_and_are_on_the_page(drawing, name, rankdir):
    root = drawing(name, rankdir)
    width, height = float(root.get("width")), float(root.get("height"))
    taken = sorted([*labels(root), *boxes(root)])
    for i, (left, top, right, bottom) in enumerate(taken):
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        for other in taken[i + 1 :]:
            if other[0] >= right:
                break
            assert other[1] >= bottom or other[3] <= top, (name, rankdir)
    for edge in edges(root):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in edge)


@pytest.mark.parametrize("net", [zoo.resnet50, zoo.densenet121, zoo.vgg16, lambda: zoo.cifar_resnet(training=True)])
def test_deep_nets_fit_a_page(net):
    to_the_right, down = (ET.fromstring(draw.draw_net(net(), rankdir, "svg")) for rankdir in ("LR", "TB"))
    assert float(to_the_right.get("width")) < 1700
    assert float(down.get("height")) < 4200
    assert float(down.get("width")) < 2000


def chain(count):
    nodes = [Node(across=10, along=100) for _ in range(count)]
    pairs = [(i, i + 1) for i in range(count - 1)]
    chains = layout(nodes, pairs)
    return nodes, [[nodes[a], *dummies, nodes[b]] for (a, b), dummies in zip(pairs, chains)]


def test_a_short_layout_is_one_row():
    nodes, paths = chain(5)
    rows = fold(paths, nodes, 700)
    assert rows.lanes == {} and rows.length == 5 * 100 + 4 * 30 and rows.breadth == 10
    assert [node.y for node in nodes] == [130 * i for i in range(5)]


def test_rows_are_of_similar_length():
    nodes, paths = chain(7)
    rows = fold(paths, nodes, 550)
    assert len(rows.lanes) == 1
    assert sorted(sum(node.x == x for node in nodes) for x in {node.x for node in nodes}) == [3, 4]
    ((before, after),) = rows.lanes
    lane = rows.lanes[before, after]
    assert before.end < lane.out <= rows.length
    assert before.x < lane.between < after.x
    assert 0 <= lane.into < after.y


def test_a_cut_is_where_few_edges_pass():
    spans = [(130.0 * i, 130.0 * i + 100) for i in range(6)]
    assert row_starts(spans, [1, 1, 1, 1, 1, 0], 490) == [0, 3]
    assert row_starts(spans, [1, 1, 5, 1, 1, 0], 490) in ([0, 2], [0, 4])
    assert row_starts(spans, [1, 1, 1, 1, 1, 0], 50) == list(range(6))


def test_lanes_of_edges_in_order_do_not_cross():
    nodes = [Node(across=10, along=100) for _ in range(6)]
    pairs = [(0, 2), (1, 3), (2, 4), (3, 5)]
    layout(nodes, pairs)
    rows = fold([[nodes[a], nodes[b]] for a, b in pairs], nodes, 150)
    assert len(rows.lanes) == 4
    (one, first), (two, second) = sorted(list(rows.lanes.items())[:2], key=lambda item: item[0][0].x)
    assert one[0].x < two[0].x and one[1].x < two[1].x
    assert first.out > second.out and first.between > second.between and first.into > second.into


def test_edges_of_one_blob_share_a_lane():
    for outputs, lanes in ((1, 1), (2, 2)):
        nodes = [Node(across=10, along=100, outputs=outputs) for _ in range(3)]
        layout(nodes, [(0, 1), (0, 2)])
        rows = fold([[nodes[0], nodes[1]], [nodes[0], nodes[2]]], nodes, 150)
        assert len(rows.lanes) == 2 and len(set(rows.lanes.values())) == lanes


def test_rounded_corners():
    steps = rounded([(0, 0), (20, 0), (20, 4), (0, 4)], radius=8)
    assert [step[-1] for step in steps] == [(12, 0), (20, 2), (20, 2), (12, 4), (0, 4)]
    assert all(abs(a[-1][0] - b[-1][0]) <= 12 for a, b in pairwise(steps))
