"""Vasconcelos, He, Teh: uncertainty of implicit neural representations for tomography.

| figure, table or claim | function | chapter |
|---|---|---|
| Table 1: MC dropout, Bayes by backprop, ensembles; 5 and 20 views | `table1.run` | 10 |
| Table 1: HMC on one phantom; chains and controls | `posterior_chains.run` | 11 |
| Table 1: FBP, CGLS, EM, SART, SIRT; TV, the inverse crime | `baselines.run` | 10 |
| Figure 2: reconstructions and standard deviations | `table1.run` | 10 |
| Figures 3 and 4: activations and omega0 over the grid | `table1.run` | 10 |
| the same on one phantom, as images | `table1.explorer` | 10 |
| beyond the paper: CT slices with noise, a measured tooth | `real_data.run` | 10 |
| beyond the paper: alarms of fields on failing scans | `field_alarms.run` | 12 |

What the paper printed is in `published`, the grids in `settings`, one fit and its scores in
`trials`; `results` reads what is recorded. Sizes: `profiles.STAGES`, from "inr" to "field_alarms".
"""

from ..artefact import Artefact
from . import (
    baselines,
    field_alarms,
    posterior_chains,
    published,
    real_data,
    results,
    settings,
    table1,
    trials,
)

ARTEFACTS = {
    "table1": Artefact(
        "Table 1, Figs. 2-4",
        "MC dropout is ahead of Bayes by backprop; ensembles of 5 and 10 are the best",
        table1.run,
        "10",
    ),
    "hmc": Artefact(
        "Table 1, HMC",
        "HMC on one phantom: 29.1 dB and ECE 0.009 at 20 views",
        posterior_chains.run,
        "11",
    ),
    "baselines": Artefact(
        "Table 1, classical", "fields are ahead of classical methods", baselines.run, "10"
    ),
    "explorer": Artefact(
        "Figs. 3 and 4", "omega0 must suit activation and views", table1.explorer, "10"
    ),
    "real_data": Artefact(
        "beyond the paper", "fields on slices with noise and a tooth", real_data.run, "10"
    ),
    "field_alarms": Artefact(
        "beyond the paper", "alarms of fields on failing scans", field_alarms.run, "12"
    ),
}
