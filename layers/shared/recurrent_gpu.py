"""The GPU code of `minicaffe.layers.shared.recurrent`: the same steps in the same order, on device pointers."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel


class RecurrentOnDevice(Layer):
    """Forward and backward of `Recurrent` in kernels and matrix products.

    A subclass defines `step_gpu`, `step_gradient_gpu` and, if its output is not h, `output_gpu` and
    `output_gradient_gpu`.  `_at(pointer, t, numbers per step)` is the pointer to step t of an array.
    """

    # set by `Recurrent`
    gates: int
    size: int
    inputs: int
    static: bool
    static_inputs: int
    expose: bool
    carries: bool
    w_x: int
    bias: int
    z: Blob
    masked: Blob
    dh: Blob
    fixed: Blob
    carried: list[Blob]
    state_diffs: list[Blob]

    @property
    def w_h(self) -> int:
        """The place of W_h among the blobs."""
        raise NotImplementedError

    def continuation(self, bottom) -> Blob:
        """Return the blob that is 0 where a sequence begins."""
        raise NotImplementedError

    @property
    def _exposed(self) -> int:
        """The number of states that are bottoms and tops."""
        raise NotImplementedError

    def size_buffers(self, steps: int, sequences: int) -> None:
        """Reshape the buffers that only the GPU code uses."""
        width = self.gates * self.size
        self.masked.reshape(steps, sequences, self.size)  # cont h, the factor of W_h
        self.dh.reshape(steps, sequences, self.size)
        self.fixed.reshape(sequences, width)  # W_s s; its diff is the sum of dz over steps
        for i, blob in enumerate(self.state_diffs):
            if blob.shape != (sequences, self.size):
                self.state_diffs[i] = Blob((sequences, self.size), self.dtype)

    def step_gpu(self, t: int, z: int, cont: int, states: list[int]) -> None:
        """As `step`; the pointers are those of step 0."""
        raise NotImplementedError

    def step_gradient_gpu(self, t: int, z: int, dz: int, cont: int, states: list[int], diffs: list[int]) -> None:
        """As `step_gradient`, but dz[t] is written in place of z[t]; diffs[0] is the complete diff of h."""
        raise NotImplementedError

    def output_gpu(self, h: int, y: int, steps: int, sequences: int) -> None:
        """As `output`."""
        ops.copy(steps * sequences * self.size, h, y, self.dtype)

    def output_gradient_gpu(self, h: int, top, dh: int, steps: int, sequences: int) -> None:
        """As `output_gradient`, into dh."""
        ops.copy(steps * sequences * self.size, top.gpu_diff(), dh, self.dtype)

    def forward_gpu(self, bottom, top):
        steps, sequences = self.z.shape[:2]
        self.size_buffers(steps, sequences)
        width, state = self.gates * self.size, sequences * self.size
        per_step = sequences * width
        w_x, b, w_h = (self.blobs[i].gpu_data() for i in (self.w_x, self.bias, self.w_h))
        cont, z, masked = (
            self.continuation(bottom).gpu_data(),
            self.z.mutable_gpu_data(),
            self.masked.mutable_gpu_data(),
        )
        states = [blob.mutable_gpu_data() for blob in self.carried]
        for i, pointer in enumerate(states):
            if self.expose or self.carries:
                start = bottom[2 + self.static + i].gpu_data() if self.expose else self._at(pointer, steps, state)
                ops.copy(state, start, pointer, self.dtype)
            else:
                ops.fill(state, 0, pointer, self.dtype)
        ops.gemm(False, True, steps * sequences, width, self.inputs, 1, bottom[0].gpu_data(), w_x, 0, z, self.dtype)
        fixed = 0
        if self.static:
            fixed, s, w_s = self.fixed.mutable_gpu_data(), bottom[2].gpu_data(), self.blobs[2].gpu_data()
            ops.gemm(False, True, sequences, width, self.static_inputs, 1, s, w_s, 0, fixed, self.dtype)
        self._recurrent("add_terms")(steps * per_step, width, per_step, b, fixed, z)
        for t in range(steps):
            h = self._at(masked, t, state)
            self._recurrent("mask")(state, self.size, self._at(cont, t, sequences), self._at(states[0], t, state), h)
            z_t = self._at(z, t, per_step)
            ops.gemm(False, True, sequences, width, self.size, 1, h, w_h, 1, z_t, self.dtype)
            self.step_gpu(t, z, cont, states)
        self.output_gpu(self._at(states[0], 1, state), top[0].mutable_gpu_data(), steps, sequences)
        for blob, pointer in zip(top[1:], states):
            ops.copy(state, self._at(pointer, steps, state), blob.mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        steps, sequences = self.z.shape[:2]
        width, state = self.gates * self.size, sequences * self.size
        per_step = sequences * width
        w_h, cont = self.blobs[self.w_h].gpu_data(), self.continuation(bottom).gpu_data()
        states, z, dz = [blob.gpu_data() for blob in self.carried], self.z.gpu_data(), self.z.mutable_gpu_diff()
        dh = self.dh.mutable_gpu_data()
        self.output_gradient_gpu(self._at(states[0], 1, state), top[0], dh, steps, sequences)
        diffs = [blob.mutable_gpu_data() for blob in self.state_diffs]
        for i, pointer in enumerate(diffs):
            if self.expose:
                ops.copy(state, top[1 + i].gpu_diff(), pointer, self.dtype)
            else:
                ops.fill(state, 0, pointer, self.dtype)
        for t in reversed(range(steps)):
            ops.axpy(state, 1, self._at(dh, t, state), diffs[0], self.dtype)
            self.step_gradient_gpu(t, z, dz, cont, states, diffs)
            dz_t = self._at(dz, t, per_step)
            ops.gemm(False, False, sequences, self.size, width, 1, dz_t, w_h, 0, diffs[0], self.dtype)
            self._recurrent("mask")(state, self.size, self._at(cont, t, sequences), diffs[0], diffs[0])
        self._gradients_gpu(propagate_down, bottom, dz, steps, sequences)
        for i, pointer in enumerate(diffs[: self._exposed], 2 + self.static):
            if propagate_down[i]:
                ops.copy(state, pointer, bottom[i].mutable_gpu_diff(), self.dtype)

    def _gradients_gpu(self, propagate_down, bottom, dz: int, steps: int, sequences: int) -> None:
        """Compute the diffs of weights and inputs from that of z."""
        rows, width = steps * sequences, self.gates * self.size
        self.add_product(self.w_x, width, self.inputs, rows, dz, bottom[0].gpu_data())
        self.add_sum(self.bias, width, rows, dz)
        self.add_product(self.w_h, width, self.size, rows, dz, self.masked.gpu_data())
        if propagate_down[0]:
            w_x, dx = self.blobs[self.w_x].gpu_data(), bottom[0].mutable_gpu_diff()
            ops.gemm(False, False, rows, self.inputs, width, 1, dz, w_x, 0, dx, self.dtype)
        if self.static:
            ds = self.fixed.mutable_gpu_diff()
            self._recurrent("sum_steps")(sequences * width, steps, dz, ds)
            self.add_product(2, width, self.static_inputs, sequences, ds, bottom[2].gpu_data())
            if propagate_down[2]:
                w_s, dx = self.blobs[2].gpu_data(), bottom[2].mutable_gpu_diff()
                ops.gemm(False, False, sequences, self.static_inputs, width, 1, ds, w_s, 0, dx, self.dtype)

    def add_product(self, index: int, m: int, n: int, k: int, dz: int, x: int) -> None:
        """Add dz^T x, with dz (k, m) and x (k, n), to a parameter's diff."""
        if self.param_propagate_down[index]:
            ops.gemm(True, False, m, n, k, 1, dz, x, 1, self.blobs[index].mutable_gpu_diff(), self.dtype)

    def add_sum(self, index: int, n: int, rows: int, dz: int) -> None:
        """Add the sum of dz (rows, n) over rows to a parameter's diff."""
        if self.param_propagate_down[index]:
            db = self.blobs[index].mutable_gpu_diff()
            kernel("inner_product", "bias_gradient", self.dtype)(n, rows, dz, db)

    def _recurrent(self, name: str):
        return kernel("recurrent", name, self.dtype)

    def _at(self, pointer: int, t: int, numbers: int) -> int:
        return pointer + t * numbers * self.dtype.itemsize
