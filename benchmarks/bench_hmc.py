"""Our Hamiltonian Monte Carlo beside a loop in hamiltorch's manner and Pyro's HMC, on the posterior
of a field given a sinogram.

    python benchmarks/bench_hmc.py [--size 128] [--views 20] [--widths 64 256] [--rounds 3]
    [--trajectories 5]

Fields of depth 3 with relu, Radon, Gaussian noise and prior; milliseconds a leapfrog step, of calls
with a few trajectories of 10 steps and a gradient at the start, taking turns. hamiltorch itself
cannot be installed beside this PyTorch; the loop does what it
documents: L + 1 gradients and two more energies a trajectory, parameters put into a module for each
of them, every state of a trajectory kept. It runs on our field ("same field"), and on the module
that its users would write, linear layers on all features ("linear layers"). By counting, with an
energy at a third of a gradient, it pays 11.7 gradients where we pay 10: 1.17 is all that a sampler
can win where gradients are all that costs, and the limits ask for nine tenths of it; the target of
1.3 can only come from the field. Pyro's HMC runs on the same density and needs as many gradients as
ours: 1.0 is all that can be expected.
Measured, one thread: same field 1.26 at width 64 on a quiet machine, 1.06 at 256 on a busy one (CPU
seconds, a single round); linear layers 1.65 and Pyro 1.09 at 64. The target of 1.3 is missed by the
sampler alone.

Then, on a small field: effective draws of pixels a second, the samplers warmed up before, each by
itself; and four chains at once against one after another.
"""

import statistics
import time

import torch
from common import Report, arguments, interleave, milliseconds, ratio
from torch import nn
from torch.func import functional_call

from instab_utils import profiles
from instab_utils.data import phantoms
from instab_utils.networks.inr import Fields
from instab_utils.operators import Radon
from instab_utils.uncertainty.diagnostics import ess
from instab_utils.uncertainty.hmc import HMCOptions, sample

N_STEPS = 10


class Target:
    """-|A f_theta - y|^2 / (2 sigma^2) - |theta|^2 fan_in / 4, in two forms."""

    def __init__(self, size, n_views, width, depth, n_frequencies=128, omega0=10.0):
        self.A = Radon(size, torch.linspace(0, 180, n_views + 1)[:-1])
        self.field = Fields(
            width,
            depth,
            "relu",
            omega0,
            n_frequencies,
            generator=profiles.generator(0, "weights"),
        )
        self.size, self.start = size, self.field.flat()
        self.y = self.A.forward(
            phantoms.raster(phantoms.shepp_logan_family(0), size)
            .clamp(0, 1)
            .float()
            .view(1, 1, size, size)
        )
        self.sigma = 0.1 * float(self.y.square().mean().sqrt())
        self.precision = torch.cat(
            [
                torch.full((i * o,), 0.5 * fan)
                for fan, (i, o) in zip(
                    [i for i, _ in self.field.shapes[::2] for _ in range(2)], self.field.shapes
                )
            ]
        )

    def log_density(self, theta):
        misfit = self.A.forward(self.field.render(self.size, theta)) - self.y
        return (
            -misfit.square().sum((1, 2, 3)) / (2 * self.sigma**2)
            - (theta.square() * self.precision).sum(1) / 2
        )


class Linear(nn.Module):
    def __init__(self, target):
        super().__init__()
        shapes = target.field.shapes[::2]
        layers = [nn.Linear(i, o) for i, o in shapes]
        self.net = nn.Sequential(
            *[m for layer in layers[:-1] for m in (layer, nn.ReLU())], layers[-1], nn.Sigmoid()
        )
        self.register_buffer("features", target.field.features(target.size)[0])
        self.size = target.size

    def forward(self):
        return self.net(self.features).view(1, 1, self.size, self.size)

    @staticmethod
    def flat(target, vector):
        """A vector like theta in the order of the parameters: nn.Linear keeps weights as (fan_out,
        fan_in).
        """
        parts = zip(vector.split([i * o for i, o in target.field.shapes]), target.field.shapes)
        return torch.cat([part.view(shape).T.flatten() for part, shape in parts])


class Rendered(nn.Module):
    """Our field as a module whose one parameter is theta."""

    def __init__(self, target):
        super().__init__()
        self.theta = nn.Parameter(target.start[0].clone())
        self.__dict__["target"] = target

    def forward(self):
        return self.target.field.render(self.target.size, self.theta[None])

    @staticmethod
    def flat(target, vector):
        return vector


def hamiltorch_manner(target, module, n_trajectories, step, generator):
    """L + 1 gradients and two energies a trajectory, parameters by functional_call, all states
    kept.
    """
    shapes = {name: p.shape for name, p in module.named_parameters()}

    def split(theta):
        parts = theta.split([shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}

    def log_density(theta):
        misfit = target.A.forward(functional_call(module, split(theta), ())) - target.y
        return (
            -misfit.square().sum() / (2 * target.sigma**2) - (theta.square() * precision).sum() / 2
        )

    def gradient(theta):
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(log_density(leaf), leaf)[0]

    theta, precision = (
        module.flat(target, vector) for vector in (target.start[0], target.precision)
    )
    for _ in range(n_trajectories):
        p = torch.randn(theta.shape, generator=generator)
        before = log_density(theta) - p.square().sum() / 2
        q, p, states = theta, p + 0.5 * step * gradient(theta), []
        for _ in range(N_STEPS):
            q = q + step * p
            force = gradient(q)
            p = p + step * force
            states.append((q.clone(), p.clone()))
        after = log_density(q) - (p - 0.5 * step * force).square().sum() / 2
        theta = q if torch.rand((), generator=generator).log() < after - before else theta
    return theta, float(log_density(theta))


def draws(target, theta, n, options, stream="hmc", seed=0):
    generator = profiles.generator(seed, stream)
    return sample(target.log_density, theta, n, options, generator=generator, progress=False)


def pyro_hmc(target, start, n_samples, step, n_steps=N_STEPS, n_warmup=0, adapt=False):
    from pyro.infer import HMC, MCMC

    kernel = HMC(
        potential_fn=lambda z: -target.log_density(z["theta"][None])[0],
        step_size=step,
        trajectory_length=None,
        num_steps=n_steps,
        adapt_step_size=adapt,
        adapt_mass_matrix=False,
    )
    sampler = MCMC(kernel, n_samples, n_warmup, {"theta": start}, disable_progbar=True)
    return sampler, kernel


def leapfrogs(report, options, width):
    target = Target(options.size, options.views, width, 3)
    theta, step, n = target.start, 1e-5, options.trajectories
    linear, rendered = Linear(target), Rendered(target)

    def ours():
        return draws(target, theta, n, HMCOptions(0, N_STEPS, step, jitter=0.0))

    def manner(module):
        return hamiltorch_manner(target, module, n, step, profiles.generator(0, "peer"))

    def pyro():
        sampler, _ = pyro_hmc(target, theta[0], n, step)
        sampler.run()

    runs = {
        "ours": ours,
        "hamiltorch's manner, same field": lambda: manner(rendered),
        "hamiltorch's manner, linear layers": lambda: manner(linear),
        "pyro": pyro,
    }
    values = [
        float(target.log_density(theta)),
        *(hamiltorch_manner(target, module, 0, step, None)[1] for module in (rendered, linear)),
    ]
    assert max(values) - min(values) < 1e-3 * abs(values[0]), values  # one and the same density
    times = interleave(runs, options.rounds)
    print(
        f"width {width}, {target.field.n_parameters} parameters, energy error "
        f"{ours().energy_error.abs().max():.2g}",
        flush=True,
    )
    for name, values in times.items():
        print(
            f"  {name:36s} {milliseconds([t / (n * N_STEPS) for t in values])} ms a leapfrog step",
            flush=True,
        )
    for name, goal, limit in (
        ("hamiltorch's manner, same field", 1.3, 1.05),
        ("hamiltorch's manner, linear layers", 1.3, 1.05),
        ("pyro", 1.0, 0.9),
    ):
        report.row(f"width {width}: {name} / ours", ratio(times, name, "ours"), goal, limit)


def effective(report, options):
    """Effective draws a second; each sampler finds its step size for an acceptance of 0.8 in a
    warm-up of its own.
    """
    target = Target(16, 8, 16, 1, n_frequencies=16, omega0=3.0)
    n_steps, n, rates = 20, options.draws, {"ours, 4 chains": [], "ours, 1 chain": [], "pyro": []}
    start = target.start + 0.05 * torch.randn(
        4, target.start.shape[1], generator=profiles.generator(0, "start")
    )
    warm = draws(target, start, 1, HMCOptions(100, n_steps), "warm-up")

    def image(theta):
        return target.field.render(target.size, theta).flatten(1)

    states, step = warm.theta[:, -1], warm.step_size
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sampler, kernel = pyro_hmc(target, states[0], 1, float(step[0]), n_steps, 60, adapt=True)
        sampler.run()
        theirs = kernel.step_size
        for i in range(options.rounds):
            for name, chains in (("ours, 4 chains", 4), ("ours, 1 chain", 1)):
                options_now = HMCOptions(0, n_steps, step[:chains])
                found = draws(target, states[:chains], n, options_now, seed=i)
                rates[name].append(
                    float(ess(image(found.theta.flatten(0, 1)).view(chains, n, -1)).median())
                    / found.seconds
                )
            began = time.perf_counter()
            sampler, _ = pyro_hmc(target, states[0], n, theirs, n_steps)
            sampler.run()
            seconds = time.perf_counter() - began
            rates["pyro"].append(
                float(ess(image(sampler.get_samples()["theta"])[None]).median()) / seconds
            )
    print(
        f"width 16, depth 1, 16 x 16, {target.start.shape[1]} parameters, {n_steps} steps a "
        f"trajectory, steps {step.mean():.2g} and {theirs:.2g}, acceptance "
        f"{found.accept.mean():.2f}"
    )
    for name, values in rates.items():
        print(
            f"  {name:16s} {statistics.median(values):8.2f} effective draws of the median pixel a "
            "second",
            flush=True,
        )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    report.row(
        "effective draws a second, one chain / pyro",
        middle["ours, 1 chain"] / middle["pyro"],
        1.0,
        0.5,
        "noisy",
    )
    report.row(
        "effective draws a second, four chains / pyro",
        middle["ours, 4 chains"] / middle["pyro"],
        1.0,
        0.8,
        "noisy",
    )


def chains(report, options):
    for width, size, views in ((16, 16, 8), (64, 64, 20)):
        target = Target(size, views, width, 1 if width == 16 else 3)
        start = target.start.expand(4, -1)

        def run(theta, target=target):
            return draws(target, theta, 2, HMCOptions(0, N_STEPS, 1e-5))

        times = interleave(
            {
                "one after another": lambda start=start, run=run: [
                    run(theta) for theta in start.split(1)
                ],
                "at once": lambda start=start, run=run: run(start),
            },
            options.rounds,
        )
        report.row(
            f"4 chains one by one / at once, width {width}",
            ratio(times, "one after another", "at once"),
            1.0,
            0.8,
        )


def main():
    options = arguments(
        __doc__, size=128, views=20, widths=[64, 256], rounds=3, trajectories=5, draws=100
    )
    report = Report(
        f"Leapfrog steps of a field's posterior, {options.size} x {options.size}, "
        f"{options.views} views, float32"
    )
    for width in options.widths:
        leapfrogs(report, options, width)
    effective(report, options)
    chains(report, options)
    report.finish()


if __name__ == "__main__":
    main()
