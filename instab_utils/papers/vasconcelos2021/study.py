"""The INR paper's experiment: fields of many settings on one phantom each, with dropout or Bayes by
backprop, scored as its Table 1.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ... import metrics, profiles, store
from ...fields import scans
from ...fields.fitting import Fitting, fit, samples
from ...networks import Fields
from ...uncertainty import bbb, ensemble

N_SAMPLES = 50
# Vasconcelos et al., Table 1: PSNR, NLL, ECE on validation and on test phantoms; HMC on one phantom
# outside both
PAPER = {
    ("dropout", 5): ((26.15, -1.473, 0.111), (24.45, -1.572, 0.083)),
    ("dropout", 20): ((33.74, 0.701, 0.135), (33.08, 1.093, 0.113)),
    ("bbb", 5): ((23.26, -1.190, 0.152), (22.52, 0.138, 0.203)),
    ("bbb", 20): ((28.25, 1.650, 0.121), (28.16, 0.562, 0.119)),
    ("ensemble-2", 5): ((26.31, -1.730, 0.091), (24.49, -1.774, 0.069)),
    ("ensemble-2", 20): ((33.96, 0.005, 0.136), (33.44, -0.372, 0.102)),
    ("ensemble-5", 5): ((26.44, -1.737, 0.085), (24.88, -1.751, 0.067)),
    ("ensemble-5", 20): ((34.31, -0.364, 0.134), (34.02, -0.625, 0.101)),
    ("ensemble-10", 5): ((26.36, -2.226, 0.075), (24.67, -1.969, 0.068)),
    ("ensemble-10", 20): ((34.38, -0.529, 0.131), (33.86, -0.774, 0.096)),
    ("hmc", 5): (None, (24.87, -1.616, 0.090)),
    ("hmc", 20): (None, (29.12, -1.676, 0.009)),
}


@dataclass(frozen=True)
class Setting:
    """Everything that decides a field but the phantom: a cell of the paper's grid, and what the
    paper leaves out.
    """

    method: str = "dropout"  # or "bbb"; dropout with p = 0 is one image
    n_views: int = 20
    activation: str = "silu"
    depth: int = 3
    width: int = 64
    omega0: float = 5.0
    p: float = 0.2  # dropout
    prior_std: float = 10.0  # bbb, as xi, rho and local
    xi: float = 1e-10
    rho: float = -5.0
    local: bool = False
    masks: str = "pixel"
    steps: int = 1000
    lr: float | None = None  # None: fitting.RATES
    tv: float = 0.0
    n_frequencies: int = 128
    image_size: int = 64
    projector: str = "radon"
    crime: bool = False  # data by the same matrix as the reconstruction
    seed: int = 0

    def __post_init__(self):
        if self.method not in ("dropout", "bbb"):
            raise ValueError(f"Setting expects method 'dropout' or 'bbb'; got {self.method!r}.")


@dataclass(frozen=True)
class Size:
    """How much of the study a profile does."""

    image_size: int
    n_frequencies: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    activations: tuple[str, ...]
    omega0: tuple[float, ...]
    fractions: tuple[float, ...]
    bbb: dict  # axes of the second grid
    # (steps, settings that go on from there), on validation phantom 1
    rungs: tuple[tuple[int, int], ...]
    final_steps: int
    ids: tuple[tuple[int, ...], tuple[int, ...]]  # phantoms for the last choice, and for the result


_ALL = ("relu", "silu", "sine", "softplus", "tanh")
_BBB = dict(
    activation=("relu", "silu", "sine"),
    omega0=(5.0, 10.0),
    prior_std=(10.0, 100.0, 1000.0),
    xi=(1e-10, 1e-5, 0.1),
)
SIZES = {
    "smoke": Size(
        32,
        16,
        (16,),
        (3,),
        ("relu", "silu"),
        (5.0,),
        (0.2,),
        dict(activation=("relu",), xi=(1e-10, 1e-5)),
        ((8, 2),),
        12,
        ((1,), (6,)),
    ),
    "standard": Size(
        64,
        128,
        (16, 64),
        (3, 6),
        _ALL,
        (1.0, 5.0, 10.0, 15.0),
        (0.2, 0.5, 0.8),
        {**_BBB, "width": (64,), "depth": (3,)},
        ((200, 40), (600, 10)),
        1000,
        (scans.VALIDATION, scans.TEST),
    ),
    "paper": Size(
        256,
        363,
        (16, 64, 256, 1024),
        (3, 6, 9),
        _ALL,
        (1.0, 5.0, 10.0, 15.0),
        (0.2, 0.5, 0.8),
        {
            **_BBB,
            "activation": _ALL,
            "omega0": (1.0, 5.0, 10.0, 15.0),
            "width": (16, 64, 256, 1024),
            "depth": (3, 6, 9),
        },
        ((1000, 120), (4000, 10)),
        15000,
        (scans.VALIDATION, scans.TEST),
    ),
}


def grid(method: str, n_views: int, profile: str = "standard") -> list[dict]:
    """The settings that the profile tries, as parameters of `trial`: 720 and 2160 a view count in
    the paper, fewer here.
    """
    size = SIZES[profile]
    axes = {
        "activation": size.activations,
        "depth": size.depths,
        "width": size.widths,
        "omega0": size.omega0,
    }
    axes = {**axes, "p": size.fractions} if method == "dropout" else {**axes, **size.bbb}
    fixed = {
        "method": method,
        "n_views": n_views,
        "image_size": size.image_size,
        "n_frequencies": size.n_frequencies,
    }
    return [
        {**fixed, **dict(zip(axes, values, strict=True))}
        for values in itertools.product(*axes.values())
    ]


def field(setting: Setting, id: int) -> Fields:
    """The untrained field of that phantom: own frequencies and weights, whichever other fields are
    made.
    """
    p = setting.p if setting.method == "dropout" else 0.0
    return Fields(
        1,
        setting.width,
        setting.depth,
        setting.activation,
        setting.omega0,
        setting.n_frequencies,
        p,
        setting.masks,
        profiles.generator(setting.seed, f"field {id}"),
    )


def train(
    setting: Setting, scan: scans.Scan, id: int, record: Sequence[int] = ()
) -> tuple[torch.Tensor, Fitting]:
    """(N_SAMPLES images (N_SAMPLES, 1, 1, n, n), how the fit went) of one scan; a field without
    dropout gives one image, repeated.
    """
    return train_stack([setting], scan, [id], record)


def train_stack(
    settings: Sequence[Setting],
    scan: scans.Scan,
    ids: Sequence[int],
    record: Sequence[int] = (),
    n_samples: int = N_SAMPLES,
) -> tuple[torch.Tensor, Fitting]:
    """`train` of one field for each setting and id; on a GPU where there is one. The scan has one
    image, or one for each field.
    """
    first, device = settings[0], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    members = [field(s, id) for s, id in zip(settings, ids, strict=True)]
    each = lambda name: torch.tensor([getattr(s, name) for s in settings], device=device)
    net = (members[0] if len(members) == 1 else Fields.stack(members)).to(device)
    if first.method == "bbb":
        net = bbb.BayesByBackprop(net, each("prior_std"), first.rho, first.local)
    draws = profiles.generator(first.seed, f"field {ids[0]} draws", device)
    fitting = fit(
        net,
        scan.A.to(device),
        scan.y.to(device),
        first.steps,
        first.lr,
        tv=first.tv,
        xi=each("xi"),
        generator=draws,
        record=record,
    )
    return samples(net, first.image_size, n_samples, draws).cpu(), fitting


def scan_of(setting: Setting, ids) -> scans.Scan:
    """The views of these phantoms that a setting asks for."""
    return scans.phantom_scan(
        ids, setting.n_views, setting.image_size, setting.projector, setting.crime
    )


def passes(setting: Mapping, id: int) -> dict[str, object]:
    """Return the samples of `train` on phantom `id` in float16, and the seconds of training."""
    setting = Setting(**setting)
    found, fitting = train(setting, scan_of(setting, id), id)
    return {"samples": found.half(), "seconds": fitting.seconds}


def cached_passes(setting: Mapping, id: int) -> dict[str, object]:
    """Return `passes`, computed once."""
    parameters = {"setting": whole(setting), "id": id}
    return store.cached_arrays("inr-passes", parameters, passes, version=1)


def trial(ids: Sequence[int] = (1,), **setting) -> dict[str, object]:
    """One job of a sweep: fields of this setting on these phantoms; `score`'s means over phantoms,
    and the seconds of training.

    Args:
        ids: phantoms, validation 1 to 5 for any choice.
        setting: fields of `Setting`.
    """
    found = [cached_passes(setting, id) for id in ids]
    scores = score(
        torch.cat([f["samples"] for f in found], 1).float(), scan_of(Setting(**setting), tuple(ids))
    )
    return {**_means(scores), "training_s": sum(f["seconds"] for f in found)}


BATCHED = (
    "method",
    "n_views",
    "activation",
    "depth",
    "width",
    "rho",
    "local",
    "masks",
    "steps",
    "lr",
    "tv",
    "n_frequencies",
    "image_size",
    "projector",
    "crime",
    "seed",
)
"""What the settings of a stack must share; omega0, p, prior_std and xi may differ."""


def batched(settings: Sequence[Mapping]) -> list[dict[str, object]]:
    """`trial` of many settings that agree in `BATCHED`, all fields in one stack, as a sweep asks
    for with `batch_by`.

    On a GPU small fields cost what one costs. They start as they would alone; masks and draws come
    from one stream for the whole stack, so that results with dropout are those of another seed.
    """
    made = [
        (Setting(**{k: v for k, v in s.items() if k != "ids"}), tuple(s.get("ids", (1,))))
        for s in settings
    ]
    flat = [(s, id) for s, ids in made for id in ids]
    if len({tuple(getattr(s, name) for name in BATCHED) for s, _ in flat}) != 1:
        raise ValueError(f"batched expects settings that agree in {', '.join(BATCHED)}.")
    scan = scan_of(flat[0][0], [id for _, id in flat])
    drawn, fitting = train_stack([s for s, _ in flat], scan, [id for _, id in flat])
    found, start = [], 0
    for _, ids in made:
        these = slice(start, start := start + len(ids))
        scores = score(drawn[:, these], scan._replace(x=scan.x[these], y=scan.y[these]))
        found.append({**_means(scores), "training_s": fitting.seconds * len(ids) / len(flat)})
    return found


def _means(scores: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in scores.items()}


trial.batched = batched
trial.__signature__ = inspect.Signature(  # so that a sweep can check a plan before it starts
    [
        inspect.Parameter("ids", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=(1,)),
        *(
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default)
            for f in dataclasses.fields(Setting)
        ),
    ]
)


def score(drawn: torch.Tensor, scan: scans.Scan) -> dict[str, torch.Tensor]:
    """What Table 1 has and what it should have, for each image: samples (n_samples, k, 1, n, n) ->
    name: (k,).

    psnr_db of their mean (peak 1) and psnr_sample_db of a single one; nll of a Gaussian with their
    mean and variance; ece at delta = 0, ece_tuned with the delta that fits the truth best, as
    published; ece_interior, coverage_interior (of the central 90 %) on pixels strictly between 0
    and 1 only; residual ||A mean - y|| / ||y||; correlation of their std with |error|.
    """
    prediction, x = ensemble.from_samples(drawn), scan.x
    inside = scans.interior(x)
    level = metrics.reliability(drawn, x, levels=[0.9], where=inside).coverage[:, 0]
    return {
        "psnr_db": metrics.psnr_db(prediction.mean, x, 1.0),
        "psnr_sample_db": torch.stack([metrics.psnr_db(image, x, 1.0) for image in drawn]).mean(0),
        "nll": metrics.gaussian_nll(prediction.mean, prediction.spread, x),
        "ece": metrics.calibration_error(drawn, x),
        "ece_tuned": metrics.tuned_calibration_error(drawn, x)[0],
        "ece_interior": metrics.calibration_error(drawn, x, where=inside),
        "coverage_interior": level,
        "residual": scans.residual(scan.A, prediction.mean, scan.y),
        "correlation": metrics.pearson(prediction.spread.sqrt(), (prediction.mean - x).abs()),
    }


def final_row(method: str, settings: Sequence[Mapping], split: str, profile: str) -> dict:
    """The record of a method on the validation or test phantoms: one setting, or N of them pooled
    to a deep ensemble.
    """
    size, first = SIZES[profile], Setting(**settings[0])
    ids = size.ids[split == "test"]
    scan = scan_of(first, ids)

    def compute():
        drawn = [
            torch.cat([cached_passes(member, id)["samples"].float() for id in ids], 1)
            for member in members
        ]
        scores = score(drawn[0] if len(drawn) == 1 else ensemble.pooled(drawn, N_SAMPLES), scan)
        found = {}
        for name, values in scores.items():
            found[name] = metrics.bootstrap_ci(values, profiles.generator(0, f"field {name}"))
            found[f"{name}_each"] = values.tolist()
        return found

    paper = PAPER.get((method, first.n_views))
    value = paper and paper[split == "test"]
    members = [whole(setting) for setting in settings]
    about = (
        members[0]
        if len(members) == 1
        else {"n_views": first.n_views, "image_size": first.image_size, "members": members}
    )
    return store.cached(
        compute,
        experiment="inr",
        task="inr_ct",
        network="inr",
        method=method,
        seed=first.seed,
        profile=profile,
        parameters={"split": split, **about},
        inputs=[scan.name],
        paper=value
        and {
            "source": "vasconcelos",
            "where": "Table 1",
            "value": value[0],
            "nll": value[1],
            "ece": value[2],
        },
    )


def whole(setting: Mapping) -> dict[str, object]:
    """All fields of a setting, the usual ones filled in: one name in the store, however it was
    asked for.
    """
    return dataclasses.asdict(Setting(**setting))


def distinct(settings: Sequence[Mapping], n: int) -> list[Mapping]:
    """The first n settings with different architectures: seeds, steps and learning rates do not
    count.
    """
    found, seen = [], set()
    for setting in settings:
        s = Setting(**setting)
        name = (s.method, s.activation, s.depth, s.width, s.omega0, s.p)
        if name not in seen and len(found) < n:
            seen.add(name)
            found.append(setting)
    return found


def best_records(n_views: int, profile: str) -> dict[tuple[str, str], dict]:
    """Table 1 from records: {(method, "validate" or "test"): record}; of a method's settings the
    one best on validation phantoms.
    """
    by_method, found = {}, {}
    for r in store.records(experiment="inr", task="inr_ct", network="inr", profile=profile):
        about = r["parameters"]
        if about.get("n_views") == n_views and "split" in about and "data" not in about:
            same = store.key(**{name: value for name, value in about.items() if name != "split"})
            by_method.setdefault(r["method"], {}).setdefault(same, {})[about["split"]] = r
    for method, settings in by_method.items():
        whole = [s for s in settings.values() if {"validate", "test"} <= set(s)]
        if whole:
            best = max(whole, key=lambda s: s["validate"]["metrics"]["psnr_db"])
            found |= {(method, split): r for split, r in best.items()}
    return found
