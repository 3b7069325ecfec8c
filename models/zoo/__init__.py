"""Nets from papers, written with NetSpec: each function returns a NetParameter.

    from minicaffe.models import zoo
    open("resnet50.prototxt", "w").write(str(zoo.resnet50(batch=8)))

With `training=True` a net reads blobs `data` and `label` and ends in `loss`; otherwise it reads `data` and ends in
`prob` (or in the blobs documented at its function).  Weights are initialised by the fillers of the papers; load trained
ones with `Net.copy_from`, which matches layers by name.
"""

from minicaffe.models.zoo.captioner import captioner
from minicaffe.models.zoo.densenet import densenet121
from minicaffe.models.zoo.faster_rcnn import faster_rcnn, rfcn
from minicaffe.models.zoo.googlenet import googlenet
from minicaffe.models.zoo.mobilenet import mobilenet
from minicaffe.models.zoo.resnet import cifar_resnet, resnet50
from minicaffe.models.zoo.segmentation import fcn8s, unet
from minicaffe.models.zoo.squeezenet import squeezenet
from minicaffe.models.zoo.ssd import ssd300
from minicaffe.models.zoo.vgg import vgg16

__all__ = [
    "captioner",
    "cifar_resnet",
    "densenet121",
    "faster_rcnn",
    "fcn8s",
    "googlenet",
    "mobilenet",
    "resnet50",
    "rfcn",
    "squeezenet",
    "ssd300",
    "unet",
    "vgg16",
]
