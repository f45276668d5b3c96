"""Interval neural networks: bounds on the output of a network whose weights lie in intervals."""

import contextlib

import torch
from torch import Tensor, nn

from .. import profiles
from .arithmetic import Box, Interval
from .prediction import Prediction, parts

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Widths(nn.Module):
    """Half-widths >= 0 of one layer: [W - weight_lower, W + weight_upper], its bias alike."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.__dict__["layer"] = layer  # not registered: its weights are the base network's
        for part in ("weight", "bias"):
            value = getattr(layer, part)
            for side in ("lower", "upper"):
                self.register_parameter(
                    f"{part}_{side}",
                    None if value is None else nn.Parameter(torch.zeros_like(value)),
                )

    def box(self) -> Box:
        weight, bias = self.layer.weight, self.layer.bias
        low, high = weight - self.weight_lower, weight + self.weight_upper
        if bias is None:
            return Box(low, high, None, None)
        return Box(low, high, bias - self.bias_lower, bias + self.bias_upper)


class IntervalNetwork(nn.Module):
    """lower(x) <= f(x) <= upper(x): intervals around the weights of the last layers of f.

    f is frozen. Only the widths are parameters, so that a state dict holds them alone; they start
    at zero, where lower = upper = f. `project_()` clips them at zero after an optimiser's step. The
    bounds hold for every network whose weights lie in the box ("sound"); where f has instance norm,
    for networks with the statistics that f itself has on x. Rounding grows through the layers as a
    width does: in single precision the bounds of eight layers of DnCNN are wrong by about 1e-4.
    Use double precision where that matters. Bounds are never computed in TF32 or bfloat16: that
    would change the mean width of the shipped DnCNN from 0.18 to 0.10 and to 96.

    `predict(x)` gives mean f(x) and spread u = upper - lower.

    Source: Oala et al., Sec. 2 and App. A.2.
    """

    name = "interval"

    def __init__(self, net: nn.Module, layers: list[str]):
        super().__init__()
        self.__dict__["net"] = net
        modules = dict(net.named_modules())
        self.layers = tuple(layers)
        self.widths = nn.ModuleList(Widths(modules[name]) for name in layers)

    @classmethod
    def from_network(
        cls, net: nn.Module, n_layers: int = 8, example: Tensor | None = None
    ) -> "IntervalNetwork":
        """Return a network with intervals in its last `n_layers` layers, in order of execution.

        Args:
            net: convolutions, transposed convolutions and linear layers, with functions that
                `Interval` has rules for: DnCNN, the U-Nets, FBPConvNet, a reader's own. It is
                frozen, not copied.
            n_layers: number of convolutions, transposed and linear layers. The authors' "last 12
                layers" of the U-Net include poolings; 7 of them have weights.
            example: an input; default zeros (1, 1, 64, 64). Only the order of the layers is taken
                from it.

        Raises:
            ValueError: for more layers than `net` has, or none.
            NotImplementedError: for a function without a rule in interval arithmetic.
        """
        device = next(net.parameters()).device
        example = torch.zeros(1, 1, 64, 64, device=device) if example is None else example[:1]
        order = _in_order(net, example)
        if not 1 <= n_layers <= len(order):
            raise ValueError(
                f"IntervalNetwork expects n_layers from 1 to {len(order)}, the layers with "
                f"weights; got {n_layers}."
            )
        intervals = cls(net.requires_grad_(False), order[-n_layers:])
        intervals.train(net.training)
        with torch.no_grad():
            intervals.bounds(example)  # a missing rule shows here, not in the middle of a fit
        return intervals

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower(x) and upper(x), without f(x); differentiable in the widths."""
        statistics = (nn.GroupNorm, nn.InstanceNorm2d)
        keep_point = any(isinstance(module, statistics) for module in self.net.modules())
        out = self._run(x, keep_point)
        return out.lower, out.upper

    @torch.no_grad()
    def predict(self, x_in: Tensor) -> Prediction:
        """Return f(x_in), upper - lower, lower and upper; lower <= mean <= upper exactly."""
        found = []
        for part in parts(x_in):
            out = self._run(part, keep_point=True)
            found.append((out.point, out.lower, out.upper))
        mean, lower, upper = map(torch.cat, zip(*found))
        lower, upper = torch.minimum(lower, mean), torch.maximum(upper, mean)
        return Prediction(mean, upper - lower, lower, upper)

    @profiles.tf32(False)
    def _run(self, x, keep_point: bool) -> Interval:
        with torch.autocast(x.device.type, enabled=False):
            boxes = {id(widths.layer.weight): widths.box() for widths in self.widths}
            return self.net(Interval(x, boxes=boxes, keep_point=keep_point))

    @torch.no_grad()
    def project_(self) -> None:
        """Clip all widths at zero."""
        for width in self.parameters():
            width.clamp_(min=0)

    @torch.no_grad()
    def widen_(self, width: float) -> "IntervalNetwork":
        """Set every half-width to the same value."""
        for parameter in self.parameters():
            parameter.fill_(width)
        return self

    def train(self, mode: bool = True) -> "IntervalNetwork":
        """Switch dropout on for a fit, as in the authors' code: one mask for both bounds."""
        self.net.train(mode)
        return super().train(mode)

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the dropout masks."""
        return self.net.generator

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        self.net.generator = generator


def interval_loss(lower: Tensor, upper: Tensor, x: Tensor, beta: float) -> Tensor:
    """Return mean max(x - upper, 0)^2 + mean max(lower - x, 0)^2 + beta mean (upper - lower).

    Means are over pixels and images. At the optimum every free bias of the last layer gives
    mean max(x - upper, 0) = mean max(lower - x, 0) = beta / 2; for a beta above twice the mean
    one-sided error the interval has width zero. Means as in the authors' code; the paper's sums
    have the same optimum.

    Source: Oala et al., Sec. 2.
    """
    above = (x - upper).clamp_min(0)
    below = (lower - x).clamp_min(0)
    return (above.square() + below.square() + beta * (upper - lower)).mean()


def gains(intervals: IntervalNetwork, x: Tensor) -> Tensor:
    """Return g_j = d mean(upper - lower) / d w_j at w = 0, one value a layer.

    w_j is the half-width of all weights and biases of layer j. An optimiser whose first step moves
    every width of layer j by eta_j (Adam does) makes intervals of mean width about
    sum_j g_j eta_j. From the last layer inwards g_j grows by the row sums of |W|, geometrically.
    """
    blank = IntervalNetwork(intervals.net, list(intervals.layers)).to(x.device)
    with torch.enable_grad():
        lower, upper = blank.bounds(x)
        (upper - lower).mean().backward()
    of_layers = [[p.grad.sum() for p in widths.parameters()] for widths in blank.widths]
    return torch.stack([sum(slopes) for slopes in of_layers])


def _in_order(net: nn.Module, example: Tensor) -> list[str]:
    """Return the names of the layers with weights, in the order of their first call."""
    layers = {module: name for name, module in net.named_modules() if isinstance(module, LAYERS)}
    calls = []
    with torch.no_grad(), contextlib.ExitStack() as stack:
        stack.callback(net.train, net.training)
        for layer in layers:
            hook = layer.register_forward_pre_hook(lambda layer, _: calls.append(layers[layer]))
            stack.enter_context(hook)
        net.eval()(example)
    return list(dict.fromkeys(calls))
