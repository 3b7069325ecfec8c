"""Python: a layer that a user wrote."""

from __future__ import annotations

import importlib
import os
import sys

from minicaffe.blob import Blob
from minicaffe.layer import Layer, register


class BlobVec(list):
    """A layer's learned blobs, as pycaffe hands them out."""

    def __init__(self, blobs, dtype) -> None:
        super().__init__(blobs)
        self._dtype = dtype

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros of this shape."""
        self.append(Blob(shape, self._dtype))


@register("Python")
class PythonLayer(Layer):
    """Runs a class of the user's: setup(bottom, top), reshape(bottom, top), forward(bottom, top) and
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

    The object finds `param_str`, `phase`, `name`, `blobs` and `layer_param` on itself.  Its other attributes can be
    reached through the layer: `net.layers[0].factor`.
    python_param: module (found on sys.path or in the working directory), layer (the class), param_str ("").
    `import caffe` in the module gives minicaffe, its submodules included.
    In place, bottom and top are one blob, as in pycaffe: the class itself keeps what its backward needs of the input.
    """

    always_reshape = True
    capturable = False
    in_place = True
    backward_reads = ("bottom", "top")
    top_serves_as_bottom = True

    def setup(self, bottom, top):
        param = self.layer_param.python_param
        cls = self._find_class(param.module, param.layer)
        self.blobs = BlobVec(self.blobs, self.dtype)
        self.user = user = cls(self.layer_param, self.phase, self.dtype) if issubclass(cls, Layer) else cls()
        user.param_str, user.phase, user.blobs, user.layer_param = (
            param.param_str,
            self.phase,
            self.blobs,
            self.layer_param,
        )
        if isinstance(user, Layer):
            user.rng = self.rng
        if hasattr(user, "setup"):
            user.setup(bottom, top)

    def reshape(self, bottom, top):
        self.user.reshape(bottom, top)

    def forward_cpu(self, bottom, top):
        self.user.forward(bottom, top)

    def backward_cpu(self, top, propagate_down, bottom):
        self.user.backward(top, propagate_down, bottom)

    def __getattr__(self, name):
        if name == "user":  # not yet set up
            raise AttributeError(name)
        return getattr(self.user, name)

    def _find_class(self, module: str, name: str) -> type:
        from minicaffe import run_as_caffe

        run_as_caffe.install()
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.append(os.getcwd())
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module.split(".")[0] and error.name != module:
                raise  # the module is there, and misses something itself
            raise self.error(f"no module '{module}' on sys.path or in {os.getcwd()}") from error
        cls = getattr(found, name, None)
        if not isinstance(cls, type):
            raise self.error(f"module '{module}' ({found.__file__}) has no class '{name}'")
        return cls
