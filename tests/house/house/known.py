"""What contradicts the table of floors today. A test fails for an entry that is not needed any more."""

#: importer, imported: imports that go up
UPWARD = {
    ("minicaffe.core.in_place", "minicaffe.cuda.ops"),
    ("minicaffe.core.in_place", "minicaffe.onednn.layouts"),
    ("minicaffe.core.layer", "minicaffe.cuda.kernels"),
    ("minicaffe.core.layer", "minicaffe.layers"),
    ("minicaffe.core.layer", "minicaffe.layers.cudnn"),
    ("minicaffe.core.layer", "minicaffe.layers.onednn"),
    ("minicaffe.core.layer", "minicaffe.onednn"),
    ("minicaffe.core.memory", "minicaffe.cuda.memory"),
    ("minicaffe.core.net", "minicaffe.layers.fused.cuda"),
    ("minicaffe.core.net", "minicaffe.layers.fused.onednn"),
    ("minicaffe.core.settings", "minicaffe.cuda.context"),
}

#: modules that import each other, apart from cycles through UPWARD
CYCLES = {
    frozenset({"minicaffe.core.in_place", "minicaffe.core.layer"}),
    frozenset({"minicaffe.onednn.primitives", "minicaffe.onednn.tensors"}),
}
