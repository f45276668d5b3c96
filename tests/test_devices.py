"""Every long computation on a simulated CUDA device: no operand astray, few waits for the device."""

import copy
import dataclasses
import inspect
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import small
import torch
from simulated_cuda import simulated_cuda

from instab_utils import attacks, audit, metrics, profiles, shifts, solvers, store, training
from instab_utils.data import image_pools
from instab_utils.fields import fit_fields, linearised_fit, phantom_scan, samples
from instab_utils.fields.posterior import Posterior
from instab_utils.networks import Case, DnCNN, Fields, LimitedAngleUNet
from instab_utils.operators import FourierSlice, Identity, measured_finely
from instab_utils.papers import artefacts
from instab_utils.papers.__main__ import run as run_paper
from instab_utils.papers.antun2020 import sampling
from instab_utils.papers.oala2021 import alarms, changes
from instab_utils.papers.oala2021 import detectors as table1_detectors
from instab_utils.papers.vasconcelos2021 import field_alarms, linear_field
from instab_utils.stability import more_samples, structure, worst_case
from instab_utils.training import trainings
from instab_utils.uncertainty import (
    NULL_DETECTORS,
    BayesByBackprop,
    IntervalNetwork,
    MCDropout,
    MeanVariance,
    NullDetector,
    detection,
    ensemble,
    fit_recipe,
    hmc,
)
from instab_utils.uncertainty.leapfrog import leapfrog

N = 32
CUDA = torch.device("cuda")
PATHS = {}
RECIPES = tuple(trainings.CLASSES)


def path(name, *parameters):
    """Register a function (gpu, *parameters, **fixtures) as one path for each parameter."""

    def register(function):
        for values in parameters or [()]:
            values = values if isinstance(values, tuple) else (values,)
            PATHS[" ".join([name, *map(str, values)])] = function, values
        return function

    return register


def seeded(stream):
    return profiles.generator(0, stream)


def image(n=N, batch=1, complex_=False):
    dtype = torch.complex64 if complex_ else torch.float32
    return torch.rand(batch, 1, n, n, generator=seeded("image"), dtype=dtype).to(CUDA)


def network(name="dncnn"):
    net = trainings.build(training.recipe(name, "smoke"), "cuda")
    return net.requires_grad_(False).eval()


def case(name, n_images=1):
    """A case of an untrained network of the smoke profile, on the device."""
    recipe = training.recipe(name, "smoke")
    what = training.task(name, recipe.image_size, "cuda")
    images, source = training.test_images(what, n_images)
    y, x, A = what.measure(images, None if what.fresh_masks else seeded("noise"))
    net = network(name)
    return Case(name, name, what.task, A, x, y, net.reconstruct, source, 1e-3, net, None, 3, 2)


@path("training", *RECIPES)
def train(gpu, name, tmp_path):
    recipe = training.recipe(name, "smoke", steps=4, every=2, batch_size=2)
    where = tmp_path / "checkpoint.safetensors"
    for _ in range(2):
        trained, _ = trainings.train(recipe, "cuda", where, False, save_s=0.0)
        assert next(trained.parameters()).is_cuda


@path("fit", "interval", "probout")
def fit(gpu, method, tmp_path):
    spec = fit_recipe(method, "dncnn", 0, "smoke", steps=4)
    for _ in range(2):
        model, _ = spec.train("cuda", tmp_path / "checkpoint.safetensors", False, save_s=0.0)
        assert next(model.parameters()).is_cuda


OPERATORS = {**small.operators(15), "slices": FourierSlice(15, torch.arange(8) * 22.5)}


@path("operator", *OPERATORS)
def operator(gpu, kind):
    A = copy.copy(OPERATORS[kind]).to("cuda")
    assert A.device.type == "cuda"
    x = image(15, complex_=A.is_complex).requires_grad_()
    for back in (A.adjoint, A.pinv):
        (slope,) = torch.autograd.grad(back(A(x)).abs().square().sum(), x, create_graph=True)
        torch.autograd.grad(slope.abs().square().sum(), x)
        assert slope.is_cuda
    A.norm()
    if "radon" in kind:
        A.storage = "csr"
        A.adjoint(A(x))
        measured_finely(image(30), A)
        assert A.fbp(y, "hann", measured=[True] * 4 + [False] * 4).is_cuda


SOLVERS = {
    "fbp": lambda A, y: solvers.fbp(A, y),
    "cgls": lambda A, y: solvers.cgls(A, y, 2),
    "sirt": lambda A, y: solvers.sirt(A, y, 2),
    "sart": lambda A, y: solvers.sart(A, y, 2),
    "em": lambda A, y: solvers.em(A, y, 2),
    "tv": lambda A, y: solvers.tv(A, y, 1e-3, n_iter=2),
    "tgv": lambda A, y: solvers.tgv(A, y, 1e-3, n_iter=2),
    "wavelet": lambda A, y: solvers.wavelet(A, y),
    "shearlet": lambda A, y: solvers.shearlet(A, y, noise_level=0.1),
}
LINES = ("fbp", "sart", "em")


@path("solver", *SOLVERS)
def solver(gpu, name):
    for kind in ("radon",) if name in LINES else ("identity", "mask", "coils", "radon"):
        if name == "shearlet":
            A = small.operators(32)[kind].to("cuda")
        else:
            A = small.operators(16)[kind].to("cuda")
        x = image(A.image_shape[0], batch=2, complex_=A.is_complex)
        y = solvers.add_noise(A(x), 0.1, seeded("noise"))
        assert SOLVERS[name](A, y).x.is_cuda


@path("solver choose_weight")
def choose_weight(gpu):
    A = small.operators(16)["radon"].to("cuda")
    x = image(16, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solvers.choose_weight(A, x, (1e-3, 1e-2), y_validation=A(x), n_iter=2)


def estimator(name):
    net = network()
    if name == "interval":
        return IntervalNetwork.from_network(net, 3).to("cuda").widen_(0.01)
    if name == "dropout":
        return MCDropout(net, 4, seeded("masks"))
    if name == "dropout unet":
        return MCDropout(network("unet-limited"), 4, seeded("masks"), masks="fresh")
    if name == "probout":
        return MeanVariance.from_network(net, generator=seeded("output"))
    return NullDetector(name, net, seeded("null"))


@path("estimator", "interval", "dropout", "dropout unet", "probout", *NULL_DETECTORS)
def predict(gpu, name):
    x = image(batch=2)
    before, after = (estimator(name).predict(x_in) for x_in in (x, x + 0.01))
    assert all(part.is_cuda for part in before)
    mask = x > 0.5
    detection.twin_scores(before, after, (after.mean - before.mean).abs(), mask, 7)
    detection.lone_scores(before.spread, mask, detection.threshold(before.spread))
    detection.calibration(before, x)


@path("scores")
def score(gpu):
    x, x_rec = image(batch=2), image(batch=2) ** 2
    metrics.psnr_db(x_rec, x)
    metrics.ssim(x_rec, x)
    metrics.mean_ci(metrics.relative_error(x_rec, x))
    metrics.bootstrap_ci(metrics.psnr_db(x_rec, x), seeded("bootstrap"))
    drawn = torch.stack([x_rec, x, x_rec * 0.9])
    metrics.reliability(drawn, x, where=x > 0.1)


@path("attack", *[(kind, algorithm) for kind in ("dncnn", "ell-50", "deep-mri") for algorithm in (1, 2)])
def worst(gpu, name, algorithm):
    c = case(name, 2)
    ascent = attacks.Ascent(algorithm=algorithm, method="heavy-ball" if algorithm == 1 else "sphere")
    found = worst_case.attack(
        c.f, c.A, c.attacked, c.y, generator=seeded("r"), n_iter=4, ascent=ascent
    )
    found.psnr_db(0.02)


@path("attack measurement")
def measurement(gpu):
    c = case("deep-mri")
    attacks.measurement_attack(c.f, c.y, generator=seeded("e"), n_iter=4)


@path("attack targeted", "noise", "dark")
def targeted(gpu, kind):
    x, f = image(batch=2), network()
    target, _ = attacks.patch_target(f(x), kind, seeded("patch"))
    attacks.targeted(f, x, target, n_evaluations=6)


@path("attack black box")
def black_box(gpu):
    c = case("dncnn")
    options = dict(strengths=(0.01, 0.05), n_calls=20, generator=seeded("box"))
    audit.blackbox.search(c.f, c.A, c.x, c.y, starts=[c.x], **options)


@path("attack controls")
def controls(gpu):
    c = case("ell-50")
    r = 0.01 * torch.ones_like(c.x)
    attacks.amplification(c.f, c.A, c.x, r)
    attacks.random_twin(r, seeded("twin"), 2)
    attacks.gaussian_plus(r, c.A, seeded("plus"))


CASES = ("dncnn", "unet-limited", "ell-50", "med-50", "automap", "dagan", "deep-mri", "mri-vn")
SIZE = SimpleNamespace(
    **{**vars(profiles.stage("stability", "smoke")), "ascent": 2, "n_twins": 1, "n_near": 2}
)


@path("test 1", *CASES)
def tiny_changes(gpu, name):
    c = case(name)
    worst_case.measure(c, SIZE)
    if name in ("dncnn", "deep-mri"):
        worst_case.measure(c, SIZE, "truth")
        worst_case.measure(c, SIZE, domain="measurement")
        worst_case.neighbourhood(c, SIZE, 0.05)


@path("test 2", *CASES)
def details(gpu, name):
    c = case(name)
    if name == "automap":  # its images are too small for suits
        return
    structure.structure(c, 1)


@path("test 3", *[name for name in CASES if name not in sampling.EXCLUDED])
def samples_more(gpu, name):
    c = case(name)
    more_samples.more_samples(c, list(sampling.rates(c)))


@path("shift")
def shift(gpu):
    x = image(batch=2)
    assert shifts.salt_and_pepper_half(x, x, seeded("salt")).x.is_cuda
    assert shifts.dove(x, seeded("dove")).mask.is_cuda


def field(n=1, **options):
    return Fields(8, 2, "relu", [5.0] * n, 8, generator=seeded("field"), **options).to("cuda")


def scan():
    one = phantom_scan((1,), 5, 16)
    return one._replace(x=one.x.to(CUDA), A=one.A.to("cuda"), y=one.y.to(CUDA))


@path("field", "plain", "dropout", "bbb", "sine")
def fit_field(gpu, kind):
    net = field(2, dropout=0.2 if kind == "dropout" else 0.0)
    net = BayesByBackprop(net) if kind == "bbb" else net
    s, draws = scan(), profiles.generator(0, "draws", "cuda")
    fit_fields(net, s.A, s.y, 4, generator=draws, xi=1e-5, record=(0, 4))
    drawn = samples(net, 16, 3, draws)
    ensemble.from_samples(drawn)
    Fields.stack([field(), field()])


@path("field linearised")
def linearised(gpu):
    s = scan()
    response = linearised_fit.response(field(), s.A, 10)
    start = torch.randn(s.x.shape, generator=seeded("start")).to(CUDA)
    linearised_fit.top_direction(
        lambda r: response.image(s.A(r)), lambda x: s.A.adjoint(response.adjoint(x)), start, 3
    )


@path("field posterior")
def posterior(gpu):
    target = Posterior(field(), phantom_scan((1,), 5, 16), 0.05)
    theta = target.fields.flat().repeat(2, 1)
    target.descend(theta, 3)
    assert target.image(theta).is_cuda


@path("hmc")
def chains(gpu, tmp_path):
    target = Posterior(field(), phantom_scan((1,), 5, 16), 0.05)
    start = target.fields.flat().repeat(2, 1)
    for n_samples in (3, 5):  # the second goes on from the first
        hmc.sample(
            target.log_density,
            start,
            n_samples,
            hmc.HMCOptions(3, 3, mass=target.prior_precision),
            generator=seeded("chains"),
            track=target.image,
            checkpoint=tmp_path / "chains.safetensors",
            progress=False,
        )


@path("hmc linear field")
def linear_chains(gpu):
    one = linear_field.LinearField(5, n_frequencies=8, n=16)
    one.chains(0, 3, hmc.HMCOptions(2, 3))


AUDITED = {
    "dncnn": lambda c: (c.network, c.A, c.x),
    "ell-50": lambda c: (c.f, c.A, c.x),
    "deep-mri": lambda c: (c.network.reconstruct, c.A, c.x),
    "unet-limited": lambda c: (audit.post_processor(c.network, c.A), c.A, None),
}


@path("audit", *[(name, access) for name in AUDITED for access in ("auto", "black box")])
def audited(gpu, name, access, tmp_path):
    f, A, x = AUDITED[name](case(name))
    options = audit.AuditOptions(profile="smoke", access=access, say=None)
    for _ in range(2):
        card = audit.run(f, A, x, folder=tmp_path, options=options)
        assert not card["failures"], card["failures"]
    assert card["worst_case"] and card["bracket"]


@path("audit functions")
def audited_functions(gpu):
    A = small.operators(N)["radon"].to("cuda")
    own = audit.operator(A.forward, A.adjoint, N, device="cuda")
    f = audit.post_processor(network(), A)
    card = audit.run(lambda y: f(y), own, options=audit.AuditOptions(profile="smoke", say=None))
    assert not card["failures"]


PAPERS = [
    *[("antun2020", name, only) for name in ("worst-cases", "fig5-details") for only in ("dncnn", "mri-vn")],
    ("antun2020", "fig5-samples", "ell-50"),
    ("antun2020", "fig2", "deep-mri"),
    ("oala2021", "table1", "denoising"),
    ("oala2021", "table1", "ct_limited"),
    ("oala2021", "alarms", "denoising"),
    ("oala2021", "alarms", "ct_limited"),
    ("oala2021", "sweep", None),
    ("vasconcelos2021", "table1", "5"),
    ("vasconcelos2021", "hmc", "5"),
    ("vasconcelos2021", "baselines", None),
    ("vasconcelos2021", "explorer", "5"),
    ("vasconcelos2021", "real_data", None),
    ("vasconcelos2021", "field_alarms", None),
]


@path("papers", *PAPERS)
def paper(gpu, paper, name, only, monkeypatch):
    run_paper(paper, name, "smoke", only and [only])


def main():
    import os, sys, tempfile, time, traceback
    from pathlib import Path
    os.environ["INSTAB_OFFLINE"] = "1"
    os.environ["INSTAB_DATA"] = "/tmp/nodata"
    os.environ["INSTAB_RESULTS"] = "/tmp/simres"
    draw = image_pools._real_or_phantoms
    image_pools._real_or_phantoms = lambda kind, size, split, n=None: draw(kind, size, split, n or 40)
    pick = sys.argv[1:]
    for name, (function, values) in PATHS.items():
        if pick and not any(name.startswith(p) for p in pick):
            continue
        t = time.time()
        extra = {k: {"tmp_path": Path(tempfile.mkdtemp()), "monkeypatch": None}[k] for k in list(inspect.signature(function).parameters)[1 + len(values):]}
        try:
            with simulated_cuda() as gpu:
                function(gpu, *values, **extra)
            print(f"OK   {name} {time.time()-t:.1f}s syncs {len(gpu.syncs)} copies {len(gpu.copies)}")
            if os.environ.get("V"):
                for k, n in gpu.count().most_common(25): print("      ", n, k)
        except Exception as e:
            print(f"FAIL {name} {time.time()-t:.1f}s")
            tb = traceback.extract_tb(e.__traceback__)
            for f in tb:
                if ("instab_utils" in f.filename or "tests/" in f.filename) and "simulated_cuda" not in f.filename: print("      ", f.filename.split("simulator/")[-1], f.lineno, f.line)
            print("      ", type(e).__name__, str(e)[:500])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
