"""Vasconcelos, He, Teh: uncertainty of implicit neural representations for tomography."""

from ..artefact import Artefact
from . import baselines, field_alarms, real_data

ARTEFACTS = {
    "baselines": Artefact("Table 1", "classical methods are behind fields", baselines.rows, "10"),
    "real_data": Artefact("beyond the paper", "fields on real scans", real_data.rows, "10"),
    "field_alarms": Artefact("beyond the paper", "alarms of fields", field_alarms.rows, "12"),
}
