"""Faster R-CNN and R-FCN of the zoo: they train on drawn images, their gradients are right, and boxes come out."""

import numpy as np
import pytest

import minicaffe
from minicaffe.data.annotations.records import Box, annotated_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.models import zoo
from minicaffe.proto import caffe_pb2

SIZE, CLASSES = 48, 3
NETS = {
    "zf": (zoo.faster_rcnn, dict(base="zf", fc=16)),
    "rfcn": (zoo.rfcn, dict(base="zf", ohem=False, agnostic=False)),
    "rfcn_ohem": (zoo.rfcn, dict(base="zf")),
}
PYTHON = {"anchors": dict(scales=[1, 2]), "proposal": dict(rpn_min_size=4, rpn_post_nms_top_n=40)}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Eight images with a bright and a dark rectangle each, classes 1 and 2."""
    path, rng = tmp_path_factory.mktemp("two_stages") / "lmdb", np.random.default_rng(0)
    with open_db(path, "lmdb", "w") as out:
        for n in range(8):
            image, boxes = rng.integers(100, 150, (3, SIZE, SIZE)).astype(np.uint8), []
            for label, (left, right), value in ((1, (1, 23), 250), (2, (24, 47), 5)):
                (x1, x2), (y1, y2) = np.sort(rng.integers(left, right - 12, 2)), np.sort(rng.integers(2, 30, 2))
                image[:, y1 : y2 + 12, x1 : x2 + 12] = value
                boxes.append(Box(label, x1 / SIZE, y1 / SIZE, (x2 + 12) / SIZE, (y2 + 12) / SIZE))
            datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True)
            out.put(f"{n}", annotated_datum(datum, boxes).SerializeToString())
    return str(path)


def training_net(name, database):
    make, arguments = NETS[name]
    data = dict(source=database, scales=[SIZE], max_size=100)
    settings = PYTHON | {"input-data": data, "rpn-data": dict(allowed_border=8), "roi-data": dict(batch_size=16)}
    return make(classes=CLASSES, settings=settings, **arguments)


@pytest.mark.parametrize("name", ["zf", "rfcn_ohem"])
def test_training_lowers_the_loss(name, database):
    solver = caffe_pb2.SolverParameter(
        base_lr=0.001, lr_policy="fixed", momentum=0.9, clip_gradients=10, random_seed=1, max_iter=24
    )
    solver.net_param.CopyFrom(training_net(name, database))
    solver = minicaffe.get_solver(solver)
    losses = []
    for _ in range(24):
        solver.step(1)
        losses.append(sum(float(solver.net.blobs[each].data) for each in solver.net.outputs if "loss" in each))
    assert np.isfinite(losses).all() and np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])


def with_given_tops(param, net):
    """The net with the tops of its Python layers as inputs."""
    given = caffe_pb2.NetParameter(name=param.name)
    for layer in param.layer:
        if layer.type == "Python":
            given.layer.add(name=layer.name, type="Input", top=layer.top)
            for top in layer.top:
                given.layer[-1].input_param.shape.add(dim=net.blobs[top].shape)
        else:
            given.layer.add().CopyFrom(layer)
            if layer.type == "Dropout":
                given.layer[-1].dropout_param.dropout_ratio = 0
    return given


@pytest.mark.parametrize("name", NETS)
def test_gradients_with_given_regions(name, database):
    """In float64, with the regions and targets of one image, the loss has the slope that backward gives."""
    minicaffe.set_random_seed(2)
    param = training_net(name, database)
    net = minicaffe.Net(param, phase=minicaffe.TRAIN)
    net.forward()
    given = minicaffe.Net(with_given_tops(param, net), phase=minicaffe.TRAIN, dtype=np.float64)
    for blob in given.inputs:
        given.blobs[blob].data[...] = net.blobs[blob].data
    given.clear_param_diffs()
    given.forward_backward()
    scores = ("cls_score", "bbox_pred") if name == "zf" else ("rfcn_cls", "rfcn_bbox")
    slopes = {
        layer: given.params[layer][0].diff.copy() for layer in ("rpn_cls_score", "rpn_bbox_pred", "conv5", *scores)
    }
    for layer, diff in slopes.items():
        blob, way = given.params[layer][0], diff / np.abs(diff).max()
        start, slope, values = blob.data.copy(), float((diff * way).sum()), []
        for step in (1e-6, -1e-6):
            blob.data[...] = start + step * way
            given.forward()
            values.append(sum(float(given.blobs[each].data) for each in given.outputs if "loss" in each))
        blob.data[...] = start
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4), layer


@pytest.mark.parametrize("name", NETS)
def test_boxes_of_an_image(name, engine):
    make, arguments = NETS[name]
    net = minicaffe.Net(
        make(classes=CLASSES, training=False, size=(SIZE, SIZE), settings=PYTHON, **arguments), phase=minicaffe.TEST
    )
    net.blobs["data"].data[...] = np.random.default_rng(0).uniform(-100, 100, (1, 3, SIZE, SIZE))
    net.blobs["im_info"].data[...] = [SIZE, SIZE, 1]
    net.forward()
    rois, scores, codes = (net.blobs[each].data for each in ("rois", "cls_prob", "bbox_pred"))
    count, columns = len(rois), 4 * (2 if name == "rfcn_ohem" else CLASSES)
    assert 0 < count <= 40 and scores.shape[:2] == (count, CLASSES) and codes.shape[:2] == (count, columns)
    assert (rois[:, 1:] >= 0).all() and (rois[:, 1:] <= SIZE - 1).all() and not rois[:, 0].any()
    np.testing.assert_allclose(scores.reshape(count, -1).sum(1), 1, rtol=1e-5)
