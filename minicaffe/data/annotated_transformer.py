"""The transformation of images with annotated boxes: what SSD's training does to them, boxes carried along.

In the fork's order: distort, expand, sample a part; then as for other images: resize, crop, mirror, mean and scale.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np

from minicaffe.data.box_rows import COLUMNS, corners_of, label_rows, mirrored, projected, with_boxes
from minicaffe.data.choice import Choice
from minicaffe.data.distort import Distorter, Distortion
from minicaffe.data.part import Expander, Part
from minicaffe.data.sampling import part_sampler
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Draws, Images, Labels, Name, stacked
from minicaffe.data.workers import Each, in_turn
from minicaffe.data.yolo_labels import YoloLabels
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import AnnotatedDataParameter

Rows = list[np.ndarray]  # of each image, see box_rows.py


class _Plan(NamedTuple):
    """What happens to an image before it is resized."""

    distortion: Distortion | None
    part: Part | None  #: which is cut out, or filled around the image; None: the image stays as it is


class AnnotatedTransformer(BatchTransformer):
    """The transformation of an AnnotatedData layer.

    param: its transform_param.  annotated: its annotated_data_param.  train, rng, and errors: as for
        `BatchTransformer`.
    """

    not_applied = ()
    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, annotated: AnnotatedDataParameter, train: bool, rng: Stream) -> None:
        super().__init__(param, train, rng)
        moves = any(resizer.moves_objects for resizer in self._resizers.policies) if self._resizers else False
        if moves or any((self.random_size, self._pad, self._turns)):
            raise DataError(
                "transform_param: boxes do not follow center_object, max_angle, vertical_mirror, random_90_deg_rot, "
                "pad and random sizes; remove them"
            )
        self._view, self.geometry = self.geometry, None  # which comes first here
        self._distorter = Distorter(param.distort_param) if param.HasField("distort_param") else None
        self._expander = Expander(param.expand_param) if param.HasField("expand_param") else None
        self._samplers = part_sampler(annotated, self.resizer)
        self._yolo = YoloLabels(annotated) if annotated.yolo_data_type == 1 else None
        steps = {"distort": self._distorter, "expand": self._expander, "sample a part": self._samplers}
        self.augmentations = tuple(name for name, step in steps.items() if step is not None)
        self._emit = param.emit_constraint if param.HasField("emit_constraint") else None

    def _of_batch(self) -> AnnotatedTransformer:
        """Return the transformation of one batch: with one of the resizings, drawn, if there are several."""
        if self._resizers is None or len(self._resizers.policies) == 1:
            return self
        other = copy.copy(self)
        other.resizer = self._resizers.draw(self.rng)
        other._resizers = Choice([other.resizer], [1], "resize_param")
        return other

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the transformed batch, (N, C, H', W') in `dtype`, and its labels.

        labels: the boxes of each image, or numbers (N,).  The result is (1, 1, M, 8) of M boxes, (N, 1, 300, 5) with
            yolo_data_type 1, or (N, 1, 1, 1).
        DataError as for `transform`.
        """
        one = self._of_batch()
        if one is not self:
            return one.apply(images, labels, dtype, each, name)
        rows = [np.empty((0, COLUMNS), np.float32)] * len(images) if isinstance(labels, np.ndarray) else list(labels)
        if self._view is not None:
            images, rows = self._view.views(self.rng, list(images), rows, each)
        if self._distorter or self._expander or self._samplers:
            images, rows = self._augmented(images, rows, each, name)
        out = np.empty((len(images), *self.output_shape(images[0].shape)), dtype)
        draws = self.transform(images, out, each, name)
        if isinstance(labels, np.ndarray):
            return out, labels.reshape(-1, 1, 1, 1)
        carried = [self._carried(i, own, images[i].shape, draws) for i, own in enumerate(rows)]
        return out, self._yolo(carried) if self._yolo else label_rows(carried)

    def _augmented(self, images: Images, rows: Rows, each: Each, name: Name) -> tuple[Images, Rows]:
        """Return images and rows after distortion, expansion and sampling; everything random is drawn first."""
        plans, result = [], list(images)
        for i, image in enumerate(images):
            self._check(image, name(i))
            plan, rows[i] = self._drawn(image.shape, rows[i])
            plans.append(plan)

        def change(i: int) -> None:
            result[i] = self._changed(images[i], plans[i])

        each(change, len(result))
        return stacked(result), rows

    def _check(self, image: np.ndarray, name: str) -> None:
        """Raise DataError unless the image can be distorted, and expanded with the mean."""
        if self._distorter and image.dtype != np.uint8:
            raise DataError(f"{name} must hold bytes for distort_param, but holds floats")
        if self.mean is not None:  # of any height and width
            self.check_mean((len(image), *self.mean.shape[1:]), lambda _: name)

    def _drawn(self, shape: tuple[int, ...], rows: np.ndarray) -> tuple[_Plan, np.ndarray]:
        """Draw what happens to an image (C, H, W); return it, and the rows after it."""
        generator, (_, height, width) = self.rng.generator(), shape
        distortion = self._distorter.draw(generator) if self._distorter else None
        whole = part = Part(0, 0, height, width)
        if self._expander:
            part = self._expander.draw(generator, height, width)
            if part != whole:
                rows = projected(rows, part.region(height, width), self._emit)
        region = self._samplers.draw(generator, corners_of(rows)) if self._samplers else None
        if region is not None:
            part, rows = part.inner(region), projected(rows, region, self._emit)
        return _Plan(distortion, None if part == whole else part), rows

    def _changed(self, image: np.ndarray, plan: _Plan) -> np.ndarray:
        """Return the distorted part of an image; only what is left of the image is distorted, and copied once."""
        distort = plan.distortion or (lambda pixels: pixels)
        if plan.part is None:
            return distort(image)
        seen = plan.part.within(*image.shape[1:])
        pixels = distort(seen.of(image))
        if (seen.height, seen.width) == (plan.part.height, plan.part.width):
            return pixels
        canvas = np.empty((len(image), plan.part.height, plan.part.width), image.dtype)
        canvas[...] = self._fill(image)
        seen._replace(top=seen.top - plan.part.top, left=seen.left - plan.part.left).of(canvas)[...] = pixels
        return canvas

    def _fill(self, image: np.ndarray) -> np.ndarray:
        """Return the values around an expanded image, (C or 1, 1, 1): the mean of each channel, or 0."""
        if self.mean is None:
            return np.zeros((1, 1, 1), image.dtype)
        mean = self.mean.mean((1, 2), keepdims=True)
        return np.rint(mean).clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else mean

    def _carried(self, index: int, rows: np.ndarray, shape: tuple[int, ...], draws: Draws) -> np.ndarray:
        """Return the rows of image `index` after resizing, crop and flip; shape: (C, H, W) of it before."""
        (_, old_h, old_w), (_, height, width) = shape, self.resized_shape(shape)
        if self.resizer is not None:
            rows = with_boxes(rows, self.resizer.boxes(corners_of(rows), old_h, old_w))
        crop = Part(int(draws.top[index]), int(draws.left[index]), self.crop[0] or height, self.crop[1] or width)
        region = crop.region(height, width)
        rows = projected(rows, region, self._emit)
        if draws.flip[index]:
            rows = mirrored(rows)
        if self.resizer is not None:
            rows = with_boxes(rows, self.resizer.extrapolate(corners_of(rows), old_h, old_w, np.array(region)))
        return rows
