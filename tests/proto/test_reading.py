"""Prototxts as people write them, and the errors for those that are wrong."""

import math
import os

import pytest

import minicaffe
from minicaffe.errors import DataError, LayerError, PrototxtError
from minicaffe.proto import (
    caffe_pb2,
    format_text,
    parse_binary,
    parse_text,
    read_binary,
    read_binary_net,
    read_net,
    read_solver,
    read_text,
    write_binary,
    write_text,
)


def net(text):
    return parse_text(text, caffe_pb2.NetParameter())


def layer(text):
    return parse_text(text, caffe_pb2.LayerParameter())


# ------------------------------------------------------------------------------------------------------- valid input


@pytest.mark.parametrize(
    "text",
    [
        'name: "a" force_backward: true',
        "name: 'a'\nforce_backward: true",
        'name: "a", force_backward: true,',
        'name: "a"; force_backward: true;',
        'name:"a"#comment\nforce_backward:true # and another',
        '# first line\r\nname: "a"\r\nforce_backward: true\r\n',
        'name: "a"  # old Mac\rforce_backward: true\r',
        '\ufeffname: "a" force_backward: true',
        "name: \"\" 'a' force_backward: 1",
        'name: "\\x61" force_backward: True',
        'name: "\\141" force_backward: t',
    ],
)
def test_ways_to_write_one_thing(text):
    assert net(text) == caffe_pb2.NetParameter(name="a", force_backward=True)


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "x" }',
        'layer: { name: "x" }',
        'layer < name: "x" >',
        'layer {\n name: "x";\n};',
        'layer: [{ name: "x" }]',
    ],
)
def test_ways_to_write_a_message(text):
    assert [each.name for each in net(text).layer] == ["x"]


def test_numbers():
    values = parse_text(
        "mean_value: [.999, 1.f, 1e-5f, 1E5, -inf, nan, infinity, -.5, 5., 10]", caffe_pb2.TransformationParameter()
    ).mean_value
    expected = [0.999, 1, 1e-5, 1e5, -math.inf, math.nan, math.inf, -0.5, 5, 10]
    assert list(values) == pytest.approx(expected, nan_ok=True)
    assert list(net("input_dim: 10 input_dim: 0x10 input_dim: 010 input_dim: -1").input_dim) == [10, 16, 8, -1]


def test_enum_by_name_and_by_number():
    assert layer("pooling_param { pool: AVE }") == layer("pooling_param { pool: 1 }")


def test_lists_and_repetition_agree():
    assert net("input_dim: [1, 2] input_dim: 3") == net("input_dim: 1 input_dim: 2 input_dim: 3")


def test_bytes_in_other_code_pages():
    text = 'name: "caf\u00e9"  # entra\u00een\u00e9 \u2013 2014'
    for encoding in ("utf-8", "utf-8-sig", "cp1252"):
        assert net(text.encode(encoding)).name == "caf\u00e9"


def test_fork_fields_are_known():
    parsed = layer(
        'type: "PriorBox" prior_box_param { min_size: 30 aspect_ratio: 2 variance: .1 }'
        "transform_param { resize_param { resize_mode: WARP height: 300 interp_mode: [LINEAR, AREA] }"
        " distort_param { brightness_prob: .5 } expand_param { max_expand_ratio: 4 } emit_constraint {} }"
        'bn_param { bn_mode: INFERENCE } upsample_param { scale: 2 } engine: "ONEDNN"'
    )
    assert parsed.prior_box_param.min_size == [30]
    assert parsed.engine == "ONEDNN"
    net(
        "default_forward_type: FLOAT16 default_backward_math: FLOAT layer { forward_type: FLOAT16 "
        "convolution_param { cudnn_convolution_algo_seeker: GET engine: ONEDNN } }"
    )


def test_text_comes_back():
    message = net('name: "caf\u00e9" layer { name: "c" convolution_param { kernel_size: [3, 5] } loss_weight: 0.1 }')
    assert net(format_text(message)) == message
    assert "0.1" in format_text(message)


# ----------------------------------------------------------------------------------------------------- invalid input


@pytest.mark.parametrize(
    "text, expected",
    [
        ('layer { nam: "x" }', 'line 1, column 9: LayerParameter has no field "nam" (did you mean "name"?)'),
        (
            "layer {\n  convolution_param {\n    kernal_size: 3 } }",
            'line 3, column 5: ConvolutionParameter has no field "kernal_size" (did you mean "kernel_size"?)',
        ),
        (
            "layer { num_output: 3 }",
            'line 1, column 9: LayerParameter has no field "num_output" (it is a field of '
            "convolution_param, embed_param and "
            "others)",
        ),
        (
            "layer { yolo_v2_loss_param {} }",
            'line 1, column 9: LayerParameter has no field "yolo_v2_loss_param", it belongs to the Caffe ports of YOLO',
        ),
        (
            "layer { loss_param { normalization: HALF } }",
            'line 1, column 37: NormalizationMode has no value "HALF", only FULL, VALID, BATCH_SIZE, NONE, PRE_FIXED',
        ),
        ("layer { xyzzy: 3 }", 'line 1, column 9: LayerParameter has no field "xyzzy"'),
        (
            "layer { pooling_param { pool: AVG } }",
            'line 1, column 31: PoolMethod has no value "AVG" (did you mean "AVE"?)',
        ),
        (
            "layer { pooling_param {\n pool: 9 } }",
            'line 2, column 8: PoolMethod has no value "9", only MAX, AVE, STOCHASTIC',
        ),
        ('layer { pooling_param { pool: "MAX" } }', "line 1, column 31: the PoolMethod MAX must not be quoted"),
        ('name: "a"\nname: "b"', 'line 2, column 7: NetParameter field "name" is given more than once'),
        (
            "layer { pooling_param {} pooling_param {} }",
            'line 1, column 40: LayerParameter field "pooling_param" is given more than once',
        ),
        ("input_dim: 1.5", "line 1, column 12: couldn't parse integer: 1.5"),
        ('layer { name "x" }', 'line 1, column 14: expected ":"'),
    ],
)
def test_errors_name_place_and_cause(text, expected):
    with pytest.raises(PrototxtError) as error:
        net(text)
    assert str(error.value) == expected


def test_an_unknown_type_says_whose_it_is():
    text = 'layer { name: "rev" type: "%s" top: "x" }'
    with pytest.raises(LayerError) as error:
        minicaffe.Net(net(text % "DeformableConvolution"))
    owner = "it belongs to forks with deformable convolution"
    assert f"layer 'rev' has the unknown type \"DeformableConvolution\", {owner}; register a layer" in str(error.value)
    with pytest.raises(LayerError, match=r'did you mean "Reshape" or "Resample"\?\)$'):
        minicaffe.Net(net(text % "Rehsape"))


@pytest.mark.parametrize(
    "text",
    [
        'name: "x',
        "name: foo",
        'layer { name: "x"',
        'layer { name: "x" } }',
        'layer < name: "x" }',
        "layer: 5",
        "name: {",
        "// a comment of another language",
        "input_dim: 99999999999",
        "force_backward: yes",
        "input_dim: 1input_dim: 2",
    ],
)
def test_syntax_errors_have_a_place(text):
    with pytest.raises(PrototxtError, match=r"^line 1, column \d+: "):
        net(text)


def test_unsigned_fields_refuse_negative_numbers():
    with pytest.raises(PrototxtError, match="line 1, column .*-1"):
        layer("data_param { batch_size: -1 }")


def test_missing_required_field():
    with pytest.raises(PrototxtError, match="required field clip_param.max is missing"):
        layer("clip_param { min: 1 }")


def test_file_name_stands_in_front(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("\n\n  bogus: 1")
    with pytest.raises(PrototxtError, match=rf'^{path}:3:3: NetParameter has no field "bogus"'):
        read_net(path)


# ------------------------------------------------------------------------------------------------------------- files


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(PrototxtError, match="cannot read '.*gone.prototxt': No such file"):
        read_net(tmp_path / "gone.prototxt")
    with pytest.raises(PrototxtError, match="cannot read .*it is a folder, expected a regular file"):
        read_solver(tmp_path)


def test_utf16(tmp_path):
    (tmp_path / "net.prototxt").write_text('name: "n"', encoding="utf-16")
    with pytest.raises(PrototxtError, match="net.prototxt is UTF-16: save it as UTF-8"):
        read_net(tmp_path / "net.prototxt")
    (tmp_path / "solver.prototxt").write_text('net: "n"', encoding="utf-8-sig")
    assert read_solver(tmp_path / "solver.prototxt").net == "n"


def test_binary_where_text_is_expected(tmp_path):
    path = tmp_path / "net.caffemodel"
    message = caffe_pb2.NetParameter(name="n")
    message.layer.add(name="c").blobs.add(data=[0.0, 1.0])
    write_binary(message, path)
    with pytest.raises(PrototxtError, match="expected a prototxt, which is text, got a binary file"):
        read_net(path)
    assert read_binary_net(path) == message


def test_text_or_damage_where_binary_is_expected(tmp_path):
    path = tmp_path / "weights.caffemodel"
    message = caffe_pb2.NetParameter(name="n")
    message.layer.add(name="c").blobs.add(data=[1.0] * 100)
    for content, got in (
        (message.SerializeToString()[:-7], ".* damaged or something else"),
        (b"some words", ".* damaged or something else"),
        (b'layer { name: "x" }', "text, the prototxt of a net: give the file of weights"),
    ):
        path.write_bytes(content)
        with pytest.raises(PrototxtError, match=f"expected a binary NetParameter, got {got}"):
            read_binary_net(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(PrototxtError, match="expected a binary NetParameter, got an HDF5 file"):
        read_binary_net(path)
    with pytest.raises(PrototxtError, match="which is text, got an HDF5 file"):
        read_net(path)


def test_strings_in_binary_files_are_utf8():
    good = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="conv", bottom=["data"])]).SerializeToString()
    for word in (b"conv", b"data"):
        with pytest.raises(PrototxtError, match="damaged or something else"):
            parse_binary(good.replace(word, b"\xff" + word[1:]), caffe_pb2.NetParameter())


def test_written_files_read_back(tmp_path):
    message = caffe_pb2.SolverParameter(base_lr=0.01, type="Adam", stepvalue=[1, 2])
    write_text(message, tmp_path / "s.prototxt")
    assert read_text(tmp_path / "s.prototxt", caffe_pb2.SolverParameter()) == message
    write_binary(message, tmp_path / "s.bin")
    assert read_binary(tmp_path / "s.bin", caffe_pb2.SolverParameter()) == message
    assert parse_binary(message.SerializeToString(), caffe_pb2.SolverParameter()) == message
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.bin", "s.prototxt"], "no temporary file stays"


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.prototxt"
    path.write_text("old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    for write in (write_text, write_binary):
        with pytest.raises(DataError, match="cannot write '.*net.prototxt': No space left on device"):
            write(caffe_pb2.NetParameter(name="new"), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.prototxt"]


def test_a_net_file_without_layers_is_refused(tmp_path):
    (tmp_path / "empty.prototxt").write_text("name: 'nothing'")
    with pytest.raises(PrototxtError, match="empty.prototxt: there is no layer in this net"):
        read_net(tmp_path / "empty.prototxt")
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    with pytest.raises(PrototxtError, match="empty.caffemodel: there is no layer in this net"):
        read_binary_net(tmp_path / "empty.caffemodel")


def test_errors_quote_no_more_than_some_hundred_characters():
    with pytest.raises(PrototxtError) as caught:
        parse_text("a" * 100_000 + ": 1", caffe_pb2.NetParameter())
    assert len(str(caught.value)) < 500


def test_a_binary_message_without_a_required_field_is_refused():
    net = caffe_pb2.NetParameter()
    net.layer.add().clip_param.SetInParent()
    with pytest.raises(PrototxtError, match="expected a binary NetParameter"):
        parse_binary(net.SerializePartialToString(), caffe_pb2.NetParameter())


def test_pipes_are_refused_and_process_substitution_is_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(PrototxtError, match="it is a FIFO, expected a regular file"):
        read_net(tmp_path / "fifo")
    with pytest.raises(PrototxtError, match="null character"):
        read_net(str(tmp_path / "a\0b"))
    out, into = os.pipe()
    os.write(into, b'layer { name: "a" type: "ReLU" }')
    os.close(into)
    assert read_net(f"/dev/fd/{out}").layer[0].name == "a"
    os.close(out)
