"""Relative frequencies of the operations in programs."""

from random_use.blobs import Drop, Hold, Look, Read, Write, WriteView
from random_use.passes import (
    Backward,
    ClearDiffs,
    Forward,
    Loss,
    PartialBackward,
    PartialForward,
    RunForward,
    Step,
)
from random_use.whole_nets import Debug, Load, Reshape, Save, Share, Watch

#: relative frequency of each operation
WEIGHTS = {
    Forward: 5, PartialForward: 4, RunForward: 2, Backward: 4, PartialBackward: 2.5, ClearDiffs: 2, Step: 2, Loss: 0.5,
    Read: 4, Write: 4, Hold: 2, Look: 2, WriteView: 2, Drop: 1, Reshape: 1.2, Save: 0.4, Load: 0.4, Watch: 0.2,
    Debug: 0.4, Share: 0.2,
}  # fmt: skip
