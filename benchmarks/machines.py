"""The nets, devices and networks of benchmarks/scale.py: gradients of our own nets, published figures, assumptions."""

from __future__ import annotations

import nets
from cost_model import Cluster, Link, Work, ring, star

from minicaffe.core.passes import filter_net
from minicaffe.models import zoo
from minicaffe.pictures.costs import net_costs
from minicaffe.proto import TRAIN

_US, _GB = 1e-6, 1e-9

#: alpha of NVLink, PCIe and network: microseconds of a step of NCCL's ring with its protocol Simple (NVIDIA/nccl,
#: src/graph/tuning.cc, 2021).  beta of NVLink: the 235 GB/s to which it limits the A100's bus bandwidth; of PCIe and of
#: P100's NVLink: assumed.
NVLINK, NVLINK_P100 = Link(3.4 * _US, _GB / 235), Link(3.4 * _US, _GB / 40)
PCIE = Link(5.7 * _US, _GB / 10)


def network(gigabits: float, alpha: float = 9.6 * _US) -> Link:
    """A node's network of so many Gbit/s, nine tenths of which are reached (assumed)."""
    return Link(alpha, 1 / (0.9 * gigabits * 1e9 / 8))


GPU_CLUSTERS = {
    "8 A100, 8 x 200 Gbit/s InfiniBand": Cluster(8, NVLINK, network(1600)),
    "8 A100, 100 Gbit/s": Cluster(8, NVLINK, network(100)),
    "8 A100, 25 Gbit/s Ethernet": Cluster(8, NVLINK, network(25, 30 * _US)),
}
CPU_CLUSTERS = {
    "100 Gbit/s InfiniBand, MPI": Cluster(1, PCIE, network(100, 3 * _US), ring),
    "10 Gbit/s Ethernet, MPI": Cluster(1, PCIE, network(10, 30 * _US), ring),
    "10 Gbit/s Ethernet, TCP through the root": Cluster(1, PCIE, network(10, 50 * _US), star),
}

NETS = {
    "cifar10_full": nets.TRAINING["cifar10_full"][0],
    "resnet50": zoo.resnet50,
    "vgg16": zoo.vgg16,
    "googlenet": zoo.googlenet,
}
JITTER = 0.03  #: of a device's compute, see `cost_model.slowest`: chosen so that the first row of `published` agrees
GROUPS = 8  #: parts of the exchange, where it goes on beside the backward pass


def gradient_bytes(name: str) -> int:
    """Bytes of the gradients of one of our nets, float32: of the parameters that learn."""
    net = NETS[name](1)
    net.state.phase = TRAIN
    return 4 * net_costs(filter_net(net)).total.learned


#: seconds of an image of ResNet-50 on an A100, TF32: 938 a second at batch 256 (NVIDIA, DeepLearningExamples, 2021),
#: with an overhead of 9 images, as on a P100 (see `published`)
_IMAGE = 256 / 938 / (256 + 9)
#: by net: batch of a GPU, seconds of an image, overhead.  Assumed, but for ResNet-50: as many multiplications a second,
#: VGG-16's overhead as on a P100, and 0.5 ms for the launches of cifar10_full
GPU_STEPS = {
    "cifar10_full": (100, _IMAGE * 0.0123 / 3.86, 0.5e-3),
    "resnet50": (256, _IMAGE, 9 * _IMAGE),
    "vgg16": (64, _IMAGE * 15.47 / 3.86, 5 * _IMAGE * 15.47 / 3.86),
}


def gpu_work(name: str) -> Work:
    """The work of an A100."""
    return Work(gradient_bytes(name), *GPU_STEPS[name])


#: (seconds of an iteration, batch) on a node with 2 cores of an AMD EPYC (Zen 4), float32.  cifar10_full: as in
#: docs/cpu.md; the others three times the inference there, VGG-16 by its multiplications.  --cpu replaces them
CPU_STEPS = {"cifar10_full": (0.0427, 100), "resnet50": (0.906, 8), "vgg16": (3.63, 8)}


def cpu_work(name: str) -> Work:
    """The work of a CPU node."""
    seconds, batch = CPU_STEPS[name]
    return Work(gradient_bytes(name), batch, seconds / batch)
