"""Implicit neural representations: images as functions of a point, many side by side."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import random_bits

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Source of random numbers: one for all fields of a stack, or one for each."""
ACTIVATIONS = ("relu", "silu", "sine", "softplus", "tanh")
_RANK_TOLERANCE = 3e-7  # of the largest singular value: what float32 would round away


class Fields(nn.Module):
    r"""K fields f_k(v) = sigmoid(MLP_k(gamma_k(v))), v in [-1, 1]^2, one scan each.

    Nothing is shared; one matrix product serves all. gamma(v) = [sin(v B^T + pi/4),
    cos(v B^T + pi/4)], B ~ omega0 N(0, 1), fixed, without a factor 2 pi. The MLP is a linear layer
    from the 2 n_frequencies features and the activation, `depth` times a linear layer and the
    activation, and a linear layer to one value: depth + 2 linear layers. Dropout acts on the input
    of each of them but the first.

    Args:
        width, depth: of the MLP; 16 to 1024 and 3, 6, 9 in the paper.
        activation: "relu", "silu", "sine" (sin(omega0 z), the same omega0), "softplus" or "tanh".
        omega0: scale of the frequencies; a number, or K of them for K fields; 1 to 15 in the paper.
        n_frequencies: rows of B; 363 in the follow-up's code.
        dropout: fraction in [0, 1) of elements set to zero in training mode, a number or K of them.
        masks: "pixel": every pixel has a mask of its own, which is what nn.Dropout does on a list
            of coordinates and what the authors' code runs. A pass is then not a function of v, and
            its pixels are independent given the mean. "shared": one mask for all pixels, so that a
            pass is a draw of one function.
        generator: draws frequencies and weights; None takes PyTorch's default generator.
            `self.generator` draws the masks: one for the stack, or a list of K of them, with which
            the masks of a field do not depend on its neighbours. A fraction is rounded to a
            multiple of 2^-16.

    Weights start as N(0, 2 / fan_in) for relu and softplus, N(0, 1 / fan_in) for silu, Xavier's
    normal for tanh, and for sine U(+-sqrt(6 / fan_in) / omega0), its first layer U(+-1 / fan_in);
    biases U(+-1 / sqrt(fan_in)).

    Raises:
        ValueError: for another activation or masks, sizes below 1, fractions outside [0, 1).

    Source: Vasconcelos, He, Teh, and their follow-up's code, which has all that the paper leaves
    out.
    """

    def __init__(
        self,
        width: int = 256,
        depth: int = 3,
        activation: str = "relu",
        omega0=10.0,
        n_frequencies: int = 128,
        dropout=0.0,
        masks: str = "pixel",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if activation not in ACTIVATIONS or masks not in ("pixel", "shared"):
            raise ValueError(
                f"Fields expects an activation of {', '.join(ACTIVATIONS)}, masks pixel or shared; "
                f"got {activation!r}, {masks!r}."
            )
        if min(width, depth, n_frequencies) < 1:
            raise ValueError(
                f"Fields expects sizes of at least 1; got width={width}, depth={depth}, "
                f"n_frequencies={n_frequencies}."
            )
        self.width, self.depth = width, depth
        self.activation, self.masks = activation, masks
        self.generator: Generators = None
        self._masked = masked_activation
        self._grids: dict[tuple, object] = {}
        self.register_buffer("omega0", _per_field(omega0))
        n_fields = len(self.omega0)
        self.register_buffer("dropout", _per_field(dropout).expand(n_fields, 1, 1).clone())
        self.drops = bool((self.dropout > 0).any())
        # kept: 16 random bits that are not below the threshold; times the gain
        dropped = (self.dropout.double() * 2**16).round().clamp(max=2**16 - 1)
        threshold, gain = (dropped - 2**15).to(torch.int16), (1 / (1 - dropped / 2**16)).float()
        self.register_buffer("_threshold", threshold, persistent=False)
        self.register_buffer("_gain", gain, persistent=False)
        if not bool(((self.dropout >= 0) & (self.dropout < 1)).all()):
            raise ValueError(
                f"Fields expects the fraction that is dropped in [0, 1); got {dropout}."
            )
        self.register_buffer(
            "frequencies",
            self.omega0 * torch.randn(n_fields, 2, n_frequencies, generator=generator),
        )
        sizes = [2 * n_frequencies, *[width] * (depth + 1), 1]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(n_fields, i, o)) for i, o in zip(sizes, sizes[1:])
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(n_fields, 1, o)) for o in sizes[1:])
        self._initialise(generator)

    @classmethod
    def stack(cls, fields: Sequence["Fields"]) -> "Fields":
        """Return fields of one shape side by side, each as it is."""
        shapes = {(f.width, f.depth, f.activation, f.masks, f.frequencies.shape[2]) for f in fields}
        if len(shapes) != 1:
            raise ValueError(
                "stack expects fields of one width, depth, activation, kind of masks and number of "
                f"frequencies; got {shapes}."
            )
        omega0, dropout, frequencies = (
            torch.cat([getattr(f, name) for f in fields])
            for name in ("omega0", "dropout", "frequencies")
        )
        width, depth, activation, masks, n_frequencies = shapes.pop()
        omega0, dropout = omega0.flatten().cpu(), dropout.flatten().cpu()
        net = cls(width, depth, activation, omega0, n_frequencies, dropout, masks)
        net.to(frequencies.device)
        net.frequencies.copy_(frequencies)
        return net.load_flat(torch.cat([f.flat() for f in fields]))

    @property
    def n_fields(self) -> int:
        """Return K."""
        return len(self.frequencies)

    @property
    def n_parameters(self) -> int:
        """Return the number of weights and biases of one field, without its fixed frequencies."""
        return sum(p[0].numel() for p in self.parameters())

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Return the shapes in one field's flat vector: weights and biases, layer after layer.

        Weights are (fan_in, fan_out), biases (1, fan_out).
        """
        return [tuple(p.shape[1:]) for pair in zip(self.weights, self.biases) for p in pair]

    def flat(self) -> Tensor:
        """Return a copy of all parameters, (n_fields, n_parameters)."""
        pairs = zip(self.weights, self.biases)
        return torch.cat([p.detach().flatten(1) for pair in pairs for p in pair], 1)

    @torch.no_grad()
    def load_flat(self, theta: Tensor) -> "Fields":
        """Take the parameters from (n_fields, n_parameters), the form of `flat`; returns self."""
        for weight, bias, (w, b) in zip(self.weights, self.biases, self.unflatten(theta)):
            weight.copy_(w)
            bias.copy_(b)
        return self

    def unflatten(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return views of theta (n, n_parameters) by layer; n = K, or any n where K is 1.

        A weight is (n, fan_in, fan_out), a bias (n, 1, fan_out).
        """
        sizes = [i * o for i, o in self.shapes]
        if theta.ndim != 2 or theta.shape[1] != sum(sizes) or self.n_fields not in (1, len(theta)):
            n = self.n_fields if self.n_fields > 1 else "n"
            raise ValueError(
                f"theta expects ({n}, {sum(sizes)}), as `flat` gives it; got {tuple(theta.shape)}."
            )
        parts = [part.view(-1, *shape) for part, shape in zip(theta.split(sizes, 1), self.shapes)]
        return list(zip(parts[::2], parts[1::2]))

    def forward(self, points: Tensor, theta: Tensor | None = None) -> Tensor:
        """Return f_k at points (n_points, 2) in [-1, 1]^2: (n_fields, n_points)."""
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"Fields expects points (n_points, 2); got {tuple(points.shape)}.")
        phase = points @ self.frequencies + math.pi / 4
        features = torch.cat([phase.sin(), phase.cos()], -1)
        return self._mlp(lambda w, b: torch.baddbmm(b, features.expand(len(w), -1, -1), w), theta)

    def render(self, size: int, theta: Tensor | None = None) -> Tensor:
        """Return the images (K, 1, size, size) on the grid linspace(-1, 1, size)^2.

        Row i and column j are at v = (-1 + 2 j / (size - 1), -1 + 2 i / (size - 1)).

        Args:
            theta: (n, n_parameters) as in `flat`, in the place of the module's own parameters,
                differentiable; n = K, or any n where K is 1 (chains or samples of one field).
        """
        grid = self._grid(size)
        return self._mlp(grid.first_layer, theta).view(-1, 1, size, size)

    def features(self, size: int) -> Tensor:
        """Return gamma on the grid of `render`, (K, size^2, 2 n_frequencies)."""
        return self._grid(size).dense()

    def activate(self, z: Tensor) -> Tensor:
        """Return the activation of z (K, n_points, width)."""
        return _activation(z, self.activation, self.omega0)

    def _mlp(self, first_layer, theta):
        own = zip(self.weights, self.biases)
        first, *rest = own if theta is None else self.unflatten(theta)
        h = first_layer(*first)
        for w, b in rest:
            h = torch.baddbmm(b, self._hidden(h), w)
        return h[..., 0].sigmoid()

    def _hidden(self, z):
        """Return the activation of z, and its dropout in training mode."""
        if not self.training or not self.drops:
            return self.activate(z)
        shape = z.shape if self.masks == "pixel" else (z.shape[0], 1, z.shape[2])
        bits = random_bits(shape, streams(self.generator), z.device)
        dropped = (bits, self._threshold, self._gain)
        return self._masked(z, self.activation, self.omega0, *dropped)

    def _grid(self, size):
        key = (size, self.frequencies.device, self.frequencies.dtype, self.frequencies._version)
        if key not in self._grids:
            self._grids = {key: _Grid(self.frequencies, size)}
        return self._grids[key]

    @torch.no_grad()
    def _initialise(self, generator):
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            fan_in, fan_out = weight.shape[1:]
            if self.activation == "sine":
                bound = 1 / fan_in if layer == 0 else math.sqrt(6 / fan_in) / self.omega0
                weight.uniform_(-1, 1, generator=generator).mul_(bound)
            else:
                variance = {"silu": 1 / fan_in, "tanh": 2 / (fan_in + fan_out)}.get(
                    self.activation, 2 / fan_in
                )
                weight.normal_(0, math.sqrt(variance), generator=generator)
            bias.uniform_(-1, 1, generator=generator).div_(math.sqrt(fan_in))

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        shape = f"width={self.width}, depth={self.depth}, {self.activation}"
        return f"{self.n_fields} x ({shape}), {self.n_parameters} parameters each"


def streams(generators: Generators) -> Sequence[torch.Generator | None]:
    """Return the generators as a list, of one or of one a field."""
    return generators if isinstance(generators, Sequence) else [generators]


def _activation(z, name, omega0):
    if name == "sine":
        return torch.sin(omega0 * z)
    return {"relu": F.relu, "silu": F.silu, "softplus": F.softplus, "tanh": torch.tanh}[name](z)


def masked_activation(
    z: Tensor, name: str, omega0: Tensor, bits: Tensor, threshold: Tensor, gain: Tensor
) -> Tensor:
    """Return the activation of z (K, n_points, width), times `gain` where bits >= threshold, or 0.

    Apart from `Fields` so that it can be compiled once for fields of all sizes.
    """
    keep = torch.empty(bits.shape, dtype=z.dtype, device=z.device)
    torch.ge(bits, threshold, out=keep)
    return _activation(z, name, omega0) * keep.mul_(gain)


def _per_field(value) -> Tensor:
    """Return a number, or K of them, as (K, 1, 1)."""
    return torch.atleast_1d(torch.as_tensor(value, dtype=torch.float32))[:, None, None].clone()


class _Grid:
    r"""gamma on a grid, as (Q_y x Q_x) T: of low rank, because it is smooth.

    sin(b_x x + b_y y + pi/4) is a sum of two products of a function of x and one of y, and the n x
    2F matrix of all functions of x has numerical rank r, about 2 max|b_x| / pi + a few: 20 of 64 at
    omega0 = 5. So gamma W = (Q_y x Q_x)(T W) costs r^2 2F + n r^2 + n^2 r multiplications a column
    of W instead of n^2 2F. Equal to float32 round-off.
    """

    def __init__(self, frequencies: Tensor, size: int):
        self.size, self.n_features = size, 2 * frequencies.shape[-1]
        b = frequencies.double()[..., None, :]  # (K, 2, 1, F)
        line = torch.linspace(-1, 1, size, dtype=torch.float64, device=b.device)[:, None]
        x, y = line * b[:, 0] + math.pi / 4, line * b[:, 1]
        (qx, rx), (qy, ry) = (_low_rank(torch.cat([t.sin(), t.cos()], -1)) for t in (x, y))
        (sx, cx), (sy, cy) = (r.chunk(2, -1) for r in (rx, ry))

        def outer(p, q):
            return p[:, None, :] * q[:, :, None]

        # (K, r_y, r_x, 2F)
        t = torch.cat([outer(sx, cy) + outer(cx, sy), outer(cx, cy) - outer(sx, sy)], -1)
        self.qx, self.qy, self.t = (a.to(frequencies.dtype) for a in (qx, qy, t))
        r_y, r_x = t.shape[1:3]
        cost = r_y * r_x * self.n_features + size * r_y * r_x + size * size * r_x
        self._dense = None if cost < 0.7 * size**2 * self.n_features else self._multiply_out()

    def first_layer(self, w, b):
        """gamma w + b, (K, size^2, width), of w (K, 2F, width)."""
        if self._dense is not None:
            return torch.baddbmm(b, self._dense.expand(len(w), -1, -1), w)
        return self._expand(self.t.flatten(1, 2) @ w) + b

    def dense(self):
        return self._multiply_out() if self._dense is None else self._dense

    def _multiply_out(self):
        return self._expand(self.t.flatten(1, 2))

    def _expand(self, c):
        """(Q_y x Q_x) c of (K, r_y r_x, columns)."""
        k, _, columns = c.shape
        r_y, r_x = self.t.shape[1:3]
        rows = (self.qy @ c.view(k, r_y, r_x * columns)).view(k, self.size, r_x, columns)
        return (self.qx[:, None] @ rows).flatten(1, 2)


def _low_rank(a):
    """Factor a (K, n, m) into (K, n, r) and (K, r, m), r the largest numerical rank of the K."""
    u, s, v = torch.linalg.svd(a, full_matrices=False)
    rank = int((s > _RANK_TOLERANCE * s[:, :1]).sum(1).max())
    return u[..., :rank], s[:, :rank, None] * v[:, :rank]
