"""Connectionist temporal classification: the base of CtcLoss, WarpCTCLoss and CTCLoss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel, row_blocks
from minicaffe.layers.shared.ctc_labels import LabelForm, Targets, read_targets
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer


class CTC(LossLayer):
    """loss = mean over N of -log p, the probability of the labels: a sum over paths of products over their steps

    A path is a class for each step.  It gives the labels if they remain after each run of one class became one (with
    `merge`) and blanks were removed; between two equal labels there must be a blank.

    bottom 0: scores (T, N, K), of which the softmax over K is taken; the other bottoms: `form`.  top: one number.
    A sequence without such a path, with too few steps for instance, counts 0 and has no gradient.
    The gradient of the scores, of steps that count, is (softmax - share of the paths through the class) * loss weight:
    N times the derivative of the loss, as in the forks.

    Source: Graves, Fernandez, Gomez and Schmidhuber, 2006.
    """

    param_field = "ctc_loss_param"
    merge = True  #: whether a run of one class is one label
    form: LabelForm  #: where labels and lengths are, set by `setup`
    blank: int  #: class of the blank, set by `reshape`

    def blank_of(self, classes: int) -> int:
        """Return the class of the blank."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self.alpha, self.beta, self.log_sums = (Blob((), self.dtype) for _ in range(3))
        self.labels, self.counts = Blob((), self.dtype), Blob((), self.dtype)  # on the device
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        scores = bottom_shapes[0]
        if len(scores) < 3 or 0 in scores or any(length != 1 for length in scores[3:]):
            raise self.error(f"bottom 0 must be scores (T, N, K), got {scores}")
        self.form.check(self, bottom_shapes)
        if not 0 <= self.blank_of(scores[2]) < scores[2]:
            raise self.error(f"the blank must be one of the {scores[2]} classes, got {self.blank_of(scores[2])}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        steps, sequences, classes = self.view = bottom[0].shape[:3]
        self.blank = self.blank_of(classes)
        self.most_labels = self.form.most_labels(bottom)
        self.alpha.reshape(steps, sequences, 2 * self.most_labels + 1)
        self.log_sums.reshape(steps, sequences)

    # -- numpy -----------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        x = bottom[0].read_data().reshape(self.view)
        highest = x.max(2)
        self.log_sums.data[...] = highest + np.log(np.exp(x - highest[..., None]).sum(2))
        paths = self._paths(bottom)
        log_p, alpha = paths.log_p, self.alpha.data
        alpha[0] = -np.inf
        alpha[0, :, :2] = log_p[0, :, :2]
        for t in range(1, len(alpha)):
            np.add(_arriving(alpha[t - 1], paths), log_p[t], out=alpha[t])
        top[0].data[...] = self._costs(paths)[0].sum() / self.view[1]

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse(propagate_down)
        if not propagate_down[0]:
            return
        paths, alpha, scale = self._paths(bottom), self.alpha.read_data(), self.loss_weight(top)
        costs, possible = self._costs(paths)
        x, dx = bottom[0].read_data().reshape(self.view), bottom[0].diff.reshape(self.view)
        np.exp(x - self.log_sums.read_data()[..., None], out=dx)
        beta = np.full(alpha.shape[1:], -np.inf, self.dtype)  # log of what follows step t, from each place
        every = np.arange(self.view[1])
        for t in reversed(range(len(alpha))):
            if t + 1 < len(alpha):
                beta = _leaving(beta + paths.log_p[t + 1], paths)
            ends = paths.targets.steps == t + 1
            beta[ends] = np.where(paths.last, 0, -np.inf)[ends]
            share = np.exp(alpha[t] + beta + costs[:, None])
            dx[t, :, self.blank] -= share[:, ::2].sum(1)
            for i in range(1, share.shape[1], 2):
                dx[t, every, paths.classes[:, i]] -= share[:, i]
            dx[t, ~(possible & (t < paths.targets.steps))] = 0
        dx *= scale

    def _paths(self, bottom) -> Paths:
        """Return the labels with blanks between them, and the logarithms of their probabilities at each step."""
        targets = read_targets(self, bottom)
        count, longest = targets.labels.shape
        classes = np.full((count, 2 * longest + 1), self.blank)
        classes[:, 1::2] = np.where(targets.labels < 0, self.blank, targets.labels)
        skips, stays = np.zeros(classes.shape, bool), np.ones(classes.shape, bool)
        skips[:, 3::2] = targets.labels[:, 1:] != targets.labels[:, :-1] if self.merge else True
        stays[:, 1::2] = self.merge
        places = np.arange(classes.shape[1])
        ends = 2 * targets.counts[:, None]
        x = bottom[0].read_data().reshape(self.view)
        log_p = np.take_along_axis(x, classes[None], 2) - self.log_sums.read_data()[..., None]
        return Paths(targets, classes, skips, stays, (places == ends) | (places == ends - 1), log_p)

    def _costs(self, paths: Paths) -> tuple[np.ndarray, np.ndarray]:
        """Return -log p of each sequence, 0 where no path is possible, and where one is."""
        steps = np.maximum(paths.targets.steps, 1)
        last = np.where(paths.last, self.alpha.read_data()[steps - 1, np.arange(len(steps))], -np.inf)
        costs = -np.logaddexp.reduce(last, axis=1)
        possible = (costs != np.inf) & (paths.targets.steps > 0)
        return np.where(possible, costs, 0).astype(self.dtype), possible

    # -- on the device ---------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        (steps, sequences, classes), x = self.view, bottom[0].gpu_data()
        self.labels.reshape(sequences, self.most_labels)
        self.counts.reshape(2, sequences)  # of labels, of steps
        source, wrong = self.form.source_gpu(bottom), self.wrong_label_gpu(classes)
        targets = self.labels.mutable_gpu_data(), self.counts.mutable_gpu_data()
        sizes = sequences, steps, classes, self.blank, self.most_labels
        self._ctc("read_targets")(*sizes, *source, wrong, *targets)
        log_sums = self.log_sums.mutable_gpu_data()
        blocks, threads = row_blocks(steps * sequences, classes)
        self._ctc("sum_classes").launch((blocks, 1), threads, steps * sequences, classes, x, log_sums)
        terms, _ = self.terms.pointers(sequences)
        self._by_sequence("forward", x, self.alpha.mutable_gpu_data(), terms)
        self.terms.finish(sequences, sequences, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse(propagate_down)
        if not propagate_down[0]:
            return
        (steps, sequences, classes), x = self.view, bottom[0].gpu_data()
        self.beta.reshape(2, sequences, 2 * self.most_labels + 1)
        shares = self.alpha.mutable_gpu_diff()
        self._by_sequence("backward", x, steps, self.alpha.gpu_data(), self.beta.mutable_gpu_data(), shares)
        sizes, kept = (sequences, classes, self.blank, self.most_labels), (self.log_sums, self.labels)
        ends = shares, top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
        rows = steps * sequences
        self._ctc("gradient").launch((rows, 1), 128, *sizes, x, *(blob.gpu_data() for blob in kept), *ends)

    def _by_sequence(self, name: str, x: int, *arguments: int) -> None:
        """Launch a kernel with a block for each sequence."""
        threads = min(256, -(-(2 * self.most_labels + 1) // 32) * 32)
        sizes = (*self.view[1:], self.blank, self.merge, self.most_labels)
        kept = (blob.gpu_data() for blob in (self.log_sums, self.labels, self.counts))
        self._ctc(name).launch((self.view[1], 1), threads, *sizes, x, *kept, *arguments)

    def _ctc(self, name: str):
        return kernel("ctc", name, self.dtype)

    def _refuse(self, propagate_down) -> None:
        for i, what in self.form.names():
            self.refuse_gradient(propagate_down, i, what)


class Paths(NamedTuple):
    """The places of all paths: the labels with a blank before, between and behind them.

    classes: (N, S), S = 2 L + 1, that of each place.  skips: which places follow the one before the last; stays: which
    follow themselves; last: at which a path may end.  log_p: (T, N, S), of the class of the place at each step.
    """

    targets: Targets
    classes: np.ndarray
    skips: np.ndarray
    stays: np.ndarray
    last: np.ndarray
    log_p: np.ndarray


def _arriving(before: np.ndarray, paths: Paths) -> np.ndarray:
    """Return, for logarithms (N, S) of sums over the paths to each place, those one step later."""
    total = np.where(paths.stays, before, -np.inf)
    total[:, 1:] = np.logaddexp(total[:, 1:], before[:, :-1])
    total[:, 2:] = np.logaddexp(total[:, 2:], np.where(paths.skips[:, 2:], before[:, :-2], -np.inf))
    return total


def _leaving(behind: np.ndarray, paths: Paths) -> np.ndarray:
    """Return, for logarithms (N, S) of sums over the paths from each place, those one step before."""
    total = np.where(paths.stays, behind, -np.inf)
    total[:, :-1] = np.logaddexp(total[:, :-1], behind[:, 1:])
    total[:, :-2] = np.logaddexp(total[:, :-2], np.where(paths.skips[:, 2:], behind[:, 2:], -np.inf))
    return total
