"""Antun et al., PNAS 2020: what was run, for which figure, in which chapter.

| figure or claim | function | chapter |
|---|---|---|
| Figs. 1, 3, 4: tiny worst cases | `records.worst_cases`, `stability.worst_case` | 07 |
| Figs. 1, 2, 4: the pictures | `ladder.live`, `ladder.fewer_lines` | 07 |
| Fig. 2: noise does not remove the artefact | `records.neighbourhoods` | 07 |
| Fig. 5: small details | `records.details`, `stability.structure` | 08 |
| Fig. 5: more samples | `records.samples`, `sampling.rates`, `stability.more_samples` | 08 |
| Verdicts of the text | `verdicts.verdicts`, `stability.verdicts` | 12 |

The cases and their sizes: `training.case`, `profiles.STAGES["stability"]`.
"""

from ..artefact import Artefact
from . import ladder, records

__all__ = ["ARTEFACTS"]


def _tests(test, names=None):
    """Return a driver: profile -> records of one test, of all cases or of `only`."""

    def run(profile: str, only: list[str] | None = None) -> list[dict]:
        return records.run(test, profile, only or names)

    return run


DEEP_MRI = ["deep-mri", "deep-mri-published"]
PARALLEL_AND_CT = ["mri-vn", "mri-vn-published", "med-50"]

ARTEFACTS: dict[str, Artefact] = {
    "fig1": Artefact(
        "Fig. 1",
        "A tiny perturbation ruins Deep MRI's image.",
        _tests(records.every_attack, DEEP_MRI),
        "07",
    ),
    "fig2": Artefact(
        "Fig. 2",
        "Gaussian noise on top of the worst perturbation leaves the artefact.",
        _tests(records.neighbourhoods),
        "07",
    ),
    "fig3": Artefact(
        "Fig. 3",
        "A tiny perturbation ruins AUTOMAP's image.",
        _tests(records.every_attack, ["automap"]),
        "07",
    ),
    "fig4": Artefact(
        "Fig. 4",
        "Tiny perturbations ruin the images of MRI-VN and Med-50.",
        _tests(records.every_attack, PARALLEL_AND_CT),
        "07",
    ),
    "worst-cases": Artefact(
        "Figs. 1, 3, 4",
        "The same attack on every network of the book, and on shearlets.",
        _tests(records.every_attack),
        "07",
    ),
    "ladders": Artefact(
        "Figs. 1, 2, 4",
        "The published networks under growing perturbations, as pictures.",
        ladder.run,
        "07",
    ),
    "fig5-details": Artefact(
        "Fig. 5",
        "Networks erase or blur small details, a sparse solver shows them.",
        _tests(records.details),
        "08",
    ),
    "fig5-samples": Artefact(
        "Fig. 5",
        "More samples than in training make some networks worse.",
        _tests(records.samples),
        "08",
    ),
}
