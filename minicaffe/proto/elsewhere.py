"""Layer types and fields of forks that minicaffe does not have; errors name the fork.

FORKS is the table: by fork, what it has and master has not.  A type or a field that is added to minicaffe is removed
from it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple


class Fork(NamedTuple):
    """What a fork has and minicaffe has not: names, separated by spaces.

    repository: where its source is, on GitHub; "" if there are many.
    types: layer types.  Layers of the old format have the same in capitals, as IMAGE_SEG_DATA: these are not listed.
    fields: fields of LayerParameter and, behind "Message:", of other messages, and values of enums.
    hints: further fields, which change no result, or none with the value behind "=": they are about memory, speed,
        logs, or numbers of few bits, where minicaffe computes in float.  --skip-unknown-fields passes over them.
    """

    repository: str
    types: str = ""
    fields: str = ""
    hints: str = ""


FORKS = {
    "CombinedMargin's Caffe": Fork(
        "gehaocool/CombinedMargin-caffe",
        fields="""TransformationParameter: apply_probability contrast_brightness_adjustment max_color_shift max_contrast
                max_smooth min_contrast smooth_filtering""",
    ),
    "CTPN's Caffe": Fork("tianzhi0549/CTPN", fields="SolverParameter: stepearly"),
    "DeepLab's and PSPNet's Caffe": Fork(
        "hszhao/PSPNet",
        types="MatRead UniqueLabel",
        fields="densecrf_param mat_read_param unique_label_param",
    ),
    "DeepSkeleton's Caffe": Fork("zeakey/DeepSkeleton", types="Quantize Rescale", fields="rescale_param"),
    "dreadlord1984's Caffe, for SSD": Fork(
        "dreadlord1984/SSD_windows_caffe",
        types="SmoothL1LossD",
        fields="""AnnotatedDataParameter: config
            ConfLossType: FocalLoss
            MultiBoxLossParameter: addition_overlap fl_alpha fl_gamma ignore_overlap""",
    ),
    "ducha-aiki's Caffe": Fork(
        "ducha-aiki/caffe",
        types="APL",
        fields="""apl_param
            ResizeParameter: max_sz min_sz multiscale""",
    ),
    "Faster R-CNN in C++": Fork("makefile/frcnn", types="FrcnnAnchorTarget FrcnnProposalTarget FrcnnRoiData"),
    "forks for text recognition (CTC)": Fork(
        "xmfbit/warpctc-caffe",
        types="CTCDecoder SequenceAccuracy WarpCTC",
        fields="warp_ctc_loss_param warpctc_param",
    ),
    "forks with deformable convolution": Fork(
        "",
        types="DeformableConvolution DeformablePSROIPooling",
        fields="deformable_convolution_param",
    ),
    "forks with generalized pooling": Fork("", types="GatedMaxAve TreepoolKernel1L TreepoolMaxAve"),
    "forks with locally connected layers": Fork(
        "",
        types="Local LocalConvolution",
        fields="local_conv_param local_param",
    ),
    "forks with spatial transformers": Fork("", types="SpatialTransformer", fields="st_loss_param st_param"),
    "Intel's Caffe": Fork(
        "intel/caffe",
        fields="""mn_activation_param mn_param_grad_compress_param
            BatchNormParameter: bias_term
            ConvolutionParameter: fusion_type""",
        hints="multinode",
    ),
    "jolibrain's Caffe": Fork(
        "jolibrain/caffe",
        types="SparseData SparseInnerProduct",
        fields="TransformationParameter: rotate untransformed_top",
    ),
    "naibaf7's Caffe, for fused layers": Fork(
        "naibaf7/caffe",
        fields="""ConvolutionParameter: fuse_type
            LRNParameter: fuse_type pooling_param""",
    ),
    "naibaf7's Caffe, for U-Net": Fork(
        "naibaf7/caffe",
        types="DataRandTransform PoolingND",
        fields="malis_param pooling_nd_param",
    ),
    "NormFace's and AM-Softmax's Caffe": Fork(
        "happynear/caffe-windows",
        types="GlobalLSEMargin LabelSpecificRescale",
        fields="""label_specific_rescale_param

            SoftmaxParameter: class_weight cutting_point hard_mining_label hard_ratio label_smooth_factor""",
    ),
    "NVIDIA's Caffe": Fork(
        "NVIDIA/caffe",
        types="TRT",
        fields="""trt_param
            ImageDataParameter: short_side
            SolverParameter: larc_turbo""",
    ),
    "OpenPose's Caffe": Fork(
        "CMU-Perceptual-Computing-Lab/caffe_train",
        types="CPMData",
        fields="cpm_transform_param",
    ),
    "Ristretto": Fork("pmgysel/caffe", types="ConvolutionRistretto DeconvolutionRistretto FcRistretto LRNRistretto"),
    "TextBoxes++'s Caffe": Fork("MhLiao/TextBoxes_plusplus", fields="DetectionOutputParameter: use_polygon"),
    "the Caffe ports of YOLO": Fork(
        "eric612/MobileNet-YOLO",
        types="AssistedExcitation LaneData Region YoloV2Loss YoloV3Loss",
        fields="""mish_param yolo_v2_loss_param yolo_v3_loss_param
            AnnotatedDataParameter: difficult_label_warmup""",
    ),
    "TSN's Caffe, for video": Fork(
        "yjxiong/caffe",
        types="SegData",
        fields="""seg_data_param
            TransformationParameter: original_image stride""",
    ),
}

#: Words in place of numbers, which a script of the fork replaces: the pattern, and whose they are.
PLACEHOLDERS = (
    (r"cls[136]x", "MobileNet-SSD's templates: its gen_model.sh writes 1, 3 or 6 times the number of classes there"),
    (r"\$\w+", "FlowNet's templates: its scripts write a size there"),
)


def _squashed(name: str) -> str:
    return name.replace("_", "").lower()


def _full(names: str) -> Iterator[str]:
    """Yield the names of fields, behind a message with the message and a dot before them."""
    message = ""
    for word in names.split():
        if word.endswith(":"):
            message = f"{word[:-1]}."
        else:
            yield message + word


TYPE_OWNERS = {name: fork for fork, own in FORKS.items() for name in own.types.split()}
FIELD_OWNERS = {
    name.partition("=")[0]: fork for fork, own in FORKS.items() for name in (*_full(own.fields), *_full(own.hints))
}
_OWNERS_OF_V1_TYPES = {_squashed(name): fork for name, fork in TYPE_OWNERS.items()}
_HINTS = frozenset(name for own in FORKS.values() for name in _full(own.hints))


def field_owner(message: str, name: str) -> str | None:
    """Return the fork that defines field `name` of a message, or value `name` of an enum; None if none is known.

    message: the name of the message or enum.
    """
    if message == "LayerType":
        return _OWNERS_OF_V1_TYPES.get(_squashed(name))
    return FIELD_OWNERS.get(f"{message}.{name}") or FIELD_OWNERS.get(_key(message, name))


def is_hint(message: str, name: str, value: str) -> bool:
    """Whether a field of a fork, with a value as it is in the text, is known to change no result."""
    key = _key(message, name)
    with contextlib.suppress(ValueError):  # 0.0 is 0
        value = f"{float(value):g}"
    return key in _HINTS or f"{key}={value.lower()}" in _HINTS


def placeholder(word: str) -> str | None:
    """Return whose placeholder a word is that is given for a number; None for another word."""
    return next((whose for pattern, whose in PLACEHOLDERS if re.fullmatch(pattern, word)), None)


def _key(message: str, name: str) -> str:
    return name if message in ("LayerParameter", "V1LayerParameter") else f"{message}.{name}"
