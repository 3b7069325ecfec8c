"""Random changes of pictures in tests: FlowNet 2.0's augmentation_param, and rows of coefficients."""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.augmentation import to_row

TEST = 1
EIGVEC = "chromatic_eigvec: [0.51, 0.56, 0.65, 0.79, 0.01, -0.62, 0.35, -0.83, 0.44]"
EIGEN_FIELDS = (
    "ladd_pow col_pow ladd_add col_add ladd_mult col_mult sat_pow sat_add sat_mult lmult_pow lmult_mult col_rotate"
)
#: all that is drawn
ALL = " ".join(
    f"{name} {{ rand_type: 'uniform_bernoulli' exp: {str(exp).lower()} spread: {spread} }}"
    for name, exp, spread in [
        ("translate", False, 0.1), ("rotate", False, 0.2), ("zoom", True, 0.2), ("squeeze", True, 0.1),
        *((name, name.endswith(("pow", "mult")), 0.1) for name in EIGEN_FIELDS.split()),
        ("lmult_add", False, 0.03), ("gamma", True, 0.1), ("brightness", False, 0.1), ("contrast", True, 0.1),
        ("color", True, 0.1), ("noise", False, 0.01),
    ]
)  # fmt: skip


def augmentation(text: str, kind: str = "DataAugmentation", more: str = "") -> str:
    """The inside of a layer of one of the types with an augmentation_param."""
    return f"type: '{kind}' augmentation_param {{ {text} }} {more}"


def rows_of(*changes: dict[str, float]) -> np.ndarray:
    """Coefficients (N, 42, 1, 1)."""
    return np.stack([to_row(change) for change in changes])[:, :, None, None]
