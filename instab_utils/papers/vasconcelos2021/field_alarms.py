"""Alarms of fields: a worst case for the fit, its random twin, unseen details, fewer views."""

import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ... import attacks, metrics, profiles, store
from ...attacks.vectors import norm
from ...fields import Scan, fit_fields, linearised_fit, phantom_scan
from ...networks import Fields
from ...stability import structure
from ...stability.alarms import CONTRAST, Failure, image_auroc, scores
from ...uncertainty import detection, ensemble
from ...uncertainty.prediction import Prediction
from ..kept import kept
from ..oala2021.alarms import means
from . import baselines
from .settings import Setting
from .trials import N_SAMPLES, train

STRENGTH = 0.05  # ||r|| / ||x|| of the worst case and its twin
VIEWS, FEWER_VIEWS = 20, 5
N_MEMBERS = 5
HORIZONS = (30, 100)
"""Steps of gradient descent that an attack looks ahead.

Of 30 to 10000 those that changed validation phantoms 1 and 2 most, fitted anew.
"""


ALARMS = ("mcd", "de-5", "bbb")
"""MC dropout, a deep ensemble of five fields without dropout, Bayes by backprop."""
ATTACKS = ("worst case", "random twin")


def settings(alarm: str, profile: str) -> list[Setting]:
    """Return the fields behind an alarm: one, or the members of the ensemble.

    They are those of the best setting of the sweep for 20 views.
    """
    size = profiles.stage("field_alarms", profile)
    base = Setting(
        "bbb" if alarm == "bbb" else "dropout",
        VIEWS,
        width=size.width,
        steps=size.steps[ALARMS.index(alarm)],
        n_frequencies=size.n_frequencies,
        image_size=size.image_size,
    )
    if alarm == "de-5":
        return [replace(base, p=0.0, seed=k) for k in range(N_MEMBERS)]
    return [base]


def predict(alarm: str, scan: Scan, ids: tuple[int, ...], profile: str) -> Prediction:
    """Return mean and variance over passes, members or draws of fields fitted to the views.

    (k, 1, n, n). Start and masks are the same in each call, and what was fitted once is kept.
    """
    members = settings(alarm, profile)
    n_samples = 1 if len(members) > 1 else N_SAMPLES

    def find():
        drawn = [train([s] * len(ids), scan, ids, n_samples, one_stream=True)[0] for s in members]
        return ensemble.from_samples(torch.cat(drawn))._asdict()

    about = dict(fields=[s.parameters() for s in members], ids=ids, n_samples=n_samples)
    return Prediction(**kept(f"field-{alarm}", (scan.x, scan.y), find, **about))


def worst_case(setting: Setting, scan: Scan, id: int) -> Tensor:
    """Return r (1, 1, n, n), ||r|| = STRENGTH ||x||, whose A r changes a fitted field most.

    The field has no dropout. A fit is an optimisation of hundreds of steps. It is attacked through
    HORIZONS many steps of plain gradient descent from the fitted weights, linearised there, in
    closed form (`linearised_fit.response`): the top singular vectors of r -> change of the image,
    with either sign. Each of the four is then fitted anew from the usual start; the one that
    changes the image most is kept. A proposal by a linear stand-in is a lower bound of the worst
    case. It is a worst case of the field: of TV there may be one as bad, and TV's result on this
    one does not say that TV is the more stable.
    """
    field = setting.field(id)
    fit_fields(field, scan.A, scan.y, setting.steps, setting.lr)
    field.requires_grad_(False)
    A, generator = scan.A, profiles.generator(setting.seed, f"worst case {id}")
    start = torch.randn(scan.x.shape, generator=generator)

    def proposal(n_steps):
        linear = linearised_fit.response(field, A, n_steps)
        r = linearised_fit.top_direction(
            lambda r: linear.image(A(r)), lambda x: A.adjoint(linear.adjoint(x)), start
        )
        return torch.cat([r, -r])

    r = STRENGTH * scan.x.norm() * torch.cat([proposal(n_steps) for n_steps in HORIZONS])
    anew = Fields.stack([setting.field(id) for _ in r])
    fit_fields(anew, A, scan.y + A(r), setting.steps, setting.lr)
    with torch.no_grad():
        change = anew.render(setting.image_size) - field.render(setting.image_size)
    best = int(norm(change).argmax())
    return r[best : best + 1]


def failures(scan: Scan, ids: tuple[int, ...], setting: Setting) -> Iterator[tuple[Failure, Scan]]:
    """Yield each failure, views in the place of a network's input, and the scan that is fitted.

    Worst case and twin: y + A r, the truth stays. Details: four suits in the phantom, measured with
    it on the fine raster. Fewer views: the same phantom. Only details have a place.
    """
    n = setting.image_size
    each = [scan._replace(x=x[None], y=y[None]) for x, y in zip(scan.x, scan.y)]
    r = torch.cat([_kept_worst_case(setting, s, id) for s, id in zip(each, ids, strict=True)])
    twin = attacks.random_twin(r, profiles.generator(setting.seed, "fields twin"))
    for kind, change in (("worst case", r), ("random twin", twin)):
        y = scan.y + scan.A(change)
        yield Failure(kind, STRENGTH, y, scan.x, None), scan._replace(y=y)
    generators = [profiles.generator(0, f"fields details {id}") for id in ids]
    fine = torch.stack([structure.draw(n, "suits", g)[0] for g in generators])[:, None]
    drawn = phantom_scan(ids, VIEWS, n, added=CONTRAST * fine)
    mask = avg_pool2d(fine, structure.FINER) > 0.5
    yield Failure("details", CONTRAST, drawn.y, drawn.x, mask), drawn
    fewer = phantom_scan(ids, FEWER_VIEWS, n)
    yield Failure("fewer views", FEWER_VIEWS, fewer.y, fewer.x, None), fewer


def _kept_worst_case(setting, scan, id):
    about = dict(field=setting.parameters(), id=id, strength=STRENGTH, horizons=HORIZONS)

    def find():
        return {"r": worst_case(setting, scan, id)}

    return kept("field-r", (scan.x, scan.y), find, **about)["r"]


def run(profile: str = "standard") -> list[dict]:
    """Return the records of each alarm of a field on each failure, stored or computed now.

    Metrics of `alarms.scores` and `alarms.image_auroc`, nested by what they are of: the "failed" or
    "clean" scan, or "tv" on the same views, with a weight from the validation phantoms at 20 views,
    clipped as a sigmoid is. The mask of worst case and twin is where the alarm's own mean changed
    most (5 %); for these also ||change|| / ||r||, of the field and of TV.

    Everything is fitted anew to the changed views; nothing but the views says that something has
    changed. With five validation phantoms the threshold is the largest of their five means: false
    alarms are to be expected in one scan of six. HMC takes hours for each scan and is left out.
    """
    stored = store.records(experiment="alarm", task="ct_field", profile=profile)
    if stored:
        return stored
    size = profiles.stage("field_alarms", profile)
    n, ids = size.image_size, size.test
    validation = phantom_scan(size.validation, VIEWS, n)
    usual_scan = phantom_scan(ids, VIEWS, n)
    weight = _weight(validation, size.n_iter)
    wrong = list(failures(usual_scan, ids, settings("de-5", profile)[0]))
    tv_before = _tv(usual_scan, weight, size.n_iter)
    tv_after = [_tv(changed, weight, size.n_iter) for _, changed in wrong]
    records = []
    for alarm in ALARMS:
        spread = predict(alarm, validation, size.validation, profile).spread
        usual = detection.threshold(spread.flatten(1).mean(1))
        before = predict(alarm, usual_scan, ids, profile)
        for (failure, changed), x_tv in zip(wrong, tv_after):
            after = predict(alarm, changed, ids, profile)
            tv = {
                "psnr_clean_db": metrics.psnr_db(tv_before, usual_scan.x, 1.0),
                "psnr_db": metrics.psnr_db(x_tv, failure.x, 1.0),
            }
            field = {"psnr_db": metrics.psnr_db(after.mean, failure.x, 1.0)}
            if failure.kind in ATTACKS:
                change, r = after.mean - before.mean, STRENGTH * norm(usual_scan.x)
                top = change.abs().flatten(1).quantile(0.95, dim=1).view(-1, 1, 1, 1)
                failure = failure._replace(mask=change.abs() > top)
                field["amplification"] = norm(change) / r
                tv["amplification"] = norm(x_tv - tv_before) / r
            parts = scores(before.spread, after.spread, after.mean, failure, usual)
            parts["failed"] |= field
            parts["clean"]["psnr_db"] = metrics.psnr_db(before.mean, usual_scan.x, 1.0)
            parts["tv"] = tv
            auroc = image_auroc(before.spread, after.spread)
            about = {
                "failure": failure.kind,
                "amount": failure.amount,
                "n_views": changed.y.shape[2],
                "image_size": n,
                "steps": size.steps[ALARMS.index(alarm)],
                "n_members": len(settings(alarm, profile)),
            }
            record = store.record(
                experiment="alarm",
                task="ct_field",
                network="field",
                method=alarm,
                seed=0,
                profile=profile,
                parameters=about,
                inputs=[changed.name],
                metrics={**means(parts), "image_auroc": auroc, "n_images": len(ids)},
            )
            records.append(record)
    store.save_records(records)
    return records


def _weight(validation, n_iter):
    """Return TV's best weight for these scans among `baselines.WEIGHTS`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
        return baselines.tune(baselines.Method("tv", "none", n_iter // 2), validation)[0]


def _tv(scan, weight, n_iter):
    return baselines.solve(baselines.Method("tv", "none", n_iter), scan, weight).clamp(0, 1)
