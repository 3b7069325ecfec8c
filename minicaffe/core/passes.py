"""Passes over a NetParameter before a net is built.

Each is a pure function from NetParameter to a new NetParameter.  `filter_net` keeps the layers for a phase, level and
stage; then `insert_splits` gives every reader of a blob its own copy, so that gradients are summed.  Old formats are
upgraded before that (minicaffe.proto).
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from minicaffe.core.alignment import align_crops
from minicaffe.errors import NetError, listed, nearest
from minicaffe.proto import caffe_pb2, format_text

log = logging.getLogger("minicaffe")


# -- include and exclude -----------------------------------------------------------------------------------------------


def unmet(state, rule) -> str:
    """Return why a NetState does not meet a NetStateRule, in the original's words; "" if it meets it.

    It has to have the phase, a level from min_level to max_level, every stage, and no not_stage.
    """
    if rule.HasField("phase") and rule.phase != state.phase:
        have, specified = map(caffe_pb2.Phase.Name, (state.phase, rule.phase))
        return f"phase ({have}) differed from the phase ({specified}) specified by"
    if rule.HasField("min_level") and state.level < rule.min_level:
        return f"level ({state.level}) is below the min_level ({rule.min_level}) specified by"
    if rule.HasField("max_level") and state.level > rule.max_level:
        return f"level ({state.level}) is above the max_level ({rule.max_level}) specified by"
    stages = set(state.stage)
    if missing := [s for s in rule.stage if s not in stages]:
        return f"did not contain stage '{missing[0]}' specified by"
    if present := [s for s in rule.not_stage if s in stages]:
        return f"contained a not_stage '{present[0]}' specified by"
    return ""


def state_meets_rule(state, rule, layer_name: str = "") -> bool:
    """Whether a NetState meets a NetStateRule; the reason if it does not is logged.  layer_name: for the log line."""
    why = unmet(state, rule)
    if why:
        log.info("The NetState %s a rule in layer %s", why, layer_name)
    return not why


def filter_net(param):
    """Return a copy with the layers that `param.state` selects: any `include` rule met, or no `exclude` rule met.

    Layers that align their bottoms get their offsets.  Raises NetError for a layer with both kinds of rules, and as
    `align_crops` does.
    """
    filtered = type(param)()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    for layer in param.layer:
        if layer.include and layer.exclude:
            raise NetError(f"layer '{layer.name}' has both include and exclude rules: give one kind or the other")
        if _selects(layer, functools.partial(state_meets_rule, param.state, layer_name=layer.name)):
            filtered.layer.add().CopyFrom(layer)
    align_crops(filtered)
    return filtered


def _selects(layer, meets: Callable[[Any], bool]) -> bool:
    """Whether a state, of which `meets` gives whether it meets a rule, selects a layer."""
    return any(map(meets, layer.include)) if layer.include else not any(map(meets, layer.exclude))


def rules_of(layer) -> str:
    """Return the rules of a layer as in a prototxt: 'include { phase: TEST }'; "" if it has none."""
    rules = [("include", rule) for rule in layer.include] + [("exclude", rule) for rule in layer.exclude]
    return " ".join(f"{kind} {{ {' '.join(format_text(rule).split())} }}" for kind, rule in rules)


def described(state) -> str:
    """Return a NetState for messages: "phase TEST, level 0, stages one, two"."""
    stages = [f"'{stage}'" for stage in state.stage if stage]
    named = f"stage{'s' * (len(stages) > 1)} {listed(stages)}" if stages else "no stages"
    return f"phase {caffe_pb2.Phase.Name(state.phase)}, level {state.level}, {named}"


# -- splits ------------------------------------------------------------------------------------------------------------


def split_layer_name(layer_name: str, blob_name: str, index: int) -> str:
    """Return the name of the Split layer that copies top `index` of a layer."""
    return f"{blob_name}_{layer_name}_{index}_split"


def split_blob_name(layer_name: str, blob_name: str, index: int, copy: int) -> str:
    """Return the name of the Split's top for reader number `copy`."""
    return f"{split_layer_name(layer_name, blob_name, index)}_{copy}"


def insert_splits(param, whole=None):
    """Return a copy with a Split after every top that several bottoms read, or that is read and has a loss weight.

    whole: the net before `filter_net`, to name layers that it has left out in an error; None (default): not known.
    Raises NetError for a bottom that no earlier layer produces.
    """
    reads, loss_weight, producer_of = _count_reads(param, whole)
    split = type(param)()
    split.CopyFrom(param)
    del split.layer[:]
    copies_given: Counter = Counter()
    for i, layer in enumerate(param.layer):
        added = split.layer.add()
        added.CopyFrom(layer)
        for j, blob in enumerate(layer.bottom):
            top = producer_of[i, j]
            if reads[top] > 1:
                producer, index = param.layer[top[0]], top[1]
                added.bottom[j] = split_blob_name(producer.name, blob, index, copies_given[top])
                copies_given[top] += 1
        for j, blob in enumerate(layer.top):
            if reads[i, j] > 1:
                _add_split(split, layer.name, blob, j, reads[i, j], loss_weight.get((i, j), 0.0))
                if loss_weight.get((i, j)):
                    added.loss_weight[j] = 0  # moved to the Split's first top
                    copies_given[i, j] += 1
    return split


def remove_splits(param):
    """Return a copy without the Splits that `insert_splits` has added, of which it is the inverse."""
    joined = type(param)()
    joined.CopyFrom(param)
    del joined.layer[:]
    source_of: dict[str, str] = {}
    for layer in param.layer:
        if layer.type == "Split" and layer.name.endswith("_split") and _are_copies(layer):
            source_of.update((top, layer.bottom[0]) for top in layer.top)
            if any(layer.loss_weight):
                _return_loss_weight(joined, layer.bottom[0], layer.loss_weight[0])
            continue
        added = joined.layer.add()
        added.CopyFrom(layer)
        for j, blob in enumerate(layer.bottom):
            added.bottom[j] = source_of.get(blob, blob)
    return joined


def _are_copies(split) -> bool:
    """Whether the tops of a Split have the names that `insert_splits` gives."""
    return list(split.top) == [f"{split.name}_{copy}" for copy in range(len(split.top))]


def _return_loss_weight(net, blob: str, weight: float) -> None:
    """Give a loss weight back to the last layer that makes the blob."""
    producer = next(layer for layer in reversed(net.layer) if blob in layer.top)
    producer.loss_weight[list(producer.top).index(blob)] = weight


def _count_reads(param, whole):
    """Count the readers of each top, the loss included.

    Returns, with (layer index, top or bottom index) as keys: readers of each top, nonzero loss weight of each top, and
    the top that each bottom reads.
    """
    reads: Counter = Counter()
    loss_weight: dict[tuple[int, int], float] = {}
    producer_of: dict[tuple[int, int], tuple[int, int]] = {}
    latest: dict[str, tuple[int, int]] = {}
    for i, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in latest:
                raise unknown_bottom(layer, j, latest, param, whole)
            producer_of[i, j] = latest[blob]
            reads[latest[blob]] += 1
        for j, blob in enumerate(layer.top):
            latest[blob] = (i, j)
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            if weight:
                loss_weight[i, j] = weight
                reads[i, j] += 1
    return reads, loss_weight, producer_of


def unknown_bottom(layer, index: int, known, param=None, whole=None) -> NetError:
    """Return the error for a bottom that no earlier layer produces.

    known: the blobs that it could read.  param: the net; None (default): not known.  whole: as of `insert_splits`.
    """
    blob = layer.bottom[index]
    after = [each for each in param.layer if blob in each.top and each is not layer] if param is not None else []
    out = [] if whole is None else [each for each in _left_out(whole) if blob in each.top]
    hint = ""
    if after:
        why = f"layer '{after[0].name}', which makes it, comes after this one: write it before"
    elif out:
        rules = listed((f"'{each.name}' by {rules_of(each)}" for each in out), 3)
        why = f"the rules of layers that make it leave them out, {rules}; the net's state is {described(whole.state)}"
        why += _where_stages_come_from(out, whole.state)
    else:
        why, hint = "no layer before makes it", nearest(blob, known)
    return NetError(f"layer '{layer.name}': bottom {index} is the unknown blob '{blob}'{hint}: {why}")


def _left_out(whole) -> list:
    """Return the layers that the state of a net does not select."""
    return [layer for layer in whole.layer if not _selects(layer, lambda rule: not unmet(whole.state, rule))]


def _where_stages_come_from(layers, state) -> str:
    """Return the hint where to set the stages of a net; "" if no rule of the layers has any."""
    if not any(rule.stage or rule.not_stage for layer in layers for rule in (*layer.include, *layer.exclude)):
        return ""
    if state.phase == caffe_pb2.TRAIN:
        return " (give stages by -stage or Net(stages=[...]); those of a solver's train net also by train_state)"
    return " (give stages by -stage or Net(stages=[...]); those of a solver's test nets only by test_state)"


def _add_split(param, layer_name: str, blob: str, index: int, copies: int, weight: float) -> None:
    layer = param.layer.add(name=split_layer_name(layer_name, blob, index), type="Split")
    layer.bottom.append(blob)
    layer.top.extend(split_blob_name(layer_name, blob, index, k) for k in range(copies))
    if weight:
        layer.loss_weight.extend([weight] + [0.0] * (copies - 1))
