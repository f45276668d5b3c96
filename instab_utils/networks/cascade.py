"""Deep MRI: a cascade of small residual networks, each followed by data consistency in k-space."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..operators import LinearOperator
from .dncnn import he_normal_
from .layers import convolutions


class DataConsistency(nn.Module):
    """Pull the measured k-space samples towards the data, or replace them: x - w A*(A x - y).

    w = strength / (1 + strength). For A = M F with orthonormal rows this is, in k-space, z = F x:

        z off the mask;   (z + strength y) / (1 + strength) on it,

    y itself when strength is infinite (noiseless data).

    Schlemper et al. 2018, eq. (6)-(8). Without noise it is a projection: idempotent, and A x = y
    afterwards. The authors' Theano layer applied the noisy formula to all of k-space; here it acts
    on the mask only.

    Args:
        strength: trust in the data, >= 0; the paper's lambda. math.inf for noiseless data.
    """

    def __init__(self, strength: float = math.inf):
        super().__init__()
        if not strength >= 0:
            raise ValueError(f"DataConsistency expects strength >= 0; got {strength}.")
        self.weight = 1.0 if math.isinf(strength) else strength / (1 + strength)

    def forward(self, x: Tensor, y: Tensor, operator) -> Tensor:
        """Return x - w A*(A x - y), x complex (batch, 1, n, m), A A* = I on the samples."""
        return x - self.weight * operator.adjoint(operator(x) - y)


class Cascade(nn.Module):
    """Deep MRI: x_0 = A* y;  x_{k+1} = DC(x_k + net_k(x_k)).

    net_k are 3x3 convolutions with ReLU between, on (real, imaginary).

    Args:
        n_cascades, n_convs, width: D5C5, the published network, is (5, 5, 64): 565,770 parameters.
        strength: of the data consistency layers, see `DataConsistency`.
        generator: source of the initial weights (He normal, zero bias).

    Call it as `cascade(y, operator)`: y complex (batch, 1, n, m), the operator a `MaskedFourier`;
    returns a complex
    image of the same shape. The transform may be centred or not: with the same lines sampled the
    image is the same.

    Schlemper et al. 2018; the network called Deep MRI in Antun et al. 2020, SI 2.3.
    """

    def __init__(
        self,
        n_cascades: int = 5,
        n_convs: int = 5,
        width: int = 64,
        strength: float = math.inf,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if n_cascades < 1 or n_convs < 2:
            raise ValueError(
                f"Cascade expects n_cascades >= 1 and n_convs >= 2; got {n_cascades} and {n_convs}."
            )
        widths = [2, *[width] * (n_convs - 1), 2]
        self.blocks = nn.ModuleList(convolutions(widths) for _ in range(n_cascades))
        self.data_consistency = DataConsistency(strength)
        he_normal_(self, generator)

    def forward(self, y: Tensor, operator) -> Tensor:
        x = operator.adjoint(y)
        for block in self.blocks:
            hidden = to_channels(x)
            for conv in block[:-1]:
                hidden = F.relu(conv(hidden))
            x = self.data_consistency(x + to_complex(block[-1](hidden)), y, operator)
        return x

    def reconstruct(self, y: Tensor, A: LinearOperator) -> Tensor:
        """Return the network's image from measurements of A."""
        return self(y, A)


def to_channels(x: Tensor) -> Tensor:
    """Return complex (batch, 1, n, m) as real (batch, 2, n, m).

    There is no copy: a complex image is already in channels-last order.
    """
    if not x.is_complex() or x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(
            f"expected a complex image of shape (batch, 1, n, m); got {x.dtype} {tuple(x.shape)}."
        )
    return torch.view_as_real(x[:, 0]).movedim(-1, 1)


def to_complex(x: Tensor) -> Tensor:
    """Invert `to_channels`; no copy for a channels-last tensor.

    Half precision becomes float32: no FFT runs in it.
    """
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return torch.view_as_complex(x.movedim(1, -1).contiguous())[:, None]
