"""Work of the drivers behind `ARTEFACTS`, as (cost, precision), from the sizes of a profile.

Attacks and solvers that stop early are counted to the end, survivors of a sweep as the largest
fields.
"""

from .. import profiles, training
from ..attacks import Ascent
from ..stability import structure, worst_case
from ..training.cases import SLOW, SOLVERS
from .antun2020 import records
from .cost import Cost
from .oala2021 import changes, detectors, table1
from .vasconcelos2021 import baselines, field_alarms, posterior_chains, settings
from .vasconcelos2021.table1 import N_BEST, sweep_plan
from .vasconcelos2021.trials import N_SAMPLES
from .work import case_units, field_step, network_unit

Work = list[tuple[Cost, str]]
RATES = 9  # sampling rates of test 3, about
INTERVAL = 4  # forward passes that bounds count as
NULLS = 4  # detectors without training


def case_work(test: str, name: str, profile: str) -> Work:
    """Return the work of one of Antun et al.'s tests on one case."""
    size, u = profiles.stage("stability", profile), case_units(name, profile)
    n_images = size.n_images_slow if name in SLOW else size.n_images
    search = (size.ascent + Ascent().n_power) * u.gradient
    tv = size.n_iter * u.tv
    n = len(size.strengths)
    if test == "fig5-details":
        each = 2 * size.n_draws * len(structure.CONTRASTS) * (u.forward + tv)
    elif test == "fig5-samples":
        each = RATES * (u.forward + 2 * tv)
    elif test == "fig2":
        draws = len(worst_case.FRACTIONS) * 2 * max(2, size.n_near // n_images)
        each = size.restarts * search + draws * u.forward
    else:
        n_attacks = 1 if name in SOLVERS else len(records.ATTACKS)
        found = size.restarts * (search + 2 * n * u.forward)
        own = (size.ascent + Ascent().n_power) * (size.unrolled * u.tv_gradient)
        each = n_attacks * (found + n * (2 + size.n_twins) * (u.forward + tv)) + own
    return [(n_images * each, "fp32")]


def ladder_work(name: str, profile: str) -> Work:
    """Return the work of the pictures of one published network."""
    budget = profiles.get(profile)
    u = case_units(f"{name.replace('_', '-')}-published", profile)
    each = (budget.attack_iterations + 30) * u.gradient + 4 * budget.n_random * u.forward
    return [(each + 10 * (budget.solver_iterations * u.tv), "fp32")]


def detection_work(what: str, task: str, profile: str) -> Work:
    """Return the work of "table1", "sweep" or "alarms" of Oala et al. on one task."""
    size, alarm = profiles.stage("detection", profile), profiles.stage("alarm", profile)
    recipe = training.recipe(changes.NETWORKS[task], profile)
    pixels = size.image_size if task == "denoising" else recipe.image_size
    forward, gradient = (
        network_unit(part, recipe.name, recipe.architecture, pixels)
        for part in ("forward", "gradient")
    )
    groups, n_changes = (1, 3) if task == "denoising" else (2, 2)
    n_passes = detectors.n_passes(task, profile)
    if what == "alarms":
        search = profiles.stage("stability", profile).ascent + Ascent().n_power
        passes = 8 * (alarm.n_passes + INTERVAL + 1)
        attacked = size.n_evaluations * (INTERVAL + alarm.attacked_passes + 2 + 2 * NULLS)
        each = size.n_images * (search * gradient + passes * forward)
        return [(each + alarm.attacked_images * (attacked * gradient), "fp32")]
    if what == "sweep":
        passes = 2 * (n_passes // 16 + n_passes // 4) + len(detectors.BETAS) * INTERVAL
        each = size.n_evaluations * gradient + (1 + n_changes) * passes * forward
        return [(size.n_validation * each, "fp32")]
    passes = (1 + n_changes) * (2 * n_passes + 2 * INTERVAL + 1 + NULLS)
    each = 2 * size.n_evaluations * gradient + passes * forward
    n_images = len(table1.SEEDS) * groups * size.n_images + size.n_validation
    return [(n_images * each, "fp32")]


def sweep_work(method: str, n_views: int, profile: str) -> Work:
    """Return the work of the sweep's rungs, in TF32: one phantom."""
    size, plan = profiles.stage("inr", profile), sweep_plan(method, n_views, profile)
    shapes = [(config["width"], config["depth"]) for config in plan.configs]
    first = sum((_fit(method, *s, size, n_views, plan.rungs[0]) for s in shapes), Cost())
    largest = _fit(method, *max(shapes), size, n_views, 1)
    later = sum((n * steps * largest for n, steps in zip(plan.sizes()[1:], plan.rungs[1:])), Cost())
    return [(first + later, "tf32")]


def _fit(method, width, depth, size, n_views, steps) -> Cost:
    return (steps + N_SAMPLES / 3) * field_step(method, width, depth, size, n_views)


def finals_work(n_views: int, profile: str) -> Work:
    """Return the work of the best settings on all phantoms, each as the largest of the sweep."""
    size, total = profiles.stage("inr", profile), Cost()
    n_phantoms = len(size.validation) + len(size.test)
    for method, n in (("dropout", N_BEST), ("bbb", 1)):
        configs = settings.grid(method, n_views, profile)
        shape = max((config["width"], config["depth"]) for config in configs)
        n = min(n, len(configs))
        total += n * n_phantoms * _fit(method, *shape, size, n_views, size.final_steps)
    return [(total, "fp32")]


def chains_work(n_views: int, profile: str) -> Work:
    """Return the work of HMC: starts, trajectories of every chain, and the control."""
    size = profiles.stage("hmc", profile)
    n_runs = len(posterior_chains.changes([n_views]))
    n_chains = posterior_chains.Chains.n_chains
    gradients = (size.n_warmup + size.n_samples) * size.n_steps * (n_chains + 1)
    gradients += size.map_steps * (n_chains + 1)
    step = field_step("hmc", size.width, size.depth, size, n_views)
    return [(n_runs * gradients * step, "fp32")]
