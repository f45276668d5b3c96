"""Stable reconstruction: classical solvers, total (generalised) variation, wavelets and shearlets,
for every operator.
"""

from .base import Solution
from .choosing import add_noise, choose_weight
from .engines import METHODS, reconstruct
from .iterative import cgls, em, fbp, sart, sirt
from .reweighted import DEFAULTS, PUBLISHED, shearlet
from .shearlets import Shearlets
from .tgv import tgv
from .tv import total_variation, tv
from .wavelets import WaveletSolution, inverse_wavelet_transform, wavelet, wavelet_transform

__all__ = [
    "DEFAULTS",
    "METHODS",
    "PUBLISHED",
    "Shearlets",
    "Solution",
    "WaveletSolution",
    "add_noise",
    "cgls",
    "choose_weight",
    "em",
    "fbp",
    "inverse_wavelet_transform",
    "reconstruct",
    "sart",
    "shearlet",
    "sirt",
    "tgv",
    "total_variation",
    "tv",
    "wavelet",
    "wavelet_transform",
]
