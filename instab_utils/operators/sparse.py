"""A differentiable function for any linear map, and sparse pairs (M, M^T)."""

import warnings
from collections.abc import Callable

import scipy.sparse
import torch
from torch import Tensor


class _LinearFunction(torch.autograd.Function):
    """x -> M x, whose derivative y -> M^T y is this function again: differentiable to any order."""

    @staticmethod
    def forward(x, apply, transpose):
        if torch.is_autocast_enabled(x.device.type):  # no sparse product exists in half precision
            with torch.autocast(x.device.type, enabled=False):
                return apply(x)
        return apply(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.map, ctx.transpose = inputs

    @staticmethod
    def backward(ctx, grad):
        return _LinearFunction.apply(grad, ctx.transpose, ctx.map), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return _LinearFunction.apply(tangent, ctx.map, ctx.transpose)

    @staticmethod
    def vmap(info, in_dims, x, apply, transpose):
        return _LinearFunction.apply(x.movedim(in_dims[0], 0), apply, transpose), 0


LinearMap = Callable[[Tensor], Tensor]


def linear(x: Tensor, apply: LinearMap, transpose: LinearMap) -> Tensor:
    """Return apply(x), with `transpose` as its derivative.

    Args:
        x: any real or complex tensor; half precision and integers are raised to float32.
        apply, transpose: a real linear map and its exact transpose, on tensors with any leading
            axes.
    """
    if x.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        x = x.to(torch.float32)
    return _LinearFunction.apply(x, apply, transpose)


def to_columns(x: Tensor) -> Tensor:
    """Return (h * w, k) of (..., h, w): leading entries, twice as many if complex, come last."""
    size = x.shape[-2] * x.shape[-1]
    if x.is_complex():
        parts = torch.view_as_real(x.resolve_conj().reshape(-1, size))
        return parts.transpose(0, 1).reshape(size, -1)
    # the third axis keeps torch off its slower 2-D transpose
    return x.reshape(1, -1, size).mT.contiguous()[0]


def from_columns(columns: Tensor, like: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return (..., h, w) of (h * w, k), the inverse of `to_columns`, with the type of `like`."""
    if like.is_complex():
        parts = columns.view(columns.shape[0], -1, 2).transpose(0, 1).contiguous()
        return torch.view_as_complex(parts).view(*like.shape[:-2], *shape)
    return columns[None].mT.contiguous().view(*like.shape[:-2], *shape)


def sparse_pair(
    matrix: scipy.sparse.csr_array, dtype: torch.dtype, device
) -> tuple[Tensor, Tensor]:
    """Return M and its transpose as int32 CSR tensors: a product with M^T read off M is slow."""
    return tuple(_csr_tensor(half, dtype, device) for half in (matrix, matrix.T.tocsr()))


def _csr_tensor(matrix: scipy.sparse.csr_array, dtype: torch.dtype, device: torch.device) -> Tensor:
    # torch announces that its sparse tensors are in beta and not checked by default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        parts = (matrix.indptr, matrix.indices, matrix.data)
        row, column, values = (torch.from_numpy(part).to(device) for part in parts)
        return torch.sparse_csr_tensor(
            row.to(torch.int32),
            column.to(torch.int32),
            values.to(dtype),
            matrix.shape,
            check_invariants=False,
        )
