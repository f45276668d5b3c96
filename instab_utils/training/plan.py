"""Everything that decides the weights of a network."""

import dataclasses
from dataclasses import dataclass, field

from .. import store


@dataclass(frozen=True)
class Plan:
    """Every number that decides the weights; a `Recipe` is one that can train them."""

    name: str  # which network: one of training.NAMES, or "zero-filled-unet"
    # smoke: proves that it runs; standard: shipped, from a CPU; paper: as published, on a GPU
    profile: str
    image_size: int | tuple[int, int]  # pixels a side, or (rows, columns); of patches for dncnn
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
    sampling: float | None = None  # share of k-space of mri-vn; None: that of `training.task`
    # published weights that it starts from, a name of `pretrained.network`; None: drawn from seed
    init: str | None = None

    @property
    def key(self) -> str:
        """SHA-256 of the fields; `pool`, `sampling` and `init` count where they are given."""
        fields = dataclasses.asdict(self)
        for name in ("pool", "sampling", "init"):
            if fields[name] is None:
                del fields[name]
        return store.key(**fields)

    @property
    def denoises(self) -> bool:
        """Return whether it is a denoiser of photographs, trained on patches."""
        return self.name.startswith("dncnn")

    @property
    def weights(self) -> str:
        """Name of the weights in the store, such as "dncnn-s0-1f2e3d4c"."""
        return f"{self.name}-s{self.seed}-{self.key[:8]}"
