"""Small nets with what further forks add to prototxts: read, trained for a few steps, and written back."""

import numpy as np
import pytest

from helpers.readers import write_images
from minicaffe.proto import caffe_pb2, format_text, parse_text, upgrade_net, upgrade_solver
from minicaffe.solvers import get_solver

FILL = "weight_filler { type: 'msra' }"
HEAD = f"""layer {{ name: "fc" type: "InnerProduct" bottom: "last" top: "fc" inner_product_param {{ num_output: 4
        {FILL} }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}"""

#: as ducha-aiki/caffenet-benchmark, a solver with its net
DUCHA_AIKI = """base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 net_param {{
    layer {{ name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "{source}" backend: LMDB
        batch_size: 6 }}
        transform_param {{ scale: 0.04 mirror: true crop_size: 16 mean_value: [104, 117, 124] vertical_mirror: true
            resize_param {{ prob: 0.6 resize_mode: FIT_SMALL_SIZE height: 18 width: 18 pad_mode: MIRRORED
                pad_value: [104, 117, 124] interp_mode: CUBIC center_object: false max_angle: 0 }}
            resize_param {{ prob: 0.4 resize_mode: FIT_SMALL_SIZE height: 24 width: 24 pad_mode: MIRRORED
                pad_value: [104, 117, 124] interp_mode: LINEAR center_object: true max_angle: 5 }}
            noise_param {{ prob: 1 convert_to_ycrcb: true }} }} }}
    layer {{ name: "conv" type: "Convolution" bottom: "data" top: "last" convolution_param {{ num_output: 4
        kernel_size: 5 {fill} }} }}
    layer {{ name: "relu" type: "ReLU" bottom: "last" top: "last" }} {head} }}"""
#: as intel/caffe's ResNet-50 for several machines
INTEL = """base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 50 momentum: 0.9 warmup_iter: 3
        warmup_start_lr: 0.001
    net_param {{ bn_stats_batch_size: 32
    layer {{ name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "{source}" backend: LMDB
        batch_size: 6 }}
        transform_param {{ mirror: true crop_size: 16 scale: 0.01 mean_value: [102, 115, 122]
        random_aspect_ratio_param {{
            min_area_ratio: 0.08 max_area_ratio: 1 aspect_ratio_change: 0.75 resize_param {{ interp_mode: CUBIC }}
        }} }} }}
    layer {{ name: "conv" type: "Convolution" bottom: "data" top: "c" quantization_param {{ bw_layer_in: 8
        scale_in: 0.5 }}
        convolution_param {{ num_output: 4 kernel_size: 5 bias_term: false conv_algorithm: "auto" {fill} }} }}
    layer {{ name: "bn" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param {{ filler {{ value: 1 }} }} }}
    layer {{ name: "scale" type: "Scale" bottom: "c" top: "c" scale_param {{ bias_term: true }} }}
    layer {{ name: "relu" type: "ReLU" bottom: "c" top: "c" }}
    layer {{ name: "deep" type: "Convolution" bottom: "c" top: "d" convolution_param {{ num_output: 4 kernel_size:
        3 relu: true {fill} }} }}
    layer {{ name: "own" type: "BatchNorm" bottom: "d" top: "last" batch_norm_param {{ use_weight_bias: true filler
        {{ value: 1 }} }} }}
    {head} }}"""
#: as zhaoweicai/hwgq's AlexNet, with NVIDIA's solver and sizes, and the filler of MPELU
HWGQ = """base_lr: 0.05 lr_policy: "poly" power: 1 max_iter: 50 momentum: 0.9 larc: true larc_policy: "clip"
        larc_eta: 0.01
    device_id: [0, 1] net_param {{
    layer {{ name: "data" type: "Data" top: "data" top: "label" data_param {{ source: "{source}" backend: LMDB
        batch_size: 6 }}
        transform_param {{ mirror: true crop_size: 16 scale: 0.01 mean_value: 110 img_rand_resize_lower: 18
            img_rand_resize_upper: 22 vertical_stretch_lower: 0.8 vertical_stretch_upper: 1.2 allow_upscale: true
        }} }}
    layer {{ name: "conv" type: "BinaryConvolution" bottom: "data" top: "c" binary_convolution_param {{ use_alpha:
        true }}
        convolution_param {{ num_output: 4 kernel_size: 5 weight_filler {{ type: "taylor" alpha: 1 beta: 1 }} }} }}
    layer {{ name: "bn" type: "BatchNorm" bottom: "c" top: "c" }}
    layer {{ name: "elu" type: "ELU" bottom: "c" top: "c" }}
    layer {{ name: "binary" type: "BinaryInnerProduct" bottom: "c" top: "i" binary_inner_product_param {{
        use_alpha: true }}
        inner_product_param {{ num_output: 8 {fill} }} }}
    layer {{ name: "adapt" type: "GradientScaler" bottom: "i" top: "last" gradient_scaler_param {{ max_iter: 9 }} }}
    {head} }}"""


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, *rng.integers(24, 40, 2)), np.uint8) for _ in range(8)]
    return write_images(tmp_path / "images", images, 4)


@pytest.mark.parametrize("text", [DUCHA_AIKI, INTEL, HWGQ], ids=["ducha-aiki", "Intel", "hwgq"])
def test_training(text, source, engine):
    solver = get_solver(
        upgrade_solver(parse_text(text.format(source=source, head=HEAD, fill=FILL), caffe_pb2.SolverParameter()))
    )
    start = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
    solver.step(6)
    for name, blobs in solver.net.params.items():
        assert all(np.isfinite(blob.data).all() for blob in blobs), name
        assert any((blob.data != before).any() for blob, before in zip(blobs, start[name])), name
    assert np.isfinite(solver.net.blobs["loss"].data).all()


@pytest.mark.parametrize("text", [DUCHA_AIKI, INTEL, HWGQ], ids=["ducha-aiki", "Intel", "hwgq"])
def test_what_is_written_is_read_again(text):
    solver = parse_text(text.format(source="db", head=HEAD, fill=FILL), caffe_pb2.SolverParameter())
    assert parse_text(format_text(solver), caffe_pb2.SolverParameter()) == solver
    assert "more_" not in format_text(solver)
    upgraded = upgrade_net(solver.net_param)
    assert upgrade_net(parse_text(format_text(upgraded), caffe_pb2.NetParameter())) == upgraded
