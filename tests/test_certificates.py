"""Certificates against dense matrices, and against attacks that try to break them."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from instab_utils import networks, profiles
from instab_utils.audit import balls, bracket, certificates, lipschitz, norms, rules
from instab_utils.audit.certificates import certificate
from instab_utils.networks import Reconstructor, dagan
from instab_utils.networks.layers import symmetric_pad
from instab_utils.operators import Identity, MaskedFourier, MultiCoilFourier, Radon

ANGLES = torch.arange(0, 180, 15.0)


def random(name):
    return profiles.generator(0, f"certificates {name}")


def weights(module, generator, gain=1.0):
    """Every parameter and running statistic at random."""
    with torch.no_grad():
        for name, t in (*module.named_parameters(), *module.named_buffers()):
            if t.is_floating_point():
                fan = max(1, t[0].numel()) if t.ndim > 1 else 4
                t.copy_(torch.randn(t.shape, generator=generator) * gain * (2 / fan) ** 0.5)
                if "var" in name:
                    t.abs_().add_(0.3)
    return module.eval()


def unit(t):
    return t / torch.linalg.vector_norm(t)


def largest_change(f, y, eps, generator, n_starts=3, n_steps=12):
    """The largest ||f(y + e) - f(y)|| met by random e on the sphere, by gradient ascent from each,
    and on the way.
    """
    with torch.no_grad():
        before, found = f(y), 0.0
    for _ in range(n_starts):
        e = unit(torch.randn(y.shape, dtype=y.dtype, generator=generator)) * eps
        for _ in range(n_steps):
            e.requires_grad_()
            change = torch.linalg.vector_norm(f(y + e) - before)
            found = max(found, float(change.detach()))
            if not change > 0:
                break
            (g,) = torch.autograd.grad(change, e)
            e = (unit(g) * eps if torch.linalg.vector_norm(g) > 0 else e).detach()
    return found


class Layer(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.parts)


def conv(i=2, o=3, k=3, **options):
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


LAYERS = {  # each on (1, 2, 8, 8)
    "conv": conv(),
    "conv 5x5": conv(k=5),
    "stride": conv(stride=2),
    "dilation": conv(dilation=2),
    "groups": conv(2, 4, groups=2),
    "reflect": conv(padding_mode="reflect"),
    "circular": conv(padding_mode="circular"),
    "replicate": conv(padding_mode="replicate"),
    "transposed": nn.ConvTranspose2d(2, 3, 3, stride=2),
    "transposed groups": nn.ConvTranspose2d(2, 4, 4, 2, 1, groups=2),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(128, 40), nn.ReLU(), nn.Linear(40, 30)),
    "relu": nn.Sequential(conv(), nn.ReLU(), conv(3, 2)),
    "leaky": nn.Sequential(conv(), nn.LeakyReLU(0.2), conv(3, 2)),
    "tanh": nn.Sequential(conv(), nn.Tanh()),
    "sigmoid": nn.Sequential(conv(), nn.Sigmoid()),
    "elu": nn.Sequential(conv(), nn.ELU(1.5)),
    "silu": nn.Sequential(conv(), nn.SiLU()),
    "gelu": nn.Sequential(conv(), nn.GELU()),
    "softplus": nn.Sequential(conv(), nn.Softplus()),
    "relu6": nn.Sequential(conv(), nn.ReLU6()),
    "hardtanh": nn.Sequential(conv(), nn.Hardtanh()),
    "batch norm": nn.Sequential(conv(), nn.BatchNorm2d(3)),
    "group norm": nn.Sequential(conv(2, 4), nn.GroupNorm(2, 4)),
    "instance norm": nn.Sequential(conv(), nn.InstanceNorm2d(3, affine=True)),
    "max-pool": nn.Sequential(nn.MaxPool2d(2), conv()),
    "max-pool 3": nn.MaxPool2d(3, 1),
    "max-pool 3/2": nn.MaxPool2d(3, 2, 1),
    "avg-pool": nn.AvgPool2d(2),
    "avg-pool 3": nn.AvgPool2d(3, 1),
    "adaptive": nn.AdaptiveAvgPool2d(3),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "shuffle": nn.Sequential(conv(2, 8), nn.PixelShuffle(2)),
    "cat": Layer(lambda x, a, b: torch.cat([a(x), x, b(x).relu()], 1), conv(), conv()),
    "residual": Layer(lambda x, a: x - a(x), conv(2, 2)),
    "sum": Layer(lambda x, a, b: a(x) + torch.relu(b(x)), conv(), conv()),
    "crop": Layer(lambda x, a: a(x)[..., 1:-1, :-2], conv()),
    "channels": Layer(lambda x, a: a(x)[:, 1:], conv()),
    "scaled": Layer(lambda x: 0.7 * x * torch.linspace(-2, 1, 8, dtype=torch.float64) - 0.5),
    "clamp": Layer(lambda x: (3 * x).clamp(0, 1)),
    "mean": Layer(lambda x: x + 2 * x.mean((2, 3), keepdim=True)),
    "abs": Layer(lambda x, a: torch.abs(a(x)), conv()),
    "pad": Layer(lambda x, a: a(F.pad(x, (0, 1, 2, 0), value=0.3)), conv()),
    "symmetric": Layer(lambda x, a: a(torch.cat([x[..., :2], x], -1)), conv()),
    "dropout": nn.Sequential(conv(), nn.Dropout2d(0.5), nn.Dropout(0.2)),
    "constant": Layer(lambda x: torch.ones(2, 1, 1).double() / 2 - x),
    "deep": nn.Sequential(
        conv(2, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4), nn.LeakyReLU(0.1), conv(4, 1)
    ),
}


def violations(layers, seeds=(0,)):
    """Names of the layers whose certificate an attack has broken."""
    broken = []
    for name in layers:
        for seed in seeds:
            g = profiles.generator(seed, f"layer {name}")
            net = weights(LAYERS[name], g)
            y = torch.randn(1, 2, 8, 8, generator=g)
            eps = [0.01, 0.3, 3.0]
            found = certificate(net, None, y, eps)
            assert found.why_not is None, (name, found.why_not)
            wide = certificates.exact(net, None, y)
            for e, bound in zip(eps, found.bounds[0].tolist()):
                if not largest_change(wide, y.double(), e, g) <= bound:
                    broken.append(name)
    return sorted(set(broken))


def test_no_attack_is_above_the_certificate_of_any_layer():
    assert not violations(LAYERS)


def test_random_deep_networks():
    assert not violations(["deep", "relu", "cat", "residual", "group norm"], range(1, 4))


@pytest.mark.parametrize(
    "broken",
    [
        "norm of a convolution",
        "cat",
        "sum",
        "group norm",
        "up-sampling",
        "max-pool",
        "sigmoid",
    ],
)
def test_a_broken_rule_is_found(broken, monkeypatch):
    """The same search, on rules that are wrong by a factor that a reviewer could miss."""
    right = norms.conv_norm
    if broken == "norm of a convolution":
        monkeypatch.setattr(norms, "conv_norm", lambda *args: 0.7 * right(*args))
    elif broken == "cat":
        wrong = rules._cat
        monkeypatch.setitem(
            rules.RULES, torch.cat, lambda parts, dim=0: shrunk(wrong(parts, dim), parts[0].radius)
        )
    elif broken == "sum":
        wrong = rules._add
        monkeypatch.setitem(rules.RULES, torch.add, lambda x, y: shrunk(wrong(x, y), x.radius))
    elif broken == "group norm":
        wrong = rules._group_norm
        monkeypatch.setitem(
            rules.RULES,
            F.group_norm,
            lambda x, *args, **o: shrunk(wrong(x, *args, **o), x.radius / 9),
        )
    elif broken == "up-sampling":
        monkeypatch.setitem(
            rules.RULES,
            F.interpolate,
            lambda x, *args, **o: x.mapped(lambda t: F.interpolate(t, *args, **o)),
        )
    elif broken == "max-pool":
        monkeypatch.setitem(
            rules.RULES,
            torch.max_pool2d,
            lambda x, *args: x.mapped(lambda t: F.max_pool2d(t, *args[:3])),
        )
        monkeypatch.setitem(
            rules.RULES,
            F.max_pool2d,
            lambda x, *args, **_: x.mapped(lambda t: F.max_pool2d(t, *args[:3])),
        )
    elif broken == "sigmoid":
        wrong = functools.partial(rules._mapped, torch.sigmoid, 0.1)
        for function in (torch.sigmoid, torch.Tensor.sigmoid):
            monkeypatch.setitem(rules.RULES, function, wrong)
    assert violations(
        ["conv", "cat", "residual", "sum", "group norm", "nearest", "max-pool 3", "sigmoid", "deep"]
    )


def shrunk(x, radius):
    return balls.Ball(x.point, torch.minimum(x.radius, radius))


@pytest.mark.parametrize(
    ("n", "k", "options"),
    [
        (15, 3, {}),
        (17, 5, {}),
        (15, 4, dict(stride=2)),
        (17, 3, dict(stride=2)),
        (15, 3, dict(stride=3)),
        (15, 3, dict(dilation=2)),
        (17, 1, {}),
        (15, 3, dict(groups=2)),
        (9, (3, 5), {}),
        (17, 5, dict(stride=(2, 1))),
    ],
)
def test_norm_of_a_convolution_against_its_dense_matrix(n, k, options):
    g = random("dense")
    weight = torch.randn(
        4, 2 // options.get("groups", 1), *(k if isinstance(k, tuple) else (k, k)), generator=g
    ).double()
    basis = torch.eye(2 * n * n).double().reshape(-1, 2, n, n)
    pairs = {k: v if isinstance(v, tuple) else (v, v) for k, v in options.items() if k != "groups"}
    bound = norms.conv_norm(weight, (n, n), **pairs, groups=options.get("groups", 1))
    for padding in (0, max(weight.shape[2:]) // 2):
        exact = float(
            torch.linalg.matrix_norm(
                F.conv2d(basis, weight, None, padding=padding, **options).flatten(1), 2
            )
        )
        assert exact <= bound * (1 + 1e-12)
    assert bound <= 1.2 * exact  # of the usual padding


def test_norm_of_a_convolution_on_images_above_the_grid():
    """A coarser grid costs less than two per cent, and never falls below the torus of the image
    itself.
    """
    for k in (3, 5, 11):
        weight = torch.randn(2, 3, k, k, generator=random(f"grid {k}")).double()
        fine = torch.linalg.matrix_norm(
            torch.fft.fft2(weight, s=(300, 300)).permute(2, 3, 0, 1), 2
        ).max()
        assert float(fine) <= norms.conv_norm(weight, (400, 400)) <= 1.02 * float(fine)


def test_transposed_convolution_is_the_adjoint():
    weight = torch.randn(2, 3, 4, 4, generator=random("transposed")).double()
    out = F.conv_transpose2d(
        torch.eye(2 * 49).double().reshape(-1, 2, 7, 7), weight, stride=2, padding=1
    ).flatten(1)
    x = balls.Ball(torch.zeros(1, 2, 7, 7).double(), torch.ones(1).double())
    bound, exact = (
        float(F.conv_transpose2d(x, weight, stride=2, padding=1).radius),
        float(torch.linalg.matrix_norm(out, 2)),
    )
    assert exact <= bound <= 1.15 * exact


@pytest.mark.parametrize(
    "A", [Radon(15, ANGLES), Radon(8, torch.arange(0, 180, 2.0)), Radon(17, ANGLES[:5])]
)
def test_norm_of_filtered_back_projection_against_its_dense_matrix(A):
    basis = torch.eye(math.prod(A.sinogram_shape)).double().reshape(-1, 1, *A.sinogram_shape)
    exact, transpose = (
        float(torch.linalg.matrix_norm(apply(basis).flatten(1), 2)) for apply in (A.fbp, A.adjoint)
    )
    assert norms.pinv_norm(A) == pytest.approx(exact, rel=1e-6) and norms.pinv_norm(A) >= exact
    assert transpose <= norms.adjoint_norm(A) <= 1.01 * transpose


def test_norm_of_filtered_back_projection_without_its_matrix(monkeypatch):
    A = Radon(15, ANGLES)
    exact = norms.pinv_norm(A)
    monkeypatch.setattr(norms, "DENSE_FBP", 0)
    assert exact <= norms.pinv_norm(A) <= 20 * exact


def coils(n):
    maps = torch.randn(3, n, n, dtype=torch.complex64, generator=random("coils"))
    return MultiCoilFourier(torch.rand(n, n, generator=random("mask")) < 0.5, maps)


def test_norms_of_coils_against_their_dense_matrix():
    A = coils(5)
    full = MultiCoilFourier(torch.ones(5, 5), A.coil_maps)
    basis = torch.eye(75, dtype=torch.complex128).reshape(-1, 3, 5, 5)
    for operator, slack in ((A, 2), (full, 1 + 1e-6)):
        for apply, norm in (
            (operator.adjoint, norms.adjoint_norm),
            (operator.pinv, norms.pinv_norm),
        ):
            exact = float(torch.linalg.matrix_norm(apply(basis).flatten(1), 2))
            assert exact <= norm(operator) * (1 + 1e-9)
            assert operator is A or norm(operator) <= slack * exact


def test_linear_reconstructions_have_their_norm():
    A = Radon(15, ANGLES)
    y = torch.rand(2, 1, *A.sinogram_shape, generator=random("linear"))
    found = certificate(A.pinv, A, y, [0.1, 2.0])
    assert found.bounds.shape == (2, 2) and found.by == ["operator norm"] * 2
    assert found.bounds[0, 1] == pytest.approx(2 * norms.pinv_norm(A), rel=1e-5)
    mask = MaskedFourier(torch.rand(9, 9, generator=random("mask")) < 0.4)
    assert float(
        certificate(mask.pinv, mask, y[..., :9, :9] + 0j, [0.7]).bounds[0, 0]
    ) == pytest.approx(0.7, rel=1e-5)
    net = nn.Linear(20, 30).requires_grad_(False)
    exact = float(torch.linalg.matrix_norm(net.weight.double(), 2))
    bounds = certificate(
        net, None, torch.rand(3, 20, generator=random("dense layer")), [0.5]
    ).bounds
    assert bounds.flatten().tolist() == pytest.approx([exact / 2] * 3, rel=1e-4) and bool(
        (bounds >= exact / 2).all()
    )


def test_cascade_without_blocks_is_zero_filling():
    A = MaskedFourier(torch.rand(12, 12, generator=random("mask")) < 0.4)
    y = A(torch.rand(1, 1, 12, 12, generator=random("image")))
    for strength, blocks in ((math.inf, 3), (2.0, 2)):
        net = networks.Cascade(blocks, 2, 4, strength).requires_grad_(False)
        for p in net.parameters():
            p.zero_()
        assert float(certificate(Reconstructor(net, A), A, y, [0.3]).bounds[0, 0]) == pytest.approx(
            0.3, rel=1e-4
        )


def reconstructors():
    g = random("networks")
    mask = torch.rand(16, 16, generator=g) < 0.4
    mask[0, 0] = True
    single, many, ct = MaskedFourier(mask), coils(16), Radon(16, ANGLES)
    kinds = {
        "dncnn": (networks.DnCNN(4, 6), Identity(16)),
        "unet": (networks.LimitedAngleUNet(3, 3), ct),
        "fbpconvnet": (networks.FBPConvNet(3, 2), ct),
        "cascade": (networks.Cascade(2, 3, 6), single),
        "cascade, noisy": (networks.Cascade(2, 3, 6, 3.0), single),
        "cascade, coils": (networks.Cascade(2, 2, 4, 1.0), many),
        "automap": (networks.AUTOMAP(16, int(mask.sum()), 20, 4), single),
        "dagan": (dagan.Generator(16, 4), single),
        "mri-vn": (networks.VariationalNetwork(2, 4, 5, 9), many),
        "mri-vn, symmetric": (networks.VariationalNetwork(2, 3, 3, 9, padding="symmetric"), single),
    }
    for name, (net, A) in kinds.items():
        if not isinstance(net, networks.VariationalNetwork):
            weights(net, g, 0.7)
        else:
            for activation in net.activations:
                activation.weight.data = 0.3 * torch.randn(activation.weight.shape, generator=g)
        yield (
            name,
            Reconstructor(net.eval().requires_grad_(False), A),
            A,
            A(torch.rand(1, 1, 16, 16, generator=g)),
        )


def test_no_attack_is_above_the_certificate_of_any_reconstruction():
    for name, f, A, y in reconstructors():
        found = certificate(f, A, y, [0.01, 1.0])
        assert found.why_not is None, (name, found.why_not)
        wide = certificates.exact(f, A, y)
        for eps, bound in zip((0.01, 1.0), found.bounds[0].tolist()):
            change = largest_change(wide, certificates._wide(y), eps, random(name), 2, 8)
            assert 0 < change <= bound, name


def test_steepest_slope_of_an_activation():
    activation = networks.RBFActivation(5, 9)
    activation.weight.data = torch.randn(5, 9, generator=random("slopes"))
    z = torch.linspace(-2, 2, 4001, dtype=torch.float64).requires_grad_()
    values = activation.double().formula(z[None, None, None].expand(1, 5, 1, -1))
    steepest = torch.stack(
        [torch.autograd.grad(v.sum(), z, retain_graph=True)[0].abs().max() for v in values[0]]
    )
    bound = certificates.steepest(activation)
    assert bool((steepest <= bound).all()) and bool((bound <= 1.05 * steepest).all())


def test_reasons_for_no_certificate():
    y = torch.rand(1, 1, 8, 8, generator=random("y"))
    A = Identity(8)
    assert "steps are not known" in certificate(lambda y: y, A, y, [1.0]).why_not
    assert "softmax" in certificate(nn.Softmax(1), A, y, [1.0]).why_not
    assert "product of two" in certificate(Layer(lambda x: x * x), A, y, [1.0]).why_not
    assert "training mode" in certificate(nn.Dropout(0.5), A, y, [1.0]).why_not
    assert (
        "bicubic" in certificate(nn.Upsample(scale_factor=2, mode="bicubic"), A, y, [1.0]).why_not
    )
    assert "complex" in certificate(networks.FBPConvNet(2, 2), A, y + 0j, [1.0]).why_not
    assert "max" in certificate(Layer(lambda x: x / x.max()), A, y, [1.0]).why_not
    assert "branch" in certificate(Layer(lambda x: x if x else 2 * x), A, y, [1.0]).why_not
    net = networks.DnCNN(2, 2, generator=random("net"))
    assert certificate(lambda y: net(y), A, y, [1.0], network=net).why_not is None
    assert (
        "neither DnCNN"
        in certificate(lambda y: net(y) + 0.01 * y**2, A, y, [1.0], network=net).why_not
    )
    with pytest.raises(ValueError, match="radii"):
        certificate(net, A, y, [-1.0])


def test_bracket_holds_and_says_so(monkeypatch):
    A = Identity(12)
    net = networks.DnCNN(3, 4, generator=random("net")).eval().requires_grad_(False)
    y = torch.rand(2, 1, 12, 12, generator=random("y"))
    found = bracket.bracket(Reconstructor(net, A), A, y, generator=random("bracket"), n_iter=8)
    assert found["domain"] == "measurement" and found["why_not"] is None and len(found["rows"]) == 4
    for row in found["rows"]:
        assert 0 < row["twin"] <= row["attack"] <= row["certificate"]
        assert row["e_norm"] == pytest.approx(row["rel_norm"] * float(y[:1].norm()), rel=1e-6)
    wrong = certificate(net, A, y[:1], [row["e_norm"] for row in found["rows"]])
    monkeypatch.setattr(
        bracket, "certificate", lambda *_: certificates.Certificate(wrong.bounds / 100, wrong.by)
    )
    with pytest.raises(AssertionError, match="above its certificate"):
        bracket.bracket(Reconstructor(net, A), A, y, generator=random("bracket"), n_iter=8)


def test_bracket_is_tight_for_a_linear_reconstruction():
    A = Radon(12, ANGLES)
    y = A(torch.rand(1, 1, 12, 12, generator=random("image")))
    for row in bracket.bracket(A.pinv, A, y, generator=random("bracket"), n_iter=60)["rows"]:
        assert row["attack"] <= row["certificate"] <= 1.05 * row["attack"]


def test_bracket_of_a_black_box():
    y = torch.rand(1, 1, 8, 8, generator=random("y"))
    found = bracket.bracket(
        lambda y: y.detach().round(decimals=1), Identity(8), y, generator=random("bracket")
    )
    assert "steps are not known" in found["why_not"] and all(
        row["certificate"] is None for row in found["rows"]
    )
    assert all(row["attack"] >= row["twin"] for row in found["rows"])


def test_lipschitz_layers():
    net = lipschitz.LipschitzDnCNN().build()
    lipschitz.project_(net)
    assert all(norms.conv_norm(c.weight, (n, n)) <= 1 for c in net.convs for n in (9, 70))
    y = torch.rand(1, 1, 20, 20, generator=random("y"))
    assert (
        float(certificate(net.requires_grad_(False), Identity(20), y, [0.5]).bounds[0, 0])
        <= 1.0 + 1e-5
    )


def test_symmetric_padding_repeats_a_pixel_four_times():
    norm = norms.nonnegative_norm(lambda t: symmetric_pad(t, 4), torch.zeros(1, 1, 9, 9))
    assert norm == pytest.approx(2.0, rel=1e-6)
