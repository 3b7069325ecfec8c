"""Arguments of the kernels in cuda/batch_norm.cu for layers that work in place on their result."""

from __future__ import annotations

ALONE = (0, 0, False, 0.0)  #: neither a Scale (its factors and terms) nor a ReLU (whether there is one, its slope)
