"""Work of what the papers' drivers run: units counted once, times the numbers of a profile.

Units are a step of a training or of a fit, a gradient of a case, an iteration of total variation, a
step of a field. Networks are counted at their full size on tensors without memory, solvers and
operators on small images, whose cost grows with pixels and views.
"""

import dataclasses
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from .. import profiles, solvers, store, training
from ..networks import DnCNN, Fields, dagan
from ..networks.cascade import Cascade
from ..networks.variational import VariationalNetwork
from ..operators import Identity, LinearOperator, Radon
from ..training.cases import PUBLISHED, SOLVERS
from ..training.losses import LOSSES, adversarial, generator_loss, squared_error
from ..training.trainings import CLASSES
from ..uncertainty import BayesByBackprop, fits, interval, probout
from .cost import Cost, count, fake

POST_PROCESSORS = (*fits.POST_PROCESSORS, "ell-50")
STATES = {"adam": 2, "rmsprop": 1, "clipped-sgd": 1, "ipalm": 1}
"""Tensors that an optimiser keeps for each weight."""
TRIES = 5
"""Losses without gradient in a step of IPALM's three blocks: a rejected try for each 2.4."""
ITERATIONS = 20  # of a solver that is counted


def precision(spec) -> str:
    """Return the precision of a training or a fit: fp32 for IPALM and for intervals."""
    exact = getattr(spec, "method", "") == "interval" or getattr(spec, "name", "") == "mri-vn"
    return "fp32" if exact else "bf16"


def training_work(spec) -> list[tuple[Cost, str]]:
    """Return the work of a training or a fit, with the precision of each part."""
    recipe = getattr(spec, "base", spec)
    about = {"name": recipe.name, "architecture": recipe.architecture, "size": recipe.image_size}
    about |= {"batch_size": spec.batch_size, "optimiser": recipe.optimiser}
    if spec is recipe:
        step = _counted("training", _training_step, **about)
    else:
        about |= {"method": spec.method, "n_layers": spec.n_layers, "optimiser": "adam"}
        step = _counted("fit", _fit_step, **about)
    return [(spec.steps * step, precision(spec))]


def _counted(what: str, compute, **about: object) -> Cost:
    """Return compute(**about), stored as an array."""

    def counted(**about: object) -> dict:
        return dataclasses.asdict(compute(**about))

    return Cost(**store.cached_arrays(f"cost-{what}", about, counted, version=1))


def _network(name: str, architecture: dict) -> nn.Module:
    """Return a network on the device "meta"."""
    with torch.device("meta"):
        own = {"device": "meta"} if name == "automap" else {}
        return CLASSES[name](**architecture, **own)


def _problem(name: str, size) -> tuple[LinearOperator, torch.dtype]:
    """Return the operator that a network works behind, identity for post-processors."""
    if name in POST_PROCESSORS:
        return Identity(size), torch.float32
    what = training.task(name, size, "cpu")
    return what.A, torch.complex64 if what.complex_images else torch.float32


def _training_step(name, architecture, size, batch_size, optimiser) -> Cost:
    network, (A, dtype) = _network(name, architecture), _problem(name, size)
    rival = None
    if name == "dagan":
        with torch.device("meta"):
            rival = dagan.Discriminator(size, architecture["base_width"])
    with fake():
        for module in filter(None, (network, rival)):
            module.to_empty(device="cpu")
        x = torch.zeros(batch_size, 1, *A.image_shape, dtype=dtype)
        parts = _losses(name, network, rival, x, A)
        low = "fp32" if name == "mri-vn" else "bf16"
        step = count(lambda: [loss().backward() for loss in parts], low)
        if optimiser == "ipalm":
            step = 3 * step + TRIES * count(parts[0], low)
    return _updated(step, nn.ModuleList(filter(None, (network, rival))), optimiser)


def _losses(name, network, rival, x: Tensor, A: LinearOperator) -> list:
    """Return the losses of a step, as in `training.prepare`."""
    if name == "automap":  # its sampling depends on values

        def loss():
            x_rec, codes = network(torch.zeros(len(x), 2 * network.m), return_codes=True)
            return (x_rec - x).square().mean() + codes.mean()

        return [loss]
    y = A(x)
    if name != "dagan":
        return [lambda: LOSSES.get(name, squared_error)(network, y, x, A)]

    def image():
        return network(2 * A.adjoint(y).abs() - 1)

    def fool():
        x_rec = image()
        return generator_loss(x_rec, x, rival(x_rec))

    def tell():
        with torch.no_grad():
            x_rec = image()
        return adversarial(rival(x), True) + adversarial(rival(x_rec), False)

    return [fool, tell]


def _updated(step: Cost, network: nn.Module, optimiser: str) -> Cost:
    """Return the step with its update: gradient and states read, states and weights written."""
    kept = sum(4 * w.numel() for w in network.parameters())
    weights = sum(4 * w.numel() for w in network.parameters() if w.requires_grad)
    n = STATES[optimiser]
    whole = step + Cost(bytes=(3 + 2 * n) * weights)
    return dataclasses.replace(whole, memory=step.memory + kept + (1 + n) * weights)


def _fit_step(name, architecture, size, batch_size, optimiser, method, n_layers) -> Cost:
    network = _network(name, architecture)
    with fake():
        network.to_empty(device="cpu").eval()  # the mask of a dropout is no cost
        x = torch.zeros(batch_size, 1, size, size)
        if method == "probout":
            model = probout.MeanVariance.from_network(network)
            step = count(lambda: probout.mean_variance_loss(*model(x), x).backward(), "bf16")
        else:
            model = interval.IntervalNetwork.from_network(network, n_layers, x[:1])
            step = count(lambda: interval.interval_loss(*model.bounds(x), x, beta=1e-3).backward())
    return _updated(step, model, optimiser)


def case_units(name: str, profile: str) -> SimpleNamespace:
    """Return costs of one image of a case, in fp32.

    forward: f(y); gradient: of f(y + A r) in r; tv, tv_gradient: an iteration of total variation
    without and with its part of a gradient.
    """
    size = profiles.stage("stability", profile)
    kind = SOLVERS.get(name, name).removesuffix("-published")
    about = {"kind": kind, "architecture": None, "size": size.image_size}
    if name in PUBLISHED and kind == "dncnn":
        about["size"] = min(180, size.image_size)
    elif name not in PUBLISHED and SOLVERS.get(name) not in PUBLISHED:
        recipe = training.recipe(kind, profile)
        about |= {"architecture": recipe.architecture, "size": recipe.image_size}
        if kind == "dncnn":
            about["size"] = 180
    parts = ("forward", "gradient", "tv", "tv_gradient")
    about["solver"] = name in SOLVERS
    return SimpleNamespace(**{part: case_unit(part, **about) for part in parts})


def case_unit(part: str, kind: str, architecture: dict | None, size, solver: bool = False) -> Cost:
    """Return one of `case_units` of a task at an image size."""
    about = {"kind": kind, "architecture": architecture, "size": size, "solver": solver}
    return _counted("case", _case_unit, part=part, **about)


def _case_unit(part, kind, architecture, size, solver) -> Cost:
    small = training.task(kind, max(32, _side(size) // 8), "cpu").A
    pixels = _side(size, 2) / _side(small.image_shape, 2)
    views = pixels**0.5 if isinstance(small, Radon) else 1.0
    y = small(torch.rand(1, 1, *small.image_shape))
    if part.startswith("tv"):
        step = _solver_step(lambda y: solvers.tv(small, y, 1e-3, ITERATIONS, tol=0).x, y, part)
        return (1 / ITERATIONS * step).scaled(pixels, views)
    if solver:
        step = _solver_step(lambda y: solvers.shearlet(small, y, noise_level=0.01).x, y, part)
        return step.scaled(pixels, views)
    cost = network_unit(part, kind, architecture, size)
    if isinstance(small, Radon):  # f is a network behind filtered back-projection
        behind = _solver_step(small.pinv, y, part)
        if part == "gradient":
            behind += count(lambda: small.adjoint(small(small.adjoint(y))))
        cost += behind.scaled(pixels, views)
    return cost


def _side(size, power: int = 1) -> float:
    """Return the side of an image, or its pixels."""
    shape = (size, size) if isinstance(size, int) else tuple(size)
    return shape[0] * shape[1] if power == 2 else min(shape)


def _solver_step(solve, y: Tensor, part: str) -> Cost:
    """Return the cost of x = solve(y), with its gradient in y where the part asks for it."""
    solve(y)  # operators build their matrices and norms at their first call
    if not part.endswith("gradient"):
        with torch.no_grad():
            return count(lambda: solve(y))
    y = y.clone().requires_grad_()
    return count(lambda: solve(y).abs().sum().backward())


PUBLISHED_NETWORKS = {"deep-mri": Cascade, "mri-vn": VariationalNetwork, "dncnn": DnCNN}


def network_unit(part: str, kind: str, architecture: dict | None, size) -> Cost:
    """Return the cost of "forward" or "gradient" of one image; None: the published network's."""
    about = {"part": part, "kind": kind, "architecture": architecture, "size": size}
    return _counted("network", _network_unit, **about)


def _network_unit(part, kind, architecture, size) -> Cost:
    if architecture is None:
        with torch.device("meta"):
            network = PUBLISHED_NETWORKS[kind]()
    else:
        network = _network(kind, architecture)
    A, dtype = _problem(kind, size)
    with fake():
        network.to_empty(device="cpu").eval().requires_grad_(False)
        r = torch.zeros(1, 1, *A.image_shape, dtype=dtype, requires_grad=part == "gradient")

        def f():
            if kind == "automap":
                v = torch.zeros(1, 2 * network.m, requires_grad=r.requires_grad)
                return network(v)
            return network.reconstruct(A(r), A)

        if part == "forward":
            return count(f)
        return count(lambda: f().abs().square().sum().backward())


def field_step(method: str, width: int, depth: int, size: SimpleNamespace, n_views: int) -> Cost:
    """Return the cost of a gradient of one field ("dropout", "bbb"), or of HMC's chains.

    Args:
        size: with image_size, n_frequencies and, for HMC, n_chains.
    """
    about = {"n_frequencies": size.n_frequencies, "image_size": size.image_size}
    about |= {"method": method, "width": width, "depth": depth, "n_views": n_views}
    return _counted("field", _field_step, **about)


def _field_step(method, width, depth, n_frequencies, image_size, n_views) -> Cost:
    dropout = 0.2 if method == "dropout" else 0.0
    fields = Fields(width, depth, "silu", 10.0, n_frequencies, dropout)
    fields.features(image_size)  # a grid of low rank, which values decide
    A = Radon(image_size, torch.arange(n_views) * 180.0 / n_views)
    y = A(torch.zeros(1, 1, image_size, image_size))
    with fake():
        if method == "bbb":
            model = BayesByBackprop(fields)
            leaves = [model.mu, model.rho]
        else:
            model, leaves = fields, list(fields.parameters())
        model.train()

        def step():
            loss = (A(model.render(image_size)) - y).square().sum()
            loss = loss + model.kl().sum() if method == "bbb" else loss
            torch.autograd.grad(loss, leaves)

        step = count(step)
    weights = 4 * fields.n_parameters * (2 if method == "bbb" else 1)
    return dataclasses.replace(step + Cost(bytes=7 * weights), memory=step.memory + 4 * weights)
