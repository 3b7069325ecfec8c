"""Well-known nets as their authors train them: data layers of both phases, fillers, rates, and the solver.

Each function returns the prototxt of a net; SOLVERS has the solvers, without the field `net`.  The facts are those of
BVLC's models and examples and of the authors' repositories.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from minicaffe.models import zoo
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import TEST, TRAIN, caffe_pb2

RATES = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]
FROZEN = [dict(lr_mult=0)] * 3


def constant(value: float = 0) -> dict:
    return dict(type="constant", value=value)


def gaussian(std: float) -> dict:
    return dict(type="gaussian", std=std)


def data_layers(
    source: str, train: dict, test: dict, sizes: tuple[int, int], tops: tuple[str, ...] = ("data", "label")
) -> list:
    """The Data layers of both phases.  train, test: their transform_param.  sizes: their batch_size."""
    layers = []
    for phase, transform, size, part in ((TRAIN, train, sizes[0], "train"), (TEST, test, sizes[1], "val")):
        layer = caffe_pb2.LayerParameter(name=tops[0], type="Data", top=tops)
        layer.include.add(phase=phase)
        layer.transform_param.MergeFrom(caffe_pb2.TransformationParameter(**transform))
        layer.data_param.MergeFrom(caffe_pb2.DataParameter(source=f"{source}_{part}", batch_size=size, backend="LMDB"))
        layers.append(layer)
    return layers


def joined(layers: list, net, loss: str = "loss", accuracies: dict[str, str] | None = None):
    """A net whose Input layers are replaced by `layers`, with an Accuracy in TEST for each {its top: scores}."""
    new = caffe_pb2.NetParameter(name=net.name, layer=layers)
    new.layer.extend(layer for layer in net.layer if layer.type not in ("Input", "Softmax"))
    for top, scores in (accuracies or {}).items():
        layer = new.layer.add(name=top, type="Accuracy", bottom=[scores, "label"], top=[top])
        layer.include.add(phase=TEST)
    return new


def imagenet(size: int, batches: tuple[int, int], **transform) -> list:
    """ImageNet's Data layers: a random crop and mirror in TRAIN, the centre in TEST."""
    return data_layers(
        "examples/imagenet/ilsvrc12_lmdb",
        dict(mirror=True, crop_size=size, **transform),
        dict(mirror=False, crop_size=size, **transform),
        batches,
    )


# -- classification ----------------------------------------------------------------------------------------------------


def caffenet():
    """BVLC's reference CaffeNet: five convolutions in groups, LRN, three InnerProducts."""
    n = NetSpec()
    n.data, n.label = L.Input(ntop=2, shape=[dict(dim=[256, 3, 227, 227]), dict(dim=[256])])

    def conv(name, bottom, outputs, kernel, std, bias, **more):
        n[name] = L.Convolution(bottom, num_output=outputs, kernel_size=kernel, param=RATES,
                                weight_filler=gaussian(std), bias_filler=constant(bias), **more)  # fmt: skip
        n[name.replace("conv", "relu")] = L.ReLU(n[name], in_place=True)
        return n[name.replace("conv", "relu")]

    def pool(name, bottom):
        n[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)
        return n[name]

    def fc(name, bottom, outputs, std, bias):
        n[name] = L.InnerProduct(
            bottom, num_output=outputs, param=RATES, weight_filler=gaussian(std), bias_filler=constant(bias)
        )
        return n[name]

    x = pool("pool1", conv("conv1", n.data, 96, 11, 0.01, 0, stride=4))
    n.norm1 = L.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
    x = pool("pool2", conv("conv2", n.norm1, 256, 5, 0.01, 1, pad=2, group=2))
    n.norm2 = L.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
    x = conv("conv4", conv("conv3", n.norm2, 384, 3, 0.01, 0, pad=1), 384, 3, 0.01, 1, pad=1, group=2)
    x = pool("pool5", conv("conv5", x, 256, 3, 0.01, 1, pad=1, group=2))
    for i in (6, 7):
        n[f"relu{i}"] = L.ReLU(fc(f"fc{i}", x, 4096, 0.005, 1), in_place=True)
        x = n[f"drop{i}"] = L.Dropout(n[f"relu{i}"], in_place=True, dropout_ratio=0.5)
    n.loss = L.SoftmaxWithLoss(fc("fc8", x, 1000, 0.01, 0), n.label)
    return joined(
        imagenet(227, (256, 50), mean_file="imagenet_mean.binaryproto"), n.to_proto(), accuracies={"accuracy": "fc8"}
    )


def googlenet():
    """GoogLeNet with its two auxiliary losses."""
    layers = imagenet(224, (32, 50), mean_value=[104, 117, 123])
    scores = {f"loss{i}/top-{k}": f"loss{i}/classifier" for i in (1, 2, 3) for k in (1, 5)}
    return joined(layers, zoo.googlenet(), accuracies=scores)


def vgg16():
    """VGG-16 without fillers: its training starts from weights."""
    net = zoo.vgg16()
    for layer in net.layer:
        for field in (layer.convolution_param, layer.inner_product_param):
            field.ClearField("weight_filler")
    layers = imagenet(224, (64, 50), mean_value=[103.939, 116.779, 123.68])
    return joined(layers, net, accuracies={"accuracy": "fc8"})


def resnet50():
    """ResNet-50, each BatchNorm twice: with the batch's statistics in TRAIN, and the stored ones in TEST."""
    net = joined(imagenet(224, (32, 25), mean_value=[104, 117, 123]), zoo.resnet50(), accuracies={"top-1": "fc1000"})
    divided = caffe_pb2.NetParameter(name=net.name)
    for layer in net.layer:
        for phase in (TRAIN, TEST) if layer.type == "BatchNorm" else ():
            norm = divided.layer.add()
            norm.CopyFrom(layer)
            norm.include.add(phase=phase)
            norm.batch_norm_param.use_global_stats = phase == TEST
            norm.param.extend(caffe_pb2.ParamSpec(lr_mult=0, decay_mult=0) for _ in range(3))
        if layer.type != "BatchNorm":
            divided.layer.add().CopyFrom(layer)
    return divided


def mobilenet():
    """MobileNet with depthwise convolutions as groups."""
    layers = imagenet(224, (64, 25), mean_value=[103.94, 116.78, 123.68], scale=0.017)
    return joined(layers, zoo.mobilenet(), accuracies={"top1": "fc7"})


def squeezenet():
    """SqueezeNet 1.1: the scores are a ReLU's and then averaged."""
    layers = imagenet(227, (32, 25), mean_value=[104, 117, 123])
    return joined(layers, zoo.squeezenet(), accuracies={"accuracy": "pool10"})


# -- other tasks -------------------------------------------------------------------------------------------------------


def fcn8s():
    """FCN-8s, fine-tuned from VGG-16: scores start at 0, upsampling is bilinear and not learned."""
    net = zoo.fcn8s()
    for layer in net.layer:
        if layer.type == "Convolution":
            layer.convolution_param.ClearField("weight_filler")
            del layer.param[:]
            layer.param.extend(caffe_pb2.ParamSpec(**each) for each in RATES)
        if layer.type == "SoftmaxWithLoss":
            layer.loss_param.ignore_label, layer.loss_param.normalize = 255, False
    source = caffe_pb2.LayerParameter(name="data", type="Python", top=["data", "label"])
    source.python_param.module, source.python_param.layer = "voc_layers", "SBDDSegDataLayer"
    return joined([source], net)


def siamese():
    """BVLC's siamese net on pairs of MNIST's digits: two branches that share their parameters by name."""
    n = NetSpec()
    n.pair_data = L.Input(shape=dict(dim=[64, 2, 28, 28]))
    n.sim = L.Input(shape=dict(dim=[64]))
    n.data, n.data_p = L.Slice(n.pair_data, ntop=2, axis=1, slice_point=1)
    ends = []
    for suffix in ("", "_p"):
        x = n[f"data{suffix}"]
        for kind, name, outputs, more in (
            (L.Convolution, "conv1", 20, dict(kernel_size=5)), (L.Convolution, "conv2", 50, dict(kernel_size=5)),
            (L.InnerProduct, "ip1", 500, {}), (L.InnerProduct, "ip2", 10, {}), (L.InnerProduct, "feat", 2, {}),
        ):  # fmt: skip
            shared = [dict(name=f"{name}_{letter}", lr_mult=rate) for letter, rate in (("w", 1), ("b", 2))]
            fillers = dict(weight_filler=dict(type="xavier"), bias_filler=constant())
            x = n[f"{name}{suffix}"] = kind(x, num_output=outputs, param=shared, **fillers, **more)
            if name.startswith("conv"):
                x = n[f"pool{name[-1]}{suffix}"] = L.Pooling(x, pool=P.Pooling.MAX, kernel_size=2, stride=2)
            if name == "ip1":
                x = n[f"relu1{suffix}"] = L.ReLU(x, in_place=True)
        ends.append(x)
    n.loss = L.ContrastiveLoss(*ends, n.sim, margin=1)
    scaled = dict(scale=0.00390625)
    return joined(data_layers("mnist_siamese", scaled, scaled, (64, 100), ("pair_data", "sim")), n.to_proto())


def autoencoder():
    """BVLC's autoencoder on MNIST: sigmoids, a cross-entropy, and a distance that is measured only."""
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[100, 1, 28, 28]))
    n.flatdata = L.Flatten(n.data)
    x = n.data
    layers = [*((f"encode{i}", size) for i, size in enumerate((1000, 500, 250, 30), 1)),
              *((f"decode{i}", size) for i, size in ((4, 250), (3, 500), (2, 1000), (1, 784)))]  # fmt: skip
    for name, size in layers:
        n[name] = L.InnerProduct(x, num_output=size, weight_filler=dict(type="gaussian", std=1, sparse=15),
                                 param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=1, decay_mult=0)])  # fmt: skip
        x = n[name]
        if name != "encode4":
            x = n[f"{name}neuron"] = L.Sigmoid(x)
    n.cross_entropy_loss = L.SigmoidCrossEntropyLoss(n.decode1, n.flatdata, loss_weight=1)
    n.l2_error = L.EuclideanLoss(n.decode1neuron, n.flatdata, loss_weight=0)
    scaled = dict(scale=0.0039215684)
    return joined(data_layers("mnist", scaled, scaled, (100, 100), ("data",)), n.to_proto())


def captioner():
    """Two LSTMs behind an embedding (LRCN)."""
    return zoo.captioner()


def siamese_branch():
    """The net that is used after `siamese`: one branch, on one digit."""
    n = caffe_pb2.NetParameter(name="siamese")
    n.layer.add(name="data", type="Input", top=["data"]).input_param.shape.add(dim=[1, 1, 28, 28])
    n.layer.extend(x for x in siamese().layer if not x.name.endswith("_p") and x.type not in ("Data", "Slice"))
    del n.layer[-1]  # the loss
    return n


#: the nets that are used after training
DEPLOYS: dict[Callable, Callable] = {
    **{
        globals()[name]: functools.partial(getattr(zoo, name), training=False)
        for name in ("googlenet", "vgg16", "resnet50", "mobilenet", "squeezenet", "fcn8s", "captioner")
    },
    siamese: siamese_branch,
}

_STEP = 'lr_policy: "step" gamma: 0.1 stepsize: 100000 max_iter: 450000 momentum: 0.9 weight_decay: 0.0005 '
_TESTS = "test_iter: 1000 test_interval: 1000 "
SOLVERS: dict[Callable, str] = {
    caffenet: f"{_TESTS} base_lr: 0.01 {_STEP}",
    googlenet: f'{_TESTS} base_lr: 0.01 lr_policy: "poly" power: 0.5 max_iter: 2400000 '
               "momentum: 0.9 weight_decay: 0.0002",
    vgg16: f"{_TESTS} base_lr: 0.001 {_STEP} iter_size: 4",
    resnet50: f'{_TESTS} base_lr: 0.1 lr_policy: "multistep" gamma: 0.1 stepvalue: 300000 stepvalue: 600000 '
              "max_iter: 600000 momentum: 0.9 weight_decay: 0.0001 iter_size: 8",
    mobilenet: f'{_TESTS} base_lr: 0.1 lr_policy: "poly" power: 1 max_iter: 500000 momentum: 0.9 weight_decay: 0.00004',
    squeezenet: f'{_TESTS} base_lr: 0.04 lr_policy: "poly" power: 1 max_iter: 170000 '
                "momentum: 0.9 weight_decay: 0.0002",
    fcn8s: 'test_iter: 736 test_interval: 999999999 base_lr: 1e-14 lr_policy: "fixed" max_iter: 100000 momentum: 0.99 '
           "weight_decay: 0.0005 average_loss: 20 test_initialization: false iter_size: 1",
    siamese: 'test_iter: 100 test_interval: 500 base_lr: 0.01 lr_policy: "inv" gamma: 0.0001 power: 0.75 '
             "max_iter: 50000 momentum: 0.9 weight_decay: 0",
    autoencoder: 'test_iter: 500 test_interval: 500 test_compute_loss: true base_lr: 0.01 lr_policy: "step" gamma: 0.1 '
                 "stepsize: 10000 max_iter: 65000 momentum: 0.9 weight_decay: 0.0005",
    captioner: 'base_lr: 0.01 lr_policy: "step" gamma: 0.5 stepsize: 20000 max_iter: 110000 momentum: 0.9 '
               "weight_decay: 0 clip_gradients: 10",
}  # fmt: skip
