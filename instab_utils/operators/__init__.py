"""Measurement operators y = A x: geometry only, no data and no networks."""

from . import masks
from .adapter import as_operator
from .base import LinearOperator, power_iteration
from .finer import measured_finely
from .fourier import MaskedFourier, MultiCoilFourier, fft2, ifft2
from .fourier_slice import FourierSlice
from .identity import Identity
from .radon import Radon, limited_angle
