"""Arrays that scripts give to a net: which shapes fit an input, and the errors for those that do not."""

import numpy as np
import pytest

import minicaffe as caffe
from minicaffe import layers as L
from minicaffe.core.calls import NetSpecError
from minicaffe.data.image import encode_image
from minicaffe.errors import DataError, MinicaffeError, UsageError


def copying(*shape):
    """Build a net that copies its input `data` of this shape."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=list(shape)))
    n.out = L.Power(n.data, scale=1)
    return caffe.Net(n.to_proto(), phase=caffe.TEST)


def values(*shape):
    return np.random.default_rng(7).random(shape, np.float32)


@pytest.mark.parametrize(
    "shape, given",
    [
        ((1, 3, 4, 5), (1, 3, 4, 5)),
        ((1, 3, 4, 5), (3, 4, 5)),
        ((2, 1, 4, 5), (2, 4, 5)),
        ((2, 1, 4, 5), (2, 4, 5, 1)),
        ((2, 3), (2, 3, 1, 1)),
        ((2, 3, 1, 1), (2, 3)),
        ((4,), (4, 1)),
        ((4, 1), (4,)),
        ((1, 1), ()),
        ((), (1, 1)),
    ],
)
def test_axes_of_length_1_may_come_and_go(shape, given):
    x = values(*given)
    np.testing.assert_array_equal(copying(*shape).forward(data=x)["out"], x.reshape(shape))


@pytest.mark.parametrize("given", [(2, 1, 4, 5), (2, 3, 1, 1), (2, 1, 1, 1)])
def test_an_axis_of_length_1_stands_for_a_longer_one_as_in_numpy(given):
    x = values(*given)
    np.testing.assert_array_equal(copying(2, 3, 4, 5).forward(data=x)["out"], np.broadcast_to(x, (2, 3, 4, 5)))


REFUSED = [
    ((1, 3, 4, 5), (1, 4, 5, 3), r"\(1, 3, 4, 5\), got \(1, 4, 5, 3\); its channels are the last axis: transpose it"),
    ((1, 3, 4, 5), (4, 5, 3), r"got \(4, 5, 3\); its channels are the last axis: transpose it to \(N, C, H, W\)"),
    ((2, 3, 4, 4), (2, 4, 4, 3), "transpose it"),
    ((2, 3, 4, 5), (2, 3, 5, 4), r"expected shape \(2, 3, 4, 5\), got \(2, 3, 5, 4\)$"),
    ((2, 3, 4, 5), (2, 60), r"got \(2, 60\)$"),
    ((1, 3, 4, 5), (60,), r"got \(60,\)$"),
    ((3, 3, 4, 5), (3, 4, 5), r"got \(3, 4, 5\)$"),  # numpy would broadcast one image
    ((4, 4), (4,), r"got \(4,\)$"),
    ((2, 3), (1, 3), r"expected a batch of 2 \(axis 0\), got shape \(1, 3\)"),
    ((2, 3), (4, 3), r"expected a batch of 2 \(axis 0\), got shape \(4, 3\)"),
    ((2, 3), (2, 6), r"got \(2, 6\)$"),
]


@pytest.mark.parametrize("shape, given, sentence", REFUSED)
def test_other_shapes_are_refused(shape, given, sentence):
    net = copying(*shape)
    net.blobs["data"].data[...] = before = values(*shape)
    with pytest.raises(ValueError, match="input 'data': .*" + sentence) as caught:
        net.forward(data=values(*given))
    assert isinstance(caught.value, UsageError)
    np.testing.assert_array_equal(net.blobs["data"].data, before)


def test_another_batch_names_the_call_that_changes_it():
    net, more = copying(1, 3), values(2, 3)
    with pytest.raises(UsageError, match=r'; net.blobs\["data"\].reshape\(2, 3\) changes the batch$'):
        net.forward(data=more)
    net.blobs["data"].reshape(2, 3)
    np.testing.assert_array_equal(net.forward(data=more)["out"], more)
    with pytest.raises(UsageError, match=r"output 'out': expected a batch of 2 \(axis 0\), got shape \(1, 3\)$"):
        net.backward(out=values(1, 3))


def test_diffs_likewise():
    net = copying(2, 3)
    net.forward()
    net.backward(out=values(2, 3, 1))
    np.testing.assert_array_equal(net.blobs["out"].diff, values(2, 3))
    with pytest.raises(ValueError, match=r"output 'out': expected shape \(2, 3\), got \(2, 2\)"):
        net.backward(out=values(2, 2))


@pytest.mark.parametrize("given", ["cat.jpg", None, [[1, 2], [3]], object(), np.array(["a"]), 1j])
def test_only_numbers_are_taken(given):
    with pytest.raises(UsageError, match="input 'data': expected an array of numbers, got "):
        copying(1, 1).forward(data=given)


def test_numbers_of_other_types_are_taken():
    net = copying(1, 2)
    for given in ([1, 2], np.array([1, 2], object), np.array([[1, 2]], np.uint8), np.array([1, 2], np.float64)):
        assert net.forward(data=given)["out"].tolist() == [[1, 2]]
    assert net.forward(data=[True, False])["out"].tolist() == [[1, 0]]


def test_one_input_that_does_not_fit_leaves_the_others_alone():
    n = caffe.NetSpec()
    n.data, n.label = L.Input(shape=[dict(dim=[2, 3]), dict(dim=[2])], ntop=2)
    net = caffe.Net(n.to_proto(), phase=caffe.TEST)
    with pytest.raises(ValueError, match="input 'label'"):
        net.forward(data=values(2, 3), label=values(3))
    assert not net.blobs["data"].data.any()


def test_names_of_blobs_to_return():
    net = copying(1, 2)
    assert set(net.forward(blobs="data")) == {"out", "data"} == set(net.forward_all(blobs="data", data=values(3, 2)))
    assert set(net.forward(blobs=(name for name in ["data"]))) == {"out", "data"}
    assert set(net.backward(diffs="out")) == {"out", "data"}
    for call in (net.forward, net.forward_all):
        with pytest.raises(UsageError, match=r"no blob 'dta' \(did you mean \"data\"\?\); it has data, out"):
            call(blobs=["dta"], data=values(1, 2))
    with pytest.raises(UsageError, match="list of names, got ndarray; arrays are given by the names of their blobs"):
        net.forward(values(1, 2))
    for arrays in ([values(1, 2)], (values(1, 2),)):
        with pytest.raises(UsageError, match="got (list|tuple) of ndarray; arrays are given by .* blobs, data=array$"):
            net.forward(arrays)
    with pytest.raises(UsageError, match="no blob 'dta'"):
        net.backward(diffs=["dta"])


# -- forward_all -------------------------------------------------------------------------------------------------------


def test_forward_all_of_nothing_has_every_output():
    out = copying(2, 3).forward_all(data=np.zeros((0, 3)), blobs=["data"])
    assert {name: array.shape for name, array in out.items()} == {"out": (0, 3), "data": (0, 3)}
    assert out["out"].dtype == np.float32
    assert copying(2, 3).forward_all(data=[])["out"].shape == (0, 3)
    outs, diffs = copying(2, 3).forward_backward_all(data=np.zeros((0, 3)), out=np.zeros((0, 3)))
    assert outs["out"].shape == diffs["data"].shape == (0, 3)


def test_forward_all_takes_lists_and_pads():
    out = copying(2, 3).forward_all(data=values(5, 3).tolist())["out"]
    np.testing.assert_array_equal(out, values(5, 3))


@pytest.mark.parametrize("shape, given, sentence", [case for case in REFUSED if len(case[1]) == len(case[0]) == 4])
def test_forward_all_refuses_other_shapes(shape, given, sentence):
    with pytest.raises(ValueError, match="input 'data': .*" + sentence):
        copying(*shape).forward_all(data=values(*given))


@pytest.mark.parametrize("name", ["start", "end"])
def test_the_input_of_forward_all_may_have_the_name_of_an_argument_of_forward(name):
    n = caffe.NetSpec()
    n[name] = L.Input(shape=dict(dim=[2, 3]))
    n.out = L.Power(n[name], scale=2)
    net = caffe.Net(n.to_proto(), phase=caffe.TEST)
    np.testing.assert_array_equal(net.forward_all(**{name: values(3, 3)})["out"], 2 * values(3, 3))
    outs, diffs = net.forward_backward_all(**{name: values(3, 3)})
    assert (list(outs), list(diffs)) == (["out"], [name])


def test_forward_all_checks_names_and_lengths():
    n = caffe.NetSpec()
    n.data, n.label = L.Input(shape=[dict(dim=[2, 3]), dict(dim=[2])], ntop=2)
    n.out = L.Power(n.data)
    net = caffe.Net(n.to_proto(), phase=caffe.TEST)
    with pytest.raises(UsageError, match=r"each input blob \['data', 'label'\], got \['data', 'labl'\]"):
        net.forward_all(data=values(2, 3), labl=values(2))
    with pytest.raises(ValueError, match=r"input 'data': expected shape \(4, 3, 4, 5\), got \(4, 5, 3\); its channels"):
        copying(1, 3, 4, 5).forward_all(data=values(4, 5, 3))
    with pytest.raises(UsageError, match="got none"):
        net.forward_all()
    with pytest.raises(UsageError, match=r"arrays of one length, .*, got data \(4, 3\), label \(3,\)"):
        net.forward_all(data=values(4, 3), label=values(3))
    with pytest.raises(UsageError, match=r"got data \(\)"):
        copying(2, 3).forward_all(data=3.0)
    with pytest.raises(UsageError, match=r"each input and output blob \['data', 'label', 'out'\]"):
        net.forward_backward_all(data=values(2, 3), out=values(2, 3), ot=values(2, 3))


def test_forward_backward_all_with_diffs_alone():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3]))
    n.out = L.InnerProduct(n.data, num_output=1, weight_filler=dict(type="constant", value=2))
    proto = n.to_proto()
    proto.force_backward = True
    net = caffe.Net(proto, phase=caffe.TEST)
    outs, diffs = net.forward_backward_all(out=np.ones((3, 1)))
    assert outs["out"].shape == (3, 1) and (diffs["data"] == 2).all() and diffs["data"].shape == (3, 3)


def test_batches():
    net = copying(2, 3)
    batches = list(net._batch({"data": values(3, 3)}))
    assert [batch["data"].shape for batch in batches] == [(2, 3), (2, 3)]
    np.testing.assert_array_equal(batches[1]["data"], [values(3, 3)[2], np.zeros(3)])
    assert [len(batch["frames"]) for batch in net._batch({"frames": np.arange(4)})] == [2, 2]
    net.blobs["data"].reshape(0, 3)
    with pytest.raises(MinicaffeError, match="the net's batch has length 0"):
        net.forward_all(data=values(3, 3))


# -- slips in other arguments ------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Nets of one and three channels with their weights, and an image, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for channels in (1, 3):
        n = caffe.NetSpec()
        n.data = L.Input(shape=dict(dim=[1, channels, 8, 8]))
        n.prob = L.Softmax(L.InnerProduct(n.data, num_output=2))
        (tmp_path / f"{channels}.prototxt").write_text(str(n.to_proto()))
        caffe.Net(f"{channels}.prototxt", caffe.TEST).save(f"{channels}.caffemodel")
    (tmp_path / "cat.png").write_bytes(encode_image(np.zeros((3, 12, 12), np.uint8), "png"))
    return tmp_path


def net_of(kind, channels=3):
    return kind(f"{channels}.prototxt", f"{channels}.caffemodel")


def test_classifier_slips(files):
    colour, image = net_of(caffe.Classifier), np.zeros((12, 12, 3))
    for inputs, said in (
        (None, "expected a list of images .H, W, K., got None"),
        (3, "expected a list of images .H, W, K., got 3"),
        ([image.transpose(2, 0, 1)], r"takes images of 3 channel.s., \(H, W, 3\), got shape \(3, 12, 12\)"),
    ):
        with pytest.raises(UsageError, match="Classifier.predict: .*" + said):
            colour.predict(inputs)
    with pytest.raises(UsageError, match=r"takes images of 1 channel.s., \(H, W, 1\), got shape \(12, 12, 3\)"):
        net_of(caffe.Classifier, 1).predict([image])
    assert colour.predict([image[:, :, 0]]).shape == (1, 2)  # a gray image is used for each channel, as in the original


def test_detector_slips(files):
    detector, window = net_of(caffe.Detector), (0, 0, 4, 4)
    for argument, said in (
        ("cat.png", "expected pairs of an image file and its windows, got 'cat.png'"),
        (None, "expected pairs of an image file and its windows, got None"),
        (("cat.png", [window]), r"got 'cat.png'; one image is \[\(file, windows\)\]"),
        ([("cat.png", window)], r"expected a list of windows, got \[0, 0, 4, 4\]; one window is \[window\]"),
        ([("cat.png", 3)], "expected a list of windows, got 3"),
        ([(np.zeros((8, 8, 3)), [window])], "expected the path of an image first in each pair, got ndarray"),
        ([([window], "cat.png")], "expected the path of an image first in each pair, got list"),
    ):
        with pytest.raises(UsageError, match=f"detect_windows: .*{said}"):
            detector.detect_windows(argument)
    with pytest.raises(DataError, match=r"window \(20, 20, 30, 30\) holds no pixel of an image of 12x12"):
        detector.detect_windows([("cat.png", np.array([[20, 20, 30, 30]]))])
    assert len(detector.detect_windows(zip(["cat.png"], [np.array([window])]))) == 1


def test_slips_with_files_and_numbers(files):
    net = caffe.Net("3.prototxt", caffe.TEST)
    with pytest.raises(UsageError, match="copy_from: expected the paths of files, got list; several files are sev"):
        net.copy_from(["3.caffemodel"])
    with pytest.raises(UsageError, match="load_image: expected the path of an image or an open file, got ndarray"):
        caffe.io.load_image(np.zeros((4, 4, 3)))
    (files / "s").write_text('net: "3.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_after_train: false')
    solver = caffe.get_solver("s")
    with pytest.raises(UsageError, match="step: expected a number of iterations, got '3'"):
        solver.step("3")
    solver.step(np.int64(1))
    with pytest.raises(UsageError, match="a NetParameter, got NetSpec; give its to_proto()"):
        caffe.Net(caffe.NetSpec(), caffe.TEST)


@pytest.mark.parametrize(
    "params, said",
    [
        (dict(weight_filler="xavier"), "hold 'xavier': expected a dict with fields of FillerParameter: type, value"),
        (dict(weight_filler=dict(typ="xavier")), "FillerParameter has no field 'typ' .did you mean \"type\"?"),
        (dict(param=[1, 2]), r"cannot hold \[1, 2\]: expected a dict with fields of ParamSpec: name"),
    ],
)
def test_net_spec_slips_in_messages(params, said):
    with pytest.raises((NetSpecError, TypeError), match=said):
        caffe.to_proto(L.InnerProduct(L.Input(shape=dict(dim=[1, 2])), num_output=3, **params))
