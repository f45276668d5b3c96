"""Hamiltonian Monte Carlo against closed forms, quadrature and Pyro; its diagnostics against
formulas of AR(1) series.
"""

import math

import numpy as np
import pytest
import torch

from instab_utils import profiles
from instab_utils.operators import Radon
from instab_utils.store.files import DamagedFile
from instab_utils.uncertainty import hmc
from instab_utils.uncertainty.diagnostics import ess, split_rhat, summary, virial
from instab_utils.uncertainty.leapfrog import at, leapfrog

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(covariance, mean):
    precision = torch.linalg.inv(covariance)
    return lambda theta: -(((theta - mean) @ precision) * (theta - mean)).sum(1) / 2


def run(log_density, start, n_samples, **options):
    names = ("generator", "track", "checkpoint")
    others = {name: options.pop(name) for name in names if name in options}
    others = {"generator": profiles.generator(0, "hmc"), "progress": False, **others}
    return hmc.sample(log_density, start, n_samples, hmc.HMCOptions(**options), **others)


def rolled(log_density, theta, momentum, step, n_steps, inverse_mass=None):
    """`leapfrog` from theta; unit mass by default."""
    mass = torch.ones(theta.shape[1], dtype=F64) if inverse_mass is None else inverse_mass
    return leapfrog(log_density, at(log_density, theta.clone()), momentum, step, n_steps, mass)


def quartic(theta):
    """Curved, coupled, not Gaussian."""
    return -(theta**4).sum(1) / 4 - theta.prod(1) - theta.square().sum(1) / 2


def ar1(rho, n_chains, n, columns=1, seed=0):
    noise = normal(n_chains, n, columns, seed=seed)
    draws = noise.clone()
    for i in range(1, n):
        draws[:, i] = rho * draws[:, i - 1] + math.sqrt(1 - rho**2) * noise[:, i]
    return draws


# -- leapfrog


def test_leapfrog_is_the_textbook_recurrence():
    inverse_mass = torch.tensor([0.5, 2.0, 1.0], dtype=F64)
    step = torch.tensor([0.1, 0.03], dtype=F64)
    theta, momentum = normal(2, 3), normal(2, 3, seed=1)
    end, momentum_at_end, error = rolled(quartic, theta, momentum, step, 7, inverse_mass)

    def energy(value, p):
        return -value + (p.square() * inverse_mass).sum() / 2

    for chain in range(2):
        q, p, eps = theta[chain : chain + 1], momentum[chain : chain + 1], float(step[chain])
        before = energy(quartic(q)[0], p)
        for _ in range(7):
            p = p + eps / 2 * at(quartic, q).gradient
            q = q + eps * inverse_mass * p
            p = p + eps / 2 * at(quartic, q).gradient
        expected = at(quartic, q)
        torch.testing.assert_close(end.theta[chain], q[0])
        torch.testing.assert_close(end.value[chain], expected.value[0])
        torch.testing.assert_close(end.gradient[chain], expected.gradient[0])
        torch.testing.assert_close(momentum_at_end[chain], p[0])
        torch.testing.assert_close(error[chain], energy(expected.value[0], p) - before)


def test_leapfrog_comes_back():
    theta, momentum, step = normal(3, 4), normal(3, 4, seed=1), torch.full((3,), 0.2, dtype=F64)
    there, p, _ = rolled(quartic, theta, momentum, step, 25)
    back, p, _ = rolled(quartic, there.theta, -p, step, 25)
    assert (there.theta - theta).abs().max() > 0.1
    torch.testing.assert_close(back.theta, theta, rtol=0, atol=1e-11)
    torch.testing.assert_close(p, -momentum, rtol=0, atol=1e-11)


def test_leapfrog_keeps_volume():
    def flow(z):
        end, p, _ = rolled(quartic, z[None, :2], z[None, 2:], torch.tensor([0.3], dtype=F64), 3)
        return torch.cat([end.theta, p], 1)[0]

    z, h = normal(4), 1e-5
    jacobian = torch.stack(
        [(flow(z + h * e) - flow(z - h * e)) / (2 * h) for e in torch.eye(4, dtype=F64)], 1
    )
    assert (jacobian - torch.eye(4, dtype=F64)).abs().max() > 0.3
    assert abs(torch.linalg.det(jacobian) - 1) < 1e-8


def test_energy_error_falls_with_the_square_of_the_step():
    theta, momentum = normal(1, 4), normal(1, 4, seed=1)
    errors = [
        rolled(quartic, theta, momentum, torch.tensor([1.5 / n], dtype=F64), n)[-1]
        for n in (8, 16, 32, 64)
    ]
    slopes = -torch.cat(errors).abs().log2().diff()
    assert ((slopes - 2).abs() < 0.3).all(), slopes


# -- what is drawn


def test_two_strongly_correlated_dimensions():
    covariance, mean = (
        torch.tensor([[1.0, 1.9], [1.9, 4.0]], dtype=F64),
        torch.tensor([3.0, -1.0], dtype=F64),
    )
    found = run(gaussian(covariance, mean), normal(32, 2) + mean, 150, n_warmup=100, n_steps=10)
    draws = found.theta.flatten(0, 1)
    sizes = ess(found.theta)
    assert (split_rhat(found.theta) < 1.05).all() and (sizes > 400).all()
    assert ((draws.mean(0) - mean).abs() < 4 * (covariance.diag() / sizes).sqrt()).all()
    # standard deviation of an estimated covariance of N independent draws
    size = min(ess(found.theta.square()).min(), sizes.min())
    spread = (
        (covariance.square() + torch.outer(covariance.diag(), covariance.diag())) / size
    ).sqrt()
    assert ((draws.T.cov() - covariance).abs() < 4 * spread).all()


def test_fifty_dimensions():
    """Scales from 0.1 to 1, correlated: mean, covariance, effective draws, virial."""
    scale, q = torch.logspace(-1, 0, 50, dtype=F64), torch.linalg.qr(normal(50, 50)).Q
    mixed = (
        torch.eye(50, dtype=F64) * 0.8
        + 0.2 * q @ torch.diag(torch.linspace(0.5, 1.5, 50, dtype=F64)) @ q.T
    )
    covariance, mean = scale[:, None] * mixed * scale, torch.linspace(-2, 2, 50, dtype=F64)
    start = mean + 2 * scale * normal(24, 50)
    # the precision as mass: a Gaussian that looks nearly round
    options = dict(n_warmup=60, n_steps=4, mass=1 / covariance.diag(), jitter=0.5)
    found = run(gaussian(covariance, mean), start, 80, **options)
    draws, sizes = found.theta.flatten(0, 1), ess(found.theta)
    deviation = (draws.mean(0) - mean) / (covariance.diag() / sizes).sqrt()
    assert deviation.abs().max() < 4.5 and abs(deviation.square().mean() - 1) < 0.9
    assert (
        (draws.T.cov() - covariance).abs()
        < 5 * torch.outer(scale, scale) * (2 / min(sizes.min(), 1920)) ** 0.5
    ).all()
    report = summary(found)
    assert abs(report["virial_ratio"] - 1) < 4 * report["virial_error"] < 0.15
    assert report["rhat_median"] < 1.05 and report["rhat_max"] < 1.2  # halves of 40 draws
    assert report["divergences"] == 0 and report["ess_min"] > 200
    assert (found.step_size > 0.2).all()


def test_a_target_already_reached_is_left_alone():
    """Started from exact draws, one trajectory with a crude step keeps the law: 4000 chains of one
    iteration.
    """
    start = normal(4000, 2, seed=3)
    found = run(
        gaussian(torch.eye(2, dtype=F64), 0.0),
        start,
        3,
        n_warmup=0,
        step_size=1.4,
        n_steps=2,
        jitter=0.3,
    )
    assert 0.5 < found.accept.mean() < 0.95
    last = found.theta[:, -1]
    moved = (last != start).any(1).double().mean()
    assert moved > 0.8
    assert last.mean(0).abs().max() < 4 / math.sqrt(4000)
    assert (last.T.cov() - torch.eye(2, dtype=F64)).abs().max() < 4 * math.sqrt(2 / 4000)
    assert abs((last**4).mean() - 3) < 4 * math.sqrt(96 / 8000)
    energy = found.energy_error.flatten()
    # E exp(-dH) = 1
    assert abs(torch.exp(-energy).mean() - 1) < 5 * torch.exp(-energy).std() / math.sqrt(
        len(energy)
    )


def test_linear_field_has_its_closed_form_posterior():
    """y = A Phi theta + noise, Radon A: posterior N(S Phi^T A^T y / sigma^2, S); theta and the
    tracked images.
    """
    A, sigma, tau = Radon(9, [0.0, 33.0, 71.0, 120.0]), 1.0, 1.5
    v = torch.cartesian_prod(*2 * [torch.linspace(-1, 1, 9, dtype=F64)]) @ normal(2, 6, seed=1) * 4
    phi = torch.cat([v.sin(), v.cos()], 1)  # (81, 12)

    def image(theta):
        return (theta @ phi.T).view(-1, 1, 9, 9)

    design = A.forward(image(torch.eye(12, dtype=F64))).flatten(1).T
    y = A.forward(image(normal(1, 12, seed=2) / tau**0.5)) + sigma * normal(
        1, 1, *A.sinogram_shape, seed=3
    )
    posterior = torch.linalg.inv(design.T @ design / sigma**2 + tau * torch.eye(12, dtype=F64))
    mean = posterior @ design.T @ y.flatten() / sigma**2

    def log_density(theta):
        return -(A.forward(image(theta)) - y).square().sum((1, 2, 3)) / (
            2 * sigma**2
        ) - tau / 2 * theta.square().sum(1)

    mass = 1 / posterior.diag()
    found = run(log_density, normal(24, 12), 60, n_warmup=60, n_steps=16, mass=mass, track=image)
    assert split_rhat(found.theta).max() < 1.2  # halves of 30 draws
    sizes = ess(found.theta)
    assert ((found.theta.mean((0, 1)) - mean).abs() < 4.5 * (posterior.diag() / sizes).sqrt()).all()
    pixels = phi @ posterior @ phi.T
    assert found.tracked.shape == (24, 60, 1, 9, 9)
    torch.testing.assert_close(found.tracked[3, 7], image(found.theta[3, 7:8])[0])
    standard = found.tracked.flatten(0, 1).var(0).flatten() / pixels.diag()
    assert (
        standard.log().abs() < 5 * (2 / ess(found.tracked.flatten(2).square()).min()) ** 0.5
    ).all()
    assert abs(found.virial.mean() / 12 - 1) < 4 * summary(found)["virial_error"]


# Pyro's own imports
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_pyro_draws_the_same():
    """A target that is not Gaussian: the same trajectory, and moments that agree with quadrature
    within their errors, both.
    """
    from pyro.infer import HMC, MCMC
    from pyro.ops.integrator import velocity_verlet

    theta, momentum = normal(1, 2), normal(1, 2, seed=1)
    end, p, _ = rolled(quartic, theta, momentum, torch.tensor([0.1], dtype=F64), 9)
    z, r, _, energy = velocity_verlet(
        {"t": theta[0]},
        {"t": momentum[0]},
        lambda z: -quartic(z["t"][None])[0],
        lambda r: r,
        0.1,
        9,
    )
    torch.testing.assert_close(torch.stack([end.theta[0], p[0]]), torch.stack([z["t"], r["t"]]))
    torch.testing.assert_close(-end.value[0], energy)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kernel = HMC(
            potential_fn=lambda z: -quartic(z["t"][None])[0],
            step_size=0.4,
            num_steps=4,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        peer = MCMC(kernel, 400, 20, {"t": torch.zeros(2, dtype=F64)}, disable_progbar=True)
        peer.run()
    grid = torch.cartesian_prod(*2 * [torch.linspace(-5, 5, 401, dtype=F64)])

    def moments(t):
        return torch.cat([t, t.square(), t.prod(-1, keepdim=True), t[..., :1] ** 4], -1)

    exact = (quartic(grid).softmax(0)[:, None] * moments(grid)).sum(0)
    assert exact[4] < -0.1  # the coupling matters
    for name, t in (
        ("ours", run(quartic, normal(24, 2), 100, n_warmup=60, n_steps=4).theta),
        ("pyro", peer.get_samples()["t"][None]),
    ):
        t = moments(t.to(F64))
        assert ess(t).min() > 100, name
        error = (t.mean((0, 1)) - exact) / (t.var((0, 1)) / ess(t)).sqrt()
        assert error.abs().max() < 4, (name, error)


# -- warm-up


def test_each_chain_finds_its_own_step():
    """Three targets that differ in scale a thousandfold: steps in proportion, the same acceptance;
    one chain alone finds the same.
    """
    scale = torch.tensor([0.01, 1.0, 10.0], dtype=F64)[:, None]
    found = run(
        lambda theta: -(theta / scale).square().sum(1) / 2,
        scale * normal(3, 10),
        150,
        n_warmup=200,
        n_steps=5,
    )
    ratio = found.step_size / scale[:, 0]
    assert ((ratio / ratio[1]).log().abs() < math.log(1.4)).all(), ratio
    assert ((found.accept - 0.8).abs() < 0.12).all(), found.accept


@pytest.mark.parametrize("target", [0.6, 0.9])
def test_dual_averaging_meets_its_target(target):
    found = run(
        gaussian(torch.eye(20, dtype=F64), 0.0),
        normal(16, 20),
        80,
        n_warmup=200,
        n_steps=5,
        target_accept=target,
    )
    assert abs(found.accept.mean() - target) < 0.12  # the mean of the steps is a little too careful


def test_a_warm_up_starts_at_steps_of_acceptance_one_half():
    """After one iteration dual averaging is still near the first step, tenfold at most."""
    scale = torch.tensor([1e-4, 1.0, 1e3], dtype=F64)[:, None]
    found = run(
        lambda theta: -(theta / scale).square().sum(1) / 2,
        scale * normal(3, 8),
        1,
        n_warmup=1,
        n_steps=1,
    )
    ratio = found.step_size / scale[:, 0]
    assert ((ratio > 0.1) & (ratio < 20)).all(), ratio


def test_given_step_and_mass_are_taken():
    mass = torch.linspace(1, 9, 4, dtype=F64)
    found = run(
        quartic,
        normal(3, 4),
        10,
        n_warmup=5,
        n_steps=3,
        step_size=torch.tensor([0.1, 0.2, 0.3]),
        mass=mass,
    )
    torch.testing.assert_close(found.step_size, torch.tensor([0.1, 0.2, 0.3]).double())
    torch.testing.assert_close(found.mass, mass)
    assert found.n_gradients == 1 + 3 * 15  # L a trajectory, and one at the start


def test_jitter_breaks_a_periodic_orbit():
    """Half a period of a Gaussian: theta -> -theta, its square stands still, but for jitter."""
    start, density = 0.5 + normal(8, 1).abs(), gaussian(torch.eye(1, dtype=F64), 0.0)
    step = 2 * math.sin(math.pi / 20)  # ten steps of the discrete rotation make pi
    frozen, moving = (
        run(density, start, 60, n_warmup=0, n_steps=10, step_size=step, jitter=jitter)
        for jitter in (0.0, 0.4)
    )
    assert ((frozen.theta[:, 1::2] - start[:, None]).abs() < 1e-9).all()
    assert ess(moving.theta.square()).item() > 60


# -- what is kept


def test_tracking_and_shapes():
    options = dict(n_warmup=6, n_steps=3, step_size=0.3)
    all_of_them = run(quartic, normal(2, 3), 12, **options)
    squares = run(
        quartic,
        normal(2, 3),
        12,
        track=lambda t: t[:, :2].square(),
        keep_theta=False,
        **options,
    )
    assert squares.theta is None and all_of_them.tracked is None
    torch.testing.assert_close(squares.tracked, all_of_them.theta[:, :, :2].square())
    assert torch.equal(squares.log_density, all_of_them.log_density)
    assert squares.energy_error.shape == (2, 12)
    assert squares.warmup_log_density.shape == (2, 6)
    torch.testing.assert_close(
        all_of_them.log_density, quartic(all_of_them.theta.flatten(0, 1)).view(2, 12)
    )
    leaf = at(quartic, all_of_them.theta.flatten(0, 1))
    torch.testing.assert_close(all_of_them.virial, virial(leaf.theta, -leaf.gradient).view(2, 12))


def test_single_precision_with_a_float64_sum():
    def target(theta):
        return -(theta.double() - 1).square().sum(1) * 1e4 / 2 - 1e7

    found = run(target, 1 + 0.01 * normal(4, 6).float(), 60, n_warmup=60, n_steps=8)
    assert found.theta.dtype == torch.float32 and found.log_density.dtype == F64
    assert abs(found.accept.mean() - 0.85) < 0.12
    assert 0.5e-2 < found.theta.std() < 2e-2


# -- what goes wrong, and shows


def test_a_step_too_large_shows():
    found = run(quartic, normal(4, 3), 20, n_warmup=0, n_steps=10, step_size=20.0)
    assert found.divergent.all() and (found.accept == 0).all()
    # all of them are kept: nobody moved
    assert torch.equal(found.theta, found.theta[:, :1].expand_as(found.theta))
    report = summary(found)
    assert (
        report["divergences"] == 80
        and report["rhat_max"] is None
        and report["energy_error"] is None
    )
    assert report["n_constant"] == 0 and report["ess_min"] < 8
    somewhat = run(
        gaussian(torch.eye(30, dtype=F64), 0.0),
        normal(4, 30),
        40,
        n_warmup=0,
        n_steps=3,
        step_size=1.9,
        jitter=0.0,
    )
    assert somewhat.accept.mean() < 0.3 and not somewhat.divergent.all()


def test_chains_outside_the_support_rest_and_nobody_is_asked_about_nan():
    asked = []

    def positive(theta):  # a Gamma(3, 1), NaN below zero
        asked.append(theta.detach().clone())
        return (2 * theta.log() - theta).sum(1)

    found = run(positive, 1 + normal(16, 2).abs(), 150, n_warmup=100, n_steps=6, step_size=0.9)
    assert all(torch.isfinite(theta).all() for theta in asked) and any(
        (theta < 0).any() for theta in asked
    )
    assert 0 < found.divergent.double().mean() < 0.2
    assert (found.theta > 0).all() and torch.isfinite(found.log_density).all()
    mean, size = found.theta.mean((0, 1)), ess(found.theta)
    assert ((mean - 3).abs() < 4 * (3 / size).sqrt()).all()


def test_acceptance_is_no_evidence():
    """Four chains with a short trajectory: acceptance 0.97 and more, and nowhere near the
    posterior; all other numbers say so.
    """
    scale = torch.logspace(-1, 0.2, 30, dtype=F64)
    density, report = gaussian(torch.diag(scale.square()), 0.0), {}
    for name, start, n_steps in (
        ("short", scale * normal(4, 30), 3),
        ("one place", 0.01 * scale * normal(4, 30), 3),
        ("long", scale * normal(4, 30), 70),
    ):
        found = run(density, start, 60, n_warmup=0, n_steps=n_steps, step_size=0.035)
        report[name] = summary(found)
        assert found.accept.min() > 0.97 and report[name]["divergences"] == 0
    short, one_place, long = report.values()
    assert short["rhat_max"] > 2 and short["ess_min"] < 10
    assert (
        one_place["virial_ratio"] < 0.7
        and abs(one_place["virial_ratio"] - 1) > 4 * one_place["virial_error"]
    )
    assert one_place["u_second"] > 1.2 * one_place["u_first"]
    assert (
        long["rhat_median"] < 1.1
        and long["ess_median"] > 100
        and abs(long["virial_ratio"] - 1) < 4 * long["virial_error"]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(start=torch.zeros(3)), r"start \(chains, P\).*got \(3,\).*start\[None\]"),
        (dict(start=torch.zeros(2, 3, dtype=torch.int64)), "float32 or float64; got .*int64"),
        (dict(n_samples=0), "n_samples, n_steps >= 1"),
        (dict(jitter=1.0), r"jitter in \[0, 1\)"),
        (dict(target_accept=80), r"target_accept in \(0, 1\).*80"),
        (dict(mass=torch.tensor([1.0, -1.0, 1.0])), "3 positive numbers"),
        (dict(mass=torch.ones(2)), "3 positive numbers"),
        (dict(n_warmup=0), "n_warmup > 0 to find"),
        (
            dict(log_density=lambda t: t.sum()),
            r"log_density\(theta\) \(2,\).*got \(\).*all axes but the first",
        ),
        (
            dict(log_density=lambda t: t.sqrt().sum(1)),
            r"finite log density and gradient.*\[3, 3\] of 3 deriv.*chains \[0, 1\].*inside the",
        ),
        (dict(log_density=lambda t: (t[:, 0] - 1).log()), r"got \[nan, nan\]"),
        (dict(log_density=lambda t: 0 * t.sum(1)), "acceptance 1/2.*flat"),
    ],
)
def test_errors_say_what_is_wrong(change, words):
    with pytest.raises(ValueError, match="hmc expects.*" + words):
        run(
            **{
                **dict(
                    log_density=quartic, start=torch.zeros(2, 3, dtype=F64), n_samples=2, n_warmup=2
                ),
                **change,
            }
        )


# -- going on


class Killed(Exception):
    pass


# twice in the warm-up, and among the draws
@pytest.mark.parametrize("at_call", [40, 170, 250])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch, at_call):
    path, start, calls = tmp_path / "run.safetensors", normal(3, 4).float(), 0

    def dies(theta):
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise Killed
        return quartic(theta)

    options = dict(n_warmup=48, n_steps=4, track=lambda t: t.exp())
    whole = run(quartic, start, 20, **options)
    monkeypatch.setattr(hmc, "SAVE_S", 0.0)
    with pytest.raises(Killed):
        run(dies, start, 20, checkpoint=path, **options)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no partial files
    # a start computed again may differ in its last bits
    assert torch.equal(hmc.start_of(path), start) and hmc.start_of(tmp_path / "none") is None
    again = run(quartic, start * (1 + 1e-6), 20, checkpoint=path, **options)
    for name in (
        "theta",
        "tracked",
        "log_density",
        "virial",
        "energy_error",
        "warmup_log_density",
        "step_size",
        "mass",
    ):
        assert torch.equal(getattr(whole, name), getattr(again, name)), name
    assert whole.n_gradients == again.n_gradients
    # a finished run is a look-up, and can be made longer
    longer, reference = (
        run(quartic, start, 25, checkpoint=path, **options),
        run(quartic, start, 25, **options),
    )
    assert torch.equal(longer.theta, reference.theta) and torch.equal(
        longer.energy_error, reference.energy_error
    )
    before = path.read_bytes()
    assert (
        torch.equal(run(quartic, start, 25, checkpoint=path, **options).tracked, longer.tracked)
        and path.read_bytes() == before
    )


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path, options = tmp_path / "run", dict(n_warmup=10, n_steps=3)
    run(quartic, normal(2, 3), 5, checkpoint=path, **options)
    for change, words in (
        (dict(n_steps=4), "n_steps 3, here 4"),
        (dict(start=normal(2, 3, seed=1)), "another start"),
        (dict(n_samples=3), "5 samples, here 3"),
        (dict(generator=torch.Generator()), "generator"),
        (dict(mass=torch.ones(3)), "mass None, here"),
        (dict(track=torch.sin), "kept"),
        (dict(log_density=lambda t: quartic(t) - 1), "another log density"),
    ):
        with pytest.raises(ValueError, match=f"{path} is of another run: {words}.*Delete it"):
            run(
                **{
                    **dict(
                        log_density=quartic,
                        start=normal(2, 3),
                        n_samples=5,
                        checkpoint=path,
                        **options,
                    ),
                    **change,
                }
            )
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    for damaged in (bytes(content), bytes(content[:200]), b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="cannot be used.*Delete it"):
            run(quartic, normal(2, 3), 5, checkpoint=path, **options)


# -- diagnostics


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.6, 0.9])
def test_effective_draws_of_a_series_with_known_correlation(rho):
    draws = ar1(rho, 4, 1500, 60)
    sizes = ess(draws.view(4, 1500, 6, 10))
    assert sizes.shape == (6, 10)
    expected = 6000 * (1 - rho) / (1 + rho)
    assert abs(sizes.mean() / expected - 1) < 0.06
    assert (sizes / expected - 1).abs().max() < 0.5
    assert (split_rhat(draws) < 1.05).all()


def direct_scores(draws):
    from scipy import stats

    return stats.norm.ppf(
        (stats.rankdata(draws).reshape(draws.shape) - 0.375) / (draws.size + 0.25)
    )


def test_against_a_loop():
    """Rank scores by SciPy, sums written out, Geyer's sequence step by step; ties included, an odd
    number of draws.
    """
    draws = (
        (ar1(0.7, 3, 41, 1, seed=4)[..., 0] + torch.tensor([0.0, 0.5, -0.2], dtype=F64)[:, None])
        .mul(4)
        .round()
        .div(4)
    )
    halves = torch.cat([draws[:, :20], draws[:, -20:]]).numpy()

    def rhat(z):
        within, between = z.var(1, ddof=1).mean(), 20 * z.mean(1).var(ddof=1)
        return math.sqrt((19 / 20 * within + between / 20) / within)

    folded = (draws - draws.flatten().median()).abs().numpy()
    folded = np.concatenate([folded[:, :20], folded[:, -20:]])
    assert split_rhat(draws).item() == pytest.approx(
        max(rhat(direct_scores(halves)), rhat(direct_scores(folded))), rel=1e-12
    )
    z = direct_scores(halves)
    deviations = z - z.mean(1, keepdims=True)
    covariance = [
        np.mean([(d[: 20 - t] * d[t:]).sum() / 20 for d in deviations]) for t in range(20)
    ]
    within = z.var(1, ddof=1).mean()
    total = 19 / 20 * within + z.mean(1).var(ddof=1)
    rho = [1.0] + [1 - (within - c) / total for c in covariance[1:]]
    length, least = -1.0, math.inf
    for pair in (rho[t] + rho[t + 1] for t in range(0, 20, 2)):
        if pair <= 0:
            break
        least = min(least, pair)
        length += 2 * least
    assert ess(draws).item() == pytest.approx(120 / length, rel=1e-12)


def test_rhat_sees_shift_drift_spread_and_heavy_tails():
    draws = normal(4, 400)
    assert split_rhat(draws) < 1.02
    assert split_rhat(draws + torch.tensor([0.0, 0, 0, 2], dtype=F64)[:, None]) > 1.2
    # all chains alike: only halves tell
    assert split_rhat(draws + torch.linspace(0, 2, 400, dtype=F64)) > 1.1
    # the same mean: only folding tells
    assert split_rhat(draws * torch.tensor([1.0, 1, 1, 4], dtype=F64)[:, None]) > 1.1
    cauchy = normal(4, 400) / normal(4, 400, seed=1)
    assert split_rhat(cauchy) < 1.05
    shifted = draws + torch.tensor([0.0, 0, 0, 1], dtype=F64)[:, None]
    # ranks: no matter on which scale
    torch.testing.assert_close(split_rhat(shifted.exp()), split_rhat(shifted), rtol=0.05, atol=0)


def test_what_stands_still():
    places = torch.tensor([0.1, 0.2, 0.7], dtype=F64)[:, None].expand(3, 20)
    draws = torch.stack([torch.full((3, 20), 0.1, dtype=F64), places, normal(3, 20)], 2)
    rhats, sizes = split_rhat(draws), ess(draws)
    assert (
        rhats[0].isnan()
        and sizes[0].isnan()
        and rhats[1] == math.inf
        and sizes[1] < 7
        and torch.isfinite(rhats[2])
    )
    with pytest.raises(ValueError, match="n >= 4; got"):
        ess(normal(3, 3))


@pytest.mark.parametrize("degrees", [3, 11])
def test_virial_is_the_number_of_parameters(degrees):
    """Exact draws of Student's t: theta . grad U = (nu + P) r^2 / (nu + r^2), whose mean is P."""
    gamma = torch.distributions.Chi2(torch.tensor(float(degrees), dtype=F64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = normal(20000, 5) / (gamma.sample((20000, 1)) / degrees).sqrt()

    def density(t):
        return -(degrees + 5) / 2 * torch.log1p(t.square().sum(1) / degrees)

    values = virial(theta, -at(density, theta).gradient)
    assert abs(values.mean() - 5) < 4 * values.std() / math.sqrt(20000)
