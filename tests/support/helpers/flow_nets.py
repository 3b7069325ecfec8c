"""Small nets in the form of public ones for optical flow and for DetectNet, as NetParameters."""

from minicaffe import NetSpec
from minicaffe import layers as L

_MSRA = dict(weight_filler=dict(type="msra"))
_ONCE = dict(propagate_down=[False, False])


def _conv(bottom, channels, stride=1, size=3, **more):
    return L.Convolution(
        bottom, num_output=channels, kernel_size=size, pad=size // 2, stride=stride, engine="CAFFE", **_MSRA, **more
    )


def _relu(conv):
    return L.ReLU(conv, in_place=True, negative_slope=0.1)


def _up(flow, factor=2.0):
    """Flow at twice the size, its values times `factor`."""
    larger = L.Deconvolution(
        flow,
        convolution_param=dict(num_output=2, kernel_size=4, stride=2, pad=1, weight_filler=dict(type="msra")),
    )
    return L.Eltwise(larger, coeff=factor)


def _features(net, pictures, levels, channels=8):
    """Features of both pictures at each level, by the same weights: layers with two bottoms and two tops."""
    found, pair = [], pictures
    for level in range(1, levels + 1):
        pair = L.Convolution(
            *pair,
            ntop=2,
            name=f"conv{level}",
            num_output=channels,
            kernel_size=3,
            pad=1,
            stride=2,
            engine="CAFFE",
            **_MSRA,
        )
        pair = [_relu(each) for each in pair]
        for i, each in enumerate(pair):
            setattr(net, f"f{i}_{level}", each)
        found.append(pair)
    return found


def _pictures(net, size, batch):
    net.image0 = L.Input(input_param=dict(shape=dict(dim=[batch, 3, *size])))
    net.image1 = L.Input(input_param=dict(shape=dict(dim=[batch, 3, *size])))
    net.flow = L.Input(input_param=dict(shape=dict(dim=[batch, 2, *size])))
    return net.image0, net.image1


def _loss(net, name, kind, predicted, weight, **param):
    truth = L.Downsample(net.flow, predicted, **_ONCE)
    setattr(net, name, getattr(L, kind)(predicted, truth, loss_weight=weight, **param))


def pwc_net(size=(32, 48), batch=2):
    """As PWC-Net: correlation with features warped by the flow of the level above; L1Loss at each level."""
    net = NetSpec()
    scaled = [L.Eltwise(picture, coeff=0.5) for picture in _pictures(net, size, batch)]
    net.crop0, net.crop1 = (
        L.DataAugmentation(
            each, augment_during_test=True, recompute_mean=1000, mean_per_pixel=False, crop_width=size[1],
            crop_height=size[0],
        )
        for each in scaled
    )  # fmt: skip
    net.resized0, net.resized1 = (L.Resample(each, width=size[1], height=size[0]) for each in (net.crop0, net.crop1))
    flow = None
    for level, (first, second) in reversed(list(enumerate(_features(net, [net.resized0, net.resized1], 3), 1))):
        if flow is not None:
            setattr(net, f"up{level}", _up(flow))
            up = getattr(net, f"up{level}")
            second = L.Warp(second, up)
        corr = _relu(L.Correlation(first, second, pad=2, kernel_size=1, max_displacement=2))
        joined = L.Concat(corr, first, *([] if flow is None else [up]))
        flow = _conv(_relu(_conv(joined, 8)), 2)
        setattr(net, f"flow{level}", flow)
        _loss(net, f"loss{level}", "L1Loss", flow, 0.1 * level, l2_per_location=True)
    return net.to_proto()


def lite_flow_net(size=(32, 48), batch=2):
    """As LiteFlowNet: positions of a Grid, a matching and a refinement, and regularisation by local weights."""
    net = NetSpec()
    pictures = _pictures(net, size, batch)
    (_, _), (first, second) = _features(net, pictures, 2)
    net.matched = _conv(_relu(L.Correlation(first, second, pad=2, kernel_size=1, max_displacement=2)), 2)
    net.grid = L.Grid(net.matched, propagate_down=[False])
    net.at = L.Eltwise(net.matched, net.grid)
    net.warped = L.Warp(second, net.at)
    net.refined = L.Eltwise(net.matched, _conv(L.Concat(first, net.warped, net.matched), 2))
    small0, small1 = (L.Downsample(each, net.refined, **_ONCE) for each in pictures)
    net.moved = L.Warp(small1, L.Eltwise(net.refined, L.Grid(net.refined, propagate_down=[False])))
    net.error = L.ChannelNorm(L.Eltwise(small0, net.moved, coeff=[1, -1]))
    distance = _conv(_relu(_conv(L.Concat(net.error, first, net.refined), 8)), 9)
    net.kernel = L.ExpMax(L.NegSquare(distance))
    ones = dict(num_output=1, kernel_size=1, weight_filler=dict(type="constant", value=1), bias_term=False)
    total = L.Convolution(net.kernel, convolution_param=ones, param=dict(lr_mult=0), name="sum")
    inverse = L.Power(total, power=-1)
    means = []
    for i, part in enumerate(L.Slice(net.refined, ntop=2, slice_point=1, axis=1)):
        patches = L.Im2col(part, convolution_param=dict(kernel_size=3, pad=1))
        weighted = L.Convolution(
            L.Eltwise(patches, net.kernel, operation="PROD"), convolution_param=ones, param=dict(lr_mult=0),
            name=f"sum{i}",
        )  # fmt: skip
        means.append(L.Eltwise(weighted, inverse, operation="PROD"))
    net.regular = L.Concat(*means)
    _loss(net, "loss", "L1Loss", net.regular, 1, l2_per_location=True, power=0.4)
    return net.to_proto()


def flow_net2(size=(32, 48), batch=2):
    """As FlowNet 2.0: a first net with a correlation, and a second one that gets the warped picture and its error."""
    net = NetSpec()
    image0, image1 = _pictures(net, size, batch)
    net.mean0, net.mean1 = L.Mean(image0, image1, ntop=2, operation="SUBTRACT", value=[0.1, 0.2, 0.3])
    (_, _), (first, second) = _features(net, [net.mean0, net.mean1], 2)
    corr = L.Correlation(first, second, pad=4, kernel_size=1, max_displacement=4, stride_2=2)
    rows = L.Correlation1D(first, second, pad=2, kernel_size=1, max_displacement=2)
    net.flow2 = _conv(_relu(_conv(L.Concat(corr, rows), 8)), 2)
    net.flow0 = L.Resample(L.Eltwise(net.flow2, coeff=4.0), width=size[1], height=size[0], type="LINEAR")
    net.warped = L.FlowWarp(net.mean1, net.flow0)
    net.error = L.ChannelNorm(L.Eltwise(net.mean0, net.warped, coeff=[1, -1]))
    net.second = L.Concat(net.mean0, net.warped, net.flow0, net.error)
    coarse = _relu(_conv(net.second, 8, stride=4))
    net.joined = L.Accum(coarse, net.flow2, size_divisible_by=8)
    net.last = _conv(net.joined, 2)
    _loss(net, "loss2", "LpqLoss", net.flow2, 0.2, p=1, q=0.4)
    _loss(net, "loss", "L1Loss", net.last, 1, l2_per_location=False)
    return net.to_proto()


def augmented(source, size=(24, 32)):
    """The data of PWC-Net's training: pairs from a database, both moved, recolored, and their flow."""
    net, crop = NetSpec(), dict(crop_width=size[1], crop_height=size[0])
    net.image0, net.image1, net.flow, net.mask = L.CustomData(
        ntop=4, source=source, batch_size=2, backend="LMDB", slice_point=[3, 6, 8],
        encoding=["UINT8", "UINT8", "UINT16FLOW", "BOOL1"], rand_permute=True, rand_permute_seed=77,
    )  # fmt: skip
    net.silence = L.Silence(net.mask, ntop=0)
    scaled = [L.Eltwise(picture, coeff=1 / 255) for picture in (net.image0, net.image1)]
    drawn = dict(rand_type="uniform_bernoulli", spread=0.05)
    net.crop0, net.params0 = L.DataAugmentation(
        scaled[0], ntop=2, **crop, max_multiplier=1, recompute_mean=10, mean_per_pixel=False,
        translate=drawn, rotate=drawn, gamma=dict(exp=True, **drawn), noise=dict(rand_type="uniform", mean=0.01),
    )  # fmt: skip
    net.params1 = L.GenerateAugmentationParameters(
        net.params0, scaled[0], net.crop0,
        augmentation_param=dict(translate=drawn, zoom=dict(exp=True, **drawn)),
        coeff_schedule_param=dict(half_life=10, initial_coeff=0.5),
    )  # fmt: skip
    net.crop1 = L.DataAugmentation(
        scaled[1], net.params1, **crop, max_multiplier=1, recompute_mean=10, mean_per_pixel=False
    )
    net.moved = L.FlowAugmentation(net.flow, net.params0, net.params1, **crop)
    net.predicted = _conv(_relu(_conv(L.Concat(net.crop0, net.crop1), 8)), 2)
    net.loss = L.L1Loss(net.predicted, net.moved, l2_per_location=True, normalize_by_num_entries=True)
    return net.to_proto()


def detect_net(images=2, size=(32, 48), stride=8):
    """As NVIDIA's DetectNet: labels of a grid, a loss of its coverage and one of the corners of boxes."""
    net = NetSpec()
    net.data = L.Input(input_param=dict(shape=dict(dim=[images, 3, *size])))
    net.label = L.Input(input_param=dict(shape=dict(dim=[images, 1, 4, 16])))
    net.images, net.labels = L.DetectNetTransformation(
        net.data, net.label, ntop=2,
        detectnet_groundtruth_param=dict(
            stride=stride, image_size_x=size[1], image_size_y=size[0], gridbox_type="GRIDBOX_MIN", min_cvg_len=10
        ),
        detectnet_augmentation_param=dict(flip_prob=0.5, scale_prob=0, rotation_prob=0),
        transform_param=dict(mean_value=[127]),
    )  # fmt: skip
    covered, corners, inverse, weights, classes = L.Slice(net.labels, ntop=5, slice_point=[1, 5, 7, 8], axis=1)
    net.silence = L.Silence(weights, ntop=0)
    block = L.Concat(*[covered] * 4)
    net.truth = L.Eltwise(corners, L.Concat(inverse, inverse), operation="PROD")
    features = L.Power(net.images, scale=0.01)
    for _ in range(3):
        features = _relu(_conv(features, 16, stride=2))
    net.coverage = L.Sigmoid(_conv(features, 1, size=1))
    boxes = L.Eltwise(_conv(features, 4, size=1), block, operation="PROD")
    net.loss_boxes = L.L1Loss(boxes, net.truth, loss_weight=0.1)
    net.loss_coverage = L.EuclideanLoss(net.coverage, classes)
    return net.to_proto()
