"""The table of forks: every name in one place, none that is known here, and sentences that name the fork."""

import pytest

import minicaffe
from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, elsewhere, parse_text
from minicaffe.proto.elsewhere import FORKS, field_owner, is_hint, placeholder


def test_what_is_said_to_be_elsewhere_is_not_here():
    enums = {"ConfLossType": caffe_pb2.MultiBoxLossParameter.ConfLossType}
    for name in elsewhere.FIELD_OWNERS:
        kind, field = name.split(".") if "." in name else ("LayerParameter", name)
        here = enums[kind].keys() if kind in enums else getattr(caffe_pb2, kind).DESCRIPTOR.fields_by_name
        assert field not in here, name
    assert not set(elsewhere.TYPE_OWNERS) & set(minicaffe.layer_type_list())


def test_the_table_is_sorted_and_each_name_has_one_owner():
    assert list(FORKS) == sorted(FORKS, key=str.lower)
    types = [name for fork in FORKS.values() for name in fork.types.split()]
    assert len(types) == len(set(types)) == len(elsewhere.TYPE_OWNERS)
    for fork in FORKS.values():
        assert fork.types or fork.fields or fork.hints
        assert fork.types.split() == sorted(fork.types.split(), key=lambda name: (name.lower(), name))


@pytest.mark.parametrize(
    ("message", "name", "owner"),
    [
        ("LayerParameter", "multinode", "Intel's Caffe"),
        ("V1LayerParameter", "rescale_param", "DeepSkeleton's Caffe"),
        ("LayerType", "DATA_RAND_TRANSFORM", "naibaf7's Caffe, for U-Net"),
        ("ResizeParameter", "multiscale", "ducha-aiki's Caffe"),
        ("SolverParameter", "larc_turbo", "NVIDIA's Caffe"),
        ("LayerType", "NOTHING", None),
        ("LayerParameter", "nothing_param", None),
    ],
)
def test_owners(message, name, owner):
    assert field_owner(message, name) == owner


def test_hints_may_depend_on_the_value():
    assert is_hint("LayerParameter", "multinode", "{") and is_hint("V1LayerParameter", "multinode", "{")
    assert not is_hint("ConvolutionParameter", "fusion_type", "SUM_FUSION") and not is_hint(
        "LayerParameter", "nothing_param", "1"
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("cls6x", '"cls6x" of MobileNet-SSD\'s templates: its gen_model.sh writes 1, 3 or 6 times the number of'),
        ("$TARGET_WIDTH", '"$TARGET_WIDTH" of FlowNet\'s templates: its scripts write a size there'),
    ],
)
def test_placeholders_have_a_sentence(value, sentence):
    with pytest.raises(PrototxtError) as error:
        parse_text(f"layer {{ convolution_param {{ num_output: {value} }} }}", caffe_pb2.NetParameter())
    assert f"line 1, column 41: ConvolutionParameter.num_output has the placeholder {sentence}" in str(error.value)
    assert placeholder("cls2x") is None and placeholder("12") is None
