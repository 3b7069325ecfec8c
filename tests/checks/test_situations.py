"""Each situation in which a training goes wrong is found by its code in the prototxts, and by no other."""

import inspect
import re

import pytest

from helpers.nets import layer_text
from helpers.situations import SOLVER, WITH_TEST, XAVIER, Situation, data, ip, records, softmax_loss
from minicaffe.checks.finding import STAGES, checks_of
from minicaffe.checks.running import FAILURES, codes
from minicaffe.checks.static import unused
from minicaffe.checks.static.unused import _MESSAGES, messages_read
from minicaffe.core.registry import facts_of, layer_type_list
from minicaffe.proto import caffe_pb2, parse_text


def bn(name="bn", bottom="ip", more="", top=""):
    return layer_text(name, "BatchNorm", bottom, top or bottom, more)


def scale(bottom="ip", more="", name="scale", top=""):
    return layer_text(name, "Scale", bottom, top or bottom, f"scale_param {{ bias_term: true {more} }}")


def relu(bottom, name="relu", top=""):
    return layer_text(name, "ReLU", bottom, top or bottom)


def conv(name, bottom, more="", filler=XAVIER, outputs=4):
    param = f"convolution_param {{ num_output: {outputs} kernel_size: 3 {filler} }}"
    return layer_text(name, "Convolution", bottom, name, f"{more} {param}")


GLOBAL = "batch_norm_param { use_global_stats: %s }"
RATE_0 = "param { lr_mult: 0 } param { lr_mult: 0 }"
SOUND = data() + ip("ip", "data") + softmax_loss("ip")
NORM = data() + ip("ip", "data") + bn() + scale() + relu("ip") + ip("out", "ip") + softmax_loss("out")


def two(train, test, label="data label"):
    return records("data", label, train, "TRAIN") + records("data", label, test, "TEST") + ip("ip", "data")


def deploy(*layers, shape="dim: 1 dim: 3"):
    return layer_text("data", "Input", "", "data", f"input_param {{ shape {{ {shape} }} }}") + "".join(layers)


HIDDEN = data() + ip("ip1", "data") + relu("ip1") + ip("ip2", "ip1") + softmax_loss("ip2")
IMAGES = data("2 3 8 8") + conv("c", "data") + ip("ip", "c") + softmax_loss("ip")
LABELS = records("data", "data", "%s") + records("label", "label", "%s") + conv("score", "data") + softmax_loss("score")

STAGED = (
    SOUND.replace('"InnerProduct"', '"InnerProduct" include { stage: "on" }')
    + ip("aside", "data", more='include { stage: "one" }')
    + layer_text("silence", "Silence", "aside", "", 'include { stage: "one" }')
)

STATIC = [
    # -- weights that start at 0
    Situation("no-filler", "no-weight-filler",
              data() + ip("ip1", "data", filler="") + relu("ip1") + ip("ip2", "ip1") + softmax_loss("ip2"),
              text='write weight_filler in inner_product_param, such as { type: "xavier" }', where="layer 'ip1'"),
    Situation("before-sigmoid-of-a-convolution", "no-weight-filler",
              data("2 3 8 8") + conv("conv", "data", filler="") + layer_text("s", "Sigmoid", "conv", "conv")
              + ip("ip", "conv") + softmax_loss("ip"), text="convolution_param"),
    Situation("not-in-the-file", "no-weight-filler",
              data() + ip("new", "data", filler="") + relu("new") + ip("ip2", "new") + softmax_loss("ip2"),
              weights={"ip2": [(5, 5), (5,)]}, where="'new'"),
    Situation("scale-filler-of-0", "zero-scale",
              data() + ip("ip", "data") + bn() + scale(more='filler { type: "constant" value: 0 }') + relu("ip")
              + ip("out", "ip") + softmax_loss("out"), text="which is constant 1"),
    Situation("five-blobs-with-an-empty-filler", "zero-scale",
              data() + ip("ip", "data") + bn(more="batch_norm_param { scale_bias: true scale_filler { } }")
              + relu("ip") + ip("out", "ip") + softmax_loss("out"), where="layer 'bn_scale'"),
    # -- BatchNorm
    Situation("lr-mult", "batch-norm-learned", NORM.replace('type: "BatchNorm"', 'type: "BatchNorm" param { }'),
              text="param 0 has lr_mult 1: write lr_mult: 0"),
    Situation("false-in-test", "batch-norm-test-batch", NORM.replace('type: "BatchNorm"',
              f'type: "BatchNorm" {GLOBAL % "false"}'), WITH_TEST, text="leave use_global_stats out", where="'bn'"),
    Situation("false-in-deploy", "batch-norm-test-batch", NORM,
              deploy=deploy(ip("ip", "data"), bn(more=GLOBAL % "false"), scale(), relu("ip"), ip("out", "ip"))),
    Situation("true-in-train", "batch-norm-untrained", NORM.replace('type: "BatchNorm"',
              f'type: "BatchNorm" {GLOBAL % "true"}'), text="the output is the input times 316.2"),
    Situation("true-in-train-and-not-in-the-file", "batch-norm-untrained", NORM.replace('type: "BatchNorm"',
              f'type: "BatchNorm" {GLOBAL % "true"}'), weights={"ip": [(5, 3), (5,)], "out": [(5, 5), (5,)]},
              text="no file of weights has them"),
    Situation("no-scale", "batch-norm-no-scale", data() + ip("ip", "data") + bn() + relu("ip") + ip("out", "ip")
              + softmax_loss("out"), where="layer 'bn'"),
    Situation("iter-size", "batch-norm-iter-size", NORM, SOLVER + "iter_size: 8",
              text="iter_size 8 x batch_size 4 = 32 samples"),
    Situation("one-sample", "batch-norm-one-sample", NORM.replace("dim: 4", "dim: 1"), text="its output is 0"),
    # -- transform_param
    Situation("no-scale-in-test", "transforms-differ", two("scale: 0.00390625", "") + softmax_loss("ip"), WITH_TEST,
              text="scale is 0.00390625 in TRAIN and 1 in TEST", where="layer 'data'"),
    Situation("other-mean", "transforms-differ", two("mean_value: 104", "mean_value: 128") + softmax_loss("ip"),
              WITH_TEST, text="mean_value is 104 in TRAIN and 128 in TEST"),
    Situation("no-mean-in-test", "transforms-differ", two('mean_file: "m"', "") + softmax_loss("ip"), WITH_TEST,
              text="mean_file is m in TRAIN and absent in TEST"),
    Situation("other-crop", "transforms-differ", two("crop_size: 32", "crop_size: 28") + softmax_loss("ip"), WITH_TEST),
    Situation("formula", "transform-formula",
              records("data", transform="mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.017 crop_size: 224")
              + ip("ip", "data") + softmax_loss("ip"),
              text="data = (pixel - [104, 117, 123]) * 0.017, cropped at random to 224 x 224"),
    Situation("mirrored", "random-transforms-apart", LABELS % ("mirror: true", "mirror: true"), text="mirrored at"),
    Situation("cropped", "random-transforms-apart", LABELS % ("crop_size: 8", "crop_size: 8 mirror: true"),
              text="the labels are cropped and mirrored at random here and the images in layer 'data'"),
    # -- the deploy net
    Situation("other-activation", "deploy-differs", HIDDEN, text="are TanH, but ReLU in the train net",
              deploy=deploy(ip("ip1", "data"), layer_text("t", "TanH", "ip1", "ip1"), ip("ip2", "ip1"))),
    Situation("no-activation", "deploy-differs", HIDDEN, text="are none, but ReLU in the train net",
              deploy=deploy(ip("ip1", "data"), ip("ip2", "ip1"))),
    Situation("other-num-output", "deploy-differs", HIDDEN,
              deploy=deploy(ip("ip1", "data"), relu("ip1"), ip("ip2", "ip1", 7)),
              text="inner_product_param.num_output is 7, but 5 in the train net", where="layer 'ip2' in "),
    Situation("other-kernel", "deploy-differs", IMAGES,
              deploy=deploy(conv("c", "data").replace("kernel_size: 3", "kernel_size: 3 pad: 1"), ip("ip", "c")),
              text="convolution_param.pad is 1, but absent in the train net"),
    Situation("a-name-of-its-own", "deploy-differs", HIDDEN, text="the train net has no layer 'other'",
              deploy=deploy(ip("ip1", "data"), relu("ip1"), ip("other", "ip1"))),
    Situation("other-type", "deploy-differs", HIDDEN, text="the type is Convolution, but InnerProduct",
              deploy=deploy(conv("ip1", "data"), relu("ip1"), ip("ip2", "ip1"))),
    Situation("other-input", "deploy-input", records("data", transform="crop_size: 227") + ip("ip", "data")
              + softmax_loss("ip"), deploy=deploy(ip("ip", "data"), shape="dim: 1 dim: 3 dim: 224 dim: 224"),
              text="the input 'data' is 224 x 224, but crop_size is 227"),
    # -- weights
    Situation("no-name", "weights-fit-nothing", HIDDEN, weights={"fc1": [(5, 3), (5,)]},
              text="the net has ip1, ip2; the file has fc1"),
    Situation("few-names", "weights-fit-few", data() + "".join(ip(f"ip{i}", "data") for i in range(3))
              + softmax_loss("ip0") + "".join(layer_text(f"e{i}", "EuclideanLoss", f"ip{i} ip0", "") for i in (1, 2)),
              weights={"ip0": [(5, 3), (5,)], "fc1": [(5, 3), (5,)]}, text="only 1 of 3 layers with weights"),
    Situation("a-new-last-layer", "weights-leave-out", HIDDEN, weights={"ip1": [(5, 3), (5,)]},
              text="1 of 2 layers with weights have their names in the file; the others"),
    Situation("other-number-of-outputs", "weights-shape", HIDDEN,
              weights={"ip1": [(5, 3), (5,)], "ip2": [(7, 5), (7,)]},
              text="num_output is 5 in the net and 7 in the file", where="'ip2'"),
    Situation("other-kernel", "weights-shape", IMAGES,
              weights={"c": [(4, 3, 5, 5), (4,)], "ip": [(5, 144), (5,)]}, text="kernel_size is 3 in the net and 5"),
    # -- losses
    Situation("softmax", "loss-applied-twice", data() + ip("ip", "data") + layer_text("prob", "Softmax", "ip", "prob")
              + softmax_loss("prob"), text="give the loss the bottom of 'prob', 'ip'", where="layer 'prob'"),
    Situation("behind-dropout-and-in-place", "loss-applied-twice",
              data() + ip("ip", "data") + layer_text("prob", "Softmax", "ip", "ip")
              + layer_text("drop", "Dropout", "ip", "ip") + layer_text("flat", "Flatten", "ip", "flat")
              + softmax_loss("flat")),
    Situation("sigmoid", "loss-applied-twice", data(top="data") + ip("ip", "data", 3)
              + layer_text("s", "Sigmoid", "ip", "s") + layer_text("l", "SigmoidCrossEntropyLoss", "s data", "l")),
    Situation("relu", "activation-before-loss", data() + ip("ip", "data") + relu("ip") + softmax_loss("ip"),
              text="the output of a ReLU, which is at least 0", where="layer 'relu'"),
    Situation("sigmoid", "activation-before-loss", data() + ip("ip", "data") + layer_text("s", "Sigmoid", "ip", "s")
              + softmax_loss("s"), text="in 0 to 1"),
    Situation("none", "no-loss", data() + ip("ip", "data"), text="add a loss layer such as SoftmaxWithLoss"),
    Situation("of-weight-0", "no-loss", SOUND.replace('"SoftmaxWithLoss"', '"SoftmaxWithLoss" loss_weight: 0')),
    # -- what learns
    Situation("propagate-down", "decay-without-gradient",
              data() + ip("ip1", "data") + relu("ip1") + ip("ip2", "ip1", more="propagate_down: false")
              + softmax_loss("ip2"), SOLVER + "weight_decay: 0.0005", where="layer 'ip1'",
              text="lr_mult 1 and weight_decay 0.0005 move its weights towards 0"),
    Situation("read-by-no-loss", "decay-without-gradient", SOUND + ip("aside", "data"), SOLVER + "weight_decay: 0.0005",
              where="layer 'aside'"),
    Situation("lr-mult-0", "nothing-learned", data() + ip("ip", "data", more=RATE_0) + softmax_loss("ip"),
              text="every lr_mult is 0, of 1 layer(s) with parameters (ip)"),
    # -- the solver
    Situation("absent", "no-base-lr", SOUND, 'lr_policy: "fixed" max_iter: 100'),
    Situation("stepsize", "unused-solver-field", SOUND, SOLVER + "stepsize: 10",
              text='stepsize has no effect with lr_policy "fixed": remove it, or write lr_policy: "step" or "sigmoid"'),
    Situation("rampup_lr", "unused-solver-field", SOUND, SOLVER + "rampup_lr: 0.001", text="without rampup_interval"),
    Situation("momentum2", "unused-solver-field", SOUND, SOLVER + "momentum2: 0.999", text='write type: "Adam"'),
    Situation("no-gamma", "missing-solver-field", SOUND, 'base_lr: 0.1 lr_policy: "step" stepsize: 10 max_iter: 99',
              text="the rate is 0 from iteration 10 on"),
    Situation("no-power", "missing-solver-field", SOUND, 'base_lr: 0.1 lr_policy: "poly" max_iter: 99',
              text="the rate stays at base_lr"),
    Situation("order", "stepvalue-order", SOUND,
              'base_lr: 0.1 lr_policy: "multistep" gamma: 0.1 stepvalue: 50 stepvalue: 20 max_iter: 99'),
    Situation("after-max-iter", "step-not-reached", SOUND,
              'base_lr: 0.1 lr_policy: "step" gamma: 0.1 stepsize: 100 max_iter: 100'),
    Situation("unknown-policy", "solver-invalid", SOUND, 'base_lr: 0.1 lr_policy: "stepp" max_iter: 99',
              text='(did you mean "step"?)'),
    Situation("unknown-type", "solver-invalid", SOUND, SOLVER + 'type: "Adaam"'),
    Situation("two-nets", "solver-invalid", SOUND, SOLVER + 'train_net: "net.prototxt"'),
    Situation("of-a-test", "unused-solver-field", SOUND, SOLVER + "test_interval: 10",
              text="test_interval has no effect without test_iter: remove it, or write test_iter, the batches of a"),
    Situation("no-decay", "unused-solver-field", SOUND, SOLVER + 'regularization_type: "L1"',
              text="regularization_type has no effect without weight_decay"),
    Situation("no-stepvalue", "missing-solver-field", SOUND,
              'base_lr: 0.1 lr_policy: "multistep" gamma: 0.1 max_iter: 99', text="write a stepvalue for each"),
    Situation("to-0", "gradients-clipped-to-0", SOUND, SOLVER + "clip_gradients: 0", where="solver: clip_gradients"),
    # -- what the numbers of iterations leave out
    Situation("without-max-iter", "no-iterations", SOUND, 'base_lr: 0.01 lr_policy: "fixed"',
              text="max_iter is 0, so no iteration is run", where="solver: max_iter"),
    Situation("no-snapshot", "nothing-saved", SOUND, SOLVER + "snapshot_after_train: false",
              text="snapshot_after_train is false and snapshot is 0, so the trained weights are not written"),
    Situation("late-snapshot", "nothing-saved", SOUND, SOLVER + "snapshot_after_train: false snapshot: 101",
              text="snapshot 101 is above max_iter 100"),
    Situation("interval", "no-test", SOUND, SOLVER + "test_iter: 1 test_interval: 101",
              text="tests run before the first iteration only"),
    Situation("interval-without-initialization", "no-test", SOUND,
              SOLVER + "test_iter: 1 test_interval: 101 test_initialization: false", text="so no test is run"),
    Situation("display-0", "no-display", SOUND, text="the training loss is not logged"),
    # -- what has no effect
    Situation("transform-of-dummy-data", "unused-layer-field",
              SOUND.replace("dummy_data_param", "transform_param { scale: 2 } dummy_data_param"), where="layer 'data'",
              text="transform_param has no effect in a layer of type DummyData, it is read by AnnotatedData, "),
    Situation("message-of-another-type", "unused-layer-field",
              SOUND.replace('"InnerProduct"', '"InnerProduct" convolution_param { num_output: 3 }'),
              text="convolution_param has no effect in a layer of type InnerProduct, it is read by BinaryConvolution, "
                   "Convolution, "),
    Situation("ignore-label-of-an-accuracy", "unused-layer-field",
              SOUND + layer_text("acc", "Accuracy", "ip label", "acc", "loss_param { ignore_label: 255 }"),
              text="loss_param has no effect in a layer of type Accuracy"),
    Situation("force-gray-of-a-list", "unused-layer-field",
              layer_text("data", "ImageData", "", "data label", "transform_param { force_gray: true } "
                         'image_data_param { source: "list" }') + ip("ip", "data") + softmax_loss("ip"),
              text="transform_param: force_gray has no effect in a layer of type ImageData: write is_color: false"),
    Situation("force-color-of-windows", "unused-layer-field",
              layer_text("data", "WindowData", "", "data label", "transform_param { force_color: true crop_size: 8 } "
                         'window_data_param { source: "windows" batch_size: 4 }')
              + ip("ip", "data") + softmax_loss("ip"), text="force_color has no effect in a layer of type WindowData"),
    Situation("expansion-of-plain-images", "unused-layer-field",
              layer_text("data", "MemoryData", "", "data label", "transform_param { expand_param { prob: 0.5 } } "
                         "memory_data_param { batch_size: 1 channels: 1 height: 4 width: 4 }")
              + ip("ip", "data") + softmax_loss("ip"),
              text="expand_param has no effect in a layer of type MemoryData: AnnotatedData applies it"),
    Situation("stage-of-no-rule", "unused-state", STAGED, SOLVER + 'train_state { stage: "on" stage: "onee" }',
              text="stage 'onee' has no effect, as no include or exclude names it (did you mean \"one\"?)",
              where="train_state: stage"),
    Situation("stage-with-a-space", "unused-state", STAGED, SOLVER + 'train_state { stage: "on" stage: " one" }',
              text="stage ' one' has no effect"),
    Situation("level-of-no-rule", "unused-state", SOUND, SOLVER + "train_state { level: 2 }",
              text="level 2 has no effect, as no include or exclude has min_level or max_level"),
    Situation("no-stage", "layer-in-no-net", STAGED, SOLVER + 'train_state { stage: "on" }', where="layer 'aside'",
              text='its rule include { stage: "one" } leaves it out of the train net'),
    # -- what cannot be read
    Situation("misspelt-field", "prototxt-invalid", SOUND.replace("num_output", "num_outputs"),
              text='(did you mean "num_output"?)'),
    Situation("old-blobs-lr", "prototxt-invalid", data() + ip("ip", "data", more="blobs_lr: 1") + softmax_loss("ip")),
    Situation("unknown-bottom", "net-invalid", SOUND.replace('bottom: "ip"', 'bottom: "ipp"')),
    Situation("unknown-type", "net-invalid", SOUND.replace('"SoftmaxWithLoss"', '"SoftmaxLosss"')),
    Situation("absent-file", "weights-invalid", SOUND, options={"weights": ["absent.caffemodel"]}),
]  # fmt: skip


@pytest.mark.parametrize("situation", STATIC, ids=str)
def test_it_is_found_by_its_code_and_by_no_other(tmp_path, monkeypatch, situation):
    """Nets whose data layers need no files go through all stages."""
    monkeypatch.chdir(tmp_path)
    has_data = "DummyData" in situation.net and situation.code != "batch-norm-one-sample"  # whose output is 0
    situation.assert_found(tmp_path, *(STAGES if has_data else ("static",)))


def test_every_static_code_has_a_situation():
    expected = {each.code for each in checks_of("static")} | {code for _, code in FAILURES} - {"data-unreadable"}
    assert expected == {situation.code for situation in STATIC} and expected <= set(codes())


# -- which messages a type reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in layer_type_list() if messages_read(name) != _MESSAGES])
def test_every_message_in_the_code_of_a_type_is_one_that_it_reads(name):
    words = set(re.findall(r"\blayer_param\.(\w+_param)\b", inspect.getsource(inspect.getmodule(facts_of(name)))))
    assert words & _MESSAGES <= messages_read(name)


def test_layers_of_other_packages_and_python_layers_may_read_any_message():
    assert messages_read("Python") == messages_read("OfAScript") == _MESSAGES


def test_types_of_scripts_are_not_suggested(monkeypatch):
    monkeypatch.setattr(unused, "layer_type_list", lambda: ["Data", "OfAScript", "HDF5Data", "Python"])
    layer = parse_text('layer { type: "ReLU" transform_param { scale: 2 } }', caffe_pb2.NetParameter()).layer[0]
    (text,) = unused._unread(layer)
    assert "it is read by Data: remove it" in text
