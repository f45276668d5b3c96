"""Antun et al., PNAS 2020: what was run, for which figure, in which chapter."""

from ..artefact import Artefact

ARTEFACTS: dict[str, Artefact] = {}
