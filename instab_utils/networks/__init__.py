"""Networks: they know tensors only; `Reconstructor` puts one beside its operator. `pretrained` has the published weights."""

from .automap import AUTOMAP
from .cascade import Cascade, DataConsistency
from .dncnn import DnCNN
from .reconstructor import Reconstructor
from .unet import FBPConvNet, LimitedAngleUNet
from .variational import RBFActivation, VariationalNetwork

__all__ = [
    "AUTOMAP", "Cascade", "DataConsistency", "DnCNN", "FBPConvNet", "LimitedAngleUNet", "RBFActivation", "Reconstructor",
    "VariationalNetwork",
]
