"""`minicaffe show --samples`: what a net reads from its data layers, as a sheet of pictures with labels."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.cli.classify import computing
from minicaffe.cli.command import print_line
from minicaffe.cli.shared_flags import need_file, need_picture, stages
from minicaffe.core import random
from minicaffe.core.net import Net
from minicaffe.core.passes import filter_net
from minicaffe.data.box_rows import COLUMNS
from minicaffe.data.label_map import read_names_of_labels
from minicaffe.errors import DataError, UsageError
from minicaffe.pictures.plot import save
from minicaffe.pictures.sheet import Frame, Range, Tile, channel_table, draw_sheet, group_color
from minicaffe.pictures.summary import format_table
from minicaffe.proto import TEST, TRAIN, caffe_pb2, read_net
from minicaffe.solvers.nets import SolverNets, is_solver, load
from minicaffe.text import printable_line

_FRAMES = 4  # of a clip
_LARGEST_CLASS = 255  # of a label map: that of a gray picture
_WIDTH_OF_CLIPS = 4.0
_WIDTH_WITH_BOXES, _WIDTH_WITH_MAPS = 1.8, 2.5  # of a picture with boxes, and of one beside its label map, in inches


def show_samples(args: argparse.Namespace, output: str | None) -> None:
    """Draw the first pictures of the data layer of a net, or of a solver's net, and print their statistics.

    Only the layers without bottoms are built and run.  In TRAIN with the solver's random_seed, crops and flips are
    those of the first iterations of a training, if the data layers are the first layers of the net.

    args: `samples`, the prototxt; `phase`; `count`; `labels`; `rgb`; `level` and `stage`.
    output: the picture to write; None: the prototxt's name with "_samples.png" in place of its ending.
    UsageError when no layer without bottoms gives pictures (N, C, H, W) or clips (N, C, L, H, W), and for a solver
    without a test net in TEST.
    """
    if args.count < 1:
        raise UsageError(f"--count: expected a number above 0, got {args.count}")
    output = need_picture(output or f"{os.path.splitext(args.samples)[0]}_samples.png")
    names = read_names_of_labels(args.labels).display_names if args.labels else {}
    with computing(args):
        param, seed = _net_param(args)
        with contextlib.nullcontext() if seed is None else random.seeded(seed):
            net = Net.of_upgraded(_sources(param))
        samples = _first(net, args.count, args.phase)
    bgr = not args.rgb
    rows = channel_table(samples.pictures, bgr)
    shape = "×".join(map(str, samples.pictures.shape[1:]))
    title = f"{args.samples}, {args.phase}: {len(samples.pictures)} pictures {shape}"
    lines = [f"top '{samples.top}' of layer '{samples.layer}', as the net gets it: {samples.transform}"]
    if samples.pictures.shape[1] == 3:
        order = "BGR, as of an image database; --rgb for a net of RGB records, such as those of CIFAR-10"
        lines.append(f"channels {order if bgr else 'RGB'}")
    print_line("\n".join([title, *lines, format_table(rows, 40)]))
    shown = Range.of(samples.pictures)
    lines += [f"{row[0]}: {row[1]} to {row[2]}, mean {row[3]}, std {row[4]}  {row[5]}".rstrip() for row in rows[1:9]]
    tiles = [_tile(picture, label, names, shown, bgr) for picture, label in zip(samples.pictures, samples.labels)]
    more = [_WIDTH_WITH_BOXES] if any(tile.frames for tile in tiles) else []
    more = [_WIDTH_OF_CLIPS] if samples.pictures.shape[3] >= _FRAMES * samples.pictures.shape[2] else more
    more = [_WIDTH_WITH_MAPS] if tiles[0].picture.shape != samples.pictures[0].shape else more
    save(draw_sheet(tiles, title, [*lines, shown.note], shown, bgr, *more), output)
    print_line(f"Drew the samples to {output}")


class _Samples(NamedTuple):
    """Pictures (N, C, H, W), their labels (None: the layer has none), and the words for where they come from.

    A label of AnnotatedData is the rows of a picture's boxes, (M, 8); that of a layer with label maps, a map (H, W).
    """

    pictures: np.ndarray
    labels: list[float | np.ndarray | None]
    layer: str
    top: str
    transform: str


def _net_param(args: argparse.Namespace) -> tuple[Any, int | None]:
    """Return the NetParameter of a net or a solver, with its state set, and the seed of a training, if there is one."""
    need_file(args.samples, "--samples", "the prototxt of a solver or a net")
    phase = caffe_pb2.Phase.Value(args.phase)
    if not is_solver(args.samples):
        param, seed = read_net(args.samples), None
        param.state.phase = phase
        param.state.level = args.level
    else:
        source = load(args.samples)
        nets, seed = SolverNets(source), source.param.random_seed if phase == TRAIN else -1
        if phase == TEST and not nets.tests:
            raise UsageError(f"--phase TEST: the solver {args.samples} has no test net")
        param = nets.train if phase == TRAIN else nets.tests[0]
    param.state.stage.extend(stages(args) if args.stage else [])
    return param, seed if seed is not None and seed >= 0 else None


def _sources(param) -> Any:
    """Return the net with only the layers that read no blob and are not filled by a script."""
    net = filter_net(param)
    layers = [layer for layer in net.layer if not layer.bottom and layer.type not in ("Input", "Parameter")]
    del net.layer[:]
    net.layer.extend(layers)
    return net


def _first(net: Net, count: int, phase: str) -> _Samples:
    """Return the first `count` samples of the first layer whose first top is pictures."""
    found = [i for i, tops in enumerate(net.tops) if tops and len(tops[0].shape) in (4, 5)]
    if not found:
        raise UsageError(f"--samples: in {phase} no data layer of the net gives pictures (N, C, H, W) or clips")
    index = found[0]
    samples = list(itertools.islice(_samples_of(net, index), count))
    same = [picture.shape == samples[0][0].shape for picture, _ in samples]
    if not all(same):
        raise DataError(f"--samples: picture {same.index(False)} has another shape than the first one: expected "
                        f"{samples[0][0].shape}, got {samples[same.index(False)][0].shape}; --count "
                        f"{same.index(False)} shows those before")  # fmt: skip
    pictures, labels = zip(*samples)
    clip, words = net.tops[index][0].shape[2:-2], _transform(net.layers[index])
    words = f"{min(clip[0], _FRAMES)} of {clip[0]} frames of each clip, {words}" if clip else words
    return _Samples(np.stack(pictures), list(labels), printable_line(net.layer_names[index]),
                    printable_line(net.names_of_tops[index][0]), words)  # fmt: skip


def _samples_of(net: Net, index: int) -> Iterator[tuple[np.ndarray, float | np.ndarray | None]]:
    """Yield the pictures and labels of a layer, batch after batch."""
    while True:
        net.run_forward()
        pictures, *others = net.tops[index]
        values = pictures.read_data().copy()
        values = values if values.ndim == 4 else _frames(values)
        yield from zip(values, _labels(others[0].read_data(), values.shape) if others else [None] * len(values))


def _frames(clips: np.ndarray) -> np.ndarray:
    """Return frames of clips (N, C, L, H, W) side by side as pictures: the first one, the last one, some between."""
    length = clips.shape[2]
    places = np.linspace(0, length - 1, min(length, _FRAMES)).astype(int)
    return np.concatenate([clips[:, :, place] for place in places], axis=3)


def _labels(values: np.ndarray, shape: tuple[int, ...]) -> Sequence[float | np.ndarray | None]:
    """Return the label of each of some pictures (N, C, H, W): a number, the rows of its boxes, its map, or None."""
    count = shape[0]
    if values.shape == (count, 1, *shape[2:]) and values.size > count:
        classes = np.all((values == np.round(values)) & (values >= 0) & (values <= _LARGEST_CLASS))
        return list(values[:, 0].copy()) if classes else [None] * count
    if values.ndim == 4 and values.shape[3] == 1 + COLUMNS and values.shape[:2] == (1, 1):
        return [values[0, 0][values[0, 0, :, 0] == i].copy() for i in range(count)]
    return values.ravel().tolist() if values.size == count else [None] * count


def _transform(layer) -> str:
    """Describe the transformation of a layer in the words of its transform_param."""
    transformer = getattr(layer, "transformer", None)
    if transformer is None:
        return "the layer has no transform_param"
    (height, width), mean, scale = transformer.crop, transformer.mean_in_words(), transformer.scale
    steps, resizer = list(transformer.augmentations), transformer.resizer
    steps += [f"resize {resizer.param.height}×{resizer.param.width}"] if resizer is not None else []
    steps += ["noise"] if transformer.noise is not None else []
    steps += [f"crop {height}×{width}"] if height or width else []
    steps += ["mirror"] if transformer.mirror else []
    steps += [mean] if mean else []
    steps += [f"times {scale:g}"] if scale != 1 else []
    return printable_line(", ".join(steps) or "its values as they are stored")


def _tile(
    picture: np.ndarray, label: float | np.ndarray | None, names: dict[int, str], shown: Range, bgr: bool
) -> Tile:
    if not isinstance(label, np.ndarray):
        return Tile(picture, [_label(names, label)])
    if label.shape == picture.shape[1:]:
        classes = [printable_line(names.get(int(each), f"{each:g}")) for each in np.unique(label) if each]
        return Tile(_beside(picture, label, shown, bgr), [", ".join(classes)])
    frames = []
    for _, group, _, xmin, ymin, xmax, ymax, difficult in label.tolist():
        line = ":" if difficult else "-"
        frames.append(Frame(xmin, ymin, xmax, ymax, int(group), names.get(int(group), f"{group:g}"), line))
    return Tile(picture, [f"{len(frames)} box{'es' * (len(frames) != 1)}"], frames)


def _beside(picture: np.ndarray, labels: np.ndarray, shown: Range, bgr: bool) -> np.ndarray:
    """Return a picture with its label map to the right: the label 0 black, each other one in a colour of its own.

    A picture of one channel has gray levels in place of colours; one of two, or of more than three, has no map.
    """
    if len(picture) not in (1, 3):
        return picture
    classes, places = np.unique(labels, return_inverse=True)
    if len(picture) == 3:
        colours = np.array([group_color(int(each)) if each else (0, 0, 0) for each in classes])
        colours = colours[:, ::-1] if bgr else colours
    else:
        colours = np.array([[1 - 0.31 * (each - 1) % 0.8 if each else 0] for each in classes])
    coloured = colours[places.reshape(labels.shape)].transpose(2, 0, 1)
    return np.concatenate([picture, shown.low + (shown.high - shown.low) * coloured], axis=2).astype(picture.dtype)


def _label(names: dict[int, str], label: float | None) -> str:
    """Return the caption of a label: its class name, or the number where there is none."""
    if label is None:
        return ""
    name = names.get(int(label)) if label == int(label) else None
    return f"{label:g}" if name is None else f"{int(label)} {printable_line(name)}"
