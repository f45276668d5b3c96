"""Parts of a measurement, for the row-action methods: A_s x and A_s* y of some views only."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from ..operators import LinearOperator, Radon


@dataclass(frozen=True)
class Part:
    """The rows of A that belong to some views (indices along axis 2 of y; None = all)."""

    operator: LinearOperator
    views: torch.Tensor | None = None
    # the operator is the whole A: the other views are zeroed instead of left out
    masked: bool = False

    @property
    def is_all(self) -> bool:
        return self.views is None

    def select(self, y):
        """y_s; with zeros for the other views where the operator cannot leave them out."""
        if self.is_all:
            return y
        return y * self._mask(y) if self.masked else y[:, :, self.views]

    def forward(self, x):
        y = self.operator.forward(x)
        return y * self._mask(y) if self.masked else y

    def adjoint(self, y):
        return self.operator.adjoint(y * self._mask(y) if self.masked else y)

    def _mask(self, y):
        mask = torch.zeros(y.shape[2], 1, device=y.device)
        mask[self.views] = 1
        return mask.to(y.real.dtype if y.is_complex() else y.dtype)


# building one small operator a view is worth keeping
_radon_parts: WeakKeyDictionary = WeakKeyDictionary()


def split(A, y: torch.Tensor, n_subsets: int, order: str) -> list[Part]:
    """Deal the views into `n_subsets` interleaved groups, visited in the given order."""
    n_views = y.shape[2]
    if order not in ("spread", "sequential"):
        raise ValueError(f"expected order 'spread' or 'sequential'; got {order!r}.")
    if not 1 <= n_subsets <= n_views:
        raise ValueError(
            f"expected 1 <= n_subsets <= {n_views} (the number of views); got {n_subsets}."
        )
    if n_subsets == 1:
        return [Part(A)]
    groups = [torch.arange(first, n_views, n_subsets) for first in visits(n_subsets, order)]
    if not isinstance(A, Radon):
        return [Part(A, views, masked=True) for views in groups]
    kept = _radon_parts.setdefault(A, {})
    key = (n_subsets, order)
    if key not in kept:
        kept[key] = [Part(_some_views(A, views), views) for views in groups]
    return kept[key]


def _some_views(A: Radon, views: torch.Tensor) -> Radon:
    part = type(A)(A.image_size, A.angles_deg[views], A.n_detectors).to(A.device)
    part.storage = "csr"  # folding by symmetries pays for whole scans only
    return part


def visits(n: int, order: str) -> list[int]:
    """Order of visiting n groups: "spread" ranks the fractional parts of k times the golden ratio."""
    if order == "sequential":
        return list(range(n))
    golden = (5**0.5 - 1) / 2
    position = torch.arange(n, dtype=torch.float64) * golden % 1
    return position.argsort().argsort().tolist()
