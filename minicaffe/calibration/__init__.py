"""BatchNorm's statistics anew, over the whole training set: the last step of Ioffe and Szegedy, 2015, algorithm 2.

While a net trains, BatchNorm keeps running averages of its batches' statistics; they lag behind the weights and weight
the last batches most.  Here the weights are fixed, each record of the training set is read once, and the statistics are
those of all values that a layer reads: with M values x of a channel,

    mean = sum(x) / M        variance = sum((x - mean)^2) / (M - 1)

in float64.  The paper averages the batches' variances instead, E[variance of a batch] m / (m - 1); that leaves out how
far the batches' means are from each other, and equals the above where batches are drawn independently.
"""

from minicaffe.calibration.statistics import Calibration, Change, calibrate

__all__ = ["Calibration", "Change", "calibrate"]
