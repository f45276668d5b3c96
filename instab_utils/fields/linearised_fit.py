"""The change of a fitted field after a small change of its scan, linearised, in closed form."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..networks import Fields
from ..operators import LinearOperator
from .fitting import side


class Response(NamedTuple):
    """The linear map from a change e of the views to the change of the fitted image."""

    image: Callable[[Tensor], Tensor]  # (k, 1, n_views, n_detectors) -> (k, 1, n, n)
    adjoint: Callable[[Tensor], Tensor]  # its transpose
    # L, the largest eigenvalue of A K A^T; steps are 1 / L
    rate: float


@torch.no_grad()
def kernel(fields: Fields, size: int) -> Tensor:
    """Return K = J J^T, (size^2, size^2), of J, the derivatives of all pixels by all weights.

    A field is evaluated point by point, so J is never needed. With h_l(v) the inputs of layer l at
    pixel v and d_l(v) = df(v) / dz_l(v),  K(v, w) = sum_l (<h_l(v), h_l(w)> + 1) <d_l(v), d_l(w)>.

    Raises:
        ValueError: for more than one field.
    """
    if fields.n_fields != 1:
        raise ValueError(
            f"kernel expects one field; got {fields.n_fields}. Pass one after the other."
        )
    layers, h, inputs, outputs = fields.unflatten(fields.flat()), fields.features(size), [], []
    with torch.enable_grad():
        for i, (w, b) in enumerate(layers):
            inputs.append(h.detach())
            z = torch.baddbmm(b, h, w)
            outputs.append(z if z.requires_grad else z.requires_grad_())
            h = fields.activate(z) if i < len(layers) - 1 else z.sigmoid()
        slopes = torch.autograd.grad(h.sum(), outputs)
    return sum((h @ h.mT + 1) * (d @ d.mT) for h, d in zip(inputs, slopes, strict=True))[0]


@torch.no_grad()
def response(fields: Fields, A: LinearOperator, n_steps: int) -> Response:
    r"""Return e -> K A^T phi(A K A^T) e,  phi(s) = (1 - (1 - s / L)^n_steps) / s.

    That is the change of the image after n_steps of plain gradient descent on
    ||A f - (A f_0 + e)||^2 / 2, step 1 / L, from weights with image f_0, if the field is replaced
    by its tangent there; lengths in units of the image's side. Few steps reproduce the part of the
    change that the field learns fast, many all of it. Fitting anew is neither linear nor plain
    descent from there, so a perturbation found with this map is a proposal.

    Costs size^4 numbers and the eigenvalues of a matrix as large as the views.
    """
    n, unit = A.image_shape[-1], side(A)
    back = A(kernel(fields, n).view(-1, 1, n, n)).flatten(1) / unit  # K A^T, one row a pixel
    inner = A(back.T.reshape(-1, 1, n, n)).flatten(1) / unit
    values, vectors = torch.linalg.eigh((inner + inner.T).double() / 2)
    values = values.clamp_min(0)
    rate = float(values[-1])
    filtered = -torch.expm1(
        n_steps * torch.log1p(-(values / rate).clamp_max(1 - 1e-12))
    ) / values.clamp_min(1e-30 * rate)
    filtered = torch.where(values > 1e-15 * rate, filtered, n_steps / rate)
    weight = (vectors * filtered @ vectors.T).to(back.dtype)
    shape = A.sinogram_shape
    return Response(
        lambda e: (e.flatten(1) / unit @ weight @ back.T).view(-1, 1, n, n),
        lambda x: (x.flatten(1) @ back @ weight / unit).view(-1, 1, *shape),
        rate,
    )


def top_direction(forward: Callable, adjoint: Callable, start: Tensor, n_iter: int = 40) -> Tensor:
    """Return the unit vector r that a linear map M stretches most, by power iteration.

    n_iter steps r <- M^T M r / ||M^T M r|| from `start`.
    """
    r = start / start.norm()
    for _ in range(n_iter):
        r = adjoint(forward(r))
        r = r / r.norm()
    return r
