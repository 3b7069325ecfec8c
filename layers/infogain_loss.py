"""InfogainLoss: a softmax loss with a weight for each pair of true and predicted class."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LOG_THRESHOLD
from minicaffe.layers.shared.softmax import softmax, softmax_gpu
from minicaffe.layers.softmax_loss import SoftmaxWithLoss
from minicaffe.proto.caffe_pb2 import BlobProto


@register("InfogainLoss")
class InfogainLoss(SoftmaxWithLoss):
    """loss = -sum over positions and classes k of H[label, k] log p(k) / normalizer, with p = softmax(x), above 1e-20.

    Bottoms: scores x (N, C, ...), labels: one for each position outside the class axis; optionally the matrix H,
    C * C numbers.  Tops: the loss, one number; optionally p, of the shape of x.
    infogain_loss_param: source (a binaryproto with H, if H is not a bottom), axis (1).
    loss_param: ignore_label, normalization (VALID); the older `normalize` is an error.
    """

    exact_num_bottom = None
    min_bottom, max_bottom = 2, 3
    no_gradient = (1, 2)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.infogain_loss_param
        self.given_axis = param.axis
        if self.layer_param.loss_param.HasField("normalize"):
            raise self.error("normalize is not for this layer: use normalization")
        self.matrix, self.row_sums = None, Blob((), self.dtype)
        if len(bottom) < 3:
            if not param.source:
                raise self.error("the matrix H must be given, as bottom 2 or by infogain_loss_param source")
            self.matrix = self._read(param.source)

    def top_shapes(self, bottom_shapes):
        shapes = super().top_shapes(bottom_shapes[:2])
        classes = bottom_shapes[0][self.given_axis]
        given = bottom_shapes[2] if self.matrix is None else self.matrix.shape
        if np.prod(given) != classes * classes:
            raise self.error(f"the matrix H must be {classes} by {classes}, got {given}")
        return shapes

    def forward_cpu(self, bottom, top):
        p = self.prob.data.reshape(self.view)
        softmax(bottom[0].read_data().reshape(self.view), p)
        rows = self._rows(bottom)
        log_p = np.log(np.maximum(p, p.dtype.type(LOG_THRESHOLD)))
        top[0].data[...] = -np.vdot(rows, log_p) / self._divisor()

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse_gradients(propagate_down)
        if propagate_down[0]:
            rows, dx = self._rows(bottom), bottom[0].diff.reshape(self.view)
            np.multiply(self._prob(top).read_data().reshape(self.view), rows.sum(axis=1, keepdims=True), out=dx)
            dx -= rows
            dx *= self.loss_weight(top) / self._divisor()

    def _device_matrix(self, bottom):
        """Return device pointers of H and of the sums of its rows."""
        classes = self.view[1]
        self.row_sums.reshape(classes)
        matrix = (bottom[2] if self.matrix is None else self.matrix).gpu_data()
        self.kernel("row_sums")(classes, matrix, self.row_sums.mutable_gpu_data())
        return matrix, self.row_sums.gpu_data()

    def forward_gpu(self, bottom, top):
        outer, classes, inner = self.view
        softmax_gpu(bottom[0].gpu_data(), self.prob.mutable_gpu_data(), self.view, self.dtype)
        n, p, labels, wrong = outer * inner, self.prob.gpu_data(), bottom[1].gpu_data(), self.wrong_label_gpu(classes)
        matrix, _ = self._device_matrix(bottom)
        terms = self.terms.pointers(n)
        self.kernel("losses")(n, classes, inner, p, labels, matrix, *self.ignore_rule, wrong, *terms)
        self.terms.finish(n, self.fixed_divisor(self.mode, outer, inner), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse_gradients(propagate_down)
        if propagate_down[0]:
            _, classes, inner = self.view
            p, labels, dx = self._prob(top).gpu_data(), bottom[1].gpu_data(), bottom[0].mutable_gpu_diff()
            n, scale, (matrix, sums) = (
                bottom[0].count,
                (top[0].gpu_diff(), self.terms.divisor),
                self._device_matrix(bottom),
            )
            self.kernel("gradient")(n, classes, inner, p, labels, matrix, sums, *self.ignore_rule, *scale, dx)

    def _refuse_gradients(self, propagate_down):
        self.refuse_gradient(propagate_down)
        if len(propagate_down) > 2:
            self.refuse_gradient(propagate_down, 2, "matrix")

    def _rows(self, bottom):
        """Return H[label] as (outer, classes, inner), zero where the label is ignored."""
        classes = self.view[1]
        matrix = (bottom[2] if self.matrix is None else self.matrix).read_data().reshape(classes, classes)
        (_, labels, _), self.valid = self._positions(bottom[1])
        rows = matrix[labels].swapaxes(1, 2)
        return np.ascontiguousarray(rows if self.valid is None else rows * self.valid[:, None])

    def _read(self, source):
        blob, proto = Blob((), self.dtype), BlobProto()
        try:
            with open(source, "rb") as file:
                proto.ParseFromString(file.read())
        except OSError as error:
            raise self.error(f"cannot read source '{source}': {error.strerror}") from error
        except Exception as error:
            raise self.error(f"source '{source}' is no binaryproto of a blob: {error}") from error
        blob.from_proto(proto)
        return blob
