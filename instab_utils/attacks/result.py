"""What an attack returns."""

from dataclasses import dataclass, field

import torch

from .. import metrics


@dataclass
class WorstCase:
    """Perturbations of one attack.

    Dictionaries are keyed by strength; every per-image value has shape (batch,).
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
    history: torch.Tensor  # (steps, batch) ||r|| / ||x||, NaN once an image is done
    notes: dict[int, str] = field(default_factory=dict)  # image index -> why its run ended early

    def psnr_db(self, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSNR against x of f(Ax) and f(A(x + r)), (batch,) in dB."""
        before = metrics.psnr_db(self.x_rec, self.x)
        after = metrics.psnr_db(self.x_rec_perturbed[strength], self.x)
        return before, after
