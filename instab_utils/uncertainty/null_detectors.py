"""Null detectors: maps without any notion of uncertainty, the yardstick of every alarm."""

from collections.abc import Callable

import torch
from torch import Tensor

from .detection import averaged
from .prediction import Prediction

NULL_DETECTORS = ("gradient", "residual", "residual-mean", "input", "variance", "random")


class NullDetector:
    """An estimator whose spread u is an image operation; lower = upper = mean = f(x_in).

    An alarm that is not ahead of all of them has detected no more than a changed input.

    - "gradient": length of the gradient of x_in, by central differences, one-sided at the borders;
      no network.
    - "residual": |f(x_in) - x_in|, the change that the network makes.
    - "residual-mean": the same, averaged over 7 x 7 pixels.
    - "input": x_in itself, so that |u(x') - u(x)| is the change of the input; no network.
    - "variance": variance of f(x_in) over 7 x 7 pixels, divided by 49.
    - "random": uniform noise in [0, 1), drawn anew at each call.

    Args:
        kind: one of `NULL_DETECTORS`.
        f: network input -> image; f(x_in) has the shape of x_in.
        generator: of "random"; None takes PyTorch's default generator.

    Raises:
        ValueError: for another kind.
    """

    def __init__(
        self,
        kind: str,
        f: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
    ):
        if kind not in NULL_DETECTORS:
            raise ValueError(
                f"NullDetector expects one of {', '.join(NULL_DETECTORS)}; got {kind!r}."
            )
        self.name = f"null-{kind}"
        self.kind = kind
        self.f = f
        self.generator = generator

    @torch.no_grad()
    def predict(self, x_in: Tensor) -> Prediction:
        mean = self.f(x_in)
        return Prediction(mean, self.spread(x_in, mean), mean, mean)

    def spread(self, x_in: Tensor, mean: Tensor) -> Tensor:
        """Return u, where mean = f(x_in); differentiable."""
        if self.kind == "gradient":
            down, right = torch.gradient(x_in, dim=(-2, -1))
            # |0| would have no slope for an attacker to follow
            return (down.square() + right.square() + 1e-30).sqrt()
        if self.kind == "input":
            return x_in
        if self.kind == "random":
            drawn = torch.rand(x_in.shape, generator=self.generator, dtype=x_in.dtype)
            return drawn.to(x_in.device)
        if self.kind == "variance":
            # a difference of squares: float32 would cancel
            centred = (mean - mean.mean((-2, -1), keepdim=True)).double()
            variance = averaged(centred.square()) - averaged(centred).square()
            return variance.clamp_min(0).to(mean.dtype)
        residual = (mean - x_in).abs()
        return averaged(residual) if self.kind == "residual-mean" else residual
