"""Scores, codes and labels of images with several boxes at each place: DetectionGroupLoss, DetectionGroupAccuracy."""

from helpers.map_truth import CLASSES, RATE, map_scene

FIELDS = [(12, 16), (20, 10)]
TEXT = "field_w: 12 field_h: 16 field_w: 20 field_h: 10 " + f"stride: {RATE}"
SHAPES = [(4, CLASSES, 4, 5), (4, 4, 4, 5), (4, 6, 4, 5)]


def scene(classes=CLASSES):
    """Scores, codes and labels of two images with two boxes at each place."""
    x, labels = map_scene(count=4)
    return x[:, :classes], x[:, -4:], labels


VALUES = [lambda rng, shape, i=i: scene()[i] for i in range(3)]
