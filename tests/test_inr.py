"""Fields: the architecture of the paper, a stack of them, their fit, and what their samples say."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from instab_utils import profiles
from instab_utils.fields import fitting, stacks
from instab_utils.networks import Fields
from instab_utils.networks.inr import ACTIVATIONS, masked_activation
from instab_utils.networks.layers import random_bits
from instab_utils.operators import Radon
from instab_utils.uncertainty import bbb, ensemble


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def grid(n):
    """Points of `render` in its order: row i at y, column j at x."""
    line = torch.linspace(-1, 1, n, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def by_hand(fields, k, points):
    """f_k out of nn.Linear and the formula of gamma, one field at a time."""
    acts = {"relu": nn.ReLU(), "silu": nn.SiLU(), "softplus": nn.Softplus(), "tanh": nn.Tanh()}
    act = acts.get(fields.activation, lambda z: torch.sin(float(fields.omega0[k]) * z))
    phase = points @ fields.frequencies[k]
    h = torch.cat([torch.sin(phase + math.pi / 4), torch.cos(phase + math.pi / 4)], -1)
    last = len(fields.weights) - 1
    for i, (w, b) in enumerate(zip(fields.weights, fields.biases)):
        layer = nn.Linear(*w.shape[1:]).double()
        layer.weight.data, layer.bias.data = w[k].T, b[k, 0]
        h = layer(h) if i == last else act(layer(h))
    return torch.sigmoid(h[:, 0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_render_is_the_architecture_of_the_paper(activation):
    fields = Fields(10, 2, activation, [1.0, 4.0, 9.0], 7, generator=gen()).double()
    image = fields.render(15)
    assert image.shape == (3, 1, 15, 15) and len(fields.weights) == 2 + 2
    for k in range(3):
        torch.testing.assert_close(
            image[k].flatten(), by_hand(fields, k, grid(15)), atol=2e-6, rtol=0
        )
    torch.testing.assert_close(
        fields(grid(15)),
        torch.stack([by_hand(fields, k, grid(15)) for k in range(3)]),
        atol=1e-12,
        rtol=0,
    )


@pytest.mark.parametrize(
    "omega0, n, n_frequencies, low_rank",
    [(2.0, 33, 40, True), (15.0, 64, 128, True), (40.0, 9, 3, False)],
)
def test_features_of_a_grid_are_those_of_its_points(omega0, n, n_frequencies, low_rank):
    fields = Fields(5, 1, "relu", [omega0] * 2, n_frequencies, generator=gen())
    phase = (grid(n) @ fields.frequencies.double()) + math.pi / 4
    dense = torch.cat([phase.sin(), phase.cos()], -1)
    assert (fields._grid(n)._dense is None) is low_rank
    assert (fields.features(n) - dense).abs().max() < 3e-6
    w, b = (
        torch.randn(2, 2 * n_frequencies, 5, generator=gen()),
        torch.randn(2, 1, 5, generator=gen()),
    )
    found, expected = fields._grid(n).first_layer(w, b), dense @ w.double() + b
    assert (found - expected).norm() < 2e-6 * expected.norm()


def test_flat_parameters_are_the_module_and_differentiable():
    fields = Fields(4, 1, "tanh", 3.0, 3, generator=gen()).double()
    theta = fields.flat()
    assert (
        theta.shape == (1, fields.n_parameters)
        and fields.n_parameters == 6 * 4 + 4 + 4 * 4 + 4 + 4 + 1
    )
    torch.testing.assert_close(fields.render(5, theta), fields.render(5))
    chains = theta + 0.1 * torch.randn(3, theta.shape[1], generator=gen(), dtype=torch.float64)
    for one, image in zip(chains, fields.render(5, chains)):
        torch.testing.assert_close(fields.load_flat(one[None]).render(5)[0], image)
    assert torch.autograd.gradcheck(lambda t: fields.render(4, t), chains.requires_grad_())
    with pytest.raises(ValueError, match=r"theta expects \(n, 53\).*got \(1, 52\)"):
        fields.render(5, theta[:, 1:])


@pytest.mark.parametrize(
    "activation, std",
    [
        ("relu", math.sqrt(2 / 400)),
        ("softplus", math.sqrt(2 / 400)),
        ("silu", math.sqrt(1 / 400)),
        ("tanh", math.sqrt(2 / 800)),
        ("sine", math.sqrt(6 / 400) / 7 / math.sqrt(3)),
    ],
)
def test_weights_start_as_in_the_follow_up(activation, std):
    fields = Fields(400, 1, activation, 7.0, 100, generator=gen())
    assert fields.weights[1].std().item() == pytest.approx(std, rel=0.02)
    if activation == "sine":
        assert fields.weights[0].abs().max().item() == pytest.approx(1 / 200, rel=0.01)
        assert fields.weights[1].abs().max() <= math.sqrt(6 / 400) / 7
    assert fields.biases[1].abs().max() <= 1 / 20
    assert fields.frequencies.std().item() == pytest.approx(7, rel=0.15)


def test_masks_drop_the_right_share_with_the_right_gain():
    fractions = [0.0, 0.2, 0.5, 0.8]
    fields = Fields(300, 1, omega0=[1.0] * 4, dropout=fractions).train()
    fields.generator = gen()
    masks = fields._hidden(torch.ones(4, 301, 300))
    for kept, fraction in zip(masks, fractions):
        share, error = (
            (kept > 0).double().mean().item(),
            math.sqrt(fraction * (1 - fraction) / kept.numel()) + 2**-16,
        )
        assert abs(share - (1 - fraction)) < 5 * error
        assert kept[kept > 0].unique().tolist() == pytest.approx([1 / (1 - fraction)], rel=1e-4)
    # 15 numbers are not a whole number of words
    assert random_bits((3, 5), [gen()], "cpu").shape == (3, 5)


def test_bits_are_uniform_and_a_field_with_its_own_source_keeps_its_own():
    bits = random_bits((2, 50_001), [gen(1), gen(2)], "cpu")
    counts = torch.bincount((bits[0].int() + 2**15) // 2**12, minlength=16)
    assert ((counts - 50_001 / 16).abs() < 5 * math.sqrt(50_001 / 16)).all()
    for row, seed in zip(bits, (1, 2)):
        assert torch.equal(row[None], random_bits((1, 50_001), [gen(seed)], "cpu"))
    assert not torch.equal(bits[1], random_bits((2, 50_001), [gen(1)], "cpu")[1])  # one for both


@pytest.mark.parametrize("masks, per_pixel", [("pixel", True), ("shared", False)])
def test_a_pass_is_one_function_only_with_shared_masks(masks, per_pixel):
    """Frequencies of zero make a constant function: pixels of a pass differ only by their masks."""
    fields = Fields(32, 2, "relu", 0.0, 4, dropout=0.5, masks=masks, generator=gen())
    fields.generator = gen(1)
    one, two = fields.train().render(9), fields.render(9)
    assert bool(one.std() > 1e-3) is per_pixel and (per_pixel or one.std() < 1e-6)
    assert (one - two).abs().max() > 1e-4
    assert fields.eval().render(9).std() < 1e-6


def test_dropout_leaves_the_features_alone():
    """The input of the first linear layer is not dropped: with p = 0.5 and one hidden layer, only
    hidden units are.
    """
    fields = Fields(3, 1, "relu", 2.0, 2, dropout=0.5, masks="shared", generator=gen())
    calls = []
    original, fields._masked = (
        fields._masked,
        lambda z, *_: calls.append(z.shape) or original(z, *_),
    )
    fields.train().render(5)
    assert calls == [(1, 25, 3)] * 2  # before the hidden layer and before the last


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(activation="gelu"), "activation of relu"),
        (dict(masks="row"), "masks pixel or shared"),
        (dict(depth=0), "depth=0"),
        (dict(dropout=1.0), r"\[0, 1\); got 1.0"),
        (dict(dropout=[0.2, -0.1], omega0=[1.0, 1.0]), "got"),
    ],
)
def test_wrong_fields_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Fields(**{"width": 4, "depth": 1, **wrong})


def disc(n):
    return (grid(n).square().sum(1) < 0.5).float().view(1, 1, n, n) * 0.8


def test_a_stack_is_fitted_as_its_members_are():
    A = Radon(16, torch.arange(0, 180, 30.0))
    y = A(disc(16))
    members = [Fields(8, 1, "silu", 3.0, 8, generator=gen(i)) for i in range(3)]
    stack = Fields.stack(members)
    together = fitting.fit_fields(stack, A, y, 20, 1e-2, record=(0, 20))
    alone = [fitting.fit_fields(m, A, y, 20, 1e-2, record=(0, 20)) for m in members]
    torch.testing.assert_close(
        together.residual, torch.cat([a.residual for a in alone], 1), atol=1e-4, rtol=1e-3
    )
    assert (together.residual[1] < 0.8 * together.residual[0]).all()
    torch.testing.assert_close(together.frames[-1], stack.render(16).detach())


def broken(graph, inputs):
    raise RuntimeError("no compiler")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which dynamo hides itself
def test_a_fit_with_compiled_masks_is_the_same():
    """One graph for each activation, whatever the sizes; without a compiler it goes on as it is."""
    A = Radon(16, torch.arange(0, 180, 30.0))
    compiled = []

    def counted(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def fitted(backend, width, n_fields):
        net = Fields(width, 1, "silu", [3.0] * n_fields, 8, dropout=0.3, generator=gen())
        with fitting.fused(net, backend is not None, backend):
            assert (net._masked is masked_activation) is (backend is None)
            fitting.fit_fields(net, A, A(disc(16)), 5, 1e-2, generator=[gen(1)] * n_fields)
        assert net._masked is masked_activation
        return net.flat()

    for width, n_fields in ((8, 3), (9, 2)):
        plain = fitted(None, width, n_fields)
        torch.testing.assert_close(fitted(counted, width, n_fields), plain)
        torch.testing.assert_close(fitted(broken, width, n_fields), plain)
    assert len(compiled) == 1


def test_the_loss_is_equation_1():
    """A step of gradient 1 / (2 M) sum of squares, lengths in units of the side: read off Adam's
    first gradient.
    """
    A = Radon(9, torch.arange(0, 180, 60.0))
    y = A(disc(9))
    fields = Fields(4, 1, "tanh", 2.0, 3, generator=gen())
    image = fields.render(9)
    loss = ((A(image) - y) / 9).square().sum() / (2 * y.numel())
    expected = torch.autograd.grad(loss, list(fields.parameters()))
    seen = []
    fields.weights[0].register_hook(lambda g: seen.append(g.clone()))
    fitting.fit_fields(fields, A, y, 1, 1e-3)
    torch.testing.assert_close(seen[0], expected[0], rtol=1e-4, atol=1e-9)


def test_a_fit_that_breaks_says_how_to_go_on():
    A = Radon(9, [0.0, 90.0])
    with pytest.raises(ValueError, match="one width"):
        Fields.stack([Fields(4, 1), Fields(5, 1)])
    with pytest.raises(fitting.Diverged, match="lr=0.01. Take a smaller one"):
        fitting.fit_fields(
            Fields(4, 1, "relu", 2.0, 3, generator=gen()),
            A,
            torch.full((1, 1, *A.sinogram_shape), torch.nan),
            3,
            1e-2,
        )


@pytest.mark.parametrize("activation", ["relu", "sine", "softplus"])
@pytest.mark.parametrize("dropout, bayes", [(0.0, False), (0.2, False), (0.0, True)])
def test_bytes_of_a_field_are_those_of_a_step(activation, dropout, bayes):
    """The peak of all allocations of a fit, recorded by PyTorch's profiler."""
    A = Radon(48, torch.arange(0, 180, 9.0))
    net = Fields(128, 3, activation, [5.0] * 2, 32, dropout, generator=gen())
    stated = 2 * stacks.field_bytes(net, 48, trained_std=bayes)
    net = bbb.BayesByBackprop(net) if bayes else net
    y = A(disc(48))
    fitting.fit_fields(net, A, y, 1, 1e-3)  # what is built once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        fitting.fit_fields(net, A, y, 2, 1e-3)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak = max(itertools.accumulate(sizes))
    assert 0.7 * stated < peak <= stated


@pytest.mark.parametrize(
    "free_gb, expected",
    [(80, 32), (8, 22), (0.1, 1)],  # kept busy by 2^27 numbers; by memory; at least one
)
def test_stacks_fit_a_gpu(monkeypatch, free_gb, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free_gb * 2**30), 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2**20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**20)
    field = Fields(64, 3, "silu", dropout=0.2)
    each = stacks.field_bytes(field, 256, n_samples=50)
    assert each == 2**24 * 15 + 16 * field.n_parameters + 50 * 2**18
    found = stacks.stack_size(field, 256, torch.device("cuda"), 50)
    assert found == expected and (found == 1 or found * each <= 0.7 * free_gb * 2**30)
    assert stacks.stack_size(field, 256, torch.device("cpu"), 50) == 1


def test_a_fit_reads_its_loss_every_fifty_steps_only(monkeypatch):
    """Each reading makes the CPU wait for a GPU."""
    read, item = [], torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda t: read.append(t) or item(t))
    A = Radon(9, [0.0, 90.0])
    for fields in (
        Fields(4, 1, "relu", 2.0, 3, dropout=0.2, generator=gen()),
        bbb.BayesByBackprop(Fields(4, 1, "relu", 2.0, 3, generator=gen())),
    ):
        fitting.fit_fields(fields, A, A(disc(9)), 101, 1e-3, generator=[gen()])
        assert len(read) == 3  # at steps 49, 99 and 100
        read.clear()


def test_kl_is_that_of_torch():
    q = bbb.BayesByBackprop(
        Fields(4, 1, "relu", [2.0, 2.0], 3, generator=gen()), prior_std=[0.3, 10.0], rho=-2.0
    )
    normal = torch.distributions.Normal
    for k, prior in enumerate((0.3, 10.0)):
        expected = torch.distributions.kl_divergence(
            normal(q.mu[k], q.std[k]), normal(torch.zeros(()), torch.tensor(prior))
        ).sum()
        torch.testing.assert_close(q.kl()[k], expected)


def test_bayes_by_backprop_finds_the_width_of_a_closed_form_posterior():
    """With all inputs of the last layer fixed, the evidence bound of a linear-Gaussian model is
    known: here via xi alone.

    Without data, KL alone pulls q to the prior: mu to 0 and s to prior_std.
    """
    q = bbb.BayesByBackprop(Fields(3, 1, "relu", 2.0, 2, generator=gen()), prior_std=0.5, rho=-1.0)
    optimiser = torch.optim.Adam([q.mu, q.rho], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        q.kl().sum().backward()
        optimiser.step()
    assert q.mu.abs().max() < 1e-2 and (q.std - 0.5).abs().max() < 1e-2 and q.kl().item() < 1e-2


def test_a_kl_factor_is_a_likelihood():
    assert [bbb.likelihood_std(xi, 1280) for xi in (1e-10, 1e-5, 0.1)] == pytest.approx(
        [3.6e-4, 0.113, 11.3], rel=0.01
    )


def test_samples_of_bayes_differ_by_their_spread():
    q = bbb.BayesByBackprop(Fields(8, 1, "silu", 2.0, 5, generator=gen()), rho=-12.0)
    narrow = fitting.samples(q, 8, 20, gen(1))
    wide = fitting.samples(
        bbb.BayesByBackprop(Fields(8, 1, "silu", 2.0, 5, generator=gen()), rho=-3.0),
        8,
        20,
        gen(1),
    )
    assert narrow.shape == (20, 1, 1, 8, 8) and narrow.std(0).max() < 1e-4 < wide.std(0).min()


def test_pools_take_an_equal_share_of_each_member():
    members = [torch.full((50, 2, 1, 3, 3), float(i)) for i in range(3)]
    pool = ensemble.pooled(members, 50)
    assert pool.shape == (48, 2, 1, 3, 3) and [
        (pool[:, 0, 0, 0, 0] == i).sum().item() for i in range(3)
    ] == [16, 16, 16]
    with pytest.raises(ValueError, match=r"5 samples each, 50 in all; got \[4"):
        ensemble.pooled([torch.zeros(4, 1)] * 10, 50)


def test_prediction_from_samples():
    drawn = torch.randn(400, 2, 1, 4, 4, generator=gen()) * 0.1 + 0.5
    prediction = ensemble.from_samples(drawn)
    torch.testing.assert_close(prediction.spread, drawn.var(0))
    assert (prediction.upper - prediction.lower).mean().item() == pytest.approx(
        2 * 1.96 * 0.1, rel=0.03
    )
    with pytest.raises(ValueError, match="two samples"):
        ensemble.from_samples(drawn[:1])


def test_samples_with_dropout_and_without():
    fields = Fields(8, 1, "relu", 2.0, 5, dropout=0.3, generator=gen()).eval()
    drawn = fitting.samples(fields, 8, 6, profiles.generator(0, "test"))
    assert drawn.shape == (6, 1, 1, 8, 8) and drawn.std(0).min() > 0 and not fields.training
    torch.testing.assert_close(drawn, fitting.samples(fields, 8, 6, profiles.generator(0, "test")))
    assert fitting.samples(Fields(8, 1, "relu", 2.0, 5, generator=gen()), 8, 3).std(0).max() == 0
