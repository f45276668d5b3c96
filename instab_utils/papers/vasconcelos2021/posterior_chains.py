"""Hamiltonian Monte Carlo of a field: its posterior given one scan, beside a point estimate that
had as many gradients.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ... import metrics, profiles, store
from ...fields import posterior, scans
from ...networks import Fields
from ...uncertainty import hmc
from . import study


@dataclass(frozen=True)
class Chains:
    """Everything that decides an experiment with HMC but the phantom. The paper: width 256, depth
    3, relu, omega0 10, no more.
    """

    n_views: int = 20
    # Likelihood width in units of rms(y). The scan is noiseless; what A f cannot explain is the
    # coarse grid: ||A x - y|| / ||y|| of the truth is 0.027 and 0.017 for phantoms 1 and 6 at 64
    # pixels. 0.03 is that error, 0.1 tempers it ten times in the exponent.
    sigma: float = 0.03
    tau: float = 2.0  # prior N(0, tau / fan_in) of weights and biases: relu's start
    width: int = 32
    depth: int = 3
    activation: str = "relu"
    omega0: float = 5.0
    n_frequencies: int = 128
    image_size: int = 64
    n_chains: int = 4
    # Where chains start. "map": at the minimum of U next to a draw from the prior; its weights are
    # far too small, and U has to climb. "anchored": at the minimum with that draw as the prior's
    # centre and fresh noise on y, for a linear model a draw from the posterior.
    start: str = "anchored"
    map_steps: int = 2000  # Adam, for every start
    n_warmup: int = 120
    n_samples: int = 150
    n_steps: int = 100  # leapfrog steps of a trajectory
    thin: int = 1
    seed: int = 0


SIZES = {
    "smoke": dict(
        width=8, n_frequencies=8, image_size=32, map_steps=20, n_warmup=6, n_samples=8, n_steps=4
    ),
    "standard": {},
    "paper": dict(
        width=256,
        omega0=10.0,
        image_size=256,
        n_frequencies=363,
        map_steps=15000,
        n_warmup=500,
        n_samples=500,
        n_steps=400,
    ),
}


def prepare(
    chains: Chains, scan: scans.Scan
) -> tuple[posterior.Posterior, torch.Tensor, torch.Tensor]:
    """The target, draws from the prior (n_chains, P), noise of the likelihood (n_chains, 1,
    n_views, n_detectors); on a GPU if any.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (chains.width, chains.depth, chains.activation, chains.omega0, chains.n_frequencies)
    generator = profiles.generator(chains.seed, "posterior fields")
    target = posterior.Posterior(
        Fields(1, *shape, generator=generator).to(device), scan, chains.sigma, chains.tau
    )
    prior = (
        torch.randn(chains.n_chains, len(target.prior_precision), generator=generator).to(device)
        / target.prior_precision.sqrt()
    )
    noise = target.sigma * torch.randn(chains.n_chains, *scan.y.shape[1:], generator=generator).to(
        device
    )
    return target, prior, noise


def draw(chains: Chains, scan: scans.Scan, checkpoint: Path | None = None) -> dict:
    """HMC, and the point estimates beside it: MAP, and the same trained on with as many gradients
    as a chain had.
    """
    target, prior, noise = prepare(chains, scan)
    if chains.start == "anchored":
        start = target.descend(prior, chains.map_steps, anchor=prior, noise=noise)
        point = target.descend(prior[:1], chains.map_steps)
    else:
        start = point = target.descend(prior, chains.map_steps)
    result = hmc.hmc(
        target.log_density,
        start,
        chains.n_samples,
        chains.n_warmup,
        chains.n_steps,
        mass=target.prior_precision,
        generator=profiles.generator(chains.seed, "posterior draws"),
        track=target.image,
        keep_theta=False,
        thin=chains.thin,
        checkpoint=checkpoint,
    )
    control = target.descend(point[:1], result.n_gradients)
    with torch.no_grad():
        points = {"start": start, "map": point[:1], "control": control}
        images = {name: target.image(theta).cpu() for name, theta in points.items()}
        energies = {name: -target.log_density(theta).cpu() for name, theta in points.items()}
    return {
        "result": result,
        "images": images,
        "energies": energies,
        "n_parameters": prior.shape[1],
    }


def run(
    chains: Chains, ids=(scans.FREE,), profile: str = "standard", folder: Path | None = None
) -> list[dict]:
    """The records of HMC on these phantoms, one each, and exhibits with thinned draws:
    `hmc-<views>-<100 sigma>-<id>[-map]-<profile>`.

    Table 1's quantities are those of 50 draws, evenly taken from all chains; beside them every
    diagnostic of `hmc.summary`, U against its expectation min U + P / 2 in the Gaussian
    approximation (min U: of the control), and the point estimates.
    """
    found = []
    for id in ids:
        scan = scans.phantom_scan((id,), chains.n_views, chains.image_size)

        def compute(scan=scan, id=id):
            checkpoint = folder and folder / f"hmc-{_name(chains, id)}.safetensors"
            drawn = draw(chains, scan, checkpoint)
            return _metrics(drawn, scan, _exhibit(chains, drawn, scan, id, profile))

        paper = study.PAPER["hmc", chains.n_views][1] if chains.n_views in (5, 20) else None
        found.append(
            store.cached(
                compute,
                experiment="hmc",
                task="inr_ct",
                network="inr",
                method="hmc",
                seed=chains.seed,
                profile=profile,
                parameters={"id": id, **asdict(chains)},
                inputs=[scan.name],
                paper=paper
                and {
                    "source": "vasconcelos",
                    "where": "Table 1",
                    "value": paper[0],
                    "nll": paper[1],
                    "ece": paper[2],
                },
            )
        )
    return found


def _name(chains, id):
    return f"{chains.n_views}-{round(100 * chains.sigma)}-{id}{'-map' if chains.start == 'map' else ''}"


def _metrics(drawn, scan, fifty):
    result = drawn["result"]
    scores = {name: float(values[0]) for name, values in study.score(fifty, scan).items()}
    of_mean = lambda images: float(metrics.psnr_db(images.mean(0, keepdim=True), scan.x, 1.0))
    points = {}
    for name, images in drawn["images"].items():
        each = metrics.psnr_db(images, scan.x.expand_as(images), 1.0).tolist()
        points |= {f"psnr_{name}_db": each, f"psnr_{name}_mean_db": of_mean(images)}
    chains = {"psnr_chain_db": [of_mean(images) for images in result.tracked]}
    return {
        **scores,
        **points,
        **chains,
        **{f"energy_{name}": u.tolist() for name, u in drawn["energies"].items()},
        "energy_expected": min(drawn["energies"]["control"].tolist()) + drawn["n_parameters"] / 2,
        **hmc.summary(result),
    }


def _exhibit(chains, drawn, scan, id, profile):
    """50 draws for the scores, 24 of them as uint8 for the page, with traces and reliability;
    returns the 50.
    """
    images, u = drawn["result"].tracked, -drawn["result"].log_density
    flat = images.transpose(0, 1).flatten(0, 1)  # draw after draw, the chains in turn
    fifty = flat[torch.linspace(0, len(flat) - 1, study.N_SAMPLES).round().long()][:, None]
    byte = lambda t: (t.clamp(0, 1) * 255).round().to(torch.uint8)
    every = torch.linspace(0, len(flat) - 1, 24).round().long()
    store.save_exhibit(
        f"hmc-{_name(chains, id)}-{profile}",
        {
            "draws": byte(flat[every, 0]),
            "mean": flat.mean(0)[0].half(),
            "std": flat.std(0)[0].half(),
            "truth": scan.x[0, 0].half(),
            "map": drawn["images"]["map"][0, 0].half(),
            "starts": byte(drawn["images"]["start"][:, 0]),
            "chain_means": images.mean(1)[:, 0].half(),
            "energy": u.float(),
            "warmup_energy": -drawn["result"].warmup_log_density.float(),
            "rhat": hmc.split_rhat(images[:, :, 0]).half(),
            "ess": hmc.ess(images[:, :, 0]).float(),
            "coverage": metrics.reliability(fifty, scan.x).coverage.float(),
            "coverage_interior": metrics.reliability(
                fifty, scan.x, where=scans.interior(scan.x)
            ).coverage.float(),
        },
        data=["phantoms"],
        profile=profile,
        seed=chains.seed,
        note=f"{chains.n_chains} chains, {chains.n_views} views, sigma {chains.sigma} of rms(y), phantom {id}",
    )
    return fifty
