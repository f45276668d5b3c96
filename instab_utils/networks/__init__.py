"""Networks: they know tensors only; `Reconstructor` puts one beside its operator. `pretrained` has
the published weights.
"""

from .automap import AUTOMAP
from .cascade import Cascade, DataConsistency
from .dncnn import DnCNN
from .inr import Fields
from .reconstructor import Reconstructor
from .unet import FBPConvNet, LimitedAngleUNet
from .variational import RBFActivation, VariationalNetwork

__all__ = [
    "AUTOMAP",
    "Cascade",
    "DataConsistency",
    "DnCNN",
    "FBPConvNet",
    "Fields",
    "LimitedAngleUNet",
    "RBFActivation",
    "Reconstructor",
    "VariationalNetwork",
]
