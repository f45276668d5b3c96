"""Single views of a Radon operator, for SART."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..operators import Radon

_kept: WeakKeyDictionary[Radon, list[tuple[Radon, Tensor]]] = WeakKeyDictionary()


def single_views(A: Radon) -> list[tuple[Radon, Tensor]]:
    """Return (A_s, s) for the views s one by one, in `golden_order`; built once for each A."""
    if A not in _kept:
        views = [torch.tensor([view]) for view in golden_order(A.n_views)]
        _kept[A] = [(_one_view(A, view), view) for view in views]
    return _kept[A]


def _one_view(A: Radon, view: Tensor) -> Radon:
    part = type(A)(A.image_size, A.angles_deg[view], A.n_detectors).to(A.device)
    part.storage = "csr"  # folding by symmetries pays for whole scans only
    return part


def golden_order(n: int) -> list[int]:
    """Return 0 .. n - 1 in the order of the fractional parts of k times the golden ratio."""
    golden = (5**0.5 - 1) / 2
    position = torch.arange(n, dtype=torch.float64) * golden % 1
    return position.argsort().argsort().tolist()
