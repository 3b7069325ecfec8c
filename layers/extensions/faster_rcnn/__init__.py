"""The Python layers of py-faster-rcnn and py-R-FCN: they run where the user's own modules are not on sys.path.

Source: Ren et al., Faster R-CNN, 2015; github.com/rbgirshick/py-faster-rcnn; github.com/YuwenXiong/py-R-FCN.
"""

from minicaffe.layers.extensions.faster_rcnn import (  # noqa: F401
    anchor_target_layer,
    proposal_layer,
    proposal_target_layer,
    roi_data_layer,
)
