"""Passes over a NetParameter: which layers are kept, and where splits are inserted."""

import pytest

from minicaffe.core.passes import filter_net, insert_splits
from minicaffe.errors import NetError
from minicaffe.proto import caffe_pb2, parse_text


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
