"""The Python layer of ENet's Caffe: it runs where the user's own module is not on sys.path.

Source: Paszke et al., ENet, 2016; github.com/TimoSaemann/ENet.
"""

from minicaffe.layers.extensions.enet import spatial_dropout_layer  # noqa: F401
