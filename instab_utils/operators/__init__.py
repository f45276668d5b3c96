"""Measurement operators y = A x: geometry only, no data and no networks."""

from .base import LinearOperator, power_iteration
from .fourier import MaskedFourier, MultiCoilFourier, fft2, ifft2
from .identity import Identity
from .radon import Radon, limited_angle

__all__ = [
    "Identity", "LinearOperator", "MaskedFourier", "MultiCoilFourier", "Radon", "fft2", "ifft2", "limited_angle", "power_iteration",
]
