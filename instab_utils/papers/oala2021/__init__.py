"""Oala et al. 2021."""
from ...uncertainty.study import BETAS

ARTEFACTS = {}
