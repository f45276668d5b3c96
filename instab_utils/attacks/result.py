"""What an attack returns."""

from dataclasses import dataclass, field

import torch

from .. import metrics
from .vectors import forward_of


@dataclass
class WorstCase:
    """Perturbations of one attack. Dictionaries are keyed by strength; every per-image value has
    shape (batch,).
    """

    x: torch.Tensor  # (batch, ...) attacked images
    x_rec: torch.Tensor  # f(A x)
    # image perturbations, ||r|| = strength * ||x|| where reached
    r: dict[float, torch.Tensor]
    x_rec_perturbed: dict[float, torch.Tensor]  # f(A (x + r))
    rel_norm: dict[float, torch.Tensor]  # ||r|| / ||x||
    amplification: dict[float, torch.Tensor]  # ||f(A(x + r)) - f(Ax)|| / ||r||
    # False: the run ended first (r is its last iterate), see notes
    reached: dict[float, torch.Tensor]
    # estimated sigma_max(J), the unit of penalty and step
    sigma_max: torch.Tensor
    n_iter: torch.Tensor  # ascent steps taken
    # forward + gradient evaluations, power iteration included
    n_evaluations: torch.Tensor
    # "rel_norm", "amplification": (steps, batch), NaN once an image is done
    history: dict[str, torch.Tensor]
    notes: dict[int, str] = field(default_factory=dict)  # image index -> why its run ended early
    operator: object = field(default=None, repr=False)

    def measurement(self, strength: float) -> torch.Tensor:
        """The measurement perturbation A r."""
        return forward_of(self.operator)(self.r[strength])

    def psnr_db(
        self, strength: float, reference: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """PSNR against x (or `reference`) of f(Ax) and of f(A(x + r)), each (batch,) in dB."""
        reference = self.x if reference is None else reference
        return metrics.psnr_db(self.x_rec, reference), metrics.psnr_db(
            self.x_rec_perturbed[strength], reference
        )
