"""DetectionLoss: YOLO v1's loss."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LossLayer, class_labels
from minicaffe.layers.shared.yolo_boxes import Overlap
from minicaffe.layers.shared.yolo_cells import Cells


@register("DetectionLoss")
class DetectionLoss(LossLayer):
    """The differences of what S x S cells predict from the objects whose centres they hold.

    bottoms: predictions (N, S S (C + 5 B)): C classes, the confidence of B boxes, then x, y, w, h of the first box, of
        the second, and so on, each for S x S cells; labels (N, 7 S S) as BoxData gives them: for each cell whether its
        object is difficult, whether there is one, its class; then for each cell its box, centre and size.
    top: the loss, one number.

    d of each confidence p = noobject_scale p; in a cell with an object of class c and box t
        d of a class = class_scale (q - 1 for c, else q)
        for the box that overlaps t most (without any overlap, the nearest one by the sum of squared differences):
        d of the confidence = object_scale (p - overlap), d of x, y, w, h = coord_scale (b - t)
    The gradient is d / N, times the loss weight.  The printed loss is another function: the sum of scale times squared
    difference, where p - 1 replaces p - overlap, divided by the number of objects; that of the other confidences is
    divided by their number.

    detection_loss_param: side S 7, num_class C 20, num_object B 2, object_scale 1, noobject_scale 0.5, class_scale 1,
        coord_scale 5, sqrt true (w and h are square roots), constriant false (true: x and y are those in the cell, else
        those in the image).  With cls_num it is MapDetectionLoss, of MS-CNN.
    Source: Redmon, Divvala, Girshick and Farhadi, You only look once, 2016.
    """

    fork = "YOLO"

    def setup(self, bottom, top):
        self.param = param = self.layer_param.detection_loss_param
        self.cells = Cells.of(self, param)
        self.diff, self.terms = Blob((), self.dtype), Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        self.cells.check(self, *bottom_shapes)
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.diff.reshape(bottom[0].shape)
        self.terms.reshape(3, bottom[0].shape[0] * self.cells.side**2)

    def forward_cpu(self, bottom, top):
        param = self.param
        classes, confidences, boxes = self.cells.parts(bottom[0].read_data())
        d_classes, d_confidences, d_boxes = self.cells.parts(self.diff.data)
        _, objects, labels, true = self.cells.labels(bottom[1].read_data())
        image, cell = np.nonzero(objects)
        own, _ = class_labels(self, labels[image, cell], self.cells.classes)
        learning = self._learning(boxes[image, :, :, cell], true[image, cell], cell)

        d_classes[...] = d_boxes[...] = 0
        np.multiply(confidences, param.noobject_scale, out=d_confidences)
        target = np.eye(self.cells.classes, dtype=self.dtype)[own]
        d_classes[image, :, cell] = param.class_scale * (classes[image, :, cell] - target)
        box, overlap = learning
        p, b = confidences[image, box, cell], boxes[image, box, :, cell]
        t = self.cells.coded(true[image, cell].T, cell).T
        d_confidences[image, box, cell] = param.object_scale * (p - overlap)
        d_boxes[image, box, :, cell] = param.coord_scale * (b - t)

        class_loss = param.class_scale * ((classes[image, :, cell] - target) ** 2).sum()
        own_loss = class_loss + param.object_scale * ((p - 1) ** 2).sum() + param.coord_scale * ((b - t) ** 2).sum()
        others = param.noobject_scale * ((confidences**2).sum() - (p**2).sum())
        top[0].data[...] = own_loss / max(1, len(image)) + others / max(1, confidences.size - len(image))

    def _learning(self, boxes, true, cell):
        """Return which box of each object learns, (G,), and its overlap, given boxes (G, B, 4) and true ones (G, 4)."""
        boxes, true = self.cells.in_image(boxes.transpose(2, 0, 1), cell[:, None]), true.T[:, :, None]
        overlap = Overlap(boxes, true).value()
        far = ((boxes - true) ** 2).sum(0)
        nearest = np.where(far.min(1, initial=400) < 400, far.argmin(1), 0)  # as the port: within 20
        box = np.where((overlap > 0).any(1), overlap.argmax(1), nearest)
        return box, overlap[np.arange(len(box)), box]

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            scale = self.loss_weight(top) / self.batch_size(bottom)
            np.multiply(self.diff.read_data(), scale, out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        param, cells = self.param, self.cells
        n = self.terms.shape[1]
        shape = cells.side, cells.classes, cells.boxes, cells.roots, cells.inside
        scales = param.object_scale, param.noobject_scale, param.class_scale, param.coord_scale
        x, labels, wrong = bottom[0].gpu_data(), bottom[1].gpu_data(), self.wrong_label_gpu(cells.classes)
        terms = self.terms.mutable_gpu_data()
        self.kernel("steps")(n, *shape, *scales, x, labels, self.diff.mutable_gpu_data(), wrong, terms)
        self.kernel("total").launch((1, 1), 256, n, cells.boxes, terms, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            dx, scale = bottom[0].mutable_gpu_diff(), 1 / self.batch_size(bottom)
            self.scaled_gpu(self.diff.count, top, self.diff.gpu_data(), dx, scale)
