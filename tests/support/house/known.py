"""Cycles of imports. A test fails for an entry that is not needed any more."""

#: modules that import each other
CYCLES = {
    frozenset({"minicaffe.onednn.primitives", "minicaffe.onednn.tensors"}),
}
