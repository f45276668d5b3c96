"""Work of the drivers behind `ARTEFACTS`, as (cost, precision), from the sizes of a profile.

Attacks and solvers that stop early are counted to the end, survivors of a sweep as the largest
fields.
"""

from collections import Counter

from .. import profiles, training
from ..attacks import Ascent
from ..stability import structure, worst_case
from ..training.cases import PUBLISHED, SLOW, SOLVERS, UNTOUCHED
from .antun2020 import records
from .cost import Cost
from .oala2021 import changes, detectors, table1
from .vasconcelos2021 import baselines, field_alarms, posterior_chains, published, settings
from .vasconcelos2021.table1 import N_BEST, sweep_plan
from .vasconcelos2021.trials import N_SAMPLES
from .work import case_unit, case_units, field_step, network_unit

Work = list[tuple[Cost, str]]
RATES = 9  # sampling rates of test 3, about
INTERVAL = 4  # forward passes that bounds count as
NULLS = 4  # detectors without training
SLICES = 4  # of CT, for testing, that are public


def case_work(test: str, name: str, profile: str) -> Work:
    """Return the work of one of Antun et al.'s tests on one case."""
    size, u = profiles.stage("stability", profile), case_units(name, profile)
    n_images = min(size.n_images_slow if name in SLOW else size.n_images, _public(name))
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


def _public(name: str) -> int:
    """Return how many test images there are of a case without a reader's own data."""
    if name in PUBLISHED[:2]:
        return len(UNTOUCHED)
    kind = SOLVERS.get(name, name).removesuffix("-published")
    return {"med-50": SLICES, "unet-limited": SLICES, "ell-50": 475, "dncnn": 68}.get(kind, 10)


def ladder_work(name: str, profile: str) -> Work:
    """Return the work of the pictures of one published network."""
    budget = profiles.get(profile)
    u = case_units(f"{name.replace('_', '-')}-published", profile)
    each = (budget.attack_iterations + 30) * u.gradient + 4 * budget.n_random * u.forward
    return [(each + 10 * (budget.solver_iterations * u.tv), "fp32")]


def detection_work(what: str, task: str, profile: str, network: str | None = None) -> Work:
    """Return the work of "table1", "sweep" or "alarms" of Oala et al. on one task.

    `network` is that of `changes.NETWORKS`, or another one for the task.
    """
    size, alarm = profiles.stage("detection", profile), profiles.stage("alarm", profile)
    recipe = training.recipe(network or changes.NETWORKS[task], profile)
    pixels = size.image_size if task == "denoising" else recipe.image_size
    forward, gradient = (
        network_unit(part, recipe.name, recipe.architecture, pixels)
        for part in ("forward", "gradient")
    )
    n_test, n_changes = size.n_images, 3
    if task == "ct_limited":  # slices and phantoms
        n_test, n_changes = min(SLICES, size.n_images) + size.n_images, 2
    n_passes = detectors.n_passes(task, profile)
    if what == "alarms":
        search = profiles.stage("stability", profile).ascent + Ascent().n_power
        passes = 8 * (alarm.n_passes + INTERVAL + 1)
        attacked = size.n_evaluations * (INTERVAL + alarm.attacked_passes + 2 + 2 * NULLS)
        each = min(SLICES, n_test) if n_changes == 2 else n_test
        each = each * (search * gradient + passes * forward)
        return [(each + alarm.attacked_images * (attacked * gradient), "fp32")]
    if what == "sweep":
        passes = 2 * (n_passes // 16 + n_passes // 4) + len(detectors.BETAS) * INTERVAL
        each = size.n_evaluations * gradient + (1 + n_changes) * passes * forward
        return [(size.n_validation * each, "fp32")]
    passes = (1 + n_changes) * (2 * n_passes + 2 * INTERVAL + 1 + NULLS)
    each = 2 * size.n_evaluations * gradient + passes * forward
    n_images = len(table1.SEEDS) * n_test + size.n_validation
    return [(n_images * each, "fp32")]


def sweep_work(method: str, n_views: int, profile: str) -> Work:
    """Return the work of the sweep's rungs, in TF32: one phantom."""
    size, plan = profiles.stage("inr", profile), sweep_plan(method, n_views, profile)
    shapes = Counter((config["width"], config["depth"]) for config in plan.configs)
    fits = (n * _fit(method, *s, size, n_views, plan.rungs[0]) for s, n in shapes.items())
    first = sum(fits, Cost())
    later = list(zip(plan.sizes(), plan.rungs))[1:]
    later = sum((n * _fit(method, *max(shapes), size, n_views, s) for n, s in later), Cost())
    if size.wide and method == "dropout":
        shape = size.wide, max(depth for _, depth in shapes)
        later += size.rungs[-1][1] * _fit(method, *shape, size, n_views, plan.rungs[-1])
    return [(first + later, "tf32")]


def _fit(method, width, depth, size, n_views, steps) -> Cost:
    return (steps + N_SAMPLES / 3) * field_step(method, width, depth, size, n_views)


def finals_work(n_views: int, profile: str) -> Work:
    """Return the work of the best settings on all phantoms, each as the largest of the sweep."""
    size, total = profiles.stage("inr", profile), Cost()
    n_phantoms = len(size.validation) + len(size.test)
    for method, n in (("dropout", N_BEST), ("bbb", 1)):
        configs = settings.grid(method, n_views, profile)
        width, depth = max((config["width"], config["depth"]) for config in configs)
        widths = [width] * min(n, len(configs))
        if size.wide and method == "dropout":
            widths[0] = size.wide
        for width in widths:
            total += n_phantoms * _fit(method, width, depth, size, n_views, size.final_steps)
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


def classical_work(profile: str) -> Work:
    """Return the work of total variation at every scan; the other methods take a tenth of it."""
    size = profiles.stage("baselines", profile)
    n_solves = len(published.VIEWS) * (len(baselines.WEIGHTS) + 2) * size.share
    cap = baselines.METHODS[-1].cap
    units = [case_unit("tv", "ell-50", None, pixels) for pixels, crime in size.scans if not crime]
    total = sum(((n_solves * cap) * (len(size.test) * unit) for unit in units), Cost())
    return [(total, "fp32")]


def explorer_work(n_views: int, profile: str) -> Work:
    """Return the work of a field for each activation and omega0."""
    size = profiles.stage("inr", profile)
    n = len(size.activations) * len(size.omega0) * min(600, size.final_steps)
    return [(n * field_step("dropout", size.widths[-1], 3, size, n_views), "fp32")]


def real_data_work(profile: str) -> Work:
    """Return the work of the fields on slices and the tooth."""
    size = profiles.stage("real_data", profile)
    n_fields = 2 * (size.n_test + 1) + len(size.omega0)
    step = field_step("dropout", size.width, size.depth, size, 60)
    return [(n_fields * size.steps * step, "fp32")]


def field_alarms_work(profile: str) -> Work:
    """Return the work of fits anew: to clean and validation scans, and to four failures."""
    size, total = profiles.stage("field_alarms", profile), Cost()
    for alarm, steps in zip(field_alarms.ALARMS, size.steps):
        members = field_alarms.settings(alarm, profile)
        step = field_step(members[0].method, size.width, 3, size, field_alarms.VIEWS)
        n_fits = len(members) * (len(size.validation) + 5 * len(size.test))
        total += n_fits * steps * step
        if alarm == "de-5":  # proposals of a worst case, each fitted anew
            total += 5 * len(size.test) * steps * step
    return [(total, "fp32")]
