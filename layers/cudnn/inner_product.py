"""InnerProduct by cuBLASLt."""

from __future__ import annotations

import logging

from minicaffe.core.registry import register
from minicaffe.cuda import cublas
from minicaffe.layers.inner_product import InnerProduct

log = logging.getLogger("minicaffe")


@register("InnerProduct", engine="CUDNN")
class CuBLASInnerProduct(InnerProduct):
    __doc__ = InnerProduct.__doc__

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if reason := cublas.reason_unavailable():
            sentence = "engine CUDNN: minicaffe's own kernels compute InnerProduct: %s"
            log.info(sentence, reason, extra={"once": sentence})
        else:
            self.products = cublas.Products()
