"""Three papers: which experiment belongs to which figure, table or claim, and in which chapter.

One module or folder for each paper, named author and year, opens with that table and defines
`ARTEFACTS`. `python -m instab_utils.papers antun2020 fig3` runs one of them.
"""

import importlib
import pkgutil

from .artefact import Artefact

__all__ = ["NAMES", "Artefact", "artefacts"]

NAMES = tuple(
    module.name for module in pkgutil.iter_modules(__path__) if module.name[-4:].isdigit()
)


def artefacts(paper: str) -> dict[str, Artefact]:
    """Return the artefacts of one paper by name; its module is imported here, not before.

    Raises:
        ValueError: for a paper that is not in `NAMES`.
    """
    if paper not in NAMES:
        raise ValueError(f"unknown paper {paper!r}; expected one of {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{paper}").ARTEFACTS
