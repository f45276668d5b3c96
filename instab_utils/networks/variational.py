"""MRI-VN: a variational network, unrolled Landweber steps with learned filters and activations."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..operators import LinearOperator
from .cascade import to_channels, to_complex
from .layers import symmetric_pad


class RBFActivation(nn.Module):
    """Learned activations phi_i(z) = sum_j w_ij exp(-(z - mu_j)^2 / (2 s^2)).

    mu is equidistant on [-1, 1], s the distance of two mu; phi is zero beyond about 1 + 6 s.

    Args:
        n_channels: activations i, one a channel.
        n_nodes: Gaussians j in each.

    z is real (batch, n_channels, n, m). Weights start at w_ij = 0.04 mu_j, nearly linear.

    Frozen float32 weights are evaluated from a table of phi with 512 points a node distance by
    linear interpolation: one pass instead of 31 exponentials, one saved tensor instead of 31. The
    gradient reads a table of phi', its own gradient one of phi''. Errors: 1e-6 max |w| s^-k for the
    k-th derivative, and the float32 rounding of z, 3e-7 times the next derivative. A table
    takes 21,505 floats a channel. float64 uses the formula.

    Weights that train (they ask for gradients, in training mode or where gradients are enabled)
    have a coarser table, 128 points a node distance, made anew in each call as weights times
    Gaussians, so that their gradient goes through it: phi is then the piecewise linear function
    that it is computed as, 1e-5 max |w| from the formula, and all gradients are that function's
    own.
    """

    POINTS, TRAINING_POINTS, TAIL = 512, 128, 6

    def __init__(self, n_channels: int, n_nodes: int = 31):
        super().__init__()
        nodes = torch.linspace(-1, 1, n_nodes)
        self.register_buffer("nodes", nodes, persistent=False)
        self.weight = nn.Parameter(0.04 * nodes.repeat(n_channels, 1))
        self.spacing = 2 / (n_nodes - 1)
        self._tables: dict[int, Tensor] = {}
        self._table_key = None

    def forward(self, z: Tensor) -> Tensor:
        if z.dtype != torch.float32:
            return self.formula(z)
        if self.weight.requires_grad and (self.training or torch.is_grad_enabled()):
            table = self.weight @ self._basis(self.TRAINING_POINTS, 0, self.weight.dtype)
            return _interpolate(z, table[:, None, None], self.reach)
        return _Lookup.apply(z, self, 0)

    @property
    def reach(self) -> float:
        """Largest |z| of the tables."""
        return 1 + self.TAIL * self.spacing

    def formula(self, z: Tensor) -> Tensor:
        """Return the sum of Gaussians as it is written above."""
        weight = self.weight.to(z.dtype)[:, :, None, None]
        terms = (
            weight[:, j] * torch.exp((z - node).square() * (-0.5 / self.spacing**2))
            for j, node in enumerate(self.nodes.to(z.dtype))
        )
        return sum(terms)

    def table(self, order: int) -> Tensor:
        """Return the derivative of that order on the grid, (n_channels, 1, 1, points).

        It is computed once for given weights.
        """
        key = (self.weight._version, self.weight.data_ptr(), self.weight.device)
        if key != self._table_key:
            self._tables, self._table_key = {}, key
        if order not in self._tables:
            table = self.weight.detach().double() @ self._basis(self.POINTS, order, torch.float64)
            self._tables[order] = table.float()[:, None, None]
        return self._tables[order]

    def _basis(self, points: int, order: int, dtype: torch.dtype) -> Tensor:
        """Return that derivative of every Gaussian on the grid, (n_nodes, points)."""
        grid = len(self.nodes), self.TAIL, points, order, self.spacing
        return _gaussians(*grid, dtype, self.weight.device)


@functools.lru_cache(maxsize=8)
def _gaussians(
    n_nodes: int,
    tail: int,
    points: int,
    order: int,
    spacing: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    half = round(((n_nodes - 1) / 2 + tail) * points)
    grid = torch.arange(-half, half + 1, dtype=torch.float64) / points
    t = grid - (torch.arange(n_nodes, dtype=torch.float64)[:, None] - (n_nodes - 1) / 2)
    hermite = (1, -t, t.square() - 1, 3 * t - t**3)[order]
    basis = hermite * torch.exp(-0.5 * t.square()) / spacing**order
    basis[:, [0, -1]] = 0  # points beyond the grid read its ends
    return basis.to(device, dtype)


def _interpolate(z: Tensor, table: Tensor, reach: float) -> Tensor:
    """Look channel c of z (batch, channels, n, m) up in table c of (channels, 1, 1, points).

    The ends of a table are -reach and reach.
    """
    by_channel = z.transpose(0, 1)
    place = by_channel.flatten(2) / reach
    grid = torch.stack([place, torch.zeros_like(place)], -1)
    values = F.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return values.reshape(by_channel.shape).transpose(0, 1)


class _Lookup(torch.autograd.Function):
    """Interpolate the table of a derivative; the gradient is a look-up of the next one."""

    @staticmethod
    def forward(ctx, z, activation, order):
        ctx.save_for_backward(z)
        ctx.activation, ctx.order = activation, order
        return _interpolate(z, activation.table(order), activation.reach)

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return grad * _Lookup.apply(z, ctx.activation, ctx.order + 1), None, None


class VariationalNetwork(nn.Module):
    """u_0 = A* y;  u_{t+1} = u_t - (1/N_k) K_t^T phi_t(K_t u_t) - lambda_t A*(A u_t - y).

    K u = K_re * u_re + K_im * u_im and K^T z = K_re^T z + i K_im^T z with real k x k filter pairs
    on the padded image, cropped afterwards.

    Args:
        n_layers, n_filters, kernel_size: (10, 48, 11) is the published PyTorch port (131,050
            parameters); (10, 24, 11) the network of Antun et al. (65,530).
        n_nodes: Gaussians of every activation on [-1, 1].
        padding: "reflect" (the port, and so its weights) or "symmetric" (the authors' network;
            repeats the edge pixel).
        generator: source of the initial filters, N(0, 1) / kernel_size, zero mean, l2 norm <= 1.

    Call it as `network(y, operator)`: y complex (batch, n_coils, n, m) of a centred
    `MultiCoilFourier`, scaled so that max |A* y| is about 1; returns a complex image (batch, 1, n,
    m), n and m larger than kernel_size.

    Hammernik et al. 2018; Antun et al. 2020, SI eq. (13), which prints the data term with a plus:
    that diverges.
    """

    def __init__(
        self,
        n_layers: int = 10,
        n_filters: int = 48,
        kernel_size: int = 11,
        n_nodes: int = 31,
        padding: str = "reflect",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if padding not in ("reflect", "symmetric"):
            raise ValueError(
                f'VariationalNetwork expects padding "reflect" or "symmetric"; got {padding!r}.'
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"VariationalNetwork expects an odd kernel_size; got {kernel_size}.")
        filters = (
            torch.randn((n_layers, n_filters, 2, kernel_size, kernel_size), generator=generator)
            / kernel_size
        )
        self.filters = nn.ParameterList(nn.Parameter(f.clone()) for f in filters)
        self.activations = nn.ModuleList(RBFActivation(n_filters, n_nodes) for _ in range(n_layers))
        self.steps = nn.Parameter(torch.ones(n_layers))
        # the code of the authors and of the port has it, the paper has not
        self.scale = 1 / n_filters
        self.padding = padding
        self.project_()

    def forward(self, y: Tensor, operator) -> Tensor:
        u = operator.adjoint(y)
        for filters, activation, step in zip(self.filters, self.activations, self.steps):
            u = (
                u
                - self._regulariser(u, filters, activation)
                - step * operator.adjoint(operator(u) - y)
            )
        return u

    def reconstruct(self, y: Tensor, A: LinearOperator, normalise: bool = False) -> Tensor:
        """Return the network's image from measurements of A, or c times that of y / c.

        Args:
            normalise: take c = max |A* y| of every image; 1 otherwise. The gradient stays exact,
                because it is taken through the maximum, too; but a perturbation of one pixel can
                then rescale the whole image.
        """
        if not normalise:
            return self(y, A)
        scale = A.adjoint(y).abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return scale * self(y / scale, A)

    @torch.no_grad()
    def project_(self) -> None:
        """Apply the constraints in place: filters of zero mean and l2 norm <= 1, steps >= 0.

        Each mean is over both parts of a complex filter. The authors' code projects onto the ball,
        as here; Antun et al., SI, print unit norm. To be called after every step of training.
        """
        for filters in self.filters:
            filters -= filters.mean((1, 2, 3), keepdim=True)
            filters /= filters.flatten(1).norm(dim=1).clamp_min(1)[:, None, None, None]
        self.steps.clamp_(min=0)

    def _regulariser(self, u, filters, activation):
        # Padding by kernel_size - 1 and valid convolutions: the published pad of 11 with a crop
        # gives the same pixels.
        crop = filters.shape[-1] - 1
        padded = _pad(to_channels(u), crop, self.padding)
        trains = filters.requires_grad and (self.training or torch.is_grad_enabled())
        filters = filters.to(padded.dtype)
        if trains:
            back = _synthesis(activation(F.conv2d(padded, filters)), filters, crop)
        else:
            responses = activation(_Filtering.apply(padded, filters, 0, False))
            back = _Filtering.apply(responses, filters, crop, True)
        return self.scale * to_complex(back)


def _pad(x, width, mode):
    return symmetric_pad(x, width) if mode == "symmetric" else F.pad(x, [width] * 4, mode="reflect")


class _Filtering(torch.autograd.Function):
    """K z, or K^T z where transposed, with frozen filters; the gradient of one is the other."""

    @staticmethod
    def forward(ctx, z, filters, padding, transposed):
        ctx.save_for_backward(filters)
        ctx.options = padding, transposed
        if transposed:
            return _synthesis(z, filters, padding)
        return F.conv2d(z, filters.contiguous(memory_format=torch.channels_last), padding=padding)

    @staticmethod
    def backward(ctx, grad):
        padding, transposed = ctx.options
        back = _Filtering.apply(grad, *ctx.saved_tensors, padding, not transposed)
        return back, None, None, None


def _synthesis(z, filters, padding):
    """conv_transpose2d(z, filters, padding) for two output channels.

    The k x k filters to two channels are applied as 1 x k filters to 2 k channels, whose rows are
    shifted and added: the same products, but many output channels, for which convolution kernels
    are 2-3 times faster than for two.
    """
    size, margin = filters.shape[-1], filters.shape[-1] - 1 - padding
    one_row = filters.flip(-1).permute(2, 1, 0, 3).flatten(0, 1)[:, :, None]
    rows = F.conv2d(z, one_row.contiguous(memory_format=torch.channels_last), padding=margin)
    rows = rows.unflatten(1, (size, filters.shape[1]))
    n_rows = rows.shape[-2] - size + 1
    return sum(rows[:, i, :, size - 1 - i : size - 1 - i + n_rows] for i in range(size))
