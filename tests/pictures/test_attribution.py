"""CAM, Grad-CAM and saliency against finite differences in float64, against each other, and as a command."""

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import minicaffe
from minicaffe.cli import main
from minicaffe.core.net import Net
from minicaffe.errors import UsageError
from minicaffe.pictures import attribution
from minicaffe.pictures.show import plot_maps
from minicaffe.proto import TEST, caffe_pb2

FILLER = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.3 }'
BODY = f"""
force_backward: true
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {FILLER} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param {{ negative_slope: 0.1 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {FILLER} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }}
layer {{ name: "relu2" type: "ReLU" bottom: "sum" top: "sum" }}
"""
AVERAGED = """
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "flat" type: "Flatten" bottom: "pool" top: "flat" }
"""
SCORES = f"""
layer {{ name: "scores" type: "InnerProduct" bottom: "%s" top: "scores"
  inner_product_param {{ num_output: 5 {FILLER} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "scores" top: "prob" }}
"""
SIDE = 'layer { name: "most" type: "ArgMax" bottom: "sum" top: "most" }\n'
GAP = BODY + AVERAGED + SCORES % "flat"
DENSE = BODY + SCORES % "sum"
BY_CONVOLUTION = (
    BODY
    + 'layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool" pooling_param { pool: AVE kernel_size: 8 } }'
    + f"""layer {{ name: "scores" type: "Convolution" bottom: "pool" top: "scores"
      convolution_param {{ num_output: 5 kernel_size: 1 {FILLER} }} }}"""
)


def ran(text, dtype=np.float64, seed=3):
    """Return a net that has run on a random image."""
    minicaffe.set_random_seed(seed)
    param = text_format.Parse(text, caffe_pb2.NetParameter())
    net = Net(param, phase=TEST, dtype=dtype)
    net.blobs["data"].data[...] = np.random.default_rng(seed).normal(size=(1, 3, 8, 8))
    net.forward()
    return net


def numerical_gradient(net, scores, target, blob, after):
    """dS / dA by central differences: the layers from `after` on run again with each element changed."""
    values = net.blobs[blob].data.copy()
    found = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        ends = []
        for step in (1e-6, -1e-6):
            net.blobs[blob].data[...] = values
            net.blobs[blob].data[place] += step
            net.forward(start=after)
            ends.append(net.blobs[scores.blob].data.ravel()[target])
        found[place] = (ends[0] - ends[1]) / 2e-6
    net.blobs[blob].data[...] = values
    net.forward(start=after)
    return found


@pytest.mark.parametrize("text", [GAP, DENSE], ids=["gap", "dense"])
@pytest.mark.parametrize(("blob", "after"), [("data", "conv1"), ("conv1", "conv1_relu1_0_split"), ("sum", None)])
def test_gradients_are_those_of_finite_differences(text, blob, after):
    net = ran(text)
    scores = attribution.find_scores(net)
    after = after or ("pool" if text is GAP else "scores")
    expected = numerical_gradient(net, scores, 2, blob, after)
    np.testing.assert_allclose(attribution.gradient(net, scores, 2, blob), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(attribution.gradient(net, scores, 2, blob), expected, rtol=1e-6, atol=1e-8)
    if blob == "data":
        np.testing.assert_allclose(attribution.saliency(net, scores, 2), np.abs(expected[0]).max(0), rtol=1e-6)
        return
    a = net.blobs[blob].data[0]
    cam = sum(weight * channel for weight, channel in zip(expected[0].mean((1, 2)), a))
    np.testing.assert_allclose(
        attribution.grad_cam(net, scores, 2, blob), np.where(cam > 0, cam, 0), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("text", [GAP, BY_CONVOLUTION], ids=["inner product", "convolution"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cam_is_grad_cam_where_an_average_precedes_a_linear_layer(text, dtype):
    net = ran(text, dtype)
    scores = attribution.find_scores(net)
    assert attribution.cam_blob(net, scores) == "sum" and scores.blob == "scores"
    for target in range(5):
        cam = attribution.cam(net, scores, target)
        weights = net.params["scores"][0].data.reshape(5, 4)[target]
        np.testing.assert_allclose(cam, np.einsum("k,kij->ij", weights, net.blobs["sum"].data[0]), rtol=1e-4, atol=1e-6)
        grad_cam = attribution.grad_cam(net, scores, target, "sum")
        np.testing.assert_allclose(grad_cam, np.maximum(cam, 0) / 64, rtol=1e-4, atol=1e-7)


def test_the_mean_of_cam_is_the_score_without_its_bias():
    net = ran(GAP)
    scores = attribution.find_scores(net)
    score = net.blobs["scores"].data[0, 1] - net.params["scores"][1].data[1]
    np.testing.assert_allclose(attribution.cam(net, scores, 1).mean(), score)


@pytest.mark.parametrize("change", [("pool: AVE", "pool: MAX"), ('"Dropout"', '"TanH"')])
def test_no_cam_where_the_scores_are_not_linear_in_means(change):
    net = ran(
        GAP.replace("AVE global", "AVE global").replace("pool: " + change[0], "pool: " + change[1]).replace(*change)
    )
    scores = attribution.find_scores(net)
    assert attribution.cam_blob(net, scores) is None
    with pytest.raises(UsageError, match="an average over all positions"):
        attribution.cam(net, scores, 0)
    assert attribution.last_convolution(net, scores) == "conv2"


def test_other_branches_do_not_count():
    net, alone = ran(DENSE.replace('layer { name: "scores"', SIDE + 'layer { name: "scores"')), ran(DENSE)
    net.share_with(alone)
    net.outputs.sort(reverse=True)  # ArgMax, which has no backward pass, is an output, too
    net.forward()
    found = [attribution.grad_cam(n, attribution.find_scores(n), 0, "conv1") for n in (net, alone)]
    np.testing.assert_array_equal(*found)


def test_errors():
    net = ran(DENSE)
    scores = attribution.find_scores(net)
    with pytest.raises(UsageError, match="no blob 'conv3' .did you mean \"conv2\""):
        attribution.grad_cam(net, scores, 0, "conv3")
    with pytest.raises(UsageError, match=r"expected a blob \(N, K, h, w\), but 'scores' is \(1, 5\)"):
        attribution.grad_cam(net, scores, 0, "scores")
    with pytest.raises(UsageError, match="do not depend on blob 'prob'"):
        attribution.gradient(net, scores, 0, "prob")
    with pytest.raises(
        UsageError, match=r"scores of classes for one image, \(1, C\), but blob 'sum' is \(1, 4, 8, 8\)"
    ):
        attribution.find_scores(ran(BODY))
    plain = ran(DENSE.replace("force_backward: true", ""))
    with pytest.raises(UsageError, match="layer 'conv1' has no backward pass, or the net no force_backward"):
        attribution.gradient(plain, scores, 0, "data")


def test_class_of():
    net = ran(DENSE)
    scores, labels = attribution.find_scores(net), ["ant", "bee", "cat", "dog", "3"]
    best = int(net.blobs["scores"].data.argmax())
    assert attribution.class_of(scores, net, None, None) == best
    assert [attribution.class_of(scores, net, word, labels) for word in ("cat", "3", "4")] == [2, 4, 4]
    for word, names, said in (
        ("bat", labels, "no class 'bat' .did you mean \"cat\""),
        ("cat", None, "names are those of --labels"),
        ("5", None, "a class from 0 to 4, got 5"),
    ):
        with pytest.raises(UsageError, match=said):
            attribution.class_of(scores, net, word, names)


def test_a_map_covers_the_image():
    image = np.zeros((20, 10, 3), np.float32)
    values = np.zeros((2, 2))
    values[0, 1] = 2
    shown = plot_maps(image, {"a": values, "b": values}, "t").axes
    assert [ax.get_title() for ax in shown] == ["image", "a", "b"]
    picture = shown[1].images[1]
    assert picture.get_extent() == [-0.5, 9.5, 19.5, -0.5] and picture.get_array().shape == (20, 10)
    rows, columns = np.nonzero(picture.get_array() == picture.get_array().max())
    assert rows.max() < 10 and columns.min() >= 5
    (alone,) = plot_maps(image, {"a": values}, "t", overlay=False).axes[1].images
    np.testing.assert_array_equal(alone.get_array(), values / 2)


@pytest.fixture
def trained(tmp_path):
    """A folder with a net of 3 channels, one of 1 channel, weights of both, an image and labels."""
    minicaffe.set_random_seed(1)
    for name, text in (("net", GAP), ("grey", GAP.replace("dim: 1 dim: 3", "dim: 1 dim: 1"))):
        (tmp_path / f"{name}.prototxt").write_text(text.replace("force_backward: true", ""))
        Net(str(tmp_path / f"{name}.prototxt"), TEST).save(tmp_path / f"{name}.caffemodel")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(tmp_path / "i.png")
    (tmp_path / "labels").write_text("ant\nbee\ncat\ndog\nelk\n")
    return tmp_path


def show(folder, *words, net="net"):
    paths = [str(folder / name) for name in (f"{net}.caffemodel", "o.png", f"{net}.prototxt", "i.png")]
    return main(["show", *paths[:2], "--model", paths[2], "--image", paths[3], *words])


def test_the_command(trained, capsys):
    words = ["--cam", "--saliency", "--labels", str(trained / "labels"), "--class", "cat"]
    assert show(trained, *words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3].startswith("cat (class 2), score ") and ", probability " in said[-3]
    assert said[-2:] == [
        f"Drew CAM of sum to {trained / 'o_cam.png'}",
        f"Drew saliency to {trained / 'o_saliency.png'}",
    ]
    assert {p.name for p in trained.glob("*.png")} == {"i.png", "o.png", "o_cam.png", "o_saliency.png"}
    assert show(trained, "--cam", "--blob", "conv1", "--blob", "sum") == 0
    assert "Drew Grad-CAM of conv1, Grad-CAM of sum to " in capsys.readouterr().out


def test_a_net_of_one_channel_gets_grey_images(trained, capsys):
    assert show(trained, "--saliency", net="grey") == 0
    assert show(trained, net="grey") == 0
    assert (trained / "o_activations.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cam", "--class", "emu"], "there is no class 'emu'; names are those of --labels FILE"),
        (["--cam", "--blob", "conv"], "the net has no blob 'conv'"),
    ],
)
def test_errors_of_the_command(trained, capsys, words, said):
    (trained / "o.png").write_text("kept")
    assert show(trained, *words) == 1
    out, err = capsys.readouterr()
    assert said in err and out == "" and (trained / "o.png").read_text() == "kept"


def test_a_net_without_an_input_writes_nothing(trained, capsys):
    (trained / "net.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape {} } }'
    )
    assert show(trained, "--cam") == 1
    out, err = capsys.readouterr()
    assert "it needs a deploy prototxt" in err and out == "" and not (trained / "o.png").exists()


def test_maps_need_a_name_for_each_class(trained, capsys):
    path = trained / "labels"
    path.write_text("ant\nbee\ncat\ndog\n")
    assert show(trained, "--cam", "--labels", str(path)) == 1
    assert f"labels '{path}': expected 5 names, one for each class, got 4" in capsys.readouterr().err


def test_maps_need_an_image(trained, capsys):
    assert main(["show", str(trained / "net.caffemodel"), "--cam"]) == 1
    assert "--cam and --saliency need --model and --image" in capsys.readouterr().err
