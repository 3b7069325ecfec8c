"""Passes over a NetParameter: which layers are kept, and where splits are inserted."""

import pytest

from minicaffe.core.net import Net
from minicaffe.core.passes import filter_net, insert_splits
from minicaffe.errors import NetError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, parse_text


def net(text):
    return parse_text(text, caffe_pb2.NetParameter())


def names(param):
    return [layer.name for layer in param.layer]


# -- include and exclude -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state, rule, kept",
    [
        ("phase: TRAIN", "include { phase: TRAIN }", True),
        ("phase: TEST", "include { phase: TRAIN }", False),
        ("phase: TEST", "exclude { phase: TRAIN }", True),
        ("phase: TRAIN", "exclude { phase: TRAIN }", False),
        ("phase: TEST", "include { phase: TRAIN } include { phase: TEST }", True),
        ("level: 2", "include { min_level: 3 }", False),
        ("level: 3", "include { min_level: 3 }", True),
        ("level: 3", "include { max_level: 2 }", False),
        ("level: 3", "exclude { max_level: 2 }", True),
        ("stage: 'a'", "include { stage: 'a' stage: 'b' }", False),
        ("stage: 'a' stage: 'b'", "include { stage: 'a' stage: 'b' }", True),
        ("stage: 'a'", "include { not_stage: 'a' }", False),
        ("stage: ''", "include { not_stage: 'a' }", True),
        ("", "", True),
    ],
)
def test_rules(state, rule, kept):
    param = net(f"state {{ {state} }} layer {{ name: 'x' type: 'Silence' {rule} }}")
    assert names(filter_net(param)) == (["x"] if kept else [])


def test_include_and_exclude_together_are_refused():
    with pytest.raises(NetError, match="layer 'x' has both include and exclude rules"):
        filter_net(net("layer { name: 'x' include { phase: TEST } exclude { min_level: 1 } }"))


def test_the_net_given_is_left_alone():
    param = net("layer { name: 'x' include { phase: TEST } }")
    filter_net(param)
    assert names(param) == ["x"]


# -- splits ------------------------------------------------------------------------------------------------------------


def test_one_reader_needs_no_split():
    param = net("layer { name: 'a' top: 'x' } layer { name: 'b' bottom: 'x' top: 'y' }")
    assert insert_splits(param) == param


def test_two_readers_get_copies():
    param = insert_splits(
        net("layer { name: 'a' top: 'x' } layer { name: 'b' bottom: 'x' } layer { name: 'c' bottom: 'x' }")
    )
    assert names(param) == ["a", "x_a_0_split", "b", "c"]
    assert list(param.layer[1].top) == ["x_a_0_split_0", "x_a_0_split_1"]
    assert list(param.layer[3].bottom) == ["x_a_0_split_1"]


def test_a_layer_that_reads_twice_gets_two_copies():
    param = insert_splits(net("layer { name: 'a' top: 'x' } layer { name: 'b' bottom: 'x' bottom: 'x' }"))
    assert list(param.layer[2].bottom) == ["x_a_0_split_0", "x_a_0_split_1"]


def test_in_place_chains_split_after_the_last_layer():
    param = insert_splits(
        net(
            "layer { name: 'a' top: 'x' } layer { name: 'r' bottom: 'x' top: 'x' }"
            "layer { name: 'b' bottom: 'x' } layer { name: 'c' bottom: 'x' }"
        )
    )
    assert names(param) == ["a", "r", "x_r_0_split", "b", "c"]


def test_a_loss_that_is_read_moves_its_weight_to_the_first_copy():
    param = insert_splits(net("layer { name: 'a' top: 'x' loss_weight: 2 } layer { name: 'b' bottom: 'x' }"))
    assert names(param) == ["a", "x_a_0_split", "b"]
    assert list(param.layer[1].loss_weight) == [2, 0]
    assert list(param.layer[0].loss_weight) == [0], "an explicit zero: a loss would weigh 1 by default"
    assert list(param.layer[2].bottom) == ["x_a_0_split_1"]


def test_inserting_twice_changes_nothing_more():
    once = insert_splits(
        net("layer { name: 'a' top: 'x' } layer { name: 'b' bottom: 'x' } layer { name: 'c' bottom: 'x' }")
    )
    assert insert_splits(once) == once


def test_unknown_bottoms_name_layer_and_the_nearest_blob():
    with pytest.raises(NetError, match="layer 'b': bottom 0 is the unknown blob 'dta' .did you mean \"data\""):
        insert_splits(net("layer { name: 'a' top: 'data' } layer { name: 'b' bottom: 'dta' }"))


# -- errors about layers that a state leaves out -----------------------------------------------------------------------

STAGES = """
    layer { name: 'one' top: 'x' include { stage: 'one' } } layer { name: 'two' top: 'x' include { stage: 'two' } }
    layer { name: 'act' bottom: 'x' top: 'y' }
"""


def why(text, **state):
    whole = net(text)
    whole.state.phase = state.get("phase", TEST)
    whole.state.level = state.get("level", 0)
    whole.state.stage.extend(state.get("stage", []))
    with pytest.raises(NetError) as caught:
        insert_splits(filter_net(whole), whole)
    return str(caught.value)


def test_a_blob_of_a_layer_that_is_left_out_names_the_rule_and_the_state():
    assert why("layer { name: 'a' top: 'x' include { phase: TRAIN } } layer { name: 'b' bottom: 'x' }") == (
        "layer 'b': bottom 0 is the unknown blob 'x': the rules of layers that make it leave them out, 'a' by "
        "include { phase: TRAIN }; the net's state is phase TEST, level 0, no stages"
    )
    said = why("layer { name: 'a' top: 'x' exclude { min_level: 2 } } layer { name: 'b' bottom: 'x' }", level=3)
    assert "'a' by exclude { min_level: 2 }; the net's state is phase TEST, level 3" in said


def test_a_blob_of_other_stages_names_where_stages_come_from():
    said = why(STAGES, stage=["", "three"])
    assert "out, 'one' by include { stage: \"one\" }, 'two' by include { stage: \"two\" }; the net's state" in said
    assert said.endswith(
        "phase TEST, level 0, stage 'three' (give stages by -stage or Net(stages=[...]); those of a solver's test nets "
        "only by test_state)"
    )
    assert why(STAGES, phase=TRAIN).endswith("those of a solver's train net also by train_state)")


def test_a_blob_that_a_later_layer_makes():
    said = why("layer { name: 'b' bottom: 'x' top: 'y' } layer { name: 'a' top: 'x' }")
    assert said.endswith("unknown blob 'x': layer 'a', which makes it, comes after this one: write it before")


def test_two_producers_whose_rules_are_both_met():
    whole = net(
        STAGES.replace("e' top", "e' type: 'Input' top")
        .replace("o' top", "o' type: 'Input' top")
        .replace("' bottom", "' type: 'ReLU' bottom")
    )
    for layer in whole.layer[:2]:
        layer.input_param.shape.add().dim.append(1)
    with pytest.raises(NetError) as caught:
        Net(whole, TEST, stages=["one", "two"])
    assert str(caught.value).endswith(
        "the net's state is phase TEST, level 0, stages 'one', 'two', which selects by "
        "include { stage: \"one\" } of 'one' and include { stage: \"two\" } of 'two'"
    )
