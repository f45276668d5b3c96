"""The proximal gradient method of MRI-VN against closed forms."""

import math

import pytest
import torch

from instab_utils import profiles, training
from instab_utils.training.ipalm import IPALM


def quadratic():
    """f(a, b) = 1/2 (a, b)^T H (a, b) - c^T (a, b) with a >= 0; H positive definite, a in R^3, b in
    R^2.
    """
    generator = profiles.generator(0, "quadratic")
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    H, c = (
        root @ root.T + torch.eye(5, dtype=torch.float64),
        3 * torch.randn(5, generator=generator, dtype=torch.float64),
    )
    a, b = (torch.nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (3, 2))

    def loss():
        z = torch.cat([a, b])
        return z @ H @ z / 2 - c @ z

    return a, b, loss, H, c


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("lr", [1e-3, 1e3])
def test_it_finds_the_minimum_under_constraints_from_any_first_step(momentum, lr):
    a, b, loss, H, c = quadratic()
    optimiser = IPALM(
        [{"params": [a]}, {"params": [b]}], lr, momentum, project=lambda: a.data.clamp_(min=0)
    )
    for _ in range(400):
        optimiser.step(loss)
    z = torch.cat([a, b]).detach()
    gradient = H @ z - c
    active = z[:3] == 0
    assert active.any() and not active.all()  # the case is not trivial
    # KKT conditions
    assert gradient[3:].abs().max() < 1e-4 and gradient[:3][~active].abs().max() < 1e-4
    assert (gradient[:3][active] >= 0).all()


def test_without_momentum_no_step_raises_the_loss():
    a, b, loss, _, _ = quadratic()
    optimiser = IPALM([a, b], 10.0, momentum=0)
    losses = [optimiser.step(loss) for _ in range(50)]
    assert (
        all(after <= before + 1e-9 * abs(before) for before, after in zip(losses, losses[1:]))
        and losses[-1] < losses[0]
    )


def test_a_step_that_is_never_accepted_leaves_the_weights_alone():
    w = torch.nn.Parameter(torch.tensor([2.0]))
    calls = []

    def loss():  # finite at first, then never again
        calls.append(1)
        return w.square().sum() if len(calls) == 1 else w.sum() * float("nan")

    IPALM([w], max_backtracks=5).step(loss)
    assert w.item() == 2.0 and len(calls) == 6


def test_the_variational_network_trains_with_it_and_keeps_its_constraints():
    how = training.recipe(
        "mri-vn",
        "smoke",
        lr=10.0,
        optimiser="ipalm",
        options={"momentum": 0.7},
        schedule="constant",
        clip_norm=None,
    )
    work = training.prepare(how)
    batch = work.draw(0)
    before = float(work.parts[0].loss(batch).detach())
    for _ in range(5):
        work.parts[0].optimiser.step(lambda: work.parts[0].loss(batch))
    assert float(work.parts[0].loss(batch).detach()) < 0.98 * before
    for filters in work.network.filters:
        assert (
            filters.mean((1, 2, 3)).abs().max() < 1e-6
            and filters.flatten(1).norm(dim=1).max() <= 1 + 1e-6
        )
    assert (work.network.steps >= 0).all()


def test_a_loss_that_is_not_finite_changes_nothing():
    a, b, loss, _, _ = quadratic()
    optimiser = IPALM([{"params": [a]}, {"params": [b]}], 0.1, project=lambda: b.data.mul_(0.9))
    optimiser.step(loss)
    before, calls = [a.detach().clone(), b.detach().clone()], []
    assert math.isnan(optimiser.step(lambda: calls.append(1) or loss() * math.nan))
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])
    assert len(calls) == 2  # and no search for a step


def test_a_try_asks_the_device_once(monkeypatch):
    """For its loss, the model of it and the loss before together."""
    a, b, loss, _, _ = quadratic()
    asked, tolist, tries = [], torch.Tensor.tolist, []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: asked.append(len(t)) or tolist(t))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: pytest.fail("asked once more"))
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: pytest.fail("asked once more"))

    def closure():
        tries.append(not torch.is_grad_enabled())
        return loss()

    IPALM([{"params": [a]}, {"params": [b]}], 10.0).step(closure)
    assert len(asked) == sum(tries) > 2 and tries.count(False) == 2 and set(asked) == {3}


def test_a_try_takes_no_gradient_of_the_function_that_is_trained():
    """Activations of the variational network have finer tables where they are frozen."""
    work = training.prepare(training.recipe("mri-vn", "smoke"), "cpu")
    batch, net = work.draw(0), work.network
    with torch.no_grad():
        for activation in net.activations:
            activation.weight.normal_(generator=profiles.generator(0, "weights"))

    def losses():
        values = [work.parts[0].loss(batch)]
        with torch.no_grad():
            values.append(work.parts[0].loss(batch))
        return [float(value.detach()) for value in values]

    with_gradient, without = losses()
    assert with_gradient == without
    net.eval()
    assert losses()[0] == with_gradient != losses()[1]  # in evaluation it is the finer one
