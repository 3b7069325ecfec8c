"""The base of RNN, LSTM and Lstm: sequences, states, backpropagation through time.

The original unrolls a net of a dozen small layers per step.  Here the inputs of all steps are multiplied by one matrix
product; a step adds the product with the previous state and calls the subclass.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.layers.shared.recurrent_gpu import RecurrentOnDevice
from minicaffe.saved import arrays


class Recurrent(RecurrentOnDevice):
    """z_t = W_x x_t + b + W_s s + W_h (cont_t h_{t-1}); the subclass computes states and output from z_t.

    bottom 0: x (T, N, ...), T steps of N sequences; bottom 1: cont (T, N), 0 where a sequence begins, else 1
    bottom 2, optional: s (N, ...), a constant input of every step
    bottoms with expose_hidden: behind these, the states before the first step, each (1, N, H); without it a pass begins
        with the states after the last step of the previous forward pass (zero at first), which get no gradient
    top 0: (T, N, H); tops with expose_hidden: behind it, the states after the last step, each (1, N, H)
    blobs: W_x (G, I), b (G), W_s (G, S) if there is s, W_h (G, H), with G = gates * H; then those of the subclass

    recurrent_param: num_output H, weight_filler and bias_filler constant 0, expose_hidden false, debug_info (no
        effect: there are no inner blobs to log).
    """

    family = "weights"
    param_field = "recurrent_param"
    repeatable = False  # a pass begins with the states at which the one before ended
    no_gradient: tuple[int, ...] = (1,)
    in_place = False

    gates = 1  #: numbers of z for each of the H
    states = 1  #: number of states; the first is h
    w_x, bias = 0, 1  #: places of W_x and b among the blobs
    carries = True  #: whether a pass without expose_hidden begins with the states of the one before

    @staticmethod
    def describe(layer_param):
        return str(layer_param.recurrent_param.num_output)

    @property
    def min_bottom(self):  # type: ignore[override]  # nothing sets it
        return 2 + self._exposed

    @property
    def max_bottom(self):  # type: ignore[override]  # nothing sets it
        return 3 + self._exposed

    @property
    def exact_num_top(self):  # type: ignore[override]  # nothing sets it
        return 1 + self._exposed

    @property
    def _exposed(self) -> int:
        return self.states if self.layer_param.recurrent_param.expose_hidden else 0

    @property
    def w_h(self) -> int:
        """The place of W_h among the blobs."""
        return 2 + self.static

    def setup(self, bottom, top):
        self.size, self.expose = getattr(self.layer_param, self.param_field).num_output, self._exposed > 0
        if self.size < 1:
            raise self.error("num_output must be at least 1")
        self.static = len(bottom) > 2 + self._exposed
        self.inputs = math.prod(bottom[0].shape[2:])
        self.static_inputs = math.prod(bottom[2].shape[1:]) if self.static else 0
        self.z = Blob((), self.dtype)  # (T, N, G)
        self.masked, self.dh, self.fixed = (Blob((), self.dtype) for _ in range(3))
        self.state_diffs = [Blob((), self.dtype) for _ in range(self.states)]
        self.carried = [Blob((), self.dtype) for _ in range(self.states)]  # each (T + 1, N, H)

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.recurrent_param
        width = self.gates * self.size
        weights = [(width, self.inputs)] + [(width, self.static_inputs)] * self.static + [(width, self.size)]
        shapes = [(shape, param.weight_filler) for shape in weights]
        return [shapes[0], ((width,), param.bias_filler), *shapes[1:]]

    def top_shapes(self, bottom_shapes):
        x, cont, *others = bottom_shapes
        if len(x) < 2 or math.prod(x[2:]) != self.inputs:
            raise self.error(f"bottom 0 must be (T, N, ...) with {self.inputs} inputs for each step, got {x}")
        if cont != x[:2]:
            raise self.error(f"bottom 1 must mark T x N beginnings {x[:2]}, got {cont}")
        if self.static and (others[0][:1] != x[1:2] or math.prod(others[0][1:]) != self.static_inputs):
            raise self.error(
                f"bottom 2 must be (N, ...) = ({x[1]}, ...) with {self.static_inputs} inputs, got {others[0]}"
            )
        state = (1, x[1], self.size)
        for i, shape in enumerate(others[self.static :], 2 + self.static):
            if shape != state:
                raise self.error(f"bottom {i} must be a state of shape {state}, got {shape}")
        return [(*x[:2], self.size), *[state] * self._exposed]

    def macs(self, bottom_shapes, top_shapes):
        """W_x and W_h multiply in each step, W_s once for each sequence; the gates are elementwise work."""
        steps, sequences, _ = top_shapes[0]
        per_step = steps * (self.inputs + self.size)
        return sequences * self.gates * self.size * (per_step + self.static_inputs)

    def sequences_of(self, shape) -> tuple[int, int]:
        """Return T and N of the shape of bottom 0."""
        return shape[:2]

    def continuation(self, bottom) -> Blob:
        """Return the blob that is 0 where a sequence begins, T x N numbers."""
        return bottom[1]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        steps, sequences = self.sequences_of(bottom[0].shape)
        self.z.reshape(steps, sequences, self.gates * self.size)
        for i, blob in enumerate(self.carried):
            if blob.shape != (steps + 1, sequences, self.size):
                self.carried[i] = Blob((steps + 1, sequences, self.size), self.dtype)

    def reset(self) -> None:
        """Set the states to zero."""
        for blob in self.carried:
            blob.data = 0

    def state(self):
        return {**super().state(), "states": [blob.read_data()[-1].tolist() for blob in self.carried]}

    def load_state(self, state):
        super().load_state(state)
        states = arrays(state, "states", [blob.shape[1:] for blob in self.carried])
        for blob, values in zip(self.carried, states):
            blob.data[-1] = values

    # -- one step, given by the subclass; arrays hold all steps ----------------------------------------------------

    def step(self, t: int, z: np.ndarray, cont: np.ndarray, states: list[np.ndarray]) -> None:
        """Compute states[.][t + 1] from z[t], cont[t], states[.][t]; z[t] may be overwritten for backward."""
        raise NotImplementedError

    def step_gradient(self, t, z, cont, states, diffs) -> None:
        """Overwrite z[t] with its diff, `diffs` of the states after step t with those before it (h: without W_h)."""
        raise NotImplementedError

    def output(self, h: np.ndarray, y: np.ndarray) -> None:
        """Compute the top (T, N, H) from the states h_1 ... h_T."""
        y[...] = h

    def output_gradient(self, h: np.ndarray, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Return the diff of h_1 ... h_T from that of the top; add to the diffs of the subclass's blobs."""
        return dy

    # -- numpy -----------------------------------------------------------------------------------------------------

    def times(self, x: np.ndarray, index: int, y: np.ndarray, add: bool = False) -> None:
        """y = x W^T, or y += x W^T with `add`, for the blob W of this index; x (M, I), y (M, O)."""
        w = self.blobs[index].read_data().T
        if add:
            y += x @ w
        else:
            np.matmul(x, w, out=y)

    def times_transposed(self, dy: np.ndarray, index: int, dx: np.ndarray) -> None:
        """dx = dy W, the gradient of `times`."""
        np.matmul(dy, self.blobs[index].read_data(), out=dx)

    def forward_cpu(self, bottom, top):
        steps, sequences = self.z.shape[:2]
        cont = self.continuation(bottom).read_data().reshape(steps, sequences, 1)
        z, states = self.z.data, [blob.data for blob in self.carried]
        for i, state in enumerate(states):
            if self.expose:
                state[0] = bottom[2 + self.static + i].read_data()[0]
            else:
                state[0] = state[-1] if self.carries else 0
        rows = z.reshape(steps * sequences, z.shape[-1])
        self.times(bottom[0].read_data().reshape(len(rows), self.inputs), self.w_x, rows)
        rows += self.blobs[self.bias].read_data()
        if self.static:
            fixed = np.empty_like(z[0])
            self.times(bottom[2].read_data().reshape(sequences, self.static_inputs), 2, fixed)
            z += fixed
        h = np.empty_like(states[0][0])
        for t in range(steps):
            np.multiply(cont[t], states[0][t], out=h)
            self.times(h, self.w_h, z[t], add=True)
            self.step(t, z, cont, states)
        self.output(states[0][1:], top[0].data.reshape(states[0][1:].shape))
        for blob, state in zip(top[1:], states):
            blob.data = state[-1:]

    def backward_cpu(self, top, propagate_down, bottom):
        steps, sequences = self.z.shape[:2]
        x = bottom[0].read_data()
        cont = self.continuation(bottom).read_data().reshape(steps, sequences, 1)
        states, z = [blob.read_data() for blob in self.carried], self.z.read_data().copy()
        h = states[0][1:]
        dh = self.output_gradient(h, *(values.reshape(h.shape) for values in (top[0].read_data(), top[0].read_diff())))
        diffs = [blob.read_diff()[0].copy() for blob in top[1:]] or [np.zeros_like(s[0]) for s in states]
        for t in reversed(range(steps)):
            diffs[0] += dh[t]
            self.step_gradient(t, z, cont, states, diffs)
            diffs[0] = np.empty_like(states[0][t])
            self.times_transposed(z[t], self.w_h, diffs[0])
            diffs[0] *= cont[t]
        dz = z.reshape(steps * sequences, z.shape[-1])
        self._add(self.w_x, dz.T @ x.reshape(steps * sequences, self.inputs))
        self._add(self.bias, dz.sum(0))
        self._add(self.w_h, dz.T @ (cont * states[0][:-1]).reshape(-1, self.size))
        if propagate_down[0]:
            self.times_transposed(dz, self.w_x, bottom[0].diff.reshape(len(dz), self.inputs))
        if self.static:
            ds = z.sum(0)
            self._add(2, ds.T @ bottom[2].read_data().reshape(sequences, -1))
            if propagate_down[2]:
                bottom[2].diff = (ds @ self.blobs[2].read_data()).reshape(bottom[2].shape)
        for i, diff in enumerate(diffs[: self._exposed], 2 + self.static):
            if propagate_down[i]:
                bottom[i].diff = diff

    def _add(self, index: int, gradient: np.ndarray) -> None:
        if self.param_propagate_down[index]:
            self.blobs[index].diff += gradient
