"""Hamiltonian Monte Carlo of a field, beside a point estimate that had as many gradients."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ... import metrics, profiles, store
from ...fields import FREE, Scan, interior, phantom_scan
from ...fields.posterior import Posterior
from ...networks import Fields
from ...store.tensors import load_tensors, save_tensors
from ...uncertainty import diagnostics, hmc
from . import published, results
from .trials import N_SAMPLES, score

SIGMAS = (0.03, 0.1)
MOST_RHAT = 2.0
"""Where a picture of R-hat ends: chains so far apart have not met."""


@dataclass(frozen=True, kw_only=True)
class Chains:
    """Everything that decides an experiment with HMC but the phantom; `Chains.at(profile)`."""

    n_views: int = 20
    # Likelihood width in units of rms(y). The scan is noiseless; what A f cannot explain is the
    # coarse grid: ||A x - y|| / ||y|| of the truth is 0.027 and 0.017 for phantoms 1 and 6 at 64
    # pixels. 0.03 is that error, 0.1 tempers it ten times in the exponent.
    sigma: float = 0.03
    tau: float = 2.0  # prior N(0, tau / fan_in) of weights and biases: relu's start
    width: int
    depth: int
    activation: str = "relu"
    omega0: float
    n_frequencies: int
    image_size: int
    n_chains: int = 4
    # Where chains start. "map": at the minimum of U next to a draw from the prior; its weights are
    # far too small, and U has to climb. "anchored": at the minimum with that draw as the prior's
    # centre and fresh noise on y, for a linear model a draw from the posterior.
    start: str = "anchored"
    map_steps: int  # Adam, for every start
    n_warmup: int
    n_samples: int
    n_steps: int  # leapfrog steps of a trajectory
    seed: int = 0

    @classmethod
    def at(cls, profile: str, **changes) -> "Chains":
        """Return the chains of a profile, with changes."""
        return cls(**{**vars(profiles.stage("hmc", profile)), **changes})

    def field(self, generator: torch.Generator | None = None) -> Fields:
        """Return a field of this shape."""
        shape = (self.width, self.depth, self.activation, self.omega0, self.n_frequencies)
        return Fields(*shape, generator=generator)

    def scan(self, id: int = FREE) -> Scan:
        """Return the views of a phantom."""
        return phantom_scan((id,), self.n_views, self.image_size)


def prepare(chains: Chains, scan: Scan) -> tuple[Posterior, Tensor, Tensor]:
    """Return the target, draws from the prior (n_chains, P) and noise of the likelihood.

    The noise is (n_chains, 1, n_views, n_detectors); all on a GPU if there is one.
    """
    device = profiles.default_device()
    generator = profiles.generator(chains.seed, "posterior fields")
    target = Posterior(chains.field(generator).to(device), scan, chains.sigma, chains.tau)
    white = torch.randn(chains.n_chains, len(target.prior_precision), generator=generator)
    noise = torch.randn(chains.n_chains, *scan.y.shape[1:], generator=generator)
    prior = white.to(device) / target.prior_precision.sqrt()
    return target, prior, target.sigma * noise.to(device)


def draw(
    chains: Chains,
    scan: Scan,
    stream: str = "posterior draws",
    step_size: float | None = None,
    checkpoint: Path | None = None,
) -> tuple[Posterior, dict[str, Tensor], diagnostics.HMCResult]:
    """Return the target, the point estimates "start" and "map", and HMC with images tracked.

    With a checkpoint, see `hmc.sample`, the estimates that an earlier run has found are read.
    """
    target, prior, noise = prepare(chains, scan)
    anchored = chains.start == "anchored"
    start = hmc.start_of(checkpoint)
    if start is None:
        around = dict(anchor=prior, noise=noise) if anchored else {}
        start = target.descend(prior, chains.map_steps, **around)
    start = start.to(prior)
    options = hmc.HMCOptions(
        chains.n_warmup,
        chains.n_steps,
        step_size,
        mass=target.prior_precision,
        keep_theta=False,
    )
    result = hmc.sample(
        target.log_density,
        start,
        chains.n_samples,
        options,
        generator=profiles.generator(chains.seed, stream),
        track=target.image,
        checkpoint=checkpoint,
    )
    best = start[:1]
    if anchored:
        best = _point(checkpoint, "map", lambda: target.descend(prior[:1], chains.map_steps))
    return target, {"start": start, "map": best.to(prior)}, result


def _point(checkpoint: Path | None, name: str, find: Callable[[], Tensor]) -> Tensor:
    """Return a point estimate, found once for the chains of a checkpoint and kept beside it."""
    if checkpoint is None:
        return find()
    path = checkpoint.with_name(f"{checkpoint.stem}-{name}.safetensors")
    if not path.is_file():
        save_tensors(path, {name: find()}, {})
    return load_tensors(path)[0][name]


def run(profile: str, only: Sequence[str] | None = None) -> list[dict]:
    """Return the records of HMC in Table 1 and chapter 11; only: numbers of views, such as "20"."""
    views = [int(n_views) for n_views in only or published.VIEWS]
    return [record(Chains.at(profile, **change), FREE, profile) for change in changes(views)]


def changes(views: Sequence[int]) -> list[dict]:
    """Return what the experiments for these numbers of views change of `Chains.at`."""
    return [
        {"n_views": n_views, **change}
        for n_views in views
        for change in (*({"sigma": s} for s in SIGMAS), {"start": "map"})
        if n_views == 20 or "start" not in change
    ]


def record(chains: Chains, id: int = FREE, profile: str = "standard") -> dict:
    """Return the record of HMC on a phantom, and write the exhibit of its draws.

    The exhibit is `hmc-<views>-<100 sigma>-<id>[-map]-<profile>`. Table 1's quantities are those of
    50 draws, evenly taken from all chains; beside them every diagnostic of `diagnostics.summary`, U
    against its expectation min U + P / 2 in the Gaussian approximation (min U: of the control), and
    the point estimates. The control is the MAP trained on with as many gradients as a chain had.
    Chains and point estimates are kept in checkpoints: a run that was stopped goes on.
    """
    scan = chains.scan(id)
    parameters = {"id": id, "thin": 1, **asdict(chains)}
    name = f"hmc-{_name(chains, id)}-{profile}"
    key = store.key(**parameters)[:8]
    path = store.results_folder() / "checkpoints" / f"{name}-{key}.safetensors"

    def compute():
        target, points, result = draw(chains, scan, checkpoint=path)
        points["control"] = _point(
            path, "control", lambda: target.descend(points["map"], result.n_gradients)
        ).to(points["map"])
        with torch.no_grad():
            images = {point: target.image(theta).cpu() for point, theta in points.items()}
            u = {point: -target.log_density(theta).cpu() for point, theta in points.items()}
        return _metrics(result, images, u, scan)

    made = store.cached(
        compute,
        experiment="hmc",
        task="inr_ct",
        network="inr",
        method="hmc",
        seed=chains.seed,
        profile=profile,
        parameters=parameters,
        inputs=[scan.name],
        paper=published.of_record("hmc", chains.n_views, "test"),
    )
    shown = results.exhibit(name)
    if path.is_file() and (shown is None or shown[1]["created"] < made["created"]):
        _exhibit(chains, draw(chains, scan, checkpoint=path)[-1], scan, name)
    return made


def stored(profile: str, n_views: int, sigma: float = SIGMAS[0]) -> list[dict]:
    """Return the records of anchored chains on phantom 0, oldest first."""
    about = {"id": FREE, "n_views": n_views, "sigma": sigma, "start": "anchored"}.items()
    rows = store.records(experiment="hmc", profile=profile)
    return [row for row in rows if about <= row["parameters"].items()]


def recorded(profile: str, n_views: int, sigma: float) -> tuple[dict, dict] | None:
    """Return the newest record of anchored chains on phantom 0 and its exhibit; None without one.

    energy_expected is min U + P / 2 with the U of the control.
    """
    rows = stored(profile, n_views, sigma)
    if not rows:
        return None
    last = rows[-1]
    chains = Chains(
        **{name: v for name, v in last["parameters"].items() if name not in ("id", "thin")}
    )
    half = chains.field().n_parameters / 2
    last["metrics"]["energy_expected"] = last["metrics"]["energy_control"][0] + half
    return last, store.load_exhibit(f"hmc-{_name(chains, FREE)}-{profile}")[0]


def _name(chains, id):
    suffix = "-map" if chains.start == "map" else ""
    return f"{chains.n_views}-{round(100 * chains.sigma)}-{id}{suffix}"


def _metrics(result, images, u, scan):
    def of_mean(images):
        return float(metrics.psnr_db(images.mean(0, keepdim=True), scan.x, 1.0))

    numbers = {name: float(values[0]) for name, values in score(_fifty(result), scan).items()}
    for name, each in images.items():
        numbers[f"psnr_{name}_db"] = metrics.psnr_db(each, scan.x.expand_as(each), 1.0).tolist()
        numbers[f"psnr_{name}_mean_db"] = of_mean(each)
        numbers[f"energy_{name}"] = u[name].tolist()
    return {
        **numbers,
        "psnr_chain_db": [of_mean(chain) for chain in result.tracked],
        "energy_expected": min(u["control"].tolist()) + len(result.mass) / 2,
        **diagnostics.summary(result),
    }


def _evenly(result: diagnostics.HMCResult, n: int) -> Tensor:
    """Return n images, evenly taken from all chains, (n, 1, side, side)."""
    flat = result.tracked.transpose(0, 1).flatten(0, 1)  # draw after draw, the chains in turn
    return flat[torch.linspace(0, len(flat) - 1, n).round().long()]


def _fifty(result: diagnostics.HMCResult) -> Tensor:
    """Return the draws for the scores, (50, 1, 1, side, side)."""
    return _evenly(result, N_SAMPLES)[:, None]


def _exhibit(chains: Chains, result: diagnostics.HMCResult, scan: Scan, name: str) -> None:
    """Write draws as uint8, maps and chains' means, traces, and reliability."""
    tracked, fifty = result.tracked, _fifty(result)
    shown = _evenly(result, 24 if chains.image_size <= 64 else 8)[:, 0]
    within = metrics.reliability(fifty, scan.x, where=interior(scan.x))
    rhat, ess = diagnostics.split_rhat(tracked[:, :, 0]), diagnostics.ess(tracked[:, :, 0])
    store.save_exhibit(
        name,
        {
            "energy": -result.log_density.float(),
            "warmup_energy": -result.warmup_log_density.float(),
            "coverage": metrics.reliability(fifty, scan.x).coverage.float(),
            "coverage_interior": within.coverage.float(),
        },
        pictures={
            "draws": (shown.clamp(0, 1) * 255).round().to(torch.uint8),
            "mean": tracked.mean((0, 1))[0],
            "std": tracked.std((0, 1))[0],
            "truth": scan.x[0, 0],
            "chain_means": tracked.mean(1)[:, 0],
            "rhat": rhat.nan_to_num(1.0, posinf=MOST_RHAT).clamp_max(MOST_RHAT),
            "ess": ess.nan_to_num(0.0),
        },
        data=["phantoms"],
        profile=name.rsplit("-", 1)[1],
        seed=chains.seed,
        note=f"{chains.n_chains} chains, {chains.n_views} views, sigma {chains.sigma} of rms(y), "
        f"{scan.name}",
    )
