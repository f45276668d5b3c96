"""How each network is made: every number that decides its weights, at three sizes."""

import dataclasses
import os
from dataclasses import dataclass

from .. import data, profiles
from . import trainings
from .plan import Plan


@dataclass(frozen=True)
class Recipe(Plan):
    """Everything that decides the weights: equal recipes give the same. Change it by `recipe`."""

    def train(self, **options):
        """Return (network, card), from scratch or from its checkpoint; see `training.train`."""
        return trainings.train(self, **options)

    def build(self, device=None):
        """Return the network with its initial weights."""
        return trainings.build(self, device)


def recipe(name: str, profile: str = "standard", seed: int = 0, **changes) -> Recipe:
    """Return how the network `name` is trained at a profile, see `profiles.STAGES["train <name>"]`.

    At "paper" it learns from the published `pool` and `n_train`, where the variable of
    `data.LOCAL_KINDS` says that the reader has these images.

    Args:
        changes: replace any field, `architecture` and `options` item by item.

    Raises:
        ValueError: for a name, profile or field that does not exist.
    """
    name = name.replace("_", "-")
    if name not in trainings.CLASSES:
        names = ", ".join(trainings.CLASSES)
        raise ValueError(f"no network is called {name!r}; expected one of {names}.")
    fields = {f.name for f in dataclasses.fields(Recipe)} - {"name", "profile", "seed"}
    if unknown := set(changes) - fields:
        known = ", ".join(sorted(fields))
        raise ValueError(f"a recipe has no field {', '.join(sorted(unknown))}; it has {known}.")
    values = {"architecture": {}, "options": {}}
    for size, value in vars(profiles.stage(f"train {name}", profile)).items():
        part, _, item = size.rpartition(".")
        if value is not None:
            (values[part] if part else values)[item] = value
    published = {size: row.published for size, row in profiles.STAGES[f"train {name}"].items()}
    own = data.LOCAL_KINDS.get(published.get("pool"))
    if profile == "paper" and own and os.environ.get(own):
        values |= {"pool": published["pool"], "n_train": published.get("n_train")}
    for part in ("architecture", "options"):
        values[part] |= changes.pop(part, {})
    return Recipe(name=name, profile=profile, seed=seed, **{**values, **changes})
