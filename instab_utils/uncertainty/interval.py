"""Interval neural networks: bounds on what a trained network could have said, had its weights been
a little different.
"""

import torch
from torch import nn

from .arithmetic import Box, Interval
from .prediction import Prediction

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Widths(nn.Module):
    """How far the weights of one layer may move: [W - weight_lower, W + weight_upper], the same for
    its bias, all >= 0.
    """

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
        w, b = self.layer.weight, self.layer.bias
        biases = (None, None) if b is None else (b - self.bias_lower, b + self.bias_upper)
        return Box(w - self.weight_lower, w + self.weight_upper, *biases)


class IntervalNetwork(nn.Module):
    """lower(x) <= f(x) <= upper(x): the frozen network f with an interval around each weight of its
    last layers.

    Only the widths are parameters, so that a state dict holds them alone; they start at zero, where
    lower = upper = f. `project_()` clips them at zero after an optimiser's step. For every network
    whose weights lie in the box, bounds hold ("sound"). Where f has instance norm, the statement is
    about networks with the statistics that f itself has on x. All of this is up to rounding, which
    grows through the layers as a width does: in single precision the bounds of eight layers of
    DnCNN are wrong by some 1e-4. Where that matters, take the networks to double precision.

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
        cls, net: nn.Module, n_layers: int = 8, example: torch.Tensor | None = None
    ) -> "IntervalNetwork":
        """Intervals for the last `n_layers` layers with weights, in the order in which `net` runs
        them.

        Args:
            net: any network of convolutions, transposed convolutions and linear layers with what
                `Interval` has rules for: DnCNN, the U-Nets, FBPConvNet, a reader's own. It is
                frozen, not copied.
            n_layers: convolutions, transposed and linear layers. The authors' "last 12 layers" of
                the U-Net count poolings and the like; 7 of them have weights.
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
                f"IntervalNetwork expects n_layers from 1 to {len(order)}, the layers with weights; got {n_layers}."
            )
        made = cls(net.requires_grad_(False), order[-n_layers:])
        made.train(net.training)
        with torch.no_grad():
            made.bounds(example)  # a missing rule shows here, not in the middle of a fit
        return made

    def bounds(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """lower(x), upper(x), up to rounding; differentiable in the widths. What a fit needs,
        without f(x) itself.
        """
        out = self._run(x, keep_point=self._has_statistics)
        return out.lower, out.upper

    @torch.no_grad()
    def predict(self, x_in: torch.Tensor) -> Prediction:
        """f(x_in), upper - lower, lower, upper; lower <= mean <= upper exactly."""
        out = self._run(x_in, keep_point=True)
        lower, upper = torch.minimum(out.lower, out.point), torch.maximum(out.upper, out.point)
        return Prediction(out.point, upper - lower, lower, upper)

    forward = bounds

    def _run(self, x, keep_point):
        boxes = {id(widths.layer.weight): widths.box() for widths in self.widths}
        return self.net(Interval(x, boxes=boxes, keep_point=keep_point))

    @property
    def _has_statistics(self):
        return any(
            isinstance(module, nn.GroupNorm | nn.InstanceNorm2d) for module in self.net.modules()
        )

    @torch.no_grad()
    def project_(self) -> None:
        for width in self.parameters():
            width.clamp_(min=0)

    @torch.no_grad()
    def widen_(self, width: float) -> "IntervalNetwork":
        """Set every width to the same value."""
        for parameter in self.parameters():
            parameter.fill_(width)
        return self

    def train(self, mode: bool = True) -> "IntervalNetwork":
        """Dropout is on while the widths are fitted, as in the authors' code: one mask for both
        bounds.
        """
        self.net.train(mode)
        return super().train(mode)

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the dropout masks."""
        return self.net.generator

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        self.net.generator = generator


def loss(lower: torch.Tensor, upper: torch.Tensor, x: torch.Tensor, beta: float) -> torch.Tensor:
    """mean max(x - upper, 0)^2 + mean max(lower - x, 0)^2 + beta mean (upper - lower), over pixels
    and images.

    At the optimum every free bias of the last layer gives mean max(x - upper, 0) = mean max(lower -
    x, 0) = beta / 2; for a beta above twice the mean one-sided error the interval has width zero.
    Means as in the authors' code; the paper's sums have the same optimum.

    Source: Oala et al., Sec. 2.
    """
    return (
        (x - upper).clamp_min(0).square()
        + (lower - x).clamp_min(0).square()
        + beta * (upper - lower)
    ).mean()


def gains(intervals: IntervalNetwork, x: torch.Tensor) -> torch.Tensor:
    """g_j = d mean(upper - lower) / d (width of layer j, the same for all its weights), at width
    zero; one value a layer.

    An optimiser whose first step moves every width by eta (Adam does) makes intervals of mean width
    about sum_j g_j eta_j. Gains grow by the row sums of |W|, so geometrically, from the last layer
    inwards: eta has to be found from them.
    """
    inside = IntervalNetwork(intervals.net, list(intervals.layers)).to(x.device)
    with torch.enable_grad():
        lower, upper = inside.bounds(x)
        (upper - lower).mean().backward()
    return torch.stack([sum(p.grad.sum() for p in widths.parameters()) for widths in inside.widths])


def _in_order(net, example):
    """Names of the layers with weights, in the order of their first call."""
    order, training = [], net.training
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: name in order or order.append(name))
        for name, module in net.named_modules()
        if isinstance(module, LAYERS)
    ]
    try:
        with torch.no_grad():
            net.eval()(example)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return order
