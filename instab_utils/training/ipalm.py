"""The variational network's own optimiser: inertial proximal gradient steps by blocks."""

import math
from collections.abc import Callable

import torch

from .. import profiles


class IPALM(torch.optim.Optimizer):
    r"""Inertial proximal gradient steps with a line search, block by block.

    For every block (parameter group) w in turn, g the gradient of the loss f at u:

        u = w + momentum (w - w_before);   w <- P(u - g / L),

    L doubled until f(w) <= f(u) + <g, w - u> + L / 2 ||w - u||^2, then multiplied by 3/4 for the
    next step. P is the projection onto the constraints. `step` takes a closure that computes the
    loss on the current batch: one gradient and, in the long run, 1 + log 4/3 / log 2 = 1.4 further
    losses a block, these without gradients: the closure must be the same function there. A GPU is
    waited for once a try.

    Args:
        parameters: tensors or groups, each group a block.
        lr: 1 / L at the start.
        momentum: of the extrapolation.
        project: called after every change of a block; must leave the other blocks as they are (they
            satisfy the constraints).
        max_backtracks: tries of a step; the block keeps its value if none is accepted.

    Pock and Sabach 2016; in the code of Hammernik et al. 2018 "IIPG": momentum 0.7, L = 1000, at
    most 40 tries.
    """

    def __init__(
        self,
        parameters,
        lr: float = 1e-3,
        momentum: float = 0.7,
        project: Callable[[], None] | None = None,
        max_backtracks: int = 40,
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.project, self.max_backtracks = project or (lambda: None), max_backtracks

    @profiles.tf32(False)  # losses of tries are compared to single precision
    def step(self, closure: Callable[[], torch.Tensor]) -> float:
        """One pass over the blocks; returns the loss at the first block's extrapolated point.

        Where that is not finite, nothing has changed.
        """
        weights = [w.detach() for group in self.param_groups for w in group["params"]]
        before, first = [w.clone() for w in weights], None
        for group in self.param_groups:
            value = self._block(group, closure)
            first = value if first is None else first
            if not math.isfinite(first):
                for w, kept in zip(weights, before):
                    w.copy_(kept)
                break
        return first

    @torch.no_grad()
    def _block(self, group, closure) -> float:
        block = group["params"]
        start = [w.clone() for w in block]
        for w in block:
            w.add_(w - self.state[w].setdefault("before", w.clone()), alpha=group["momentum"])
            self.state[w].setdefault("lipschitz", torch.tensor(1 / group["lr"]))
        point = [w.clone() for w in block]
        with torch.enable_grad():
            loss = closure()
            gradient = torch.autograd.grad(loss, block)
        bound = self.state[block[0]]["lipschitz"]
        for _ in range(self.max_backtracks):
            for w, u, g in zip(block, point, gradient):
                w.copy_(u - g / bound)
            self.project()
            change = [w - u for w, u in zip(block, point)]
            rises = [(g * d).sum() + bound / 2 * d.square().sum() for g, d in zip(gradient, change)]
            # everything that the decision needs leaves the device at once
            value, after, *rises = torch.stack([loss.detach(), closure(), *rises]).tolist()
            # round-off of the losses must not look like a failure once steps are tiny
            noise = 8 * torch.finfo(loss.dtype).eps * abs(value)
            accepted = after <= value + sum(rises) + noise
            bound.mul_(0.75 if accepted else 2.0)
            if accepted or not math.isfinite(value):
                break
        if not accepted:
            for w, before in zip(block, start):
                w.copy_(before)
        for w, before in zip(block, start):
            self.state[w]["before"] = before
        return value
