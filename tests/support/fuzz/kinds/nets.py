"""Nets and solvers as prototxt, as binary messages and in old formats; layers with odd values in their bottoms."""

import resource
import zlib
from pathlib import Path

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.proto import TEST, TRAIN, caffe_pb2, format_text, parse_text

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "layers"

#: Bottoms that the golden cases of a layer would give; layers of forks have none.
INPUT = "layer {{ name: '{0}' type: 'Input' top: '{0}' input_param {{ shape {{ dim: {1} }} }} }}"
LAYERS = {
    "type: 'Axpy' bottom: 'a' bottom: 'b' bottom: 'c'": ([2, 3], [2, 3, 4, 5], [2, 3, 4, 5]),
    "type: 'BN' bottom: 'a'": ([2, 3, 4, 4],),
    "type: 'BboxAccuracy' bottom: 'a' bottom: 'b' bottom: 'c'": ([4, 8], [4, 5], [4, 6]),
    "type: 'BoxAnnotatorOHEM' bottom: 'a' bottom: 'b' bottom: 'c' bottom: 'd' top: 'z' box_annotator_ohem_param {"
    " roi_per_img: 2 }": ([4, 5], [4], [4], [4, 8]),
    "type: 'BoxGroupOutput' bottom: 'a' bottom: 'b' box_group_output_param { box_group_param { field_w: 9 field_h: 8"
    " field_w: 5 field_h: 12 stride: 4 } min_size: 3 }": ([4, 2, 3, 4], [4, 4, 3, 4]),
    "type: 'BoxOutput' bottom: 'a' top: 'z' box_output_param { field_w: 9 field_h: 8 downsample_rate: 4 }": (
        [2, 7, 3, 4],
    ),
    "type: 'CenterLoss' bottom: 'a' bottom: 'b' center_loss_param { num_output: 4 }": ([6, 3], [6]),
    "type: 'ConvolutionDepthwise' bottom: 'a' convolution_param { num_output: 3 kernel_size: 3 stride: 2 }": (
        [2, 3, 6, 5],
    ),
    "type: 'DecodeBBox' bottom: 'a' bottom: 'b' bottom: 'c'": ([4, 8], [4, 5], [4, 6]),
    "type: 'DetectionOutput' bottom: 'a' bottom: 'b' bottom: 'c' detection_output_param { num_classes: 3 keep_top_k: 3"
    " nms_param { nms_threshold: 0.5 top_k: 4 } }": ([2, 16], [2, 12], [1, 2, 16]),
    "type: 'HardMining' bottom: 'a' bottom: 'b' hard_mining_param { num_roi_per_image: 2 }": ([4], [4, 5]),
    "type: 'Interp' bottom: 'a' interp_param { height: 5 width: 7 }": ([2, 3, 4, 5],),
    "type: 'LSTMUnit' bottom: 'a' bottom: 'b' bottom: 'c' top: 'z'": ([1, 2, 3], [1, 2, 12], [1, 2]),
    "type: 'Normalize' bottom: 'a' norm_param { scale_filler { value: 2 } }": ([2, 3, 4, 5],),
    "type: 'Permute' bottom: 'a' permute_param { order: 0 order: 2 order: 3 order: 1 }": ([2, 3, 4, 5],),
    "type: 'PriorBox' bottom: 'a' bottom: 'b' prior_box_param { min_size: 4 max_size: 9 aspect_ratio: 2 }": (
        [1, 2, 3, 4], [1, 3, 20, 30],
    ),
    "type: 'ProposalTarget' bottom: 'a' bottom: 'b' top: 's' top: 't' top: 'u' top: 'v' top: 'w'"
    " proposal_target_param { cls_num: 3 batch_size: 6 img_width: 60 img_height: 50 }": ([4, 5], [2, 7]),
    "type: 'PSROIPooling' bottom: 'a' bottom: 'b' psroi_pooling_param { output_dim: 2 group_size: 2 "
    "spatial_scale: 0.5 }": ([2, 8, 7, 6], [4, 5]),
    "type: 'ROIAlign' bottom: 'a' bottom: 'b' roi_align_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }": (
        [2, 2, 7, 6], [4, 5],
    ),
    "type: 'ROIPooling' bottom: 'a' bottom: 'b' roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }": (
        [2, 2, 7, 6], [4, 5],
    ),
    "type: 'ReLU6' bottom: 'a'": ([2, 3],),
    "type: 'ScaleRoute' bottom: 'a' bottom: 'b' top: 'z' scale_route_param { high_scale: 9 }": ([4, 5], [4, 2]),
    "type: 'ShuffleChannel' bottom: 'a' shuffle_channel_param { group: 3 }": ([2, 6, 2, 2],),
    "type: 'SmoothL1Loss' bottom: 'a' bottom: 'b' bottom: 'c' bottom: 'd' loss_weight: 1": ([2, 3],) * 4,
    "type: 'SmoothL1LossOHEM' bottom: 'a' bottom: 'b' bottom: 'c' top: 'z' loss_weight: 1 loss_weight: 0 loss_param {"
    " normalization: PRE_FIXED pre_fixed_normalizer: 9 }": ([2, 3],) * 3,
    "type: 'SoftmaxWithLossOHEM' bottom: 'a' bottom: 'b' top: 'x' top: 'z'": ([2, 3], [2]),
    "type: 'Upsample' bottom: 'a' bottom: 'b' upsample_param { scale: 2 }": ([2, 3, 2, 3], [2, 3, 2, 3]),
}  # fmt: skip

ROOM = 1 << 29  #: bytes that a net may allocate in these tests
SMALL = 1 << 17  #: numbers in all blobs of a net that is run


# -- nets as prototxt --------------------------------------------------------------------------------------------------


def _prototxts():
    """Return a prototxt for every golden case, and for every layer in LAYERS."""
    texts = []
    for path in sorted(GOLDEN.glob("*.npz")):
        with np.load(path) as golden:
            texts.append(str(golden["prototxt"]))
    for layer, shapes in LAYERS.items():
        inputs = (INPUT.format(name, " dim: ".join(map(str, shape))) for name, shape in zip("abcd", shapes))
        texts.append("\n".join(["force_backward: true", *inputs, f"layer {{ name: 'l' {layer} top: 'y' }}"]))
    return [
        text.replace("force_backward: true", "" if "Threshold" in text else "force_backward: true").encode()
        for text in texts
    ]


def _change_text(rng, content, message_type=caffe_pb2.NetParameter):
    if rng.random() < 0.25:
        return mutate.change_words(rng, content)
    message = parse_text(content, message_type())
    mutate.change_message(rng, message)
    return format_text(message).encode()


def _change_net(rng, content):
    """Change words or fields; one time in three the shape of inputs instead, one time in ten the number of bottoms."""
    if rng.random() < 0.6:
        return _change_text(rng, content)
    net = parse_text(content, caffe_pb2.NetParameter())
    shapes = [shape for layer in net.layer for shape in layer.input_param.shape]
    if shapes and rng.random() < 0.8:
        dims = rng.integers(0, 6, int(rng.integers(0, 6))) if rng.random() < 0.7 else np.ones(int(rng.integers(0, 40)))
        for shape in shapes if rng.random() < 0.3 else [mutate.pick(rng, shapes)]:
            shape.dim[:] = [int(dim) for dim in dims]
    else:
        bottoms = mutate.pick(rng, net.layer).bottom
        bottoms[:] = [mutate.pick(rng, net.layer[0].top)] * int(rng.integers(0, 4))
    return format_text(net).encode()


def _run_net(content):
    """Build net.prototxt for each engine and phase; run it forwards and backwards if it is small.

    Its inputs are small whole numbers; with a number at the end of the content, they contain odd values.
    """
    import minicaffe
    from minicaffe.core import settings
    from minicaffe.errors import MinicaffeError

    _limit_memory()
    refused, odd = None, b"#" in content[-12:]
    with settings.restored():
        for engine in ("CAFFE", *(name for name in ("ONEDNN",) if name in settings.engine_names())):
            minicaffe.set_engine(engine)
            for phase in (TRAIN, TEST):
                try:
                    _run_once(minicaffe.Net("net.prototxt", phase), np.random.default_rng(zlib.crc32(content)), odd)
                except MinicaffeError as error:
                    if not str(error).strip() or "\n" in str(error).strip():
                        raise
                    refused = error
    if refused is not None:
        raise refused


def _run_once(net, rng, odd):
    sources = [blob for layer, tops in zip(net.layers, net.tops) if not layer.layer_param.bottom for blob in tops]
    if sum(blob.count for blob in (*net.all_blobs, *net.learnable_params)) > SMALL:
        return
    for blob in sources:
        blob.data[...] = odd_values(rng, blob.shape) if odd else rng.integers(0, 2, blob.shape)
    net.forward()
    net.run_backward()


def odd_values(rng, shape):
    """Return an array of ordinary numbers with some odd ones, or of odd ones only."""
    values = rng.normal(0, 3, shape) if rng.random() < 0.5 else rng.integers(-1, 6, shape).astype(float)
    odd = rng.choice([*mutate.FLOATS, *mutate.INTEGERS], values.shape)
    with np.errstate(all="ignore"):
        return np.where(rng.random(shape) < rng.choice([0, 0.05, 0.3, 1]), odd, values).astype(np.float32)


def _limit_memory():
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _net_case(content):
    return Case({"net.prototxt": content}, [lambda: _run_net(content)])


def _pictures_case(content):
    return Case({"net.prototxt": content}, [["summarize", "net.prototxt"], ["draw", "net.prototxt", "net.svg"]])


def _append_number(rng, content):
    """Return the content with a number at its end, from which the values in the bottoms are drawn."""
    return content + f"\n# {rng.integers(1 << 30)}\n".encode()


net_prototxt = Kind("net_prototxt", _prototxts, _net_case, _change_net, memory=None)
net_values = Kind("net_values", _prototxts, _net_case, _append_number, memory=None)
net_pictures = Kind("net_pictures", _prototxts, _pictures_case, _change_net)


# -- binary nets and old formats ---------------------------------------------------------------------------------------

V1 = """name: "v1" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" param: "w" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 convolution_param { num_output: 2 kernel_size: 3 } blobs { num: 2 channels: 3 height: 3 width: 3 } }
layers { name: "b" type: BNLL bottom: "c" top: "c" include { phase: TRAIN } }
layers { name: "p" type: POOLING bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 2 } }
layers { name: "i" type: INNER_PRODUCT bottom: "p" top: "i" inner_product_param { num_output: 2 } }
layers { name: "l" type: SOFTMAX_LOSS bottom: "i" bottom: "data" top: "l" loss_weight: 2 exclude { phase: TEST } }"""
V0 = """name: "v0" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { layer { name: "q" type: "padding" pad: 2 } bottom: "data" top: "q" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 stride: 1 group: 1 biasterm: true blobs_lr: 1
  blobs_lr: 2 weight_decay: 1 weight_decay: 0 weight_filler { type: "gaussian" std: 1 } bias_filler { value: 1 }
  blobs { num: 2 channels: 3 height: 3 width: 3 data: 1 } } bottom: "q" top: "c" }
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "n" type: "lrn" local_size: 3 alpha: .1 beta: .5 } bottom: "p" top: "n" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.5 } bottom: "n" top: "n" }
layers { layer { name: "i" type: "innerproduct" num_output: 5 } bottom: "n" top: "i" }
layers { layer { name: "d2" type: "data" source: "db" batchsize: 7 scale: .5 cropsize: 4 } top: "d" top: "l" }"""
FORK = """name: "nv" layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "b" type: "BatchNorm" bottom: "x" top: "b" param { lr_mult: 0 } param { lr_mult: 1 } param { lr_mult: 2 }
  batch_norm_param { eps: 1e-9 scale_filler { value: 1 } bias_filler { value: 0 } } blobs { shape { dim: 3 } data: 1
  data: 2 data: 3 } blobs { shape { dim: 1 dim: 3 dim: 1 dim: 1 } data: 4 data: 5 data: 6 } blobs { data: 1 }
  blobs { num: 3 channels: 1 height: 1 width: 1 raw_data_type: FLOAT raw_data: "abcdefghijkl" } blobs { data: 2 } }"""
UPGRADED = """name: "new" layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 }
  blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] } blobs { shape { dim: 2 } double_data: [1, 2] } }"""


def _old_nets():
    return [text.encode() for text in (V1, V0, FORK, UPGRADED)]


def _upgrade_text_case(content):
    return Case({"old.prototxt": content}, [["upgrade_net_proto_text", "old.prototxt", "new.prototxt"],
                                            ["summarize", "new.prototxt"]])  # fmt: skip


def _binary_nets():
    return [parse_text(text, caffe_pb2.NetParameter()).SerializeToString() for text in (V1, V0, FORK, UPGRADED)]


def _change_binary(rng, content):
    if rng.random() < 0.4:
        return mutate.flip(rng, content)
    net = caffe_pb2.NetParameter.FromString(content)
    mutate.change_message(rng, net)
    return net.SerializePartialToString()


def _binary_case(content):
    upgrade = ["upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel"]
    return Case(
        {"old.caffemodel": content}, [upgrade, ["upgrade_net_proto_binary", "new.caffemodel", "newer.caffemodel"]]
    )


net_old = Kind("net_old", _old_nets, _upgrade_text_case, _change_text)
net_binary = Kind("net_binary", _binary_nets, _binary_case, _change_binary)


# -- solvers -----------------------------------------------------------------------------------------------------------

TRAINED = """layer { name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 dim: 3 }
  shape { dim: 2 dim: 1 } data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1
  weight_filler { type: "xavier" } } }
layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }"""
SOLVERS = {
    "SGD": 'lr_policy: "step" gamma: 0.5 stepsize: 1 momentum: 0.9 weight_decay: 0.1 clip_gradients: 1',
    "Nesterov": 'lr_policy: "poly" power: 2 momentum: 0.9 regularization_type: "L1"',
    "AdaGrad": 'lr_policy: "inv" gamma: 0.1 power: 0.5 delta: 1e-8',
    "RMSProp": 'lr_policy: "exp" gamma: 0.9 rms_decay: 0.9',
    "AdaDelta": 'lr_policy: "sigmoid" gamma: 0.1 stepsize: 1 momentum: 0.9 delta: 1e-6',
    "Adam": 'lr_policy: "multistep" gamma: 0.1 stepvalue: 1 stepvalue: 2 momentum: 0.9 momentum2: 0.99 delta: 1e-8',
}


def _solvers():
    head = 'net: "net.prototxt" base_lr: 0.1 max_iter: 3 random_seed: 1 display: 1 average_loss: 2 iter_size: 2'
    tests = "test_iter: 1 test_interval: 1 test_initialization: true debug_info: true test_compute_loss: true"
    texts = [f'{head} {tests} type: "{name}" {text}' for name, text in SOLVERS.items()]
    old = f'solver_type: SGD lr_policy: "fixed" base_lr: 1 max_iter: 2 net_param {{ {TRAINED} }}'
    return [text.encode() for text in (*texts, old)]


def _change_solver(rng, content):
    return _change_text(rng, content, caffe_pb2.SolverParameter)


def _solver_case(content):
    def train():
        import minicaffe
        from minicaffe.core import settings

        _limit_memory()
        with settings.restored():
            solver = minicaffe.get_solver("solver.prototxt")
            counts = sum(blob.count for net in (solver.net, *solver.test_nets) for blob in net.all_blobs)
            if counts < SMALL and solver.iter_size < 100 and max(solver.param.test_iter, default=0) < 100:
                solver.step(2)

    return Case(
        {"net.prototxt": TRAINED.encode(), "solver.prototxt": content}, [train, ["summarize", "solver.prototxt"]]
    )


solver_prototxt = Kind("solver_prototxt", _solvers, _solver_case, _change_solver, memory=None)
