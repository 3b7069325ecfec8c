"""The schema: wire and text compatible with Caffe's, and usable beside a real caffe_pb2."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from minicaffe.proto import caffe_pb2

ROOT = Path(caffe_pb2.__file__).resolve().parent.parent.parent


def field(message, name):
    return getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name[name]


@pytest.mark.parametrize(
    "message, name, number, default",
    [
        ("NetParameter", "layer", 100, []),
        ("NetParameter", "layers", 2, []),
        ("NetParameter", "force_backward", 5, False),
        ("SolverParameter", "layer_wise_reduce", 41, True),
        ("SolverParameter", "weights", 42, []),
        ("SolverParameter", "solver_mode", 17, 1),
        ("SolverParameter", "snapshot_format", 37, 1),
        ("SolverParameter", "type", 40, "SGD"),
        ("SolverParameter", "clip_gradients", 35, -1),
        ("SolverState", "current_step", 4, 0),
        ("ParamSpec", "lr_mult", 3, 1),
        ("LayerParameter", "clip_param", 148, None),
        ("LayerParameter", "swish_param", 147, None),
        ("LayerParameter", "propagate_down", 11, []),
        ("DataParameter", "backend", 8, 0),
        ("DataParameter", "prefetch", 10, 4),
        ("PoolingParameter", "round_mode", 13, 0),
        ("PoolingParameter", "pad", 4, 0),
        ("ConvolutionParameter", "dilation", 18, []),
        ("InfogainLossParameter", "axis", 2, 1),
        ("LRNParameter", "k", 5, 1),
        ("ReductionParameter", "operation", 1, 1),
        ("EltwiseParameter", "operation", 1, 1),
        ("HingeLossParameter", "norm", 1, 1),
        ("WindowDataParameter", "crop_mode", 11, "warp"),
        ("V1LayerParameter", "blob_share_mode", 1002, []),
        ("V0LayerParameter", "hdf5_output_param", 1001, None),
        ("NetState", "phase", 1, 1),
        ("PriorBoxParameter", "offset", 13, 0.5),
        ("LayerParameter", "roi_pooling_param", 8266711, None),
        ("TransformationParameter", "resize_param", 8, None),
    ],
)
def test_number_and_default(message, name, number, default):
    assert field(message, name).number == number
    assert field(message, name).default_value == default


def test_float_defaults_are_those_of_float32():
    assert caffe_pb2.SolverParameter().delta == pytest.approx(1e-8)
    assert caffe_pb2.SolverParameter().rms_decay == pytest.approx(0.99)
    assert caffe_pb2.BatchNormParameter().moving_average_fraction == pytest.approx(0.999)
    assert caffe_pb2.MVNParameter().eps == pytest.approx(1e-9)


def test_values_are_packed_on_the_wire():
    assert caffe_pb2.BlobShape(dim=[1, 2]).SerializeToString() == b"\x0a\x02\x01\x02"
    assert caffe_pb2.BlobProto(data=[1.0]).SerializeToString() == b"\x2a\x04\x00\x00\x80\x3f"
    assert caffe_pb2.Datum(float_data=[1.0]).SerializeToString() == b"\x35\x00\x00\x80\x3f", "not packed"


def test_constants_stand_where_caffe_pb2_has_them():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    assert caffe_pb2.V1LayerParameter.LayerType.Value("THRESHOLD") == 31
    assert caffe_pb2.ParamSpec.PERMISSIVE == 1
    assert caffe_pb2.DataParameter.LMDB == 1
    assert caffe_pb2._LAYERPARAMETER is caffe_pb2.LayerParameter.DESCRIPTOR


def test_every_engine_knows_onednn():
    engines = {
        message.full_name: message.enum_types_by_name["Engine"].values_by_name
        for message in caffe_pb2.DESCRIPTOR.message_types_by_name.values()
        if "Engine" in message.enum_types_by_name
    }
    assert len(engines) >= 8
    for name, values in engines.items():
        numbers = [values[key].number for key in ("DEFAULT", "CAFFE", "CUDNN", "ONEDNN", "MKLDNN")]
        assert numbers == [0, 1, 2, 4, 4], name


def test_no_two_messages_claim_a_number():
    for message in caffe_pb2.DESCRIPTOR.message_types_by_name.values():
        numbers = [field.number for field in message.fields]
        assert len(numbers) == len(set(numbers)), message.full_name


def test_messages_pickle():
    layer = caffe_pb2.LayerParameter(name="conv1", type="Convolution")
    assert pickle.loads(pickle.dumps(layer)) == layer


def test_generated_files_are_up_to_date():
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("needs grpcio-tools to run protoc")
    script = ROOT / "tools" / "compile_proto.py"
    if not script.exists():
        pytest.skip("needs the checkout: an installed minicaffe has no tools/")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Replaces BVLC's generated module: the same messages in a file "caffe.proto", package "caffe".
BESIDE = """
import sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

def register_caffe():
    file = descriptor_pb2.FileDescriptorProto.FromString(open(sys.argv[1], "rb").read())
    file.name, file.package = "caffe.proto", "caffe"
    def rename(message):
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".minicaffe.", ".caffe.")
        for nested in message.nested_type:
            rename(nested)
    for message in file.message_type:
        rename(message)
    descriptor_pool.Default().Add(file)
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter"))

def register_minicaffe():
    from minicaffe.proto import caffe_pb2
    return caffe_pb2.NetParameter

steps = [register_caffe, register_minicaffe]
if sys.argv[2] == "minicaffe-first":
    steps.reverse()
one, other = [step() for step in steps]
assert one.DESCRIPTOR.full_name != other.DESCRIPTOR.full_name
net = one(name="n")
net.layer.add(name="conv1", type="Convolution").convolution_param.kernel_size.append(3)
assert other.FromString(net.SerializeToString()).layer[0].convolution_param.kernel_size == [3]
print("together")
"""


@pytest.mark.parametrize("order", ["caffe-first", "minicaffe-first"])
def test_lives_beside_a_real_caffe_pb2(tmp_path, order):
    descriptor = tmp_path / "caffe.bin"
    descriptor.write_bytes(caffe_pb2.DESCRIPTOR.serialized_pb)
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, str(descriptor), order], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "together", done.stderr
