"""What the tests of layers share; for your own layers as well.

`LayerProperties` holds what must be true of every layer: subclass it, list `cases`, and let pytest run each test with
each case it `applies` to and each engine that computes something of its own there (tests/conftest.py of minicaffe does
this).  `run_layer` runs one layer outside a net; `NUMPY`, `ONEDNN` and `CUDA` choose an engine for a block.
"""

from minicaffe.testing.cases import (
    Case,
    Run,
    Values,
    assert_close,
    build_layer,
    continuation,
    distinct,
    labels,
    normal,
    positive,
    run_layer,
    top_of,
)
from minicaffe.testing.engines import CUDA, NUMPY, ONEDNN, EngineChoice, computing_with
from minicaffe.testing.properties import LayerProperties, applies

__all__ = [
    "CUDA",
    "NUMPY",
    "ONEDNN",
    "Case",
    "EngineChoice",
    "LayerProperties",
    "Run",
    "Values",
    "applies",
    "assert_close",
    "build_layer",
    "computing_with",
    "continuation",
    "distinct",
    "labels",
    "normal",
    "positive",
    "run_layer",
    "top_of",
]
