"""How each network is made: every number that decides its weights, at three sizes."""

import dataclasses
from dataclasses import dataclass, field

from .. import profiles, store
from .tasks import NAMES


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; two recipes that are equal give the same ones. Change it
    by `recipe(...)`.
    """

    name: str  # which network, one of training.NAMES
    # smoke: proves that it runs; standard: shipped, from a CPU; paper: as published, on a GPU
    profile: str
    image_size: int  # pixels a side; of patches for dncnn
    architecture: dict = field(hash=False)  # keyword arguments of the network
    steps: int = 1000  # updates
    batch_size: int = 8
    lr: float = 1e-3  # largest learning rate
    optimiser: str = "adam"  # see training.loop.optimiser
    options: dict = field(default_factory=dict, hash=False)  # of the optimiser
    schedule: str = "cosine"  # see training.loop.SCHEDULES
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
        return store.key(
            **{name: value for name, value in fields.items() if name != "pool" or value is not None}
        )

    @property
    def weights(self) -> str:
        """Name of the weights in the store, such as "dncnn-s0-1f2e3d4c"."""
        return f"{self.name}-s{self.seed}-{self.key[:8]}"

    def train(self, **options):
        """(network, card) from scratch or from its checkpoint; see `training.train`."""
        from .jobs import train

        return train(self, **options)

    def build(self, device=None):
        """The network with its initial weights."""
        from .jobs import build

        return build(self, device)


_SIZES: dict[str, dict[str, dict]] = {
    "dncnn": {
        "smoke": dict(
            image_size=24, architecture=dict(n_layers=4, width=8, dropout=0.05), steps=60, every=30
        ),
        "standard": dict(
            image_size=40,
            architecture=dict(n_layers=10, width=32, dropout=0.05),
            steps=2400,
            batch_size=16,
            every=200,
            clip_norm=1.0,
        ),
        "paper": dict(
            image_size=40,
            architecture=dict(n_layers=17, width=128, dropout=0.05),
            steps=32_350,
            batch_size=128,
            lr=1e-4,
            schedule="constant",
            every=647,
        ),
    },
    "unet-limited": {
        "smoke": dict(
            image_size=32,
            architecture=dict(base_width=4, n_levels=3, dropout=0.1),
            steps=40,
            every=20,
            batch_size=4,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(base_width=12, n_levels=5, dropout=0.1),
            steps=1100,
            batch_size=8,
            every=100,
            clip_norm=1.0,
            version=2,
        ),
        "paper": dict(
            image_size=256,
            architecture=dict(base_width=64, n_levels=5, dropout=0.7),
            steps=68_000,
            batch_size=12,
            lr=7.5e-5,
            schedule="constant",
            every=500,
        ),
    },
    "ell-50": {
        "smoke": dict(
            image_size=32,
            architecture=dict(base_width=4, n_levels=3),
            steps=40,
            every=20,
            batch_size=4,
            n_train=16,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(base_width=12, n_levels=4),
            steps=1000,
            every=100,
            n_train=475,
            clip_norm=1.0,
        ),
        "paper": dict(
            image_size=512,
            architecture=dict(base_width=64, n_levels=5, init="published"),
            steps=47_975,
            batch_size=1,
            lr=1e-2,
            optimiser="clipped-sgd",
            options=dict(momentum=0.99, limit=1e-2, weight_decay=1e-12),
            schedule="rising",
            every=475,
            n_train=475,
        ),
    },
    "automap": {
        "smoke": dict(
            image_size=16, architecture=dict(n=16, m=154, hidden=64, width=8), steps=40, every=20
        ),
        "standard": dict(
            image_size=32,
            architecture=dict(n=32, m=616, hidden=1536, width=16),
            steps=10_000,
            batch_size=32,
            # to learn a transform takes more than heads
            every=500,
            clip_norm=1.0,
            pool="mixed",
        ),
        "paper": dict(
            image_size=64,
            architecture=dict(n=64, m=2464, hidden=8192, width=64),
            steps=100_000,
            batch_size=100,
            lr=2e-5,
            optimiser="rmsprop",
            options=dict(alpha=0.9),
            schedule="constant",
            every=1000,
        ),
    },
    "dagan": {
        "smoke": dict(
            image_size=32,
            architecture=dict(image_size=32, base_width=4),
            steps=30,
            every=15,
            batch_size=4,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(image_size=128, base_width=12),
            steps=2400,
            batch_size=8,
            lr=5e-4,
            options=dict(betas=[0.5, 0.999]),
            every=200,
        ),
        "paper": dict(
            image_size=256,
            architecture=dict(image_size=256, base_width=64),
            steps=9600,
            batch_size=25,
            lr=1e-4,
            options=dict(betas=[0.5, 0.999]),
            schedule="halving",
            every=640,
            patience=10,
        ),
    },
    "deep-mri": {
        "smoke": dict(
            image_size=32,
            architecture=dict(n_cascades=2, n_convs=3, width=8),
            steps=30,
            every=15,
            batch_size=4,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(n_cascades=5, n_convs=5, width=32),
            steps=1100,
            batch_size=2,
            options=dict(weight_decay=2e-7),
            every=100,
            clip_norm=1.0,
        ),
        "paper": dict(
            image_size=256,
            architecture=dict(),
            steps=30_000,
            batch_size=10,
            lr=1e-4,
            options=dict(weight_decay=2e-7),
            schedule="constant",
            every=500,
        ),
    },
    "mri-vn": {
        "smoke": dict(
            image_size=32,
            architecture=dict(n_layers=2, n_filters=4, kernel_size=5, padding="symmetric"),
            steps=20,
            every=10,
            batch_size=2,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(n_layers=10, n_filters=24, kernel_size=11, padding="symmetric"),
            steps=600,
            batch_size=2,
            every=50,
            clip_norm=1.0,
        ),
        "paper": dict(
            image_size=256,
            architecture=dict(n_layers=10, n_filters=24, kernel_size=11, padding="symmetric"),
            # 1e-3 of a sum over 256^2 pixels
            steps=1000,
            batch_size=5,
            lr=65.536,
            optimiser="ipalm",
            options=dict(momentum=0.7),
            schedule="constant",
            every=100,
        ),
    },
}
_SIZES["med-50"] = {
    size: {k: v for k, v in values.items() if k != "n_train"}
    for size, values in _SIZES["ell-50"].items()
}


def recipe(name: str, profile: str = "standard", seed: int = 0, **changes) -> Recipe:
    """How the network `name` is trained at a profile; `changes` replace any field, `architecture`
    and `options` item by item.

    Raises:
        ValueError: for a name, profile or field that does not exist.
    """
    name = name.replace("_", "-")
    if name not in NAMES:
        raise ValueError(f"no network is called {name!r}; expected one of {', '.join(NAMES)}.")
    values = dict(_SIZES[name][profiles.get(profile).name])
    known = {f.name for f in dataclasses.fields(Recipe)} - {"name", "profile", "seed"}
    if unknown := set(changes) - known:
        raise ValueError(
            f"a recipe has no field {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}."
        )
    for k, v in changes.items():
        values[k] = {**values.get(k, {}), **v} if k in ("architecture", "options") else v
    return Recipe(name=name, profile=profile, seed=seed, **values)
