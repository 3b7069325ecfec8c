"""oneDNN's constants, as far as they are used here (from oneapi/dnnl/dnnl_types.h)."""


class Prop:
    """dnnl_prop_kind_t: what a primitive computes."""

    TRAINING = 64
    INFERENCE = 96
    BACKWARD = 128
    BACKWARD_DATA = 160


class Alg:
    """dnnl_alg_kind_t: the algorithm of a primitive (the values used here)."""

    CONVOLUTION_DIRECT = 0x1
    CONVOLUTION_AUTO = 0x3
    RELU = 0x20
    TANH = 0x21
    ELU = 0x22
    SQUARE = 0x23
    ABS = 0x24
    SQRT = 0x25
    LINEAR = 0x26
    SOFT_RELU = 0x27
    LOGISTIC = 0x29
    EXP = 0x2A
    SWISH = 0x2C
    LOG = 0x2D
    CLIP_V2 = 0x2F
    POW = 0x30
    RELU_FROM_DST = 0x100
    TANH_FROM_DST = 0x101
    ELU_FROM_DST = 0x102
    LOGISTIC_FROM_DST = 0x104
    EXP_FROM_DST = 0x105
    CLIP_V2_FROM_DST = 0x106
    POOLING_MAX = 0x1FF
    POOLING_AVG_WITH_PADDING = 0x2FF
    POOLING_AVG_WITHOUT_PADDING = 0x3FF
    LRN_ACROSS = 0xAFF
    LRN_WITHIN = 0xBFF
    ADD = 0x1FFF0
    MUL = 0x1FFF1
    MAX = 0x1FFF2
    SUB = 0x1FFF5
    GREATER_EQUAL = 0x1FFF6
    GREATER = 0x1FFF7
    LESS = 0x1FFF9
    REDUCE_SUM = 0x2FFF4
    SOFTMAX = 0x30000


class Arg:
    """DNNL_ARG_*: the arguments of a primitive."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    MEAN = 49
    VARIANCE = 50
    SCALE = 51
    SHIFT = 52
    WORKSPACE = 64
    SCRATCHPAD = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_BIAS = 169
    DIFF_SCALE = 255
    DIFF_SHIFT = 256
    MULTIPLE_SRC = 1024
    POST_OP = 32768


class Flags:
    """dnnl_normalization_flags_t of batch normalisation."""

    GLOBAL_STATS = 1
    SCALE = 2
    SHIFT = 4
    RELU = 8


class Tag:
    """dnnl_format_tag_t (the values used here)."""

    ANY = 1
    #: channels in blocks, by the number of axes and the block: aBc16b, aBc8b, aBcd16b, ...
    BLOCKED = {(3, 16): 56, (3, 8): 69, (4, 16): 78, (4, 8): 102, (5, 16): 121, (5, 8): 142}
