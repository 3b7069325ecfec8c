"""Python: a layer written as a Python class by the user."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.extensions import enet, faster_rcnn  # noqa: F401  # classes that replace those of projects
from minicaffe.layers.shared.python_class import find_class
from minicaffe.layers.shared.python_part import PythonPart
from minicaffe.text import printable

_IN_LAYER = {"reshape": "top_shapes", "forward": "forward_cpu", "backward": "backward_cpu"}


@register("Python")
class PythonLayer(Layer):
    """Runs a class of the user with methods setup(bottom, top), reshape(bottom, top), forward(bottom, top) and
    backward(top, propagate_down, bottom), as in pycaffe.

        import caffe

        class Double(caffe.Layer):
            def setup(self, bottom, top):
                self.factor = float(self.param_str or 2)      # own parameters: self.blobs.add_blob(3, 4)

            def reshape(self, bottom, top):
                top[0].reshape(*bottom[0].shape)

            def forward(self, bottom, top):
                top[0].data[...] = self.factor * bottom[0].data

            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] = self.factor * top[0].diff

    The object has `param_str` (`param_str_` for old scripts), `phase`, `name`, `blobs` and `layer_param` as attributes.
    Those that it sets can be read from the layer: `net.layers[0].factor`.  A class with its own `__init__` gets
    the LayerParameter as the only argument.  `setup` is optional; so is `backward`, if no gradient is needed.
    Bottoms and tops: any number, of the shapes that `reshape` accepts and gives.
    python_param: module (found on sys.path or in the working directory), layer (the class), param_str ("").
    The layers of py-faster-rcnn and py-R-FCN (rpn.proposal_layer, rpn.anchor_target_layer, rpn.proposal_target_layer,
    roi_data_layer.layer) are part of minicaffe: where their modules are not found, minicaffe's classes run instead.
    `import caffe` in the module gives minicaffe, its submodules included.
    The module runs with the rights of the user: `minicaffe.allow_python_layers` restricts which may be imported.
    In place, bottom and top are one blob, as in pycaffe: the class has to keep the input itself if backward reads it.
    """

    always_reshape = True
    capturable = False
    repeatable = False
    keeps_views = True
    in_place = True
    backward_reads = ("bottom", "top")
    top_serves_as_bottom = True

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.python_param.module}.{layer_param.python_param.layer}"

    @classmethod
    def source_shapes(cls, layer_param):
        return [None] * len(layer_param.top)  # `setup` imports the module

    def setup(self, bottom, top):
        param = self.layer_param.python_param
        cls = find_class(self, param.module, param.layer, lambda: self._running("import"))
        with self._running("__init__"):
            self.user = self._make(cls)
        self._give_attributes(param.param_str)
        if hasattr(self.user, "setup"):
            with self._running("setup"):
                self.user.setup(bottom, top)
        if self.user.blobs is not self.blobs:
            raise self.error("its blobs must not be replaced: add parameters with self.blobs.add_blob(...)")
        for method in ("reshape", "forward"):
            self._require(method)

    def reshape(self, bottom, top):
        with self._running("reshape"):
            self.user.reshape(bottom, top)

    def forward_cpu(self, bottom, top):
        with self._running("forward"):
            self.user.forward(bottom, top)

    def backward_cpu(self, top, propagate_down, bottom):
        if any(propagate_down) or self.blobs:
            self._require("backward")
        if self._has("backward"):
            with self._running("backward"):
                self.user.backward(top, propagate_down, bottom)

    def state(self):
        return {**super().state(), **self.user.position()} if isinstance(self.user, PythonPart) else super().state()

    def load_state(self, state):
        super().load_state(state)
        if isinstance(self.user, PythonPart):
            self.user.seek(state)

    def __getattr__(self, name):
        if name == "user":  # before setup
            raise AttributeError(name)
        return getattr(self.user, name)

    # -- the user's class ------------------------------------------------------------------------------------------

    def _make(self, cls: type) -> Any:
        """Make an object of the class; its own `__init__` gets the LayerParameter, if it takes an argument."""
        if cls.__init__ is Layer.__init__:  # type: ignore[misc]  # compared, not called
            return cls(self.layer_param, self.phase, self.dtype)
        for arguments in ((self.layer_param,), ()):
            try:
                inspect.signature(cls).bind(*arguments)
            except (TypeError, ValueError):  # ValueError: it has no signature to inspect
                continue
            return cls(*arguments)
        raise self.error(f"the __init__ of class '{cls.__name__}' must take one argument, the LayerParameter")

    def _give_attributes(self, param_str: str) -> None:
        user = self.user
        for blob in (b for b in getattr(user, "blobs", ()) if isinstance(b, Blob)):  # added in __init__
            self.blobs.add_blob(*blob.shape)
            self.blobs[-1].data[...] = blob.data
        user.param_str = user.param_str_ = param_str
        user.phase, user.blobs, user.layer_param = self.phase, self.blobs, self.layer_param
        for name in ("name", "dtype"):  # missing where __init__ does not call that of Layer
            if not hasattr(user, name):
                setattr(user, name, getattr(self, name))
        if isinstance(getattr(user, "rng", self.rng), type(self.rng)):
            user.rng = self.rng

    def _has(self, method: str) -> bool:
        """Whether the user has written this method, or the method of `Layer` that replaces it."""
        written = (getattr(self.user, name, None) for name in (method, _IN_LAYER[method]))
        own = (getattr(Layer, method), getattr(Layer, _IN_LAYER[method]))
        return any(found is not None and getattr(found, "__func__", None) not in own for found in written)

    def _require(self, method: str) -> None:
        if not self._has(method):
            cls = type(self.user)
            raise self.error(f"class '{cls.__name__}' of module '{cls.__module__}' has no method '{method}'")

    @contextlib.contextmanager
    def _running(self, what: str) -> Iterator[None]:
        """Add the layer's name to errors that the user's code raises."""
        try:
            yield
        except Exception as error:
            if hasattr(error, "add_note"):  # Python 3.11
                param = self.layer_param.python_param
                note = f"In {what} of Python layer '{self.name}' ({param.module}.{param.layer})."
                error.add_note(printable(note))
            raise
