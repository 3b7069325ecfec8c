"""Nets of MS-CNN and Cascade R-CNN, rebuilt small: both stages of MS-CNN, a region proposal net with one detector.

A cascade of three detectors trains, and its boxes are evaluated after each of them.
"""

import numpy as np
import pytest
from PIL import Image

from minicaffe import Net, get_solver
from minicaffe import layers as L
from minicaffe.net_spec import NetSpec
from minicaffe.proto import TRAIN, caffe_pb2, format_text, parse_text, upgrade_net

CLASSES, SHORT, LONG, STRIDE = 3, 64, 96, 8
FIELDS = {"field_w": [16, 24, 36], "field_h": [24, 24, 20]}
STDS = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
OBJECT = [0.5, 0.6, 0.7]  # least overlap of an object, in each stage
FILLER = {"type": "msra"}
SMALL = {"type": "gaussian", "std": 0.01}
FIXED = [False, False]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures with a red and a green rectangle, and their window files."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    lines, lines_of_mscnn, sizes = [], [], ""
    for i in range(8):
        height, width = (SHORT, LONG) if i % 4 else (LONG, SHORT)
        pixels, boxes = rng.integers(0, 60, (height, width, 3)).astype(np.uint8), []
        for k, left in enumerate((2, width // 2)):
            w, h = rng.integers(18, 26, 2)
            x, y = left + rng.integers(0, width // 2 - w - 2), rng.integers(0, height - h)
            pixels[y : y + h, x : x + w] = (220, 40, 40) if k else (40, 220, 40)
            boxes.append((k + 1, 0, x, y, x + w - 1, y + h - 1))
        Image.fromarray(pixels).save(root / f"{i}.png")
        head = f"# {i}\n{root}/{i}.png\n3\n{height}\n{width}\n{len(boxes)}\n"
        for text, more in ((lines, ("0",)), (lines_of_mscnn, ())):
            rows = (" ".join(map(str, (*box[:2], *more, *box[2:]))) for box in boxes)
            text.append(head + "".join(f"{row}\n" for row in rows) + "0\n")
        sizes += f"{i} {height} {width}\n"
    (root / "windows.txt").write_text("".join(lines))
    (root / "windows_of_mscnn.txt").write_text("".join(lines_of_mscnn))
    (root / "sizes.txt").write_text(sizes)
    return root


def built(spec, phase=TRAIN):
    return Net(upgrade_net(parse_text(format_text(spec.to_proto()), caffe_pb2.NetParameter())), phase)


def runs(net):
    """Run a net forward and backward: all numbers are finite, and all weights have a gradient."""
    net.forward()
    net.backward()
    assert all(np.isfinite(blob.data).all() and np.isfinite(blob.diff).all() for blob in net.blobs.values())
    for name, blobs in net.params.items():
        assert np.isfinite(blobs[0].diff).all() and np.abs(blobs[0].diff).max() > 0, name


def convolution(n, name, x, outputs, stride=2, kernel=3):
    conv = n[name] = L.Convolution(
        x, num_output=outputs, kernel_size=kernel, stride=stride, pad=kernel // 2, weight_filler=FILLER
    )
    relu = n[f"relu_{name}"] = L.ReLU(conv, in_place=True)
    return relu


def codes(stage):
    return {"cls_aware": False, "bbox_mean": [0] * 4, "bbox_std": list(STDS[stage])}


# -- MS-CNN ------------------------------------------------------------------------------------------------------------


def mscnn(pictures, stage):
    n, rates = NetSpec(), [8, 16]
    n.data, n.label8, n.label16, n.gt_boxes = L.ImageGtData(
        ntop=4, transform_param={"mirror": True, "mean_value": [104, 117, 123]},
        image_gt_data_param={
            "source": f"{pictures}/windows_of_mscnn.txt", "batch_size": 2, "coord_num": 4, "resize_width": LONG,
            "resize_height": SHORT, "crop_width": SHORT, "crop_height": SHORT, "min_gt_height": 5,
            "downsample_rate": rates, "field_w": [24, 40], "field_h": [24, 40], "fg_threshold": 0.5,
            "do_multiple_scale": True, "min_scale": 20, "max_scale": 40, "shuffle": True, "output_gt_boxes": True,
        },
    )  # fmt: skip
    x, maps = convolution(n, "conv1", convolution(n, "conv0", n.data, 8), 8), []
    for rate, field in zip(rates, (24, 40)):
        x = convolution(n, f"conv_{rate}", x, 12)
        n[f"map_{rate}"] = L.Convolution(x, num_output=CLASSES + 4, kernel_size=3, pad=1, weight_filler=SMALL)
        param = {"cls_num": CLASSES, "field_w": field, "field_h": field, "downsample_rate": rate}
        loss = {**param, "bg_threshold": 0.2, "bg_multiple": 2, "sample_mode": "bootstrap", "pos_neg_weighted": True}
        both = n[f"map_{rate}"], n[f"label{rate}"]
        n[f"loss_{rate}"] = L.DetectionLoss(*both, detection_loss_param=loss, loss_weight=0.9)
        n[f"accuracy_{rate}"] = L.DetectionAccuracy(*both, detection_accuracy_param=param)
        maps.append(n[f"map_{rate}"])
    if stage == 2:
        n.proposals = L.BoxOutput(
            *maps, fg_thr=-5, iou_thr=0.65, nms_type="IOU", field_w=[24, 40], field_h=[24, 40], downsample_rate=rates,
            max_nms_num=60, propagate_down=FIXED,
        )  # fmt: skip
        n.rois, labels, *targets = second_stage(n, "", n.proposals, 0, aware=True)
        regions = n.conv_8, n.rois
        n.roi_pool_org = L.ROIPooling(*regions, pooled_w=3, pooled_h=3, spatial_scale=1 / 8, pad_ratio=0)
        n.roi_pool_ctx = L.ROIPooling(*regions, pooled_w=3, pooled_h=3, spatial_scale=1 / 8, pad_ratio=0.25)
        n.roi_pool = L.Concat(n.roi_pool_org, n.roi_pool_ctx)
        convolution(n, "roi_c1", n.roi_pool, 16, stride=1)
        detector(n, "", n.relu_roi_c1, 0, n.rois, labels, targets, aware=True)
    return n


def second_stage(n, name, proposals, stage, aware=False):
    """Add ProposalTarget; return its tops."""
    param = {"cls_num": CLASSES, "batch_size": -1 if stage else 16, "fg_fraction": 0.25, "num_img_per_batch": 2,
             "fg_thr": OBJECT[stage], "bg_thr_hg": OBJECT[stage] - 0.01, "bg_thr_lw": 0.0, "img_width": SHORT,
             "img_height": SHORT}  # fmt: skip
    tops = L.ProposalTarget(
        proposals, n.gt_boxes, ntop=6, proposal_target_param=param, propagate_down=FIXED,
        bbox_reg_param={**codes(stage), "cls_aware": aware},
    )  # fmt: skip
    names = ("rois", "labels", "targets", "inside", "outside", "matched")
    for each, top in zip(names, tops):
        n[f"{each}{name}"] = top
    return tops


def scores_and_codes(n, name, x, aware=False):
    fc = n[f"fc{name}"] = L.InnerProduct(x, num_output=24, weight_filler=FILLER)
    n[f"relu_fc{name}"] = L.ReLU(fc, in_place=True)
    n[f"cls{name}"] = L.InnerProduct(n[f"relu_fc{name}"], num_output=CLASSES, weight_filler=SMALL)
    outputs = 4 * CLASSES if aware else 8
    n[f"bbox{name}"] = L.InnerProduct(n[f"relu_fc{name}"], num_output=outputs, weight_filler={**SMALL, "std": 0.001})


def detector(n, name, x, stage, rois, labels, targets, aware=False):
    scores_and_codes(n, name, x, aware)
    n[f"loss_cls{name}"] = L.SoftmaxWithLoss(n[f"cls{name}"], labels, propagate_down=[True, False])
    n[f"accuracy{name}"] = L.Accuracy(n[f"cls{name}"], labels)
    n[f"loss_bbox{name}"] = L.SmoothL1Loss(
        n[f"bbox{name}"], *targets[:3], loss_weight=1, propagate_down=[True, False, False, False]
    )
    n[f"iou{name}"], n[f"iou_pre{name}"] = L.BboxAccuracy(
        n[f"bbox{name}"], rois, targets[3], ntop=2, bbox_reg_param={**codes(stage), "cls_aware": aware}
    )


@pytest.mark.parametrize("stage", [1, 2])
def test_mscnn(pictures, stage, engine):
    net = built(mscnn(pictures, stage))
    assert [layer.layer_param.type for layer in net.layers].count("MapDetectionLoss") == 2
    runs(net)


# -- Cascade R-CNN -----------------------------------------------------------------------------------------------------


def proposals(n):
    """Add the trunk and the maps of the region proposal net, and its boxes."""
    x = convolution(n, "conv2", convolution(n, "conv1", convolution(n, "conv0", n.data, 12), 16), 24)
    x = convolution(n, "rpn_conv", x, 24, stride=1)
    boxes = len(FIELDS["field_w"])
    for name, length in (("cls", 2), ("bbox", 4)):
        n[f"rpn_{name}"] = L.Convolution(x, num_output=length * boxes, kernel_size=1, weight_filler=SMALL)
        shape = {"shape": {"dim": [-1, length, 0, 0]}}
        n[f"rpn_{name}_reshape"] = L.Reshape(n[f"rpn_{name}"], reshape_param=shape)
    n.rpn_prob = L.Softmax(n.rpn_cls_reshape, axis=1)
    n.proposals = L.BoxGroupOutput(
        n.rpn_prob, n.rpn_bbox_reshape, propagate_down=FIXED,
        box_group_output_param={
            "fg_thr": 0.01, "iou_thr": 0.7, "nms_type": "IOU", "box_group_param": {**FIELDS, "stride": STRIDE},
            "field_whr": 8, "field_xyr": 1, "max_nms_num": 100, "max_post_nms_num": 12, "min_size": 5,
        },
    )  # fmt: skip


def cascade(pictures, stages):
    n, boxes = NetSpec(), len(FIELDS["field_w"])
    n.data, *labels, n.gt_boxes = L.DetectionData(
        ntop=boxes + 2, transform_param={"mirror": True, "mean_value": [104, 117, 123], "scale": 1 / 128},
        detection_data_param={
            "source": f"{pictures}/windows.txt", "batch_size": 2, "short_size": SHORT, "long_size": LONG,
            "stride": [STRIDE] * boxes, **FIELDS, "fg_threshold": 0.6, "ignore_fg_threshold": 0.4, "min_gt_width": 5,
            "anchor_ignore_margin_ratio": 0.5, "shuffle": "random_aspect", "output_gt_boxes": True,
            "distort_param": {"brightness_prob": 0.5, "brightness_delta": 32},
        },
    )  # fmt: skip
    for i, label in enumerate(labels):
        n[f"label_{i}"] = label
    n.label_group = L.Concat(*labels, axis=1)
    n.label_reshape = L.Reshape(n.label_group, reshape_param={"shape": {"dim": [-1, 6, 0, 0]}})
    proposals(n)
    three = n.rpn_cls_reshape, n.rpn_bbox_reshape, n.label_reshape
    param = {"cls_num": 2, **FIELDS, "stride": STRIDE, "field_whr": 8, "field_xyr": 1, "objectness": True}
    loss = {**param, "batch_size": 32, "bg_threshold": 0.3, "bg_multiple": 1, "neg_mining_type": "random"}
    n.rpn_loss = L.DetectionGroupLoss(*three, detection_group_loss_param=loss, loss_weight=1)
    n.rpn_accuracy, n.rpn_iou = L.DetectionGroupAccuracy(*three, ntop=2, detection_group_accuracy_param=param)
    found = n.proposals
    for stage in range(stages):
        name = f"_{stage + 1}"
        rois, labels, *targets = second_stage(n, name, found, stage)
        pooled = n[f"pool{name}"] = L.ROIPooling(
            n.relu_conv2, rois, pooled_w=3, pooled_h=3, spatial_scale=1 / STRIDE, propagate_down=[True, False]
        )
        detector(n, name, pooled, stage, rois, labels, targets)
        found = n[f"proposals{name}"] = L.DecodeBBox(
            n[f"bbox{name}"], rois, targets[3], bbox_reg_param=codes(stage), propagate_down=[False] * 3
        )
    n.rest = L.Silence(found, ntop=0)
    return n


def evaluation(pictures, stages):
    n = NetSpec()
    n.data, n.gt_boxes, n.image_sizes = L.EvalData(
        ntop=3, transform_param={"mean_value": [104, 117, 123], "scale": 1 / 128},
        eval_data_param={
            "source": f"{pictures}/windows.txt", "batch_size": 1, "short_size": SHORT, "long_size": LONG,
        },
    )  # fmt: skip
    proposals(n)
    found = n.proposals
    for stage in range(stages):
        name = f"_{stage + 1}"
        pooled = n[f"pool{name}"] = L.ROIPooling(n.relu_conv2, found, pooled_w=3, pooled_h=3, spatial_scale=1 / STRIDE)
        scores_and_codes(n, name, pooled)
        n[f"prob{name}"] = L.Softmax(n[f"cls{name}"])
        n[f"found{name}"] = L.FrcnnOutput(
            n[f"prob{name}"], n[f"bbox{name}"], found, n.image_sizes, bbox_reg_param=codes(stage),
            frcnn_output_param={"conf_thr": 0.01, "iou_thr": 0.3, "nms_type": "IOU", "max_det_num": 20},
        )  # fmt: skip
        n[f"evaluation{name}"] = L.DetectionEvaluate(
            n[f"found{name}"], n.gt_boxes, n.image_sizes, num_classes=CLASSES, overlap_threshold=0.5,
            evaluate_difficult_gt=False, name_size_file=f"{pictures}/sizes.txt",
        )  # fmt: skip
        found = n[f"proposals{name}"] = L.DecodeBBox(n[f"bbox{name}"], found, bbox_reg_param=codes(stage))
    n.rest = L.Silence(found, ntop=0)
    return n


@pytest.mark.parametrize("stages", [1, 3])
def test_one_detector_and_a_cascade(pictures, stages, engine):
    runs(built(cascade(pictures, stages)))


def cascade_solver(pictures, tmp_path):
    for name, spec in (("train", cascade(pictures, 3)), ("test", evaluation(pictures, 3))):
        (tmp_path / f"{name}.prototxt").write_text(format_text(spec.to_proto()))
    (tmp_path / "solver.prototxt").write_text(
        f"""train_net: "{tmp_path}/train.prototxt" test_net: "{tmp_path}/test.prototxt" test_iter: 8
        test_interval: 10000 base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 random_seed: 3
        snapshot_prefix: "{tmp_path}/net" eval_type: "detection" ap_version: "Integral"
        test_initialization: false clip_gradients: 10"""
    )
    return get_solver(str(tmp_path / "solver.prototxt"))


def test_a_cascade_trains_and_is_evaluated(pictures, tmp_path):
    solver = cascade_solver(pictures, tmp_path)
    before = mean_precision(solver)
    solver.step(75)
    after = mean_precision(solver)
    assert max(before) < 0.2 and min(after) > 0.7, (before, after)


def mean_precision(solver):
    values = solver.test()
    return [float(values[f"evaluation_{stage}"][0]) for stage in (1, 2, 3)]


def test_a_run_that_is_resumed_continues_as_if_it_had_not_stopped(pictures, tmp_path):
    solver = cascade_solver(pictures, tmp_path)
    solver.step(3)
    solver.snapshot()
    solver.step(4)
    resumed = cascade_solver(pictures, tmp_path)
    resumed.restore(f"{tmp_path}/net_iter_3.solverstate")
    resumed.step(4)
    for name, blobs in solver.net.params.items():
        for blob, other in zip(blobs, resumed.net.params[name]):
            np.testing.assert_array_equal(blob.data, other.data, err_msg=name)
