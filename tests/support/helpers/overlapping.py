"""A training of a small net by the ranks of a group: fused layers, shared weights, several passes per iteration."""

import numpy as np

from helpers.nets import layer_text, solver_from_text
from minicaffe.solvers.overlap import Overlap

SOLVER = """
base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" max_iter: 4 random_seed: 3 iter_size: 2 clip_gradients: 0.5
weight_decay: 0.01 snapshot_after_train: false
"""
_FILLER = 'weight_filler { type: "xavier" }'
_SHARED = 'param { name: "w" } param { name: "b" }'
NET = (
    layer_text("data", "DummyData", "", "x t", """
        dummy_data_param { shape { dim: 4 dim: 2 dim: 6 dim: 6 } shape { dim: 4 dim: 5 }
                           data_filler { type: "gaussian" } data_filler { type: "gaussian" } }""")
    + layer_text("conv1", "Convolution", "x", "c", f"convolution_param {{ num_output: 4 kernel_size: 3 {_FILLER} }}")
    + layer_text("bn1", "BatchNorm", "c", "c")
    + layer_text("scale1", "Scale", "c", "c", "scale_param { bias_term: true }")
    + layer_text("relu1", "ReLU", "c", "c")
    + layer_text("conv2", "Convolution", "c", "d", f"convolution_param {{ num_output: 3 kernel_size: 3 {_FILLER} }}")
    + layer_text("relu2", "ReLU", "d", "d")
    + layer_text("ip1", "InnerProduct", "d", "e", f"inner_product_param {{ num_output: 5 {_FILLER} }}")
    + layer_text("ip2", "InnerProduct", "e", "f", f"{_SHARED} inner_product_param {{ num_output: 5 {_FILLER} }}")
    + layer_text("ip3", "InnerProduct", "f", "g", f"inner_product_param {{ num_output: 5 {_FILLER} }}")
    + layer_text("ip4", "InnerProduct", "g", "y", f"{_SHARED} inner_product_param {{ num_output: 5 {_FILLER} }}")
    + layer_text("loss", "EuclideanLoss", "y t", "loss")
)  # fmt: skip


def train(group, mode, part_bytes=1, prepare=lambda solver: None):
    """Train a solver of this rank; return in how many parts gradients were summed, and loss and parameters."""
    solver = solver_from_text(SOLVER, NET)
    solver.ranks.overlap = Overlap(group, mode, part_bytes)
    prepare(solver)
    solver.solve()
    state = [solver.smoothed_loss, *(blob.data.ravel().tolist() for layer in solver.net.layers for blob in layer.blobs)]
    parts = solver.ranks.overlap.parts
    solver.ranks.overlap.close()
    return parts, np.hstack(state)


if __name__ == "__main__":  # started by mpiexec
    import json

    from minicaffe import parallel

    with parallel.guarded():
        group = parallel.start()
        (_, plain), (parts, overlapped) = train(group, "never"), train(group, "always")
        np.testing.assert_array_equal(plain, overlapped)
        every = group.gather([group.name.split()[0], parts])
        if group.root:
            print(json.dumps(every))
