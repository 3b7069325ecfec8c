"""RegionLoss: YOLOv2's loss."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.softmax import softmax
from minicaffe.layers.shared.yolo_boxes import Overlap, read_anchors
from minicaffe.layers.shared.yolo_classes import class_numbers, class_tree, groups_of
from minicaffe.layers.shared.yolo_loss import YoloLoss


@register("RegionLoss")
class RegionLoss(YoloLoss):
    """loss = sum of d d / N, where d are the steps below; the gradient is d / N, times the loss weight.

    bottoms: a map (N, B (5 + C), H, W), for each of B anchors x, y, w, h, the objectness, C classes; true boxes (N, 1,
        T, 5), rows (class, x, y, width, height) in fractions of the image, up to the first whose x or width is 0, as
        AnnotatedData gives them with yolo_data_type 1, or (1, 1, M, 8) as it gives them without (class 0 has label 1).
    top: the loss, one number.

    With the sigmoid s and p = s(objectness), the box of anchor (a, b) at column i and row j is ((i + s(x)) / W,
    (j + s(y)) / H, a e^w / W, b e^h / H); its classes are a softmax q.
    Background: d of the objectness is noobject_scale p s', unless the box overlaps a true one by more than thresh.
    A true box belongs, in the place of its centre, to the anchor whose shape overlaps its own most (bias_match 0: the
    predicted shape); of several at one place and anchor the last counts:
        d of x, y = coord_scale (s - t) s', d of w, h = coord_scale (w - t), t the code of the true box
        d of the objectness = object_scale (p - overlap) s' with rescore; without, object_scale (p - 1) s', and
            coord_scale is multiplied by 2 - width height
        d of a class = class_scale (q - 1 for its class, else q)
    With true boxes (1, 1, M, 8) it is the loss of YOLO9000's port: w - t is cut to -1 to 1, d of the objectness -2
    object_scale (1 - p)^3 s', rescore has no effect, and the printed loss is not divided by N.

    region_loss_param: num_class C 20, num B 5, biases (the anchors, in places of the map), bias_match 1, rescore 1,
        object_scale 1, noobject_scale 0.5, class_scale 1, coord_scale 5, thresh 0.2, coords 4; softmax_tree, a file of
        a line "name parent" for each class, parent being the number of a line, or -1: the softmax is over the classes
        of one parent, and only the class, its ancestors and their siblings have steps (label 0 is then class 0, in rows
        of 8, too); class_map, a file with the class of each label.  The other fields have no effect.
    Source: Redmon and Farhadi, YOLO9000, 2017.
    """

    sloped = True

    def setup(self, bottom, top):
        self.param = param = self.layer_param.region_loss_param
        if param.coords != 4 or param.num < 1:
            raise self.error(f"coords must be 4 and num at least 1, got {param.coords} and {param.num}")
        mask = list(range(param.num))
        self.prepare(param.num_class, read_anchors(self, param.biases, mask), mask, 1, param.thresh)
        self.background_scale = param.noobject_scale
        self.tree = class_tree(self, param.softmax_tree, self.classes)
        self.numbers = class_numbers(self, param.class_map, self.classes)
        self.first_label = 0 if param.softmax_tree else 1
        self.device_tree, self.device_numbers = (Blob(each.shape, self.dtype) for each in (self.tree, self.numbers))
        self.device_tree.data[...], self.device_numbers.data[...] = self.tree, self.numbers

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.of_9000 = bottom[1].shape[3] == 8

    def divisor(self):
        return 1 if self.of_9000 else super().divisor()

    def labels(self):
        return len(self.numbers)

    def class_of(self, label):
        return self.numbers[label]

    def chosen(self, truths, boxes):
        if self.param.bias_match:
            shapes = self.sizes.data.T[:, None]  # (2, 1, B)
        else:
            shapes = boxes[2:, truths.image, :, truths.row, truths.column].transpose(1, 0, 2)  # (2, G, B)
        these, those = (np.concatenate([np.zeros_like(size), size]) for size in (shapes, truths.box[2:, :, None]))
        return Overlap(these, those).value().argmax(1)[:, None] == np.arange(self.mask.count)

    def learn(self, truths, learning, steps):
        (image, anchor, row, column), code, param = learning.at, learning.code.T, self.param
        size, true = self.sizes.data[anchor].T, truths.box[:, learning.truth]
        grid, corner = np.array([[self.view[4]], [self.view[3]]]), np.stack([column, row])
        places, p = logistic(code[:2]), logistic(code[4])
        scale = param.coord_scale
        if not self.of_9000 and not param.rescore:
            scale = scale * (2 - true[2] * true[3])
        growth = code[2:4] - np.log(true[2:] / size)
        if self.of_9000:
            growth = growth.clip(-1, 1)
            object_step = -2 * param.object_scale * (1 - p) ** 3
        else:
            boxes = np.concatenate([(places + corner) / grid, size * np.exp(code[2:4])]).astype(self.dtype)
            object_step = param.object_scale * (p - (Overlap(boxes, true).value() if param.rescore else 1))
        move = (places - (true[:2] * grid - corner)) * places * (1 - places)
        steps[image, anchor, :4, row, column] = (scale * np.concatenate([move, growth])).T
        steps[image, anchor, 4, row, column] = object_step * p * (1 - p)
        self._learn_classes(truths.label[learning.truth], learning, steps)
        return 0.0

    def _learn_classes(self, own, learning, steps):
        q = learning.code[:, 5:].copy()
        for start, end in groups_of(self.tree):
            softmax(q[:, start:end], q[:, start:end])
        starts, lengths, parents = self.tree
        for label, image, anchor, row, column, each in zip(own.tolist(), *learning.at, q):
            while label >= 0:
                start, end = starts[label], starts[label] + lengths[label]
                target = np.arange(start, end) == label
                steps[image, anchor, 5 + start : 5 + end, row, column] = self.param.class_scale * (
                    each[start:end] - target
                )
                label = parents[label]

    def learn_gpu(self, given, x, steps, top):
        param, images = self.param, self.view[0]
        labels = len(self.numbers), self.device_numbers.gpu_data(), self.device_tree.gpu_data()
        scales = param.object_scale, param.class_scale, param.coord_scale
        rules = self.of_9000, bool(param.bias_match), bool(param.rescore)
        results = steps, self.wrong_label_gpu(len(self.numbers))
        self.kernel("learn").launch((images, 1), 64, images, *given, *labels, *scales, *rules, x, *results)
        self.sum_squares_gpu(steps, top)
