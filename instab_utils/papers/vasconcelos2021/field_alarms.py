"""The alarms of fields, each fitted to one scan: a worst case for the fit, its random twin, unseen
details, fewer views.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import avg_pool2d

from ... import attacks, metrics, profiles, store
from ...attacks.vectors import norm
from ...fields import TEST, VALIDATION, Scan, fit, linearised_fit, phantom_scan
from ...networks import Fields
from ...stability import structure
from ...stability.alarms import Failure, image_auroc, nested, scores
from ...uncertainty import detection, ensemble
from ...uncertainty.prediction import Prediction
from . import baselines, study
from .study import Setting

STRENGTH = 0.05  # ||r|| / ||x|| of the worst case and its twin
CONTRAST = 0.3  # of the details
VIEWS, FEWER_VIEWS = 20, 5
N_MEMBERS = 5
HORIZONS = (30, 100)
"""Steps of gradient descent that an attack looks ahead: of 30 to 10000, what cost validation
phantoms 1 and 2 most, fitted anew.
"""


@dataclass(frozen=True)
class Size:
    """How much work a profile does; every field is the best of the sweep for 20 views, but for
    these.
    """

    setting: Setting
    # of Adam, by alarm; members of an ensemble have no dropout to slow them down
    steps: dict[str, int]
    # phantoms that set the threshold, and that are scored
    ids: tuple[tuple[int, ...], tuple[int, ...]]
    n_iter: int  # of TV


SIZES = {
    "smoke": Size(
        Setting(image_size=32, n_frequencies=16, width=16),
        {"mcd": 6, "de-5": 6, "bbb": 6},
        (VALIDATION[:1], TEST[:2]),
        20,
    ),
    "standard": Size(Setting(), {"mcd": 400, "de-5": 200, "bbb": 250}, (VALIDATION, TEST), 500),
    "paper": Size(
        Setting(image_size=128), {"mcd": 1000, "de-5": 1000, "bbb": 1000}, (VALIDATION, TEST), 1000
    ),
}
ALARMS = tuple(SIZES["standard"].steps)
"""MC dropout, a deep ensemble of five fields without dropout, Bayes by backprop."""


def settings(alarm: str, profile: str, seed: int = 0) -> list[Setting]:
    """The fields behind an alarm: one, or the members of the ensemble; no two seeds share a field."""
    size = SIZES[profile]
    base = replace(size.setting, steps=size.steps[alarm], seed=N_MEMBERS * seed)
    if alarm == "de-5":
        return [replace(base, p=0.0, seed=base.seed + k) for k in range(N_MEMBERS)]
    return [replace(base, method="bbb" if alarm == "bbb" else "dropout")]


def predict(
    alarm: str, scan: Scan, ids: tuple[int, ...], profile: str, seed: int = 0
) -> Prediction:
    """Fit to each image's views and ask: mean and variance over passes, members or draws, (k, 1, n,
    n). Same seed, same start and masks.
    """
    wanted = settings(alarm, profile, seed)
    n_samples = 1 if len(wanted) > 1 else study.N_SAMPLES
    drawn = [study.train_stack([s] * len(ids), scan, ids, n_samples=n_samples)[0] for s in wanted]
    return ensemble.from_samples(torch.cat(drawn))


def worst_case(setting: Setting, scan: Scan, id: int) -> torch.Tensor:
    """r (1, 1, n, n), ||r|| = STRENGTH ||x||: the change e = A r of the views that a field without
    dropout answers worst.

    A fit is an optimisation of hundreds of steps. It is attacked through HORIZONS many steps of
    plain gradient descent from the fitted weights, linearised there, in closed form
    (`linearised_fit.response`): the top singular vectors of r -> change of the image, with either sign.
    Each of the four is then fitted anew from the usual start; the one that changes the image most
    is kept. A proposal by a linear stand-in is a lower bound of the worst case: somebody may find a
    worse one. It is a worst case of the
    field: of TV there may be one as bad, and what TV makes of this one does not say that TV is the
    more stable.
    """
    field = study.field(setting, id)
    fit(field, scan.A, scan.y, setting.steps, setting.lr)
    field.requires_grad_(False)
    start = torch.randn(
        scan.x.shape, generator=profiles.generator(setting.seed, f"worst case {id}")
    )
    found = []
    for n_steps in HORIZONS:
        linear = linearised_fit.response(field, scan.A, n_steps)
        r = linearised_fit.top_direction(
            lambda r: linear.image(scan.A(r)), lambda x: scan.A.adjoint(linear.adjoint(x)), start
        )
        found += [r, -r]
    r = STRENGTH * scan.x.norm() * torch.cat(found)
    anew = Fields.stack([study.field(setting, id) for _ in r])
    fit(anew, scan.A, scan.y + scan.A(r), setting.steps, setting.lr)
    with torch.no_grad():
        best = int(
            norm(anew.render(setting.image_size) - field.render(setting.image_size)).argmax()
        )
    return r[best : best + 1]


def failures(scan: Scan, ids: tuple[int, ...], setting: Setting) -> Iterator[tuple[Failure, Scan]]:
    """What goes wrong, with the views in the place of a network's input, and the scan that is
    fitted instead of the usual one.

    Worst case and twin: y + A r, the truth stays. Details: four suits in the phantom, measured with
    it on the fine raster. Fewer
    views: the same phantom. Where it went wrong is known of the details only.
    """
    one = (scan._replace(x=x[None], y=y[None]) for x, y in zip(scan.x, scan.y, strict=True))
    r = torch.cat([worst_case(setting, s, id) for s, id in zip(one, ids, strict=True)])
    for kind, change in (
        ("worst case", r),
        ("random twin", attacks.random_twin(r, profiles.generator(setting.seed, "fields twin"))),
    ):
        y = scan.y + scan.A(change)
        yield Failure(kind, STRENGTH, y, scan.x, None), scan._replace(y=y)
    n = setting.image_size
    fine = torch.stack(
        [structure.draw(n, "suits", profiles.generator(0, f"fields details {id}"))[0] for id in ids]
    )[:, None]
    with_details = phantom_scan(ids, VIEWS, n, added=CONTRAST * fine)
    yield (
        Failure(
            "details",
            CONTRAST,
            with_details.y,
            with_details.x,
            avg_pool2d(fine, structure.FINER) > 0.5,
        ),
        with_details,
    )
    fewer = phantom_scan(ids, FEWER_VIEWS, n)
    yield Failure("fewer views", FEWER_VIEWS, fewer.y, fewer.x, None), fewer


def rows(
    profile: str = "standard", seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> list[dict]:
    """The records: each alarm of a field on each failure, stored or made now.

    Metrics of `alarms.scores` and `alarms.image_auroc`; the mask of worst case and twin is where
    the alarm's own mean changed most (5 %). psnr_clean_db and psnr_db of the mean before and after,
    psnr_stable_... of TV on the same views, with a weight from the validation phantoms at 20 views,
    clipped as a sigmoid is; for worst case and twin also ||change|| / ||r|| of both.

    Everything is fitted anew to the changed views; nothing but the views says that something has
    changed. With five validation
    phantoms the threshold is the largest of their five means: false alarms are to be expected in
    one scan of six. HMC, hours for each scan, is too dear for thirty of them and left out.
    """
    found = store.records(experiment="alarm", task="ct_field", profile=profile, seed=seed)
    if found:
        return found
    size = SIZES[profile]
    n, (validate, ids) = size.setting.image_size, size.ids
    validation, scan = phantom_scan(validate, VIEWS, n), phantom_scan(ids, VIEWS, n)
    stable = functools.partial(_stable, weight=_weight(validation, size.n_iter), n_iter=size.n_iter)
    wrong = list(failures(scan, ids, settings("de-5", profile, seed)[0]))
    stable_clean = stable(scan)
    stable_after = [stable(changed) for _, changed in wrong]
    say(f"fields: {len(wrong)} failures")
    made = []
    for alarm in ALARMS:
        usual = detection.threshold(
            predict(alarm, validation, validate, profile, seed).spread.flatten(1).mean(1)
        )
        before = predict(alarm, scan, ids, profile, seed)
        for (failure, changed), x_stable in zip(wrong, stable_after, strict=True):
            after = predict(alarm, changed, ids, profile, seed)
            columns = {
                "psnr_clean_db": _db(before.mean, scan.x),
                "psnr_db": _db(after.mean, failure.x),
                "psnr_stable_clean_db": _db(stable_clean, scan.x),
                "psnr_stable_db": _db(x_stable, failure.x),
            }
            if failure.mask is None and failure.kind != "fewer views":
                away = (after.mean - before.mean).abs()
                failure = failure._replace(
                    mask=away > away.flatten(1).quantile(0.95, dim=1).view(-1, 1, 1, 1)
                )
                r = STRENGTH * norm(scan.x)
                columns |= {
                    "amplification": norm(after.mean - before.mean) / r,
                    "amplification_stable": norm(x_stable - stable_clean) / r,
                }
            columns |= scores(before.spread, after.spread, after.mean, failure, usual)
            made.append(
                _record(
                    alarm,
                    failure,
                    changed,
                    columns,
                    {"image_auroc": image_auroc(before.spread, after.spread)},
                    profile,
                    seed,
                )
            )
        say(f"fields, {alarm}")
    for record in made:
        store.save_record(record)
    return made


def _record(alarm, failure, changed, columns, extra, profile, seed):
    size = SIZES[profile]
    means = {
        name: metrics.bootstrap_ci(v.double(), profiles.generator(0, "bootstrap over images"))
        for name, v in columns.items()
    }
    about = {
        "failure": failure.kind,
        "amount": failure.amount,
        "n_views": changed.y.shape[2],
        "image_size": size.setting.image_size,
        "steps": size.steps[alarm],
        "n_members": N_MEMBERS if alarm == "de-5" else 1,
    }
    return store.record(
        experiment="alarm",
        task="ct_field",
        network="field",
        method=alarm,
        seed=seed,
        profile=profile,
        parameters=about,
        inputs=[changed.name],
        metrics={**nested(means), **extra, "n_images": len(failure.x)},
    )


def _weight(validation: Scan, n_iter: int) -> float:
    """Of TV: the best for these scans among `baselines.WEIGHTS`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
        return baselines.tune(baselines.Method("tv", "none", n_iter // 2), validation)[0]


def _stable(scan: Scan, weight: float, n_iter: int) -> torch.Tensor:
    return baselines.solve(baselines.Method("tv", "none", n_iter), scan, weight).clamp(0, 1)


def _db(x_rec, x):
    return metrics.psnr_db(x_rec, x, 1.0)
