"""MultiBoxLoss: the loss of a single-shot detector's boxes and classes."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LossLayer
from minicaffe.layers.shared.multibox import Batch
from minicaffe.layers.shared.multibox_bottoms import count_priors, read_priors, read_true_boxes
from minicaffe.layers.shared.multibox_gpu import DeviceLosses
from minicaffe.layers.shared.multibox_losses import box_losses, box_slopes, class_losses, class_slopes
from minicaffe.proto.caffe_pb2 import MultiBoxLossParameter as Param

#: of the bottoms without a gradient
NAMES = {2: "priors", 3: "true boxes", 4: "objectness", 5: "locations of the first stage"}


@register("MultiBoxLoss")
class MultiBoxLoss(LossLayer):
    """loss = (loc_weight * sum of box losses of matches + sum of class losses of matches and negatives) / Z

    Bottoms: locations (N, P L 4), scores (N, P K), priors (1, 2, P 4) as PriorBox gives them, true boxes (1, 1, M, 8),
        rows (image, label, instance, xmin, ymin, xmax, ymax, difficult), image -1 for none; of RefineDet optionally the
        objectness of its first stage, probabilities (N, P 2), and the locations (N, P 4) of that stage, which move the
        priors.  L is 1 with share_location, else K.  Top: one number.
    Locations and scores get a gradient.  A loss whose propagate_down is false is left out of the sum.

    Matching, in each image: the true box and the prior that overlap most are a match, then of those that are left, and
    so on; then (match_type PER_PREDICTION) each prior that is left and the true box that it overlaps most, if by at
    least overlap_threshold.

    Mining, in each image: MAX_NEGATIVE takes neg_pos_ratio times as many negatives as matches, those of the largest
    class losses; HARD_EXAMPLE takes the sample_size priors of the largest sums of both losses, matches or not.  An
    image without boxes has no negatives, except with mining_type NONE.  nms_param's eta is not used.

    The target of a location is the code of the true box (`code_type`; the variances as in DetectionOutput); with
    encode_variance_in_target both are divided by the variances, and the gradient is that with respect to the quotient,
    as the original's.  With num_classes 2, labels above 1 become 1.  With LOGISTIC and NONE, a row without match has
    only targets 0.  Z is the number of matches after mining (normalization VALID), N P (FULL), N (BATCH_SIZE) or 1.

    On the GPU the losses and gradients are kernels; matching and mining, where each step depends on values, are on the
    host, which reads priors, true boxes, and one loss for each prior; locations only where boxes are decoded.
    Source: Liu et al., SSD, 2016; Zhang et al., RefineDet, 2018, section 3.3.
    """

    fork = "SSD"
    more_params = ("loss_param",)
    exact_num_bottom = None
    min_bottom, max_bottom = 4, 6
    capturable = False  # the number of matches depends on values
    no_gradient = (2, 3, 4, 5)

    def setup(self, bottom, top):
        self.param = param = self.layer_param.multibox_loss_param
        self.logistic, self.mining = param.conf_loss_type == Param.LOGISTIC, param.mining_type != Param.NONE
        self.check_parameters()
        self.smooth = param.loc_loss_type == Param.SMOOTH_L1
        self.mode = self.read_normalization()
        self.counts = tuple(self.layer_param.propagate_down[:2]) or (True, True)  # whether boxes and classes count
        self.device = DeviceLosses(self.param, self.dtype)

    def check_parameters(self):
        """Raise LayerError for parameters that contradict each other."""
        param, classes, background = self.param, self.param.num_classes, self.param.background_label_id
        if classes < 1:
            raise self.error(f"num_classes must be at least 1, got {classes}")
        if background >= classes and (self.mining or not self.logistic):
            raise self.error(f"background_label_id must be below num_classes {classes}, got {background}")
        if param.map_object_to_agnostic and (classes, background) != (2, 0):
            raise self.error(
                "map_object_to_agnostic needs num_classes 2 and background_label_id 0, "
                f"got num_classes {classes} and background_label_id {background}"
            )
        mining = Param.MiningType.Name(param.mining_type)
        if param.HasField("do_neg_mining") and param.do_neg_mining != self.mining:
            wanted = "MAX_NEGATIVE or HARD_EXAMPLE" if param.do_neg_mining else "NONE"
            raise self.error(
                f"do_neg_mining: {str(param.do_neg_mining).lower()} needs mining_type {wanted}, got {mining}"
            )
        if self.mining and not param.share_location:
            raise self.error(f"share_location: false needs mining_type NONE, got {mining}")
        if param.sample_size < 1 or not 0 <= param.neg_pos_ratio < np.inf:
            got = f"{param.sample_size} and {param.neg_pos_ratio:g}"
            raise self.error(f"sample_size must be at least 1 and neg_pos_ratio finite and not negative, got {got}")

    def top_shapes(self, bottom_shapes):
        locations, _, priors, truth = bottom_shapes[:4]
        count = count_priors(self, priors)
        if len(truth) != 4 or truth[:2] != (1, 1) or truth[3] != 8:
            raise self.error(f"bottom 3 must be true boxes (1, 1, M, 8), got {truth}")
        samples, (_, _, sets, classes) = self.samples(locations), self.sizes(bottom_shapes)
        for i, each in ((0, 4 * sets), (1, classes), (4, 2), (5, 4)):
            shape = (*bottom_shapes, None, None)[i]
            if shape is not None and (shape[:1] != (samples,) or int(np.prod(shape[1:])) != count * each):
                raise self.error(
                    f"bottom {i} must hold {each} numbers for each of {count} priors and {samples} images, got {shape}"
                )
        return [()]

    def sizes(self, shapes):
        """Return N, P, L, K."""
        sets = 1 if self.param.share_location else self.param.num_classes
        return shapes[0][0], shapes[2][2] // 4, sets, self.param.num_classes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = self.sizes([blob.shape for blob in bottom])

    # -- targets, on the host --------------------------------------------------------------------------------------

    def find_targets(self, bottom, losses_of_classes, losses_of_boxes):
        """Set the targets of this batch and Z.

        losses_of_classes: returns the class losses (N P,) of each prior for labels (N P,).
        losses_of_boxes: returns the box losses (M,) of BoxTargets.
        """
        images, count, sets, classes = self.view
        true = read_true_boxes(self, bottom[3].read_data().reshape(-1, 8), images)
        priors, variances = read_priors(self, bottom)
        batch = Batch(
            self.param, true, priors, variances,
            locations=lambda: bottom[0].read_data().reshape(images, count, sets, 4),
            objectness=bottom[4].read_data().reshape(images, count, 2)[..., 1] if len(bottom) > 4 else None,
        )  # fmt: skip
        matches, negatives = batch.match(), None
        if self.mining:
            losses = losses_of_classes(batch.labels(matches).reshape(-1)).reshape(images, count)
            if self.param.mining_type == Param.HARD_EXAMPLE:
                losses[matches.image, matches.prior] += losses_of_boxes(batch.box_targets(matches))
            matches, negatives = batch.mine(matches, losses)
        self.boxes, self.classes = batch.box_targets(matches), batch.class_targets(matches, negatives)
        self.divisor = self.normalizer(self.mode, images, count, len(matches.box))

    # -- losses and gradients --------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        x, scores = bottom[0].read_data().reshape(-1, 4), bottom[1].read_data().reshape(-1, self.view[3])
        self.find_targets(
            bottom,
            lambda labels: class_losses(scores, labels, self.logistic),
            lambda targets: box_losses(targets.differences(x), self.smooth).sum(1),
        )
        total = 0.0
        if self.counts[0]:
            total += self.param.loc_weight * box_losses(self.boxes.differences(x), self.smooth).sum()
        if self.counts[1]:
            total += class_losses(scores[self.classes.rows], self.classes.labels, self.logistic).sum()
            total -= scores.reshape(-1)[self.classes.further].sum()
        top[0].data[...] = total / self.divisor

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_other_gradients(propagate_down, bottom)
        scale = self.loss_weight(top) / self.divisor
        if propagate_down[0]:
            bottom[0].diff = 0
            slopes = box_slopes(self.boxes.differences(bottom[0].read_data().reshape(-1, 4)), self.smooth)
            bottom[0].diff.reshape(-1, 4)[self.boxes.cells] = slopes * (scale * self.param.loc_weight)
        if propagate_down[1]:
            bottom[1].diff = 0
            scores, dx = (each.reshape(-1, self.view[3]) for each in (bottom[1].read_data(), bottom[1].diff))
            slopes = class_slopes(scores[self.classes.rows], self.classes.labels, self.logistic)
            dx[self.classes.rows] = slopes * scale
            dx.reshape(-1)[self.classes.further] -= scale

    def refuse_other_gradients(self, propagate_down, bottom):
        """Raise LayerError if a propagate_down requires another gradient; write 0 where learned layers need one."""
        for index, blob in enumerate(bottom[2:], 2):
            if propagate_down[index]:
                if self.layer_param.propagate_down:
                    self.refuse_gradient(propagate_down, index, NAMES[index])
                blob.diff = 0

    def forward_gpu(self, bottom, top):
        locations, scores = bottom[0].gpu_data(), bottom[1].gpu_data()
        self.find_targets(
            bottom,
            lambda labels: self.device.class_losses(scores, labels),
            lambda targets: self.device.box_losses(locations, targets),
        )
        self.device.send(self.boxes, self.classes)
        self.device.total(locations, scores, self.counts, self.divisor, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_other_gradients(propagate_down, bottom)
        self.device.send(self.boxes, self.classes)  # forward may have been on the CPU
        weight, scale = top[0].gpu_diff(), 1 / self.divisor
        if propagate_down[0]:
            self.device.box_gradient(bottom[0], weight, scale)
        if propagate_down[1]:
            self.device.class_gradient(bottom[1], weight, scale)
