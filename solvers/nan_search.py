"""Losses that are nan or infinite: the check, and the search for the layer where it began.

In TRAIN every top keeps its data until the next forward pass, so the search reads the blobs as the passes have left
them.  Only where layers work in place on a blob that is not finite are the layers that write to it run forward again,
one by one; their blobs and random streams are restored after that, so that training continues as without the search.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.memory import Memory
from minicaffe.core.settings import settings
from minicaffe.core.sharing import known
from minicaffe.errors import SolverError, listed

log = logging.getLogger("minicaffe")


class LossCheck:
    """Reports the first loss of a solver that is nan or infinite."""

    def __init__(self) -> None:
        self._finite: int | None = None  # the last iteration with a loss that was finite
        self._reported = False

    def see(self, solver: Any, loss: float) -> None:
        """Check a loss of the current iteration, while its batch is in the net.

        Raises SolverError for one that is nan or infinite if `solver.stop_on_nan` is set; otherwise logs the first.
        """
        if math.isfinite(loss):
            self._finite = solver.iter
        elif solver.stop_on_nan or not self._reported:
            self._reported = True
            place = find(solver.net, solver.engine_step.has_updated, self._since(solver.iter))
            sentence = f"the loss of iteration {solver.iter} is {loss:g}: {place}"
            if solver.stop_on_nan:
                raise SolverError(sentence)
            log.warning("%s", sentence)

    def _since(self, iteration: int) -> str:
        """Return which update has changed the parameters since the last finite loss; "" if none has."""
        if self._finite is None or self._finite >= iteration:
            return ""
        if self._finite == iteration - 1:
            return f" since the update of iteration {self._finite}"
        return f" since an update of the iterations {self._finite} to {iteration - 1}"


def find(net: Any, has_updated: bool, since: str) -> str:
    """Return where the values began that are nan or infinite, for the end of a sentence.

    net: a net in TRAIN after its passes, with a loss that is not finite.
    has_updated: whether the parameters are not those of the passes any more, so that they are not checked.
    since: when the parameters have changed, such as " since the update of iteration 3".
    """
    layers = _before_loss(net)
    for i in layers:
        if place := _place_in(net, i, layers, has_updated, since):
            last = max([i, *_writers(net, layers, net.tops[i])])
            return place + _untrained_statistics(net, [j for j in layers if j <= last])
    return "all outputs and parameters of the net are finite"


def _place_in(net: Any, i: int, layers: list[int], has_updated: bool, since: str) -> str:
    """Return the sentence for a layer with parameters or outputs that are not finite; "" if all are finite.

    layers: those before the loss, by index.
    """
    if not has_updated and (fault := _fault_of_parameters(net, i)):
        return f"the parameters of layer '{net.layer_names[i]}' have {fault}{since}"
    for name, blob in zip(net.names_of_tops[i], net.tops[i]):
        if fault := _fault(blob):
            writers = _writers(net, layers, [blob])
            return _among(net, writers, has_updated, since) or _output(net, writers, name, fault)
    return ""


def _writers(net: Any, layers: list[int], blobs: list[Blob]) -> list[int]:
    """Return those of some layers that write to the memory of blobs."""
    memory = {blob.data_memory for blob in blobs}
    return [j for j in layers if any(top.data_memory in memory for top in net.tops[j])]


def _untrained_statistics(net: Any, layers: list[int]) -> str:
    """Return a clause about the first of some layers that normalises by statistics of no batch; "" if none does."""
    for i in layers:
        layer = net.layers[i]
        if layer.type == "BatchNorm" and layer.use_global_stats and not layer.blobs[2].read_data().any():
            return (
                f"; BatchNorm '{net.layer_names[i]}' has use_global_stats: true, but statistics of no batch (its "
                f"factor, blob 2, is 0), so it multiplies its input by {layer.eps**-0.5:.4g}"
            )
    return ""


def _before_loss(net: Any) -> list[int]:
    """Return the layers whose outputs enter the losses that are not finite, by index, in order."""
    found: list[int] = []
    wanted: set[Memory] = set()
    for i in reversed(range(len(net.layers))):
        layer, tops = net.layers[i], net.tops[i]
        is_loss = layer.has_loss and not math.isfinite(layer.loss(tops))
        if is_loss or any(blob.data_memory in wanted for blob in tops):
            found.append(i)
            wanted.update(blob.data_memory for blob in net.bottoms[i])
    return found[::-1]


def _fault(blob: Blob) -> str:
    """Return "nan" or "infinite values" if the blob has any, "" otherwise."""
    values = blob.read_data()
    if np.isfinite(values).all():
        return ""
    return "nan" if np.isnan(values).any() else "infinite values"


def _fault_of_parameters(net: Any, i: int) -> str:
    """Return `_fault` of the parameters of a layer that updates change; BatchNorm's are changed by passes instead."""
    learning = {blob.data_memory for blob, mult in zip(net.learnable_params, net.lr_mults) if mult}
    faults = (_fault(blob) for blob in net.layers[i].blobs if blob.data_memory in learning)
    return next(filter(None, faults), "")


def _output(net: Any, writers: list[int], name: str, fault: str) -> str:
    """Return the sentence for a top that one of the layers `writers` has made."""
    if len(writers) > 1:
        names = listed(f"'{net.layer_names[j]}'" for j in writers)
        return f"the output '{name}' has {fault}, which the layers {names} write to"
    layer = net.layer_names[writers[0]]
    if not net.bottoms[writers[0]]:
        return f"the data '{name}' of layer '{layer}' have {fault}"
    return f"the output '{name}' of layer '{layer}' has {fault}"


# -- layers that work in place -----------------------------------------------------------------------------------------


def _among(net: Any, writers: list[int], has_updated: bool, since: str) -> str:
    """Return which of the layers that write to one memory was the first to leave values that are not finite.

    The layers are run again.  Returns "" if that cannot be done without a lasting effect, or shows nothing.
    """
    if len(writers) == 1 or settings.engine.mode != "CPU" or not all(_may_repeat(net, j) for j in writers):
        return ""
    with net.guard, net.unobserved(), np.errstate(all="ignore"), _restored(net, writers):
        for j in writers:
            if not has_updated and (fault := _fault_of_parameters(net, j)):
                return f"the parameters of layer '{net.layer_names[j]}' have {fault}{since}"
            net.layers[j].forward(net.bottoms[j], net.tops[j])
            for name, blob in zip(net.names_of_tops[j], net.tops[j]):
                if fault := _fault(blob):
                    return _output(net, [j], name, fault)
    return ""


def _may_repeat(net: Any, i: int) -> bool:
    """Whether a forward pass of a layer, at this rank alone, changes nothing but its blobs and its random stream."""
    layer = net.layers[i]
    return bool(net.bottoms[i]) and known(layer) and not layer.collective and type(layer).state is Layer.state


@contextlib.contextmanager
def _restored(net: Any, layers: list[int]) -> Iterator[None]:
    """Restore, at the end, the tops, parameters and random streams of some layers."""
    blobs = [blob for i in layers for blob in (*net.tops[i], *net.layers[i].blobs)]
    values = [blob.read_data().copy() for blob in blobs]
    states = [net.layers[i].state() for i in layers]
    try:
        yield
    finally:
        for blob, data in zip(blobs, values):
            blob.data[...] = data
        for i, state in zip(layers, states):
            net.layers[i].load_state(state)
