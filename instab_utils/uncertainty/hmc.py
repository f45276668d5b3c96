"""Hamiltonian Monte Carlo for any log density, several chains at once."""

import hashlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from tqdm import tqdm

from .. import profiles
from ..store.tensors import load_tensors, save_tensors
from .diagnostics import HMCResult, virial
from .leapfrog import Point, at, leapfrog

SAVE_S = 60.0
"""Seconds between two checkpoints."""


@dataclass(frozen=True)
class HMCOptions:
    """How chains move, and what their warm-up finds.

    step_size: one for all or one for each chain, (chains,); None: dual averaging for
        `target_accept` finds it in the warm-up, then it is frozen.
    mass: the diagonal of M as (P,), such as the prior's precision; None: 1.
    jitter: a trajectory of a chain has its step size times U(1 - jitter, 1 + jitter), against
        periodic orbits.
    keep_theta: False keeps only what `track` gives.
    """

    n_warmup: int = 500
    n_steps: int = 20  # leapfrog steps of a trajectory
    step_size: float | Tensor | None = None
    target_accept: float = 0.8
    mass: Tensor | None = None
    jitter: float = 0.2
    keep_theta: bool = True


@torch.no_grad()
@profiles.tf32(False)
def sample(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    n_samples: int,
    options: HMCOptions = HMCOptions(),
    *,
    generator: torch.Generator | None = None,
    track: Callable | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
) -> HMCResult:
    r"""Draw from exp(log_density) by trajectories of leapfrog steps, each accepted or not.

    A trajectory follows H = U(theta) + p^T M^-1 p / 2 with U = -log_density and p ~ N(0, M). Its
    end is accepted with probability min(1, exp(-Delta H)).

    Chains move together, by one batched gradient a leapfrog step and no other evaluation, but are
    independent: each has its own momenta, decisions and step size, so that a chain in a narrow
    place slows down itself alone.

    Args:
        log_density: (chains, P) -> (chains,), differentiable, each chain from its own row; -inf or
            NaN outside the support. Sum in float64 where |U| is above some 1e5: its differences
            decide.
        start: (chains, P), float32 or float64, on the device to work on.
        n_samples: draws kept of each chain, after the warm-up.
        track: theta (chains, P) -> (chains, ...), such as images, kept beside theta.
        checkpoint: file to save to at the start and about every `SAVE_S` seconds, and to go on
            from: on one machine with the draws, bit for bit, of a run never interrupted. It has the
            start, too: see `start_of`. A finished run goes on to a larger `n_samples`.
        progress: show a bar; None does, except while a book is built.

    Raises:
        ValueError: for wrong arguments, a start without finite log density and gradient, a
            checkpoint of another run.
        DamagedFile: for a checkpoint that cannot be read.

    Source: Neal 2011; Hoffman and Gelman 2014, algorithms 4 and 5.
    """
    began = time.perf_counter()
    point = _checked(log_density, start, n_samples, options)
    run = _Run(log_density, point, n_samples, options, generator, track)
    total = options.n_warmup + n_samples
    first, earlier, saved = 0, 0.0, began
    if checkpoint is not None and Path(checkpoint).is_file():
        first, earlier = run.load(checkpoint)
    else:
        if options.step_size is None:
            run.restart(run.first_step())
        if checkpoint is not None:  # finding a start may have taken long
            run.save(checkpoint, 0, time.perf_counter() - began)
    hidden = bool(os.environ.get("INSTAB_BOOK")) if progress is None else not progress
    bar = tqdm(range(first, total), "hmc", total, initial=first, disable=hidden, dynamic_ncols=True)
    for iteration in bar:
        error = run.trajectory(iteration)
        if iteration < options.n_warmup:
            if options.step_size is None:
                run.average(options.target_accept - torch.exp(-error.clamp_min(0)))
        else:
            for name, value in run.look().items():
                run.kept[name][:, iteration - options.n_warmup] = value
        if checkpoint is not None and (
            iteration + 1 == total or time.perf_counter() - saved > SAVE_S
        ):
            saved = time.perf_counter()
            run.save(checkpoint, iteration + 1, earlier + saved - began)
        mean_u = -run.state.value.mean()
        bar.set_postfix(U=f"{mean_u:.6g}", energy_error=f"{error.median():.2g}", refresh=False)
    kept, n_warmup = run.kept, options.n_warmup
    return HMCResult(
        kept.get("theta"),
        kept.get("tracked"),
        kept["values"][:, n_warmup:],
        kept["virial"],
        kept["errors"][:, n_warmup:],
        kept["values"][:, :n_warmup],
        run.step_size().cpu(),
        run.state.inverse_mass.reciprocal().cpu(),
        int(run.state.n_gradients),
        earlier + time.perf_counter() - began,
    )


def start_of(checkpoint: Path | None) -> Tensor | None:
    """Return where the chains of a checkpoint started, on the CPU; None where there is no file.

    A start that is computed again, on a GPU for instance, need not have the same bits.
    """
    if checkpoint is None or not Path(checkpoint).is_file():
        return None
    return load_tensors(Path(checkpoint))[0].get("start")


class _Run:
    """All chains: where they are, their step sizes and mass, what adapts these, what is kept."""

    def __init__(self, log_density, start, n_samples, options, generator, track):
        self.log_density, self.options = log_density, options
        self.source, self.track = generator or torch.default_generator, track
        theta = self.start = start.theta
        given = 1.0 if options.step_size is None else options.step_size
        given = torch.as_tensor(given, dtype=torch.float64, device=theta.device)
        mass = torch.ones_like(theta[0]) if options.mass is None else options.mass.to(theta)
        self.state = SimpleNamespace(
            **start._asdict(), n_gradients=torch.tensor(1), inverse_mass=mass.reciprocal()
        )
        self.restart(given.expand(len(theta)).log())
        self.kept = {
            name: torch.zeros(len(theta), n_samples, *value.shape[1:], dtype=value.dtype)
            for name, value in self.look().items()
        }
        total = options.n_warmup + n_samples
        for name in ("values", "errors"):
            self.kept[name] = torch.zeros(len(theta), total, dtype=torch.float64)
        state = generator and generator.get_state()
        identity = {**vars(options), "generator": state, "kept": sorted(self.kept)}
        self.identity = {
            name: _digest(value) if isinstance(value, Tensor) else value
            for name, value in identity.items()
        }

    def look(self):
        """Return what is kept of a draw."""
        theta = self.state.theta
        now = {"virial": virial(theta, -self.state.gradient)}
        if self.options.keep_theta:
            now["theta"] = theta
        return {**now, "tracked": self.track(theta)} if self.track else now

    def step_size(self, warming=False):
        averaged = self.options.step_size is None and not warming
        return (self.state.log_step_mean if averaged else self.state.log_step).exp()

    def random(self, kind, *shape):
        theta = self.state.theta
        values = kind(*shape, generator=self.source, dtype=theta.dtype, device=self.source.device)
        return values.to(theta.device)

    def leapfrog(self, momentum, step, n_steps):
        state = self.state
        state.n_gradients = state.n_gradients + n_steps
        step, mass = step.to(momentum.dtype), state.inverse_mass
        point = Point(state.theta, state.value, state.gradient)
        return leapfrog(self.log_density, point, momentum * mass.rsqrt(), step, n_steps, mass)

    def trajectory(self, iteration):
        """Move each chain, or leave it where it is; return the energy errors."""
        state, options = self.state, self.options
        spread, uniform = self.random(torch.rand, 2, len(state.theta))
        jitter = 1 - options.jitter + 2 * options.jitter * spread
        step = self.step_size(iteration < options.n_warmup) * jitter
        momentum = self.random(torch.randn, *state.theta.shape)
        end, _, error = self.leapfrog(momentum, step, options.n_steps)
        accepted = uniform < torch.exp(-error)
        for name, new in end._asdict().items():
            chosen = accepted if new.ndim == 1 else accepted[:, None]
            setattr(state, name, torch.where(chosen, new, getattr(state, name)))
        self.kept["values"][:, iteration], self.kept["errors"][:, iteration] = state.value, error
        return error

    def restart(self, log_step):
        """Begin dual averaging anew."""
        s = self.state
        s.log_step = s.log_step_mean = log_step
        s.centre = log_step + math.log(10)
        s.shortfall = torch.zeros_like(log_step)
        s.round = torch.tensor(0)

    def average(self, shortfall):
        """Move each chain's log step until target - acceptance is zero in the mean."""
        s = self.state
        s.round = s.round + 1
        m = int(s.round)
        s.shortfall = s.shortfall + (shortfall - s.shortfall) / (m + 10)
        s.log_step = s.centre - math.sqrt(m) / 0.05 * s.shortfall
        s.log_step_mean = s.log_step_mean + m**-0.75 * (s.log_step - s.log_step_mean)

    def first_step(self):
        """Return log step sizes, doubled or halved until a single step's acceptance crosses 1/2."""
        noise = self.random(torch.randn, *self.state.theta.shape)
        log_step = torch.zeros_like(self.state.value)
        rising, searching = None, True
        for _ in range(80):
            good = self.leapfrog(noise, log_step.exp(), 1)[-1] < math.log(2)
            rising = good if rising is None else rising
            searching = (good == rising) & searching
            if not searching.any():
                return log_step
            log_step = log_step + math.log(2) * torch.where(rising, 1.0, -1.0) * searching
        raise ValueError(
            "hmc expects steps of acceptance 1/2 somewhere; got none from 2^-80 to 2^80 for chains "
            f"{searching.nonzero()[:, 0].tolist()}. Is the log density flat, or its gradient "
            "wrong? Or give step_size."
        )

    def save(self, path, iteration, seconds):
        tensors = {f"state/{name}": value for name, value in vars(self.state).items()}
        tensors |= {f"kept/{name}": value for name, value in self.kept.items()}
        tensors |= {"source": self.source.get_state(), "start": self.start}
        about = {"run": self.identity, "iteration": iteration, "seconds": seconds}
        save_tensors(Path(path), tensors, about)

    def load(self, path):
        """Go on from a checkpoint; return the iterations and the seconds done."""
        tensors, about = load_tensors(Path(path))
        stored, room = about["run"], self.kept["virial"].shape[1]
        n = tensors["kept/virial"].shape[1]
        wrong = [
            f"{name} {stored.get(name)!r}, here {value!r}"
            for name, value in self.identity.items()
            if stored.get(name) != value
        ]
        wrong += [f"{n} samples, here {room}"] if n > room else []
        started = tensors.get("start", torch.zeros(0)).to(self.start)
        if started.shape != self.start.shape or not torch.allclose(started, self.start, rtol=1e-3):
            wrong.append("another start")
        state = SimpleNamespace()
        for name, value in vars(self.state).items():
            setattr(state, name, tensors[f"state/{name}"].to(value.device))
        again = None if wrong else at(self.log_density, state.theta).value
        if not wrong and not torch.allclose(again, state.value, rtol=1e-3, atol=1e-3):
            wrong = ["another log density"]
        if wrong:
            raise ValueError(
                f"checkpoint {path} is of another run: {'; '.join(wrong)}. Delete it, or name "
                "another file."
            )
        self.state = state
        for name, array in self.kept.items():
            done = tensors[f"kept/{name}"]
            array[:, : done.shape[1]] = done
        self.source.set_state(tensors["source"])
        return about["iteration"], about["seconds"]


def _checked(log_density, start, n_samples, options):
    """Return the start as a `Point`, or raise ValueError naming the first wrong argument."""
    mass, n_warmup = options.mass, options.n_warmup

    def need(right, expected):
        if not right:
            raise ValueError(f"hmc expects {expected}.")

    need(
        start.ndim == 2 and start.dtype in (torch.float32, torch.float64),
        f"start (chains, P), float32 or float64; got {tuple(start.shape)}, {start.dtype}. One "
        "chain: start[None]",
    )
    counts = (n_samples, options.n_steps)
    shares = (options.jitter, options.target_accept)
    need(
        min(counts) > 0 <= n_warmup and 0 <= shares[0] < 1 and 0 < shares[1] < 1,
        "n_samples, n_steps >= 1, n_warmup >= 0, jitter in [0, 1), target_accept in (0, 1); "
        f"got {', '.join(map(str, (*counts, n_warmup, *shares)))}",
    )
    need(
        mass is None or mass.shape == start.shape[1:] and bool((mass > 0).all()),
        f"mass None or {start.shape[1]} positive numbers; got {mass!r:.200}",
    )
    need(
        n_warmup or options.step_size is not None,
        "n_warmup > 0 to find a step size; got 0. Give step_size",
    )
    point = at(log_density, start)
    need(
        point.value.shape == start.shape[:1],
        f"log_density(theta) ({len(start)},), a value for each chain; got "
        f"{tuple(point.value.shape)}. Sum over all axes but the first",
    )
    wrong = ~torch.isfinite(point.gradient)
    bad = (wrong.any(1) | ~torch.isfinite(point.value)).nonzero()[:, 0].tolist()
    need(
        not bad,
        f"a finite log density and gradient at every start; got {point.value[bad].tolist()} with "
        f"{wrong[bad].sum(1).tolist()} of {start.shape[1]} derivatives not finite for chains "
        f"{bad}. Start inside the support: at an optimum, or a draw of the prior",
    )
    return point


def _digest(tensor):
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
