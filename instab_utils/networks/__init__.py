"""Networks, each with its own way from y to x: `reconstruct(y, A)`.

`Reconstructor` puts one behind its operator, a `Case` is one at work on images, `pretrained` has
published weights.
"""

from .automap import AUTOMAP
from .cascade import Cascade, DataConsistency
from .cases import Case, Reconstructor
from .dncnn import DnCNN
from .inr import Fields
from .unet import FBPConvNet, LimitedAngleUNet
from .variational import RBFActivation, VariationalNetwork
from .zero_filled import ZeroFilledUNet
