"""Stable reconstruction: the classical solvers, total (generalised) variation and wavelets, for every operator."""

from .base import Solution
from .choosing import add_noise, choose_weight
from .engines import METHODS, reconstruct
from .iterative import cgls, em, fbp, sart, sirt
from .tgv import tgv
from .tv import total_variation, tv
from .wavelets import WaveletSolution, inverse_wavelet_transform, wavelet, wavelet_transform

__all__ = [
    "METHODS", "Solution", "add_noise", "cgls", "choose_weight", "em", "fbp", "reconstruct", "sart", "sirt",
    "tgv", "total_variation", "tv",
    "WaveletSolution", "inverse_wavelet_transform", "wavelet", "wavelet_transform",
]
