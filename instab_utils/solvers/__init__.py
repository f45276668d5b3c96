"""Stable reconstruction: classical solvers, TV, TGV, wavelets, shearlets, for every operator."""

from .driver import Solution
from .generalised_variation import tgv
from .iterative import cgls, em, fbp, sart, sirt
from .libraries import external
from .reweighted_l1 import SETTINGS, ShearletSettings, shearlet
from .shearlets import Shearlets
from .total_variation import tv
from .wavelets import wavelet
from .weight_choice import add_noise, choose_weight
