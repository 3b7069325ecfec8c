"""RegionLoss: which boxes learn from true boxes, and by what steps."""

from math import exp, log

import numpy as np
import pytest

from helpers.yolo import as_rows, box_of, logistic, overlap, true_boxes
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer

ANCHORS = [(0.9, 1.2), (1.4, 0.8), (2.5, 2.0)]
BIASES = " ".join(f"biases: {side}" for anchor in ANCHORS for side in anchor)
SCALES = "object_scale: 3 noobject_scale: 0.7 class_scale: 2 coord_scale: 1.5 thresh: 0.4"
MAP = (3, 30, 4, 5)
TREE = "thing -1\nplace -1\ncat 0\ndog 0\nhome 1\n"
PARENTS = [-1, -1, 0, 0, 1]


def region(text="", classes=5):
    fields = f"num_class: {classes} num: 3 {SCALES} {BIASES} {text}"
    return f"type: 'RegionLoss' loss_weight: 0.5 region_loss_param {{ {fields} }}"


def boxes(rng, shape):
    return true_boxes(rng, 3, shape[2] - 1, 5)


def rows(rng, shape):
    return as_rows(true_boxes(rng, 3, 20, 5))[:, :, : shape[2]]


class TestProperties(LayerProperties):
    cases = [
        Case(region(), [MAP, (3, 1, 7, 5)], [normal, boxes], gradient=()),
        Case(region("bias_match: 0 rescore: 0"), [MAP, (3, 1, 7, 5)], [normal, boxes], gradient=()),
        Case(region(), [MAP, (1, 1, 6, 8)], [normal, rows], gradient=()),
    ]


class Expected:
    """The steps of a batch, number by number."""

    def __init__(self, x, labels, match=True, rescore=True, of_9000=False, tree=False):
        self.x, self.steps = x, np.zeros_like(x)
        self.match, self.rescore, self.of_9000, self.tree = match, rescore, of_9000, tree
        for n, own in enumerate(labels[:, 0]):
            true = [row for row in own.tolist() if row[3]]
            for k, j, i in np.ndindex(3, *x.shape[2:]):
                best = max([overlap(self.box(n, k, j, i), row[1:]) for row in true], default=0)
                p = logistic(x[n, 10 * k + 4, j, i])
                self.steps[n, 10 * k + 4, j, i] = 0 if best > 0.4 else 0.7 * p * p * (1 - p)
            for row in true:
                self.learn(n, *row)

    def box(self, n, k, j, i):
        height, width = self.x.shape[2:]
        size = ANCHORS[k][0] / width, ANCHORS[k][1] / height
        return box_of(self.x[n, 10 * k : 10 * k + 4, j, i], i, j, width, height, size)

    def learn(self, n, label, x, y, width, height):
        rows, columns = self.x.shape[2:]
        label, i, j = int(label), int(x * columns), int(y * rows)
        shapes = [self.box(n, k, j, i)[2:] for k in range(3)]
        if self.match:
            shapes = [(a / columns, b / rows) for a, b in ANCHORS]
        k = int(np.argmax([overlap([0, 0, *shape], [0, 0, width, height]) for shape in shapes]))
        code, steps = self.x[n, 10 * k : 10 * k + 10, j, i], self.steps[n, 10 * k : 10 * k + 10, j, i]
        scale = 1.5 if self.rescore or self.of_9000 else 1.5 * (2 - width * height)
        for c, place in enumerate((x * columns - i, y * rows - j)):
            s = logistic(code[c])
            steps[c] = scale * (s - place) * s * (1 - s)
        for c, length in ((2, width * columns), (3, height * rows)):
            d = code[c] - log(length / ANCHORS[k][c - 2])
            steps[c] = scale * (min(max(d, -1), 1) if self.of_9000 else d)
        p = logistic(code[4])
        target = overlap(self.box(n, k, j, i), (x, y, width, height)) if self.rescore else 1
        steps[4] = (-6 * (1 - p) ** 3 if self.of_9000 else 3 * (p - target)) * p * (1 - p)
        while label >= 0:
            group = [c for c in range(5) if not self.tree or PARENTS[c] == PARENTS[label]]
            for c in group:
                steps[5 + c] = 2 * (exp(code[5 + c]) / sum(exp(code[5 + each]) for each in group) - (c == label))
            label = PARENTS[label] if self.tree else -1


def both(text, labels):
    """The printed loss, and the gradient for a loss weight of 0.7."""
    x = np.random.default_rng(4).standard_normal(MAP)
    layer, bottom, top = run_layer(text, x, labels, dtype=np.float32)
    loss = float(top[0].read_data())
    top[0].diff[...] = 0.7
    layer.backward(top, [True, False], bottom)
    return x.astype(np.float32).astype(float), loss, bottom[0].read_diff().copy()


def crowded():
    labels = true_boxes(np.random.default_rng(1), 3, 9, 5)
    labels[0, 0, 1] = labels[0, 0, 0]  # two boxes at one place
    labels[0, 0, 0, 0], labels[0, 0, 1, 0] = 0, 4
    return labels.astype(np.float32).astype(float)


@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize("rescore", [True, False])
def test_steps_and_loss(engine, match, rescore):
    x, loss, gradient = both(region(f"bias_match: {match:d} rescore: {rescore:d}"), crowded())
    expected = Expected(x, crowded(), match, rescore).steps
    assert_close(loss, (expected**2).sum() / 3, rtol=1e-5)
    assert_close(gradient, 0.7 * expected / 3)


def test_the_loss_of_yolo_9000(engine):
    x, loss, gradient = both(region(), as_rows(crowded()))
    expected = Expected(x, crowded(), of_9000=True).steps
    assert_close(loss, (expected**2).sum(), rtol=1e-5)
    assert_close(gradient, 0.7 * expected / 3)


@pytest.fixture
def files(tmp_path):
    def write(tree=TREE, numbers="4\n2\n"):
        (tmp_path / "classes.tree").write_text(tree)
        (tmp_path / "labels.map").write_text(numbers)
        return f"softmax_tree: '{tmp_path}/classes.tree'", f"class_map: '{tmp_path}/labels.map'"

    return write


def test_a_tree_of_classes(engine, files):
    labels = crowded()
    x, loss, gradient = both(region(files()[0]), labels)
    expected = Expected(x, labels, tree=True).steps
    assert_close(loss, (expected**2).sum() / 3, rtol=1e-5)
    assert_close(gradient, 0.7 * expected / 3)
    for one, other in zip(both(region(files()[0]), as_rows(labels) - np.eye(8)[1]), rows_of_a_tree(x, labels)):
        assert_close(one, other)


def rows_of_a_tree(x, labels):
    """What `both` returns with the rows of YOLO9000 and the tree, where label 0 is class 0."""
    expected = Expected(x, labels, of_9000=True, tree=True).steps
    return x, (expected**2).sum(), 0.7 * expected / 3


def test_labels_that_are_mapped_to_classes(engine, files):
    labels = crowded()
    labels[..., 0] %= 2
    mapped = labels.copy()
    mapped[..., 0] = np.where(labels[..., 0] == 0, 4, 2)
    for a, b in zip(both(region(files()[1]), labels), both(region(), mapped)):
        assert_close(a, b)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("coords: 5", "coords must be 4 and num at least 1, got 5 and 3"),
        ("softmax_tree: 'missing'", "cannot read softmax_tree missing: No such file"),
        ("class_map: 'missing'", "cannot read class_map missing: No such file"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^RegionLoss layer 'layer': {words}"):
        run_layer(region(text), np.zeros(MAP), np.zeros((3, 1, 1, 5)))


@pytest.mark.parametrize(
    ("which", "text", "words"),
    [
        (0, "a -1\nb -1\n", "must have 5 lines .* got 2 lines"),
        (0, "a -1\nb 1\nc 0\nd 0\ne 0\n", "got a parent 1 in line 2"),
        (0, "a x\n", "must have a whole number at the end of each line"),
        (1, "0\n5\n", r"must give classes 0 to 4, got \[5\]"),
        (1, "", "must give classes 0 to 4, got none"),
    ],
)
def test_errors_of_files(files, which, text, words):
    field = files(text, text)[which]
    with pytest.raises(LayerError, match=f"^RegionLoss layer 'layer': .*{words}"):
        run_layer(region(field), np.zeros(MAP), np.zeros((3, 1, 1, 5)))


def test_a_label_that_does_not_exist(engine):
    labels = as_rows(crowded())
    labels[0, 0, 0, 1] = 0
    with pytest.raises(LayerError, match="label -1 is out of range: there are 5 classes"):
        layer, _, top = run_layer(region(), np.zeros(MAP), labels, dtype=np.float32)
        layer.loss(top)
