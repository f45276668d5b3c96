"""Interval networks against enumeration, closed forms and random networks drawn from the box."""

import itertools

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import nn
from torch.nn import functional as F

from instab_utils import profiles
from instab_utils.networks import DnCNN, FBPConvNet, LimitedAngleUNet
from instab_utils.uncertainty import interval
from instab_utils.uncertainty.arithmetic import Box, Interval, affine
from instab_utils.uncertainty.interval import IntervalNetwork


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, g, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


class Mixed(nn.Module):
    """Everything else that has a rule: batch norm, transposed and linear layers, leaky branches of
    signs, products.
    """

    def __init__(self, g):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.up, self.head = nn.ConvTranspose2d(3, 2, 2, stride=2), nn.Conv2d(2, 1, 1, bias=False)
        self.drop, self.linear = nn.Dropout2d(0.0), nn.Linear(2, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=g)
            self.norm.running_mean.normal_(generator=g)
            self.norm.running_var.uniform_(0.5, 2, generator=g)

    def forward(self, x):
        h = torch.tanh(F.avg_pool2d(self.norm(self.first(x)), 2))
        h = self.head(torch.sigmoid(self.up(-2 * h)) - 0.5)
        return (1.5 - h) / 2 * torch.tensor([-1.0, 2.0], dtype=x.dtype)[:, None, None].mean() + x


def networks():
    g = generator()
    yield "dncnn", DnCNN(5, 4, dropout=0.1, generator=g), 3
    yield "dncnn, all layers", DnCNN(3, 4, generator=g), 3
    yield "unet", LimitedAngleUNet(3, 3, dropout=0.2, generator=g), 7
    yield "fbpconvnet", FBPConvNet(2, 3, init="he", generator=g), 6
    yield "mixed", Mixed(g), 3


CASES = [pytest.param(net.double().eval(), n, id=name) for name, net, n in networks()]


def images(seed=1, low=-0.2):
    return rand(2, 1, 12, 12, g=generator(seed), low=low)


def with_widths(net, n_layers, scale, g):
    made = IntervalNetwork.from_network(net, n_layers, images())
    for width in made.parameters():
        width.data.copy_(rand(*width.shape, g=g, high=scale))
    return made


class FrozenStatistics:
    """Within it, every group norm of `net` uses the statistics that it has on x with the weights as
    they are now.
    """

    def __init__(self, net, x):
        self.norms = {m: None for m in net.modules() if isinstance(m, nn.GroupNorm)}
        hooks = [m.register_forward_pre_hook(self._keep) for m in self.norms]
        net(x)
        for hook in hooks:
            hook.remove()

    def _keep(self, module, args):
        h = args[0].flatten(2)
        self.norms[module] = h.mean(2)[..., None, None], h.var(2, correction=0)[..., None, None]

    def __enter__(self):
        for m, (mean, var) in self.norms.items():
            m.forward = lambda t, m=m, mean=mean, var=var: (
                (t - mean) / (var + m.eps).sqrt() * m.weight[:, None, None] + m.bias[:, None, None]
            )

    def __exit__(self, *_):
        for m in self.norms:
            del m.forward


@pytest.mark.parametrize("net, n", CASES)
def test_zero_widths_give_the_network_itself(net, n):
    x = images()
    made = IntervalNetwork.from_network(net, n, x)
    lower, upper = made.bounds(x)
    prediction = made.predict(x)
    assert torch.equal(prediction.mean, net(x))
    for bound in (lower, upper, prediction.lower, prediction.upper):
        torch.testing.assert_close(bound, net(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("net, n", CASES)
@settings(max_examples=15, deadline=None)
@given(seed=strategies.integers(0, 2**31), scale=strategies.sampled_from([1e-3, 0.05, 1.0]))
def test_every_network_in_the_box_stays_inside_the_bounds(net, n, seed, scale):
    g = generator(seed)
    made, x = with_widths(net, n, scale, g), images(seed)
    prediction = made.predict(x)
    assert bool(
        (prediction.lower <= prediction.mean).all() and (prediction.mean <= prediction.upper).all()
    )
    assert bool((prediction.spread >= 0).all())
    exact = {id(w.layer): [p.clone() for p in w.layer.parameters()] for w in made.widths}
    slack = 1e-9 * (1 + prediction.spread.max())
    frozen = FrozenStatistics(net, x)
    try:
        with frozen, torch.no_grad():
            for corner in (True, False, False):
                for w in made.widths:
                    box = w.box()
                    for p, low, high in (
                        (w.layer.weight, box.weight_lower, box.weight_upper),
                        (w.layer.bias, box.bias_lower, box.bias_upper),
                    ):
                        if p is not None:
                            t = rand(*p.shape, g=g)
                            p.copy_(low + (t.round() if corner else t) * (high - low))
                out = net(x)
                assert bool(
                    (out >= prediction.lower - slack).all()
                    and (out <= prediction.upper + slack).all()
                )
                _restore(made, exact)
    finally:
        _restore(made, exact)


def _restore(made, exact):
    with torch.no_grad():
        for w in made.widths:
            for p, value in zip(w.layer.parameters(), exact[id(w.layer)]):
                p.copy_(value)


def dense(x, w, b):
    return F.linear(x, w, b)


@pytest.mark.parametrize("sign", ["nonnegative", "nonpositive", "either"])
def test_one_layer_against_every_corner_of_the_box(sign):
    g = generator(2)
    low_x = rand(1, 3, g=g, low=0 if sign == "nonnegative" else -1)
    high_x = low_x + rand(1, 3, g=g, high=0.8)
    if sign == "nonpositive":
        low_x, high_x = -high_x.abs(), -high_x.abs() + high_x.abs() * rand(1, 3, g=g)
    low_w, low_b = rand(2, 3, g=g, low=-1), rand(2, g=g, low=-1)
    high_w, high_b = low_w + rand(2, 3, g=g), low_b + rand(2, g=g)
    box = Box(low_w, high_w, low_b, high_b)
    result = affine(
        Interval(
            None, torch.cat([low_x, high_x], 1), nonnegative=sign == "nonnegative", keep_point=False
        ),
        box,
        low_w,
        low_b,
        dense,
        1,
    )
    values = []  # the output is linear in each of w, x, b: extremes are at corners
    for xs in itertools.product(*zip(low_x[0], high_x[0])):
        for ws in itertools.product(*zip(low_w.flatten(), high_w.flatten())):
            values.append(torch.stack(ws).reshape(2, 3) @ torch.stack(xs))
    values = torch.stack(values)
    smallest, largest = values.amin(0) + low_b, values.amax(0) + high_b
    if sign == "either":  # sound, loose where an interval straddles zero
        assert bool(
            (result.lower[0] <= smallest + 1e-12).all()
            and (result.upper[0] >= largest - 1e-12).all()
        )
    else:
        torch.testing.assert_close(result.lower[0], smallest)
        torch.testing.assert_close(result.upper[0], largest)


def test_two_terms_equal_four_terms_where_the_input_is_not_negative():
    g = generator(3)
    low_x, low_w, b = rand(2, 5, g=g), rand(4, 5, g=g, low=-1), rand(4, g=g)
    both = torch.cat([low_x, low_x + rand(2, 5, g=g)], 1)
    box = Box(low_w, low_w + rand(4, 5, g=g), b, b + 0.1)
    two, four = (
        affine(Interval(None, both, nonnegative=known, keep_point=False), box, low_w, b, dense, 1)
        for known in (True, False)
    )
    torch.testing.assert_close(two.both, four.both)
    point = [
        affine(Interval(low_x, nonnegative=known), box, low_w, b, dense, 1).both
        for known in (True, False)
    ]
    torch.testing.assert_close(point[0], point[1])
    torch.testing.assert_close(
        point[0],
        affine(
            Interval(None, torch.cat([low_x, low_x], 1), nonnegative=True, keep_point=False),
            box,
            low_w,
            b,
            dense,
            1,
        ).both,
    )


@pytest.mark.parametrize("net, n", CASES)
def test_bounds_widen_with_every_width(net, n):
    made, x = with_widths(net, n, 0.02, generator(4)), images()
    before, wider = made.predict(x), False
    for width in made.parameters():
        kept = width.data.clone()
        width.data += 0.01
        after = made.predict(x)
        assert bool(
            (after.lower <= before.lower + 1e-12).all()
            and (after.upper >= before.upper - 1e-12).all()
        )
        wider |= bool((after.spread - before.spread).max() > 0)
        width.data.copy_(kept)
    assert wider


@pytest.mark.parametrize("net, n", CASES)
def test_gains_predict_the_width_of_small_intervals(net, n):
    x = images()
    made = IntervalNetwork.from_network(net, n, x)
    found = interval.gains(made, x)
    for j in range(n):
        made.widen_(0.0)
        for width in made.widths[j].parameters():
            width.data.fill_(1e-9)
        assert made.predict(x).spread.mean() / 1e-9 == pytest.approx(found[j].item(), rel=1e-3)


def test_the_published_unet_has_1434882_interval_parameters_in_its_last_seven_layers():
    net = LimitedAngleUNet(64, 5)
    made = IntervalNetwork.from_network(net, 7)
    assert made.layers == (
        "up.2",
        "merge.2.0",
        "merge.2.1",
        "up.3",
        "merge.3.0",
        "merge.3.1",
        "last",
    )
    assert sum(p.numel() for p in made.parameters()) == 1_434_882
    assert set(made.state_dict()) == {
        f"widths.{k}.{part}_{side}"
        for k in range(7)
        for part in ("weight", "bias")
        for side in ("lower", "upper")
    }
    assert not any(p.requires_grad for p in net.parameters())


def test_dropout_draws_one_mask_for_both_bounds():
    for net in (
        DnCNN(5, 4, dropout=0.5, generator=generator()),
        LimitedAngleUNet(3, 3, dropout=0.5, generator=generator()),
    ):
        made = IntervalNetwork.from_network(net.double(), 3, images()).train()
        made.generator = generator(5)
        lower, upper = made.bounds(images())
        torch.testing.assert_close(lower, upper)
        net.generator = generator(5)
        torch.testing.assert_close(lower, net(images()))
        # and the mask was there
        assert (made.eval().bounds(images())[0] - lower).abs().max() > 1e-3
        made.train()
        made.widen_(0.01)
        lower, upper = made.bounds(images())
        assert bool((lower <= upper).all())


def test_the_loss_is_stationary_where_the_mean_miss_is_half_of_beta():
    g = generator(6)
    x, f, beta = (
        torch.randn(1, 1, 200, 200, generator=g, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        0.3,
    )
    below, above = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimiser = torch.optim.LBFGS([below, above], max_iter=100, tolerance_grad=1e-12)

    def closure():
        optimiser.zero_grad()
        value = interval.interval_loss((f - below).expand_as(x), (f + above).expand_as(x), x, beta)
        value.backward()
        return value

    optimiser.step(closure)
    assert (x - f - above).clamp_min(0).mean().item() == pytest.approx(beta / 2, rel=1e-4)
    assert (f - below - x).clamp_min(0).mean().item() == pytest.approx(beta / 2, rel=1e-4)


def test_the_gradient_of_a_free_output_bias():
    """beta - 2 mean max(x - upper, 0), FACTS K, through a whole network."""
    net = DnCNN(3, 4, generator=generator()).double()
    made, x_in, beta = with_widths(net, 2, 0.01, generator(7)), images(), 1e-2
    x = images(8)
    lower, upper = made.bounds(x_in)
    interval.interval_loss(lower, upper, x, beta).backward()
    last = made.widths[-1]  # out = x - R: the upper bound of the output is the lower one of R
    assert last.bias_lower.grad.item() == pytest.approx(
        beta - 2 * (x - upper).clamp_min(0).mean().item()
    )
    assert last.bias_upper.grad.item() == pytest.approx(
        beta - 2 * (lower - x).clamp_min(0).mean().item()
    )


def test_projection_and_collapse():
    """A beta above twice the mean one-sided error closes every interval."""
    net = DnCNN(3, 4, generator=generator()).double()
    made, x_in = IntervalNetwork.from_network(net, 3, images()), images()
    x = net(x_in) + 0.01 * torch.randn(x_in.shape, generator=generator(9), dtype=torch.float64)
    optimiser = torch.optim.Adam(made.parameters(), 1e-4)
    for beta, closed in ((1e-4, False), (0.1, True)):
        for _ in range(300):
            optimiser.zero_grad()
            interval.interval_loss(*made.bounds(x_in), x, beta).backward()
            optimiser.step()
            made.project_()
            assert all(bool((w >= 0).all()) for w in made.parameters())
        assert (made.predict(x_in).spread.max() < 1e-6) == closed


class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return self.last(torch.sin(self.first(x)))


def test_a_function_without_a_rule_is_named_at_once():
    with pytest.raises(NotImplementedError, match="no rule for sin; it knows .*relu"):
        IntervalNetwork.from_network(Sine(), 2)
    IntervalNetwork.from_network(DnCNN(3, 2), 1)


@pytest.mark.parametrize("n", [0, 4])
def test_as_many_layers_as_there_are(n):
    with pytest.raises(ValueError, match=f"n_layers from 1 to 3, the layers with weights; got {n}"):
        IntervalNetwork.from_network(DnCNN(3, 2), n)


def test_bounds_are_in_float32_whatever_surrounds_them():
    """In bfloat16 the widths of eight layers grow a hundredfold, in TF32 they halve."""
    net = DnCNN(n_layers=4, width=8, generator=generator(0))
    intervals = IntervalNetwork.from_network(net.eval(), 4).widen_(1e-3)
    x = torch.rand(1, 1, 16, 16, generator=generator(1))
    reference = intervals.predict(x)
    seen = []
    hook = net.register_forward_pre_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
    )
    with torch.autocast("cpu", torch.bfloat16), profiles.tf32(True):
        again, bounds = intervals.predict(x), intervals.bounds(x)
        intervals.net(x)  # negative control
    hook.remove()
    assert seen == [(False, False)] * 2 + [(True, True)]
    assert all(torch.equal(a, b) for a, b in zip(again, reference))
    assert bounds[0].dtype == torch.float32
