"""How each network is made: every number that decides its weights, at three sizes."""

import dataclasses
from dataclasses import dataclass, field

from .. import profiles, store
from . import trainings


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights: equal recipes give the same. Change it by `recipe`."""

    name: str  # which network: one of training.NAMES, or "zero-filled-unet"
    # smoke: proves that it runs; standard: shipped, from a CPU; paper: as published, on a GPU
    profile: str
    image_size: int  # pixels a side; of patches for dncnn
    architecture: dict = field(hash=False)  # keyword arguments of the network
    steps: int = 1000  # updates
    batch_size: int = 8
    lr: float = 1e-3  # largest learning rate
    optimiser: str = "adam"  # see training.optimiser
    options: dict = field(default_factory=dict, hash=False)  # of the optimiser
    schedule: str = "cosine"  # see training.SCHEDULES
    clip_norm: float | None = None
    every: int = 100  # steps between validations
    patience: int | None = None  # validations without a better one before it stops
    augment: bool = True  # rotations, zooms and gammas; False: only what the loss needs
    n_train: int | None = None  # training images; None: all there are
    seed: int = 0  # of initial weights, batches, noise, dropout
    version: int = 1  # raised when a change of the code changes what these numbers mean
    # other images than the task's: "aapm" or "fastmri" for the reader's own, see data.pool
    pool: str | None = None

    @property
    def key(self) -> str:
        """SHA-256 of the fields; `pool` counts where it is given."""
        fields = dataclasses.asdict(self)
        if self.pool is None:
            del fields["pool"]
        return store.key(**fields)

    @property
    def weights(self) -> str:
        """Name of the weights in the store, such as "dncnn-s0-1f2e3d4c"."""
        return f"{self.name}-s{self.seed}-{self.key[:8]}"

    def train(self, **options):
        """Return (network, card), from scratch or from its checkpoint; see `training.train`."""
        return trainings.train(self, **options)

    def build(self, device=None):
        """Return the network with its initial weights."""
        return trainings.build(self, device)


def recipe(name: str, profile: str = "standard", seed: int = 0, **changes) -> Recipe:
    """Return how the network `name` is trained at a profile, see `profiles.STAGES["train <name>"]`.

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
    for part in values:
        if part in ("architecture", "options"):
            values[part] |= changes.pop(part, {})
    return Recipe(name=name, profile=profile, seed=seed, **{**values, **changes})
