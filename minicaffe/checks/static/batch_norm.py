"""BatchNorm: whose statistics are used, whether they have been trained, and of how many samples they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import batch_size, last_before, layer_place
from minicaffe.checks.subject import PhaseNet, Subject

_FEW = 16  #: samples of a batch below which its statistics are noisy


def _uses_global(layer: Any, phase: str) -> bool:
    param = layer.batch_norm_param
    return param.use_global_stats if param.HasField("use_global_stats") else phase == "TEST"


def _norms(net: PhaseNet, uses_global: bool) -> Iterator[tuple[int, Any]]:
    """Yield (index, LayerParameter) of the BatchNorms that use global statistics, or of those that do not."""
    for i, layer in net.of_type("BatchNorm"):
        if _uses_global(layer, net.phase) == uses_global:
            yield i, layer


@finds("static", "batch-norm-learned", "error")
def learned(subject: Subject) -> Iterator[Found]:
    """Statistics with an lr_mult other than 0."""
    for _, layer in subject.train.of_type("BatchNorm"):
        for i, param in enumerate(layer.param[:3]):
            if param.lr_mult:
                yield (
                    layer_place(layer),
                    f"the net cannot be built: the statistics are not learned, but param {i} has lr_mult "
                    f"{param.lr_mult:g}: write lr_mult: 0 in each of three param, or leave all of them out",
                )
                break


@finds("static", "batch-norm-test-batch", "warning")
def batch_in_test(subject: Subject) -> Iterator[Found]:
    """Statistics of the batch in TEST, where each result depends on the other samples of its batch."""
    nets = [*subject.tests, *filter(None, [subject.deploy])]
    for layer in _unique(layer for net in nets for _, layer in _norms(net, uses_global=False)):
        yield (
            layer_place(layer),
            "use_global_stats is false in TEST, so results are normalised by the batch that is tested, not by the "
            "statistics of training, and depend on its other samples: leave use_global_stats out, which is true in "
            "TEST and false in TRAIN",
        )


@finds("static", "batch-norm-untrained", "error")
def global_from_scratch(subject: Subject) -> Iterator[Found]:
    """Global statistics in TRAIN which nothing has trained: they are 0."""
    for _, layer in _norms(subject.train, uses_global=True):
        if subject.stored is not None and layer.name in subject.stored.untrained:
            origin = "in the weights their factor (blob 2) is 0"
        elif not subject.is_filled(layer.name):
            origin = "no file of weights has them" if subject.weights else "there are no weights to start from"
        else:
            continue
        eps = layer.batch_norm_param.eps
        yield (
            layer_place(layer),
            f"use_global_stats is true in TRAIN, but {origin}: mean and variance are 0, and the output is the input "
            f"times {eps**-0.5:.4g} (1 / sqrt(eps {eps:g})): leave use_global_stats out, or start from weights with "
            "trained statistics",
        )


@finds("static", "batch-norm-iter-size", "warning")
def over_iterations(subject: Subject) -> Iterator[Found]:
    """Statistics of a small batch, where iter_size makes a large one for the gradients."""
    size, passes = batch_size(subject.train), subject.param.iter_size
    first = next(_norms(subject.train, uses_global=False), None)
    if first is not None and passes > 1 and 0 < size < _FEW:
        yield (
            layer_place(first[1]),
            f"gradients are summed over iter_size {passes} x batch_size {size} = {passes * size} samples, but each "
            f"BatchNorm takes its statistics of {size}: raise batch_size and lower iter_size, or start from weights "
            "with trained statistics and write use_global_stats: true",
        )


@finds("static", "batch-norm-one-sample", "warning")
def of_one_sample(subject: Subject) -> Iterator[Found]:
    """Statistics over one number: one sample of a layer without places."""
    if batch_size(subject.train) != 1:
        return
    for i, layer in _norms(subject.train, uses_global=False):
        before = last_before(subject.train, i)
        if before is not None and before.type == "InnerProduct":
            yield (
                layer_place(layer),
                f"at batch_size 1 it takes mean and variance of one number for each output of '{before.name}', so its "
                "output is 0 for every input: raise batch_size",
            )


@finds("static", "batch-norm-no-scale", "info")
def without_scale(subject: Subject) -> Iterator[Found]:
    """BatchNorms without a Scale behind."""
    net = subject.train
    for i, layer in net.of_type("BatchNorm"):
        if not _is_scaled(net, i):
            yield (
                layer_place(layer),
                "no Scale reads it, so scale and shift of batch normalisation are not learned: to learn them, write "
                "a Scale layer with scale_param { bias_term: true } behind it",
            )


def _is_scaled(net: PhaseNet, index: int) -> bool:
    """Whether a Scale or Bias reads a layer, or what Power and Concat make of it, as in CReLU."""
    for reader in net.readers(index):
        kind = net.param.layer[reader].type
        if kind in ("Scale", "Bias") or (kind in ("Power", "Concat") and _is_scaled(net, reader)):
            return True
    return False


def _unique(layers: Iterator[Any]) -> list[Any]:
    """Return one layer of each name, in order."""
    return list({layer.name: layer for layer in layers}.values())
