"""Settings of the INR paper's grids, and the untrained field and the scan of each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from ... import profiles
from ...fields import Scan, phantom_scan
from ...networks import Fields

# of the records' parameters: what no experiment varied
_FIXED = {"local": False, "tv": 0.0, "projector": "radon", "crime": False}


@dataclass(frozen=True)
class Setting:
    """Everything that decides a field but the phantom: the paper's grid, and what it leaves out."""

    method: str = "dropout"  # or "bbb"; dropout with p = 0 is one image
    n_views: int = 20
    activation: str = "silu"
    depth: int = 3
    width: int = 64
    omega0: float = 5.0
    p: float = 0.2  # dropout
    prior_std: float = 10.0  # bbb, as xi and rho
    xi: float = 1e-10
    rho: float = -5.0
    masks: str = "pixel"
    steps: int = 1000
    lr: float | None = None  # None: fitting.RATES
    n_frequencies: int = 128
    image_size: int = 64
    seed: int = 0

    def __post_init__(self):
        if self.method not in ("dropout", "bbb"):
            raise ValueError(f"Setting expects method 'dropout' or 'bbb'; got {self.method!r}.")

    @classmethod
    def of(cls, parameters: Mapping) -> "Setting":
        """Return the setting in a record's parameters."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in parameters.items() if name in names})

    def parameters(self) -> dict[str, object]:
        """Return what a record says of the setting."""
        return {**asdict(self), **_FIXED}

    def field(self, id: int) -> Fields:
        """Return the untrained field of a phantom, with frequencies and weights of its own."""
        generator = profiles.generator(self.seed, f"field {id}")
        p = self.p if self.method == "dropout" else 0.0
        shape = (self.width, self.depth, self.activation, self.omega0, self.n_frequencies)
        return Fields(*shape, p, self.masks, generator)

    def scan(self, ids: int | Sequence[int]) -> Scan:
        """Return the views of these phantoms."""
        return phantom_scan(ids, self.n_views, self.image_size)


def grid(method: str, n_views: int, profile: str = "standard") -> list[dict]:
    """Return the settings that a profile tries, as parameters of `trials.trial`.

    The paper has 720 for dropout and 2160 for Bayes by backprop and each number of views, which
    are those of "published".
    """
    size = profiles.stage("inr" if method == "dropout" else "inr_bbb", profile)
    axes = {
        "activation": size.activations,
        "depth": size.depths,
        "width": size.widths,
        "omega0": size.omega0,
    }
    if method == "dropout":
        axes["p"] = size.fractions
    else:
        axes |= {"prior_std": size.prior_std, "xi": size.xi}
    common = profiles.stage("inr", profile)
    fixed = {
        "method": method,
        "n_views": n_views,
        "image_size": common.image_size,
        "n_frequencies": common.n_frequencies,
    }
    return [{**fixed, **dict(zip(axes, values))} for values in itertools.product(*axes.values())]
