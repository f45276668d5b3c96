"""Networks: they know tensors only. `pretrained` has the published weights."""

from .cascade import Cascade, DataConsistency
from .dncnn import DnCNN
from .variational import RBFActivation, VariationalNetwork

__all__ = ["Cascade", "DataConsistency", "DnCNN", "RBFActivation", "VariationalNetwork"]
