"""Estimators beside closed forms: Monte Carlo dropout, the mean-variance output, and detectors that
know nothing.
"""

import copy
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn
from torch.nn import functional as F

from instab_utils import profiles
from instab_utils.networks import DnCNN, FBPConvNet, LimitedAngleUNet
from instab_utils.networks.layers import Dropout
from instab_utils.uncertainty.dropout import MCDropout
from instab_utils.uncertainty.null_detectors import NULL_DETECTORS, NullDetector
from instab_utils.uncertainty.probout import MeanVariance, mean_variance_loss


def seeded(stream, seed=0):
    return profiles.generator(seed, stream)


def image(*shape, stream="image", dtype=torch.float32):
    return torch.rand(*shape, generator=seeded(stream), dtype=dtype)


def networks():
    """Small frozen networks that drop in every way there is."""
    plain = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(6, 6, 1),
        nn.Dropout2d(0.3),
        nn.Conv2d(6, 1, 3, padding=1),
    )
    with torch.no_grad():
        for k, weights in enumerate(plain.parameters()):
            weights.copy_(0.3 * torch.randn(weights.shape, generator=seeded(f"plain {k}")))
    nets = {
        "dncnn": DnCNN(6, 5, dropout=0.2, generator=seeded("dncnn")),
        "unet": LimitedAngleUNet(4, 3, dropout=0.2, generator=seeded("unet")),
        "torch": plain,
    }
    return {name: net.requires_grad_(False).eval() for name, net in nets.items()}


NETS = networks()
ALL = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


# -- Monte Carlo dropout


@pytest.mark.parametrize("layer", [Dropout(0.3), nn.Dropout(0.3)], ids=["ours", "torch"])
def test_variance_of_dropout_before_a_linear_layer_is_its_closed_form(layer):
    """x_k keep_k / (1 - p) has variance x_k^2 p / (1 - p)."""
    p, n_passes = 0.3, 4000
    linear = nn.Conv2d(5, 1, 1).double()
    with torch.no_grad():
        linear.weight.copy_(
            torch.randn(1, 5, 1, 1, generator=seeded("weights"), dtype=torch.float64)
        )
    x = image(1, 5, 9, 11, dtype=torch.float64)
    net = nn.Sequential(layer, linear).requires_grad_(False).eval()
    found = MCDropout(net, n_passes, seeded("masks"), batch=500).predict(x)
    exact = p / (1 - p) * (linear.weight.square() * x.square()).sum(1, keepdim=True)
    assert torch.equal(found.mean, linear(x))
    # 99 pixels; a sample variance has relative error sqrt((kurtosis - 1) / T), kurtosis <= 3 + (1 -
    # 6 p q) / (p q) < 3
    assert (found.spread / exact - 1).abs().max() < 5 * math.sqrt(2 / n_passes)
    assert abs((found.spread / exact).mean() - 1) < 4 * math.sqrt(2 / n_passes / x[0, 0].numel())
    assert torch.allclose(found.upper - found.mean, 1.96 * found.spread.sqrt()) and torch.allclose(
        found.mean - found.lower, 1.96 * found.spread.sqrt()
    )


def test_whole_channels_drop_with_their_own_layer():
    net = nn.Sequential(nn.Dropout2d(0.5)).eval()
    passes = MCDropout(net, 64, seeded("masks")).passes(torch.ones(1, 7, 3, 5))
    assert torch.equal(passes, passes[..., :1, :1].expand_as(passes))
    assert set(passes.unique().tolist()) == {0.0, 2.0}


@ALL
def test_variance_is_the_unbiased_one_of_the_passes_whatever_their_batches(net):
    x = image(1, 1, 12, 16)
    made = {batch: MCDropout(net, 11, seeded("masks"), batch=batch) for batch in (1, 4, 11)}
    passes = made[4].passes(x)
    assert passes.shape == (11, 1, 12, 16) and not torch.allclose(passes[0], passes[1])
    for estimator in made.values():
        assert torch.allclose(estimator.passes(x), passes, atol=1e-5)
        assert torch.allclose(
            estimator.predict(x).spread, passes.var(0, correction=1)[None], rtol=1e-3, atol=1e-9
        )


def test_variance_survives_a_mean_that_is_large():
    """A sum of squares in float32 would lose all digits here."""
    net = nn.Sequential(Dropout(0.5), nn.Conv2d(1, 1, 1)).requires_grad_(False).eval()
    net[1].weight.fill_(1.0), net[1].bias.fill_(4000.0)
    x = torch.full((1, 1, 8, 8), 0.5)
    estimator = MCDropout(net, 64, seeded("masks"), batch=7)
    exact = estimator.passes(x).double().var(0)
    assert exact.min() > 0.15 and torch.allclose(
        estimator.predict(x).spread[0].double(), exact, rtol=1e-3
    )


@ALL
def test_a_pass_is_one_of_training_with_other_masks(net):
    """Mean and variance over many passes agree with those of the network's own training mode."""
    x, n = image(1, 1, 8, 8), 3000
    ours = MCDropout(net, n, seeded("ours"), batch=500).passes(x)
    trained = copy.deepcopy(net).train()
    if hasattr(trained, "generator"):
        trained.generator = seeded("theirs")
        theirs = trained(x.repeat(n, 1, 1, 1))
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = trained(x.repeat(n, 1, 1, 1))
    error = (ours.var(0) + theirs.var(0)).div(n).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error + 1e-6).all()
    assert abs(ours.var(0).mean() / theirs.var(0).mean() - 1) < 0.1


@ALL
def test_shared_masks_depend_on_the_pass_alone(net):
    x = torch.cat([image(1, 1, 12, 16), image(1, 1, 12, 16, stream="other"), image(1, 1, 12, 16)])
    estimator = MCDropout(net, 6, seeded("masks"), batch=4)
    together, again = estimator.predict(x), estimator.predict(x[:1])
    assert torch.equal(together.spread[0], together.spread[2]) and not torch.allclose(
        together.spread[0], together.spread[1]
    )
    assert torch.allclose(together.spread[:1], again.spread, rtol=1e-4, atol=1e-10)
    assert torch.equal(again.spread, estimator.predict(x[2:]).spread)
    assert torch.allclose(estimator.passes(x[:1], 2), estimator.passes(x[:1])[:2], atol=1e-6)
    other = MCDropout(net, 6, seeded("masks", seed=1)).predict(x[:1])
    assert not torch.allclose(other.spread, again.spread, rtol=0.05)


def test_fresh_masks_are_new_for_every_image_and_repeat_with_the_generator():
    net, x = NETS["dncnn"], image(1, 1, 12, 16).repeat(2, 1, 1, 1)
    first = MCDropout(net, 6, seeded("masks"), masks="fresh")
    a, b = first.predict(x).spread, first.predict(x[:1]).spread
    assert len({float(u.mean()) for u in (a[0], a[1], b[0])}) == 3
    assert torch.equal(MCDropout(net, 6, seeded("masks"), masks="fresh").predict(x).spread, a)


def test_fresh_maps_differ_by_the_noise_that_the_docstring_says():
    # a sum of 64: nearly Gaussian
    net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(64, 1, 1)).requires_grad_(False).eval()
    net[1].weight.fill_(1 / 8)
    estimator = MCDropout(net, 32, seeded("masks"), masks="fresh")
    u, v = estimator.predict(torch.ones(2, 64, 40, 40)).spread
    assert abs(float((u - v).std() / u.mean()) / math.sqrt(4 / 31) - 1) < 0.1


@ALL
def test_the_network_is_left_as_it_was_even_by_an_error(net):
    state, before = copy.deepcopy(net.state_dict()), net(image(1, 1, 8, 8))
    estimator, global_state = MCDropout(net, 3, seeded("masks")), torch.get_rng_state()
    estimator.predict(image(1, 1, 8, 8))
    last = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)][-1]

    def fail(*args):
        raise ArithmeticError

    handle = last.register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        estimator.passes(image(1, 1, 8, 8))
    handle.remove()
    assert not net.training and torch.equal(net(image(1, 1, 8, 8)), before)
    assert all(torch.equal(state[name], weights) for name, weights in net.state_dict().items())
    assert not any(layer._forward_hooks for layer in net.modules())
    assert getattr(net, "generator", None) is None and torch.equal(
        torch.get_rng_state(), global_state
    )


@pytest.mark.parametrize(
    ("build", "cure"),
    [
        (lambda: MCDropout(DnCNN(3, 2)), "Train it with dropout"),
        (lambda: MCDropout(FBPConvNet(2, 2)), "Train it with dropout"),
        (lambda: MCDropout(nn.Dropout(0.5), 1), "n_passes >= 2"),
        (lambda: MCDropout(nn.Dropout(0.5), masks="same"), '"shared" or "fresh"'),
        (
            lambda: MCDropout(nn.Sequential(nn.Dropout(0.5)).train(), 2).predict(
                torch.ones(1, 1, 2, 2)
            ),
            "net.eval",
        ),
        (lambda: NullDetector("noise", abs), "one of gradient"),
        (lambda: MeanVariance.from_network(nn.Linear(2, 2)), "nn.Conv2d"),
        (
            lambda: mean_variance_loss(*torch.ones(3, 1, 1, 2, 2), form="code"),
            '"derived" or "printed"',
        ),
    ],
)
def test_mistakes_are_answered_with_a_cure(build, cure):
    with pytest.raises(ValueError, match=cure):
        build()


# -- mean and variance


@pytest.mark.parametrize("penalty", [1.0, 3.0])
def test_derived_loss_is_least_at_the_squared_error_over_the_penalty(penalty):
    error = torch.tensor([0.01, -0.3, 0.2, 2.0], dtype=torch.float64)
    s = (error.square() / penalty).log().requires_grad_()
    mean_variance_loss(torch.zeros_like(error), s, error, penalty=penalty).backward()
    assert s.grad.abs().max() < 1e-15
    # many pixels with one s: the mean of the squared errors
    shared = (error.square().mean() / penalty).log().requires_grad_()
    mean_variance_loss(torch.zeros_like(error), shared.expand(4), error, penalty=penalty).backward()
    assert abs(shared.grad) < 1e-15


def test_loss_is_twice_the_negative_log_likelihood_of_a_gaussian():
    mean, s, x = torch.randn(3, 50, generator=seeded("nll"), dtype=torch.float64)
    exact = -torch.distributions.Normal(mean, (s / 2).exp()).log_prob(x).mean()
    assert torch.allclose(mean_variance_loss(mean, s, x), 2 * exact - math.log(2 * math.pi))


def test_printed_loss_is_least_at_variance_one_for_all_errors_below_one():
    s = torch.linspace(-8, 3, 1101, dtype=torch.float64)  # 0 is one of them
    for error in (1e-3, 0.1, 0.9):
        printed = torch.stack(
            [
                mean_variance_loss(torch.tensor(0.0), v, torch.tensor(error), form="printed")
                for v in s
            ]
        )
        assert s[printed.argmin()].abs() < 1e-9
    beyond = torch.stack(
        [mean_variance_loss(torch.tensor(0.0), v, torch.tensor(2.0), form="printed") for v in s]
    )
    assert abs(s[beyond.argmin()] - math.log(4)) < 0.01


@pytest.mark.parametrize(
    "net",
    [*NETS.values(), FBPConvNet(3, 2, generator=seeded("fbp")).requires_grad_(False).eval()],
    ids=[*NETS, "fbpconvnet"],
)
def test_mean_starts_as_the_network_and_the_second_output_reads_the_last_features(net):
    x = image(2, 1, 12, 16)
    model = MeanVariance.from_network(net, generator=seeded("head"))
    assert all(p.requires_grad for p in model.parameters()) and not any(
        p.requires_grad for p in net.parameters()
    )
    mean, s = model(x)
    assert torch.equal(mean, net(x)) and torch.equal(model.mean(x), mean)
    assert s.shape == mean.shape and 0 < (s + 3).abs().max() < 1.5
    last = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)][-1]
    seen = []
    with last.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0])):
        net(x)
    by_hand = F.conv2d(seen[0], model.variance.weight, model.variance.bias, padding=last.padding)
    assert torch.allclose(s, by_hand, atol=1e-6)
    he = math.sqrt(2 / model.variance.weight[0].numel())
    assert model.variance.weight.std() < 0.3 * he
    prediction = model.predict(x)
    assert torch.allclose(prediction.spread, s.exp()) and torch.allclose(
        prediction.upper, mean + 1.96 * s.exp().sqrt(), atol=1e-5
    )
    assert not prediction.mean.requires_grad


def test_all_weights_are_in_the_state_and_training_moves_the_copy_alone():
    net = NETS["dncnn"]
    before = copy.deepcopy(net.state_dict())
    model = MeanVariance.from_network(net, generator=seeded("head"))
    assert set(model.state_dict()) == {f"net.{name}" for name in before} | {
        "variance.weight",
        "variance.bias",
    }
    twin = MeanVariance.from_network(DnCNN(6, 5, dropout=0.2))
    twin.load_state_dict(model.state_dict())
    x = image(1, 1, 9, 9)
    assert torch.equal(twin.eval()(x)[1], model(x)[1])
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    mean_variance_loss(*model(x), x).backward()
    assert all(p.grad is not None for p in model.parameters())
    optimiser.step()
    assert all(torch.equal(before[name], weights) for name, weights in net.state_dict().items())


def test_dropout_of_the_network_is_drawn_from_the_generator_of_the_pair():
    model, x = MeanVariance.from_network(NETS["dncnn"]).train(), image(1, 1, 9, 9)
    runs = []
    for seed in (1, 1, 2):
        model.generator = seeded("dropout", seed)
        runs.append(model(x)[1])
    assert model.generator is model.net.drop.generator
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert MeanVariance.from_network(FBPConvNet(2, 2)).generator is None


def test_a_network_without_a_last_bias_gets_a_variance_with_one():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)).requires_grad_(False)
    model = MeanVariance.from_network(net, generator=seeded("head"))
    assert (
        torch.allclose(model(torch.zeros(1, 1, 3, 3))[1], torch.tensor(-3.0))
        and net[0].bias is None
    )


def test_a_known_noise_that_varies_is_learnt():
    """x = noise of standard deviation 0.02 in the dark half of the input, 0.2 in the bright one;
    mean 0.
    """
    generator = seeded("heteroscedastic")
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    with torch.no_grad():
        for weights in net.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator))
        net[2].weight.zero_(), net[2].bias.zero_()
    model = MeanVariance.from_network(net, generator=generator)
    x_in = torch.cat([torch.zeros(1, 1, 40, 40), torch.ones(1, 1, 40, 40)], -1)
    true = torch.where(x_in > 0.5, 0.2, 0.02)
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(300):
        optimiser.zero_grad()
        mean_variance_loss(
            *model(x_in), true * torch.randn(x_in.shape, generator=generator)
        ).backward()
        optimiser.step()
    learnt = model.predict(x_in).spread.sqrt()
    assert torch.allclose(learnt, true, rtol=0.15)


# -- detectors that know nothing


def test_null_detectors_are_what_numpy_and_scipy_make():
    x_in, size = image(2, 1, 13, 17, dtype=torch.float64), 7

    def f(x):
        return x.square() + 100

    u = {kind: NullDetector(kind, f, seeded("null")).predict(x_in) for kind in NULL_DETECTORS}
    for i in range(2):
        z, y = x_in[i, 0].numpy(), f(x_in)[i, 0].numpy()

        def box(a):
            return scipy.ndimage.uniform_filter(a, size, mode="mirror")

        exact = {
            "gradient": np.hypot(*np.gradient(z)),
            "residual": np.abs(y - z),
            "residual-mean": box(np.abs(y - z)),
            "input": z,
            "variance": scipy.ndimage.generic_filter(y, np.var, size, mode="mirror"),
        }
        for kind, map_ in exact.items():
            assert np.allclose(u[kind].spread[i, 0].numpy(), map_, atol=1e-11), kind
    for kind, prediction in u.items():
        assert NullDetector(kind, f).name == f"null-{kind}"
        assert torch.equal(prediction.mean, f(x_in))
        assert prediction.lower is prediction.mean and prediction.upper is prediction.mean
        assert prediction.spread.shape == x_in.shape and prediction.spread.dtype == x_in.dtype


def test_random_maps_are_new_at_each_call_and_repeat_with_the_generator():
    x_in = image(1, 1, 30, 30)
    detector = NullDetector("random", lambda x: x, seeded("null"))
    u, v = (detector.predict(x_in).spread for _ in range(2))
    assert not torch.equal(u, v) and u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.05
    assert torch.equal(NullDetector("random", lambda x: x, seeded("null")).predict(x_in).spread, u)


def test_local_variance_survives_float32():
    x_in = image(1, 1, 20, 20)
    found = NullDetector("variance", lambda x: 1e-3 * x + 1).predict(x_in).spread
    exact = NullDetector("variance", lambda x: x * 1e-3).predict(x_in.double()).spread
    assert torch.allclose(found.double(), exact, rtol=0.02)
