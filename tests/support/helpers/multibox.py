"""MultiBoxLoss in plain loops over floats, and random scenes for it."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.proto import caffe_pb2, parse_text

Param = caffe_pb2.MultiBoxLossParameter
CODES = caffe_pb2.PriorBoxParameter


def param_of(text):
    return parse_text(text, Param())


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def jaccard(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (area(a) + area(b) - width * height)


def encoded(box, prior, variance, kind):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if kind == CODES.CORNER:
        code = [box[k] - prior[k] for k in range(4)]
    elif kind == CODES.CORNER_SIZE:
        code = [(box[k] - prior[k]) / (w, h)[k % 2] for k in range(4)]
    else:
        code = [
            ((box[0] + box[2]) / 2 - (prior[0] + prior[2]) / 2) / w,
            ((box[1] + box[3]) / 2 - (prior[1] + prior[3]) / 2) / h,
            math.log((box[2] - box[0]) / w),
            math.log((box[3] - box[1]) / h),
        ]
    return [code[k] / variance[k] for k in range(4)]


def decoded(code, prior, variance, kind):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    code = [code[k] * variance[k] for k in range(4)]
    if kind == CODES.CORNER:
        return [prior[k] + code[k] for k in range(4)]
    if kind == CODES.CORNER_SIZE:
        return [prior[k] + code[k] * (w, h)[k % 2] for k in range(4)]
    x, y = (prior[0] + prior[2]) / 2 + code[0] * w, (prior[1] + prior[3]) / 2 + code[1] * h
    w, h = w * math.exp(code[2]), h * math.exp(code[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def matched(candidates, boxes, param):
    """For each candidate the index in `boxes`, -1 or -2, and its largest overlap."""
    indices, best, overlap = [-1] * len(candidates), [0.0] * len(candidates), {}
    for p, candidate in enumerate(candidates):
        if param.ignore_cross_boundary_bbox and any(not 0 <= c <= 1 for c in candidate):
            indices[p] = -2
            continue
        for g, box in enumerate(boxes):
            value = jaccard(candidate, box)
            if value > 1e-6:
                overlap[p, g], best[p] = value, max(best[p], value)
    pool = set(range(len(boxes)))
    while pool:
        pairs = [(-value, p, g) for (p, g), value in overlap.items() if indices[p] == -1 and g in pool]
        if not pairs:
            break
        _, p, g = min(pairs)
        indices[p] = g
        pool.remove(g)
    if param.match_type == Param.PER_PREDICTION:
        for p in range(len(candidates)):
            pairs = [(-overlap[p, g], g) for g in range(len(boxes)) if (p, g) in overlap]
            if indices[p] == -1 and pairs and -min(pairs)[0] >= param.overlap_threshold:
                indices[p] = min(pairs)[1]
    return indices, best


def box_loss(d, param):
    return abs(d) - 0.5 if param.loc_loss_type == Param.SMOOTH_L1 and abs(d) >= 1 else 0.5 * d * d


def class_loss(scores, targets, param):
    """The loss of a row of scores for a row of targets 0 and 1, and its derivatives."""
    if param.conf_loss_type == Param.LOGISTIC:
        losses = [math.log1p(math.exp(-abs(x))) + max(x, 0) - t * x for x, t in zip(scores, targets)]
        return sum(losses), [1 / (1 + math.exp(-x)) - t for x, t in zip(scores, targets)]
    total = sum(math.exp(x) for x in scores)
    share = [math.exp(x) / total for x in scores]
    return -math.log(share[targets.index(1)]), [s - t for s, t in zip(share, targets)]


def one_hot(labels, count):
    return [int(k in labels) for k in range(count)]


class Reference:
    """The loss and its gradients, from arrays of the shapes (N, P, L, 4), (N, P, K), (P, 4), (P, 4), (M, 8).

    loss: the two parts, summed and divided.  dx: gradients to locations and scores, for a loss weight of 1.
    """

    def __init__(self, param, loc, conf, priors, variances, truth, divisor="VALID", arm_conf=None, arm_loc=None):
        self.param, self.loc, self.conf, self.variances = param, loc, conf, variances
        self.images, self.count, self.sets, _ = loc.shape
        self.classes = conf.shape[-1]
        used = np.ones_like(variances) if param.encode_variance_in_target else variances
        self.decode = lambda code, prior, p: decoded(code, prior, used[p], param.code_type)
        self.priors = [[list(prior) for prior in priors] for _ in range(self.images)]
        if arm_loc is not None:
            for n in range(self.images):
                self.priors[n] = [self.decode(arm_loc[n, p], priors[p], p) for p in range(self.count)]
        self.objectness = None if arm_conf is None else arm_conf[..., 1]
        self.boxes = [[] for _ in range(self.images)]
        for row in truth:
            if row[0] != -1 and (param.use_difficult_gt or not row[7]):
                label = min(int(row[1]), 1) if self.classes == 2 else int(row[1])
                self.boxes[int(row[0])].append((label, list(row[3:7])))
        self.matches, self.negatives, self.dx = [], [], (np.zeros_like(loc), np.zeros_like(conf))
        for n in range(self.images):
            self._image(n)
        loss = [self._box_losses(), self._class_losses()]
        z = {"VALID": len(self.matches), "FULL": self.images * self.count, "BATCH_SIZE": self.images, "NONE": 1}
        z = max(z[divisor], 1)
        self.loss = [part / z for part in loss]
        for diff in self.dx:
            diff /= z

    def _image(self, n):
        """Append the matches (image, prior, location, label, box) and negatives (image, prior) of an image."""
        if not self.boxes[n]:
            return
        if self.param.share_location or self.param.use_prior_for_matching:
            indices, best, found = self._matched(n)
        else:
            found = [match for c in range(self.classes) for match in self._matched_of_class(n, c)]
        if self.param.mining_type != Param.NONE:
            chosen = self._mined(n, indices, best, {p: (label, box) for _, p, _, label, box in found})
            if self.param.mining_type == Param.HARD_EXAMPLE:
                found = [match for match in found if match[1] in chosen]
            self.negatives += [(n, p) for p in sorted(chosen) if indices[p] == -1]
        self.matches += found

    def _matched(self, n):
        candidates, corners, found = self.priors[n], [box for _, box in self.boxes[n]], []
        if not self.param.use_prior_for_matching:
            candidates = [self.decode(self.loc[n, p, 0], self.priors[n][p], p) for p in range(self.count)]
        indices, best = matched(candidates, corners, self.param)
        for p, g in enumerate(indices):
            if g >= 0:
                label = self.boxes[n][g][0]
                found.append((n, p, 0 if self.param.share_location else label, label, corners[g]))
        return indices, best, found

    def _matched_of_class(self, n, c):
        """The matches of the predicted boxes of a class with its true boxes."""
        corners = [box for label, box in self.boxes[n] if label == c]
        if not corners:
            return []
        candidates = [self.decode(self.loc[n, p, c], self.priors[n][p], p) for p in range(self.count)]
        indices, _ = matched(candidates, corners, self.param)
        return [(n, p, c, c, corners[g]) for p, g in enumerate(indices) if g >= 0]

    def _mined(self, n, indices, best, of_prior):
        """The priors of an image with the largest losses."""
        param, hard = self.param, self.param.mining_type == Param.HARD_EXAMPLE
        loss, positives = [], len(of_prior)
        for p in range(self.count):
            label = of_prior[p][0] if p in of_prior else param.background_label_id
            loss.append(class_loss(list(self.conf[n, p]), one_hot([label], self.classes), param)[0])
            if hard and p in of_prior:
                loss[p] += sum(box_loss(d, param) for d in self._differences(n, p, 0, of_prior[p][1]))
        eligible = [p for p in range(self.count) if hard or (indices[p] == -1 and best[p] < param.neg_overlap)]
        if self.objectness is not None:
            eligible = [p for p in eligible if self.objectness[n, p] >= param.objectness_score]
        count = param.sample_size if hard else int(np.float32(positives) * np.float32(param.neg_pos_ratio))
        eligible.sort(key=lambda p: -loss[p])
        if param.HasField("nms_param") and param.nms_param.nms_threshold > 0:
            eligible = self._apart(n, eligible)
        return set(eligible[:count])

    def _apart(self, n, order):
        nms, kept = self.param.nms_param, []
        if nms.HasField("top_k") and nms.top_k >= 0:
            order = order[: nms.top_k]
        for p in order:
            box = self.priors[n][p]
            if not self.param.use_prior_for_nms:
                box = self.decode(self.loc[n, p, 0], box, p)
            if area(box) >= 1e-5 and all(jaccard(box, other) <= nms.nms_threshold for _, other in kept):
                kept.append((p, box))
        return [p for p, _ in kept]

    def _differences(self, n, p, location, box):
        """Prediction - target of each coordinate."""
        prior, predicted = self.priors[n][p], list(self.loc[n, p, location])
        target, where = encoded(box, prior, self.variances[p], self.param.code_type), prior
        if not self.param.use_prior_for_matching:
            where = self.decode(predicted, prior, p)
        if self.param.encode_variance_in_target:
            predicted = [predicted[k] / self.variances[p][k] for k in range(4)]
        inside = [not self.param.bp_inside or 0 <= where[k] <= 1 for k in range(4)]
        return [(predicted[k] - target[k]) * inside[k] for k in range(4)]

    def _box_losses(self):
        total = 0.0
        for n, p, location, _, box in self.matches:
            differences = self._differences(n, p, location, box)
            total += sum(box_loss(d, self.param) for d in differences) * self.param.loc_weight
            smooth = self.param.loc_loss_type == Param.SMOOTH_L1
            slopes = [max(min(d, 1), -1) if smooth else d for d in differences]
            self.dx[0][n, p, location] = [slope * self.param.loc_weight for slope in slopes]
        return total

    def _class_losses(self):
        param, total, logistic = self.param, 0.0, self.param.conf_loss_type == Param.LOGISTIC
        background, labels = param.background_label_id, {}
        if param.mining_type == Param.NONE:
            every = [(n, p) for n in range(self.images) for p in range(self.count)]
            labels = {row: [] if logistic else [background] for row in every}
        for n, p, _, label, _ in self.matches:
            label = background + 1 if param.map_object_to_agnostic else label
            before = labels.get((n, p), []) if logistic else []
            labels[n, p] = [*before, label]
        labels.update({row: [background] for row in self.negatives})
        for (n, p), of_row in labels.items():
            loss, slopes = class_loss(list(self.conf[n, p]), one_hot(of_row, self.classes), param)
            total += loss
            self.dx[1][n, p] = slopes
        return total


# ---- random scenes ---------------------------------------------------------------------------------------------------


def priors_of(rng, count):
    """Boxes (count, 4), some of which leave the image, and their variances."""
    centre, size = rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], 1), rng.uniform(0.1, 0.3, (count, 4))


def truth_of(rng, images, rows, classes, background):
    """Rows of true boxes (rows, 8); about a seventh of image -1."""
    corners = priors_of(rng, rows)[0]
    labels = rng.choice([k for k in range(classes) if k != background], rows)
    image, difficult = rng.integers(-1, images, rows), rng.random(rows) < 0.2
    image[rng.random(rows) < 0.1] = -1
    return np.column_stack([image, labels, np.zeros(rows), corners, difficult])


def random_text(rng):
    """The text of a random MultiBoxLossParameter, and how many classes and locations it has."""

    def one_of(*values):
        return values[rng.integers(len(values))]

    mining = one_of("NONE", "MAX_NEGATIVE", "MAX_NEGATIVE", "HARD_EXAMPLE")
    conf, share, agnostic = one_of("SOFTMAX", "LOGISTIC"), mining != "NONE" or one_of(True, False), rng.random() < 0.15
    classes = 2 if agnostic else int(rng.integers(2, 6))
    background = 0 if agnostic else int(rng.integers(classes))
    fields = {
        "num_classes": classes, "background_label_id": background, "mining_type": mining, "conf_loss_type": conf,
        "loc_loss_type": one_of("L2", "SMOOTH_L1"), "share_location": share, "map_object_to_agnostic": agnostic,
        "match_type": one_of("BIPARTITE", "PER_PREDICTION"), "overlap_threshold": one_of(0.2, 0.35, 0.5),
        "code_type": one_of("CORNER", "CENTER_SIZE", "CORNER_SIZE"), "loc_weight": one_of(0.5, 1, 2),
        "use_prior_for_matching": rng.random() < 0.7, "use_difficult_gt": rng.random() < 0.6,
        "neg_pos_ratio": one_of(0.5, 1.7, 3), "neg_overlap": one_of(0.1, 0.3, 0.5), "sample_size": one_of(3, 8, 100),
        "encode_variance_in_target": rng.random() < 0.3, "bp_inside": rng.random() < 0.3,
        "ignore_cross_boundary_bbox": rng.random() < 0.3, "use_prior_for_nms": rng.random() < 0.5,
        "objectness_score": 0.3,
    }  # fmt: skip
    text = " ".join(
        f"{name}: {str(value).lower() if isinstance(value, bool | np.bool_) else value}"
        for name, value in fields.items()
    )
    if rng.random() < 0.4:
        top_k = one_of("", "top_k: -1", "top_k: 5", "top_k: 12", "top_k: 0")
        text += f" nms_param {{ nms_threshold: {one_of(0.2, 0.4)} {top_k} }}"
    return text, classes, 1 if share else classes
