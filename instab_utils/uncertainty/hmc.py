"""Hamiltonian Monte Carlo for any log density, several chains at once; and whether they got
anywhere: acceptance is no evidence.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from tqdm import tqdm

from ..store.files import DamagedFile, write
from .diagnostics import ess, split_rhat


@dataclass(frozen=True)
class HMCResult:
    """What `hmc` found, on the CPU. "iterations": all after the warm-up, n times `thin`."""

    theta: torch.Tensor | None  # (chains, n, P)
    tracked: torch.Tensor | None  # (chains, n, ...)
    log_density: torch.Tensor  # (chains, n): -U at the draws
    virial: torch.Tensor  # (chains, n): theta . grad U at the draws
    # (chains, iterations): H at the end of a trajectory minus H at its start; inf if not finite
    energy_error: torch.Tensor
    warmup_log_density: torch.Tensor  # (chains, n_warmup)
    step_size: torch.Tensor  # (chains,)
    mass: torch.Tensor  # (P,), the diagonal
    n_gradients: int  # a chain; one evaluation gives all chains theirs
    seconds: float

    # (chains,): mean of min(1, exp(-energy error))
    accept = property(lambda self: torch.exp(-self.energy_error.clamp_min(0)).mean(1))
    # (chains, iterations), or not finite
    divergent = property(lambda self: self.energy_error > 1000)


@torch.no_grad()
def hmc(
    log_density: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    n_samples: int,
    n_warmup: int = 500,
    n_steps: int = 20,
    step_size: float | torch.Tensor | None = None,
    target_accept: float = 0.8,
    mass: str | torch.Tensor = "unit",
    *,
    jitter: float = 0.2,
    thin: int = 1,
    generator: torch.Generator | None = None,
    track: Callable | None = None,
    keep_theta: bool = True,
    checkpoint: Path | None = None,
    save_s: float = 60.0,
    progress: bool | None = None,
) -> HMCResult:
    r"""Draws from exp(log_density): n_steps leapfrog steps of H = U(theta) + p^T M^-1 p / 2, U =
    -log_density, then accept or not.

    Chains move together, by one batched gradient a leapfrog step and no other evaluation, but are
    independent: each has its own momenta, decisions and step size, so that one in a narrow place
    slows down itself alone and is not outvoted. Only an adapted
    mass is common to them: a window of one chain is too little for P variances.

    Args:
        log_density: (chains, P) -> (chains,), differentiable, each chain from its own row; -inf or
            NaN outside the support. Sum in float64 where |U| is above some 1e5: its differences
            decide.
        start: (chains, P), float32 or float64, on the device to work on.
        n_samples: draws kept of each chain, every `thin`-th iteration after `n_warmup`.
        step_size: one for all or each chain; None: dual averaging for `target_accept` finds it in
            the warm-up, then it is frozen.
        mass: "unit"; the diagonal of M as (P,), such as the prior's precision; or "diagonal": 1 /
            variance within the chains in windows of the warm-up, the last one from its half to
            seven eighths.
        jitter: a trajectory of a chain has its step size times U(1 - jitter, 1 + jitter), against
            periodic orbits.
        track: theta (chains, P) -> (chains, ...), such as images, kept beside theta, or instead of
            it (keep_theta=False).
        checkpoint: file to save to about every `save_s` seconds, and to go on from: on one machine
            with the draws, bit for bit, of a run never interrupted. A finished run goes on to a
            larger `n_samples`.
        progress: show a bar; None does, except while a book is built.

    Raises:
        ValueError: for wrong arguments, a start without finite log density and gradient, a
            checkpoint of another run.
        DamagedFile: for a checkpoint that cannot be read.

    Neal 2011; Hoffman and Gelman 2014, algorithms 4 and 5.
    """
    began, fixed, named = time.perf_counter(), step_size is not None, isinstance(mass, str)
    value, gradient = _check(
        log_density, start, n_samples, n_warmup, n_steps, fixed, target_accept, mass, jitter, thin
    )
    source, n_chains, total = (
        generator or torch.default_generator,
        len(start),
        n_warmup + n_samples * thin,
    )

    def draw(kind, *shape):
        return kind(*shape, generator=source, dtype=start.dtype, device=source.device).to(
            start.device
        )

    def look():
        found = {"virial": virial(s["theta"], -s["gradient"])} | (
            {"theta": s["theta"]} if keep_theta else {}
        )
        return found | ({"tracked": track(s["theta"])} if track else {})

    given = torch.as_tensor(
        step_size if fixed else 1.0, dtype=torch.float64, device=start.device
    ).expand(n_chains)
    s = {
        "theta": start,
        "value": value,
        "gradient": gradient,
        **_round(given.log()),
        "n_gradients": torch.tensor(1),
        "inverse_mass": torch.ones_like(start[0]) if named else mass.to(start).reciprocal(),
        "origin": start,
        "sums": torch.zeros(2, *start.shape, dtype=start.dtype, device=start.device),
    }
    out = {
        name: torch.zeros(n_chains, n_samples, *v.shape[1:], dtype=v.dtype)
        for name, v in look().items()
    }
    out |= {
        name: torch.zeros(n_chains, total, dtype=torch.float64) for name in ("values", "errors")
    }
    run = {
        "n_warmup": n_warmup,
        "n_steps": n_steps,
        "step_size": given.tolist() if fixed else None,
        "target_accept": target_accept,
        "mass": mass if named else _digest(mass=mass),
        "jitter": jitter,
        "thin": thin,
        "start": _digest(start=start),
        "generator": generator and _digest(state=generator.get_state()),
        "kept": sorted(out),
    }
    first, earlier, saved = 0, 0.0, time.perf_counter()
    if checkpoint is not None and Path(checkpoint).is_file():
        first, earlier = _load(checkpoint, run, s, out, source, log_density)
    elif not fixed:
        s |= _round(_first_step(log_density, s, draw(torch.randn, *start.shape)))
    ends = [n_warmup * k // 16 for k in (1, 2, 4, 8, 14)] if named and mass == "diagonal" else [0]
    hidden = bool(os.environ.get("INSTAB_BOOK")) if progress is None else not progress
    bar = tqdm(range(first, total), "hmc", total, initial=first, disable=hidden, dynamic_ncols=True)
    for iteration in bar:
        spread, uniform = draw(torch.rand, 2, n_chains)
        step = s["log_step" if iteration < n_warmup or fixed else "log_step_mean"].exp() * (
            1 - jitter + 2 * jitter * spread
        )
        momentum = draw(torch.randn, *start.shape) * s["inverse_mass"].rsqrt()
        theta, value, gradient, _, error = leapfrog(
            log_density, s, momentum, step.to(start.dtype), n_steps
        )
        taken = uniform < torch.exp(-error)
        for name, new in (("theta", theta), ("value", value), ("gradient", gradient)):
            s[name] = torch.where(taken if new.ndim == 1 else taken[:, None], new, s[name])
        out["values"][:, iteration], out["errors"][:, iteration] = s["value"], error
        if iteration < n_warmup:
            if not fixed:
                _dual_average(s, target_accept - torch.exp(-error.clamp_min(0)))
            if ends[0] <= iteration < ends[-1]:
                away = s["theta"] - s["origin"]
                s["sums"] = s["sums"] + torch.stack([away, away.square()])
                window = iteration + 1 - max(end for end in ends if end <= iteration)
                if iteration + 1 in ends and _new_mass(s, window) and not fixed:
                    s |= _round(_first_step(log_density, s, draw(torch.randn, *start.shape)))
        elif (iteration + 1 - n_warmup) % thin == 0:
            for name, new in look().items():
                out[name][:, (iteration - n_warmup) // thin] = new
        if checkpoint is not None and (
            iteration + 1 == total or time.perf_counter() - saved > save_s
        ):
            _save(
                checkpoint,
                {
                    "iteration": iteration + 1,
                    "seconds": earlier + time.perf_counter() - began,
                    "run": run,
                },
                s,
                out,
                source,
            )
            saved = time.perf_counter()
        bar.set_postfix(
            U=f"{-s['value'].mean():.6g}", energy_error=f"{error.median():.2g}", refresh=False
        )
    return HMCResult(
        out.get("theta"),
        out.get("tracked"),
        out["values"][:, n_warmup + thin - 1 :: thin],
        out["virial"],
        out["errors"][:, n_warmup:],
        out["values"][:, :n_warmup],
        s["log_step" if fixed else "log_step_mean"].exp().cpu(),
        s["inverse_mass"].reciprocal().cpu(),
        int(s["n_gradients"]),
        earlier + time.perf_counter() - began,
    )


def leapfrog(log_density, s, momentum, step, n_steps: int):
    """n_steps of p += step/2 grad, theta += step p / M, p += step/2 grad: theta, log density and
    gradient at the end, p, energy error.

    s: the start's "theta", "value" and "gradient" of the log density; "inverse_mass";
    "n_gradients", which counts. step: (chains,). A chain rests, with value -inf, where value or
    gradient are not finite: nobody is ever asked about theta = NaN.
    """
    s["n_gradients"], step = s["n_gradients"] + n_steps, step[:, None]
    theta, p, drift = (
        s["theta"].clone(),
        momentum.addcmul(step, s["gradient"], value=0.5),
        step * s["inverse_mass"],
    )
    for left in range(n_steps, 0, -1):
        value, gradient = _evaluate(log_density, theta.addcmul_(drift, p))
        alive = torch.isfinite(value) & torch.isfinite(gradient.sum(1))
        value = torch.where(alive, value, -math.inf)
        gradient, p = (torch.where(alive[:, None], t, 0) for t in (gradient, p))
        p.addcmul_(step, gradient, value=1.0 if left > 1 else 0.5)
    before, after = (
        (q.square() * s["inverse_mass"]).sum(1, dtype=torch.float64) / 2 for q in (momentum, p)
    )
    error = s["value"] - value + after - before
    return theta, value, gradient, p, torch.where(torch.isfinite(error), error, math.inf)


def _evaluate(log_density, theta):
    """The log density in float64, and its gradient."""
    with torch.enable_grad():
        value = log_density(theta := theta.detach().requires_grad_())
        return value.detach().double(), torch.autograd.grad(value.sum(), theta)[0]


def _first_step(log_density, s, noise):
    """log step sizes: doubled or halved until the acceptance of a single step crosses a half."""
    log_step, rising, searching = torch.zeros_like(s["value"]), None, True
    for _ in range(80):
        good = leapfrog(
            log_density, s, noise * s["inverse_mass"].rsqrt(), log_step.exp().to(noise.dtype), 1
        )[-1] < math.log(2)
        rising = good if rising is None else rising
        searching = (good == rising) & searching
        if not searching.any():
            return log_step
        log_step = log_step + math.log(2) * torch.where(rising, 1.0, -1.0) * searching
    raise ValueError(
        f"hmc expects steps of acceptance 1/2 somewhere; got none from 2^-80 to 2^80 for chains "
        f"{searching.nonzero()[:, 0].tolist()}. Is the log density flat, or its gradient wrong? Or give step_size."
    )


def _round(log_step):
    return {
        "log_step": log_step,
        "log_step_mean": log_step,
        "centre": log_step + math.log(10),
        "shortfall": torch.zeros_like(log_step),
        "round": torch.tensor(0),
    }


def _dual_average(s, shortfall):
    """Moves each chain's log step until target - acceptance is zero in the mean."""
    s["round"] = s["round"] + 1
    m = int(s["round"])
    s["shortfall"] = s["shortfall"] + (shortfall - s["shortfall"]) / (m + 10)
    s["log_step"] = s["centre"] - math.sqrt(m) / 0.05 * s["shortfall"]
    s["log_step_mean"] = s["log_step_mean"] + m**-0.75 * (s["log_step"] - s["log_step_mean"])


def _new_mass(s, n):
    """1 / M = (N v + 5 median v) / (N + 5) of N draws: towards a multiple of the unit mass where
    there are few. False: none moved.
    """
    mean, square = s["sums"] / n
    n, variance = n * len(mean), (square - mean.square()).mean(0).clamp_min(0) * n / max(n - 1, 1)
    s |= {"origin": s["theta"], "sums": torch.zeros_like(s["sums"])}
    if moved := bool(torch.isfinite(variance).all() & (variance.median() > 0)):
        s["inverse_mass"] = (n * variance + 5 * variance.median()) / (n + 5)
    return moved


def _check(
    log_density, start, n_samples, n_warmup, n_steps, fixed, target_accept, mass, jitter, thin
):
    named, numbers = (
        isinstance(mass, str),
        (n_samples, n_steps, thin, n_warmup, jitter, target_accept),
    )

    def need(right, text):
        if not right:
            raise ValueError(f"hmc expects {text}.")

    need(
        start.ndim == 2 and start.dtype in (torch.float32, torch.float64),
        f"start (chains, P), float32 or float64; got {tuple(start.shape)}, {start.dtype}. One chain: start[None]",
    )
    need(
        min(numbers[:3]) > 0 <= n_warmup and 0 <= jitter < 1 and 0 < target_accept < 1,
        f"n_samples, n_steps, thin >= 1, n_warmup >= 0, jitter in [0, 1), target_accept in (0, 1); got {', '.join(map(str, numbers))}",
    )
    need(
        mass in ("unit", "diagonal")
        if named
        else mass.shape == start.shape[1:] and bool((mass > 0).all()),
        f"mass 'unit', 'diagonal' or {start.shape[1]} positive numbers; got {mass!r:.200}",
    )
    need(
        n_warmup or fixed and not (named and mass == "diagonal"),
        "n_warmup > 0 to find a step size or a mass; got 0. Give both",
    )
    value, gradient = _evaluate(log_density, start)
    need(
        value.shape == start.shape[:1],
        f"log_density(theta) ({len(start)},), a value for each chain; got {tuple(value.shape)}. Sum over all axes but the first",
    )
    wrong = ~torch.isfinite(gradient)
    bad = (wrong.any(1) | ~torch.isfinite(value)).nonzero()[:, 0].tolist()
    need(
        not bad,
        f"a finite log density and gradient at every start; got {value[bad].tolist()} with {wrong[bad].sum(1).tolist()} of "
        f"{start.shape[1]} derivatives not finite for chains {bad}. Start inside the support: at an optimum, or a draw of the prior",
    )
    return value, gradient


def _save(path, about, s, out, source):
    tensors = (
        {f"state/{k}": v for k, v in s.items()}
        | {f"out/{k}": v for k, v in out.items()}
        | {"source": source.get_state()}
    )
    tensors, about = (
        {k: v.cpu().contiguous().clone() for k, v in tensors.items()},
        json.dumps(about),
    )
    write(
        Path(path),
        safetensors.torch.save(tensors, {"about": about, "sha256": _digest(about, **tensors)}),
    )


def _load(path, run, s, out, source, log_density):
    """Puts a checkpoint back into s, out and source; iterations and seconds that were done."""
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            meta, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
        if meta["sha256"] != _digest(meta["about"], **tensors):
            raise ValueError("its checksum does not match its content")
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise DamagedFile(
            f"checkpoint {path} cannot be used: {reason}. Delete it to start afresh."
        ) from reason
    about, n, room = (
        json.loads(meta["about"]),
        tensors["out/virial"].shape[1],
        out["virial"].shape[1],
    )
    wrong = [
        f"{k} {about['run'].get(k)!r}, here {v!r}"
        for k, v in run.items()
        if about["run"].get(k) != v
    ]
    wrong += [f"{n} samples, here {room}"] if n > room else []
    here = {k: tensors[f"state/{k}"].to(v.device) for k, v in s.items()}
    if not wrong and not torch.allclose(
        _evaluate(log_density, here["theta"])[0], here["value"], rtol=1e-3, atol=1e-3
    ):
        wrong = ["another log density"]
    if wrong:
        raise ValueError(
            f"checkpoint {path} is of another run: {'; '.join(wrong)}. Delete it, or name another file."
        )
    s |= here
    for k, v in out.items():
        v[:, : tensors[f"out/{k}"].shape[1]] = tensors[f"out/{k}"]
    source.set_state(tensors["source"])
    return about["iteration"], about["seconds"]


def _digest(text="", **tensors):
    content = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    return hashlib.sha256(hashlib.sha256(content).digest() + text.encode()).hexdigest()


def virial(theta: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """theta . grad U, (...), of (..., P). Its mean over exp(-U) is P exactly, where theta exp(-U)
    vanishes at infinity.
    """
    return (theta * grad).sum(-1, dtype=torch.float64)


def summary(result: HMCResult, draws: torch.Tensor | None = None) -> dict[str, float | None]:
    """Numbers for a record. R-hat and ESS are of `draws` (chains, n, ...), by default what was
    tracked, else theta; *_u: of U.

    u_first, u_second: mean U in the first and second half of the draws, u_drift: their difference
    in standard errors. virial_ratio: mean theta . grad U over P, 1 in equilibrium. n_constant
    components of the draws never change, left out. None: not to be had.
    """
    draws = (result.theta if result.tracked is None else result.tracked) if draws is None else draws
    u, half, p = -result.log_density, result.log_density.shape[1] // 2, len(result.mass)
    rhats, sizes, first, second = (
        split_rhat(draws).flatten(),
        ess(draws).flatten(),
        u[:, :half].mean(),
        u[:, -half:].mean(),
    )
    found = {
        "rhat_max": rhats.nanquantile(1),
        "rhat_median": rhats.nanmedian(),
        "ess_min": sizes.nanquantile(0),
        "ess_median": sizes.nanmedian(),
        "n_constant": sizes.isnan().sum(),
        "rhat_u": split_rhat(u),
        "ess_u": ess(u),
        "u_first": first,
        "u_second": second,
        "u_drift": (second - first) / (2 * u.std() / ess(u).sqrt()),
        "virial_ratio": result.virial.mean() / p,
        "virial_error": result.virial.std() / ess(result.virial).sqrt() / p,
        "accept": result.accept.mean(),
        "accept_min": result.accept.min(),
        "divergences": result.divergent.sum(),
        "energy_error": result.energy_error.abs().median(),
        "step_size": result.step_size.mean(),
        "n_gradients": result.n_gradients,
        "seconds": result.seconds,
    }
    return {
        name: float(number) if math.isfinite(number) else None for name, number in found.items()
    }
