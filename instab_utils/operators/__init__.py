"""Measurement operators y = A x: geometry only, no data and no networks."""

from .base import LinearOperator, power_iteration
from .fourier import MaskedFourier, MultiCoilFourier, fft2, ifft2
from .identity import Identity

__all__ = ["Identity", "LinearOperator", "MaskedFourier", "MultiCoilFourier", "fft2", "ifft2", "power_iteration"]
