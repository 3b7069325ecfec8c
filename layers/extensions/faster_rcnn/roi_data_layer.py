"""roi_data_layer.layer: images with annotated boxes, or with sampled regions, their labels and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.core.python_layers import replaces
from minicaffe.data.shuffle import draw_seed
from minicaffe.layers.extensions.faster_rcnn.images import prepared, stacked
from minicaffe.layers.extensions.faster_rcnn.order import ImageOrder
from minicaffe.layers.extensions.faster_rcnn.param_str import read_settings
from minicaffe.layers.extensions.faster_rcnn.roidb import Record, records_of
from minicaffe.layers.extensions.faster_rcnn.sampling import Sampling, by_class, check_fraction
from minicaffe.layers.extensions.faster_rcnn.sources import read_source
from minicaffe.layers.shared.python_part import PythonPart


@dataclass(frozen=True)
class RoIDataSettings:
    """Keys of param_str; defaults of config.py, and those of faster_rcnn_end2end.yml where there are three tops."""

    num_classes: int  #: with the background
    source: str = ""  #: a database of AnnotatedDatums, or a folder of VOC's layout; absent: a script calls `set_roidb`
    split: str = "trainval"  #: of a VOC folder: the list in ImageSets/Main
    label_map_file: str = ""  #: of a VOC folder: the classes; absent: the twenty of VOC
    use_flipped: bool = True  #: of a source: each image is read mirrored, too
    use_difficult: bool = False  #: of a source: boxes marked as difficult are objects, too
    scales: tuple[float, ...] = (600.0,)  #: length of an image's shorter side, in pixels; one is drawn for each image
    max_size: float = 1000.0  #: most length of the longer side
    pixel_means: tuple[float, ...] = (102.9801, 115.9465, 122.7717)  #: of blue, green and red
    ims_per_batch: int | None = None  #: images of a batch; absent: 1 with a proposal network, else 2
    aspect_grouping: bool = True  #: batches of two images have two wide or two high ones
    has_rpn: bool | None = None  #: whether the tops are data, im_info, gt_boxes; absent: if there are three
    batch_size: int = 128  #: without a proposal network: regions of a batch; -1: all
    fg_fraction: float = 0.25  #: of the regions: most that are objects
    fg_thresh: float = 0.5  #: least overlap of an object
    bg_thresh_hi: float = 0.5  #: the overlap of background is below this
    bg_thresh_lo: float = 0.1  #: and at least this
    bbox_thresh: float = 0.5  #: least overlap of a region that has targets
    agnostic: bool = False  #: py-R-FCN: one regression for objects of all classes
    bbox_inside_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    bbox_normalize_means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  #: of targets that the roidb does not have
    bbox_normalize_stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)


@replaces("roi_data_layer.layer", "RoIDataLayer")
class RoIDataLayer(PythonPart):
    """Reads images for training, in a random order that is another one in each pass.

    tops with a proposal network: data (1, 3, H, W); im_info (1, 3): height, width and scale of the image; gt_boxes
        (G, 5), rows (x1, y1, x2, y2, class)
    tops without: data (N, 3, H, W); regions (R, 5, 1, 1), rows (n, x1, y1, x2, y2); labels (R, 1, 1, 1); optionally
        targets, inside and outside weights, each (R, 4 num_classes, 1, 1)

    The images come from the source that param_str names, or from a script: `net.layers[0].set_roidb(roidb)`.
    param_str: see `RoIDataSettings`.  A pass leaves out no image, the original's the last one.
    """

    def setup(self, bottom, top):
        self.settings = settings = read_settings(RoIDataSettings, self.param_str, self)
        self.has_rpn = len(top) == 3 if settings.has_rpn is None else settings.has_rpn
        self.check_blobs(bottom, top, 0, (3,) if self.has_rpn else (3, 6))
        self.images = settings.ims_per_batch or (1 if self.has_rpn else 2)
        if self.has_rpn and self.images != 1 or self.images < 1 or settings.batch_size % self.images:
            raise self.error(
                f"'ims_per_batch' must be 1 with a proposal network and divide 'batch_size', got {self.images}"
            )
        if settings.num_classes < 2 or min(*settings.scales, settings.max_size) < 1 or len(settings.pixel_means) != 3:
            raise self.error("'num_classes' must be at least 2, 'scales' and 'max_size' positive, 'pixel_means' three")
        check_fraction(self, "fg_fraction", settings.fg_fraction)
        self.records: list[Record] = []
        self.order: ImageOrder | None = None
        self._start: dict | None = None  # a position to continue from, once the records are there
        if settings.source:
            self._set_records(read_source(settings))
        self._reshape_tops(top)

    def _reshape_tops(self, top):
        size = (int(max(self.settings.scales)), int(self.settings.max_size))
        top[0].reshape(self.images, 3, *size)
        for blob, shape in zip(top[1:], [(1, 3), (1, 5)] if self.has_rpn else self._region_shapes(1)):
            blob.reshape(*shape)

    def _region_shapes(self, count):
        columns = 4 * (2 if self.settings.agnostic else self.settings.num_classes)
        return [(count, each, 1, 1) for each in (5, 1, columns, columns, columns)]

    def set_roidb(self, roidb):
        """Read from these images from now on; roidb: a list of dicts, see `records_of`."""
        self._set_records(records_of(roidb))

    def _set_records(self, records: list[Record]) -> None:
        if not records:
            raise self.error("there are no images with boxes to train on")
        wide = [record.wide for record in records if record.wide is not None]
        grouped = self.settings.aspect_grouping and len(wide) == len(records)
        self.records = records
        self.order = ImageOrder(len(records), draw_seed(self.rng), wide if grouped else None)
        if self._start is not None:
            self.order.seek(self._start)
            self._start = None

    def position(self):
        return self.order.position() if self.order is not None else self._start or {}

    def seek(self, state):
        if self.order is not None:
            self.order.seek(state)
        else:
            self._start = state

    def forward(self, bottom, top):
        if self.order is None:
            raise self.error("it has no images: give 'source' in param_str, or call set_roidb(roidb) of this layer")
        records = [self.records[i] for i in self.order.take(self.images)]
        images, scales = zip(*(self._image(record) for record in records))
        data = stacked(images)
        if self.has_rpn:
            values = [data, np.array([[*data.shape[2:], scales[0]]]), self._truth(records[0], scales[0])]
        else:
            values = [data, *self._regions(records, scales)]
        for blob, value in zip(top, values):
            blob.reshape(*value.shape)
            blob.data[...] = value

    def _image(self, record: Record):
        """Return a record's image (3, h, w), prepared, and its scale."""
        which = int(self.rng.generator().integers(len(self.settings.scales)))
        return prepared(record.image(), self.settings.pixel_means, self.settings.scales[which], self.settings.max_size)

    def _truth(self, record: Record, scale: float) -> np.ndarray:
        """Return the annotated boxes (G, 5) in the scaled image, with their classes."""
        objects = record.classes > 0
        self._check_classes(record.classes, record)
        return np.concatenate([record.boxes[objects] * scale, record.classes[objects, None]], 1)

    def _regions(self, records, scales):
        """Return the sampled regions of all images, their labels, targets and weights."""
        settings, found = self.settings, []
        count = None if settings.batch_size < 0 else settings.batch_size // self.images
        sampling = Sampling(
            count, settings.fg_fraction, settings.fg_thresh, settings.bg_thresh_hi, settings.bg_thresh_lo
        )
        for n, (record, scale) in enumerate(zip(records, scales)):
            regions = record.regions(settings.bbox_thresh)
            kept, objects = sampling.draw(regions.overlaps, self.rng.generator())
            labels = regions.labels[kept].astype(np.float32)
            labels[objects:] = 0
            self._check_classes(labels, record)
            targets = regions.targets[kept]
            if not regions.normalized:
                targets = (targets - np.array(settings.bbox_normalize_means)) / np.array(settings.bbox_normalize_stds)
            classes = 2 if settings.agnostic else settings.num_classes
            columns, inside = by_class(labels, targets, classes, settings.agnostic, settings.bbox_inside_weights)
            rois = np.concatenate([np.full((len(kept), 1), n), record.boxes[kept] * scale], 1)
            found.append((rois, labels, columns, inside, inside > 0))
        values = [np.concatenate(each) for each in zip(*found)]
        return [value.reshape(shape) for value, shape in zip(values, self._region_shapes(len(values[0])))]

    def _check_classes(self, classes, record: Record) -> None:
        if classes.max(initial=0) >= self.settings.num_classes:
            raise self.error(
                f"a box of {record.name} has class {classes.max():g}, but 'num_classes' is {self.settings.num_classes}"
            )
