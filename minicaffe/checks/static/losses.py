"""What losses read: a layer that the loss contains already, or one that cannot make every score."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import is_loss, last_before, layer_place
from minicaffe.checks.subject import Subject

#: the function that a loss contains, by its type
_CONTAINS = {
    "SoftmaxWithLoss": "Softmax",
    "SoftmaxWithLossOHEM": "Softmax",
    "InfogainLoss": "Softmax",
    "SigmoidCrossEntropyLoss": "Sigmoid",
}
#: the values of an activation
_VALUES = {
    "ReLU": "at least 0",
    "ReLU6": "in 0 to 6",
    "Sigmoid": "in 0 to 1",
    "TanH": "in -1 to 1",
    "BNLL": "above 0",
    "AbsVal": "at least 0",
    "Exp": "above 0",
}


@finds("static", "loss-applied-twice", "warning")
def applied_twice(subject: Subject) -> Iterator[Found]:
    """A Softmax or Sigmoid before a loss that contains it."""
    for i, loss in subject.train.of_type(*_CONTAINS):
        before = last_before(subject.train, i)
        if before is not None and before.type == _CONTAINS[loss.type]:
            yield (
                layer_place(before),
                f"{loss.type} '{loss.name}' contains a {before.type}, so it is applied twice, and gradients are "
                f"small: give the loss the bottom of '{before.name}', '{before.bottom[0]}'"
                + (", under another name than its top" if before.bottom[:1] == before.top[:1] else ""),
            )


@finds("static", "activation-before-loss", "warning")
def activation_last(subject: Subject) -> Iterator[Found]:
    """Scores that an activation limits."""
    for i, loss in subject.train.of_type(*_CONTAINS):
        before = last_before(subject.train, i)
        if before is None or before.type not in _VALUES or before.type == _CONTAINS[loss.type]:
            continue
        if before.type == "ReLU" and before.relu_param.negative_slope:
            continue
        yield (
            layer_place(before),
            f"the scores of {loss.type} '{loss.name}' are the output of a {before.type}, which is "
            f"{_VALUES[before.type]}: scores may be any number, so remove the {before.type} before the loss",
        )


@finds("static", "no-loss", "error")
def without_loss(subject: Subject) -> Iterator[Found]:
    """Train nets in which nothing is minimised."""
    if not any(is_loss(layer) for layer in subject.train.param.layer):
        yield (
            f"net '{subject.train.param.name}'",
            "no output has a loss_weight in TRAIN, so nothing is learned: add a loss layer such as SoftmaxWithLoss, or "
            "loss_weight: 1 to the layer that computes the loss",
        )
