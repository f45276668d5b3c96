"""What an attack returns."""

from dataclasses import dataclass, field

import torch

from .. import metrics
from .vectors import forward_of


@dataclass
class WorstCase:
    """Perturbations of one attack. Dictionaries are keyed by strength; every per-image value has shape (batch,)."""

    x: torch.Tensor                             # (batch, ...) attacked images
    x_rec: torch.Tensor                         # f(A x)
    r: dict[float, torch.Tensor]                # image perturbations, ||r|| = strength * ||x|| where reached
    x_rec_perturbed: dict[float, torch.Tensor]  # f(A (x + r))
    rel_norm: dict[float, torch.Tensor]         # ||r|| / ||x||
    amplification: dict[float, torch.Tensor]    # ||f(A(x + r)) - f(Ax)|| / ||r||
    reached: dict[float, torch.Tensor]          # False: the run ended first (r is its last iterate), see notes
    sigma_max: torch.Tensor                     # estimated sigma_max(J), the unit of penalty and step
    n_iter: torch.Tensor                        # ascent steps taken
    n_evaluations: torch.Tensor                 # forward + gradient evaluations, power iteration included
    history: dict[str, torch.Tensor]            # "rel_norm", "amplification": (steps, batch), NaN once an image is done
    notes: dict[int, str] = field(default_factory=dict)  # image index -> why its run ended early
    operator: object = field(default=None, repr=False)

    def measurement(self, strength: float) -> torch.Tensor:
        """The measurement perturbation A r."""
        return forward_of(self.operator)(self.r[strength])

    def psnr_db(self, strength: float, reference: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """PSNR against x (or `reference`) of f(Ax) and of f(A(x + r)), each (batch,) in dB."""
        reference = self.x if reference is None else reference
        return metrics.psnr_db(self.x_rec, reference), metrics.psnr_db(self.x_rec_perturbed[strength], reference)
