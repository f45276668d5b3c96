"""Every long computation on a simulated CUDA device: nothing astray, few waits for the device."""

import copy
import dataclasses
import inspect
import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import small
import torch
from simulated_cuda import simulated_cuda
from torch.optim.optimizer import register_optimizer_step_post_hook

from instab_utils import attacks, audit, metrics, profiles, shifts, solvers, store, training
from instab_utils.data import image_pools, textures
from instab_utils.fields import fit_fields, linearised_fit, phantom_scan, samples, scans
from instab_utils.fields.posterior import Posterior
from instab_utils.networks import Fields
from instab_utils.operators import FourierSlice, measured_finely
from instab_utils.papers.__main__ import run as run_paper
from instab_utils.papers.antun2020 import sampling
from instab_utils.papers.oala2021 import changes, shipped_fits
from instab_utils.papers.oala2021 import table1 as table1_oala
from instab_utils.papers.vasconcelos2021 import linear_field, real_data, table1
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
    """A case of an untrained network, on the default device: this one."""
    size = 24 if name == "dncnn" else None
    built = training.case(name, "smoke", n_images, image_size=size, tv=False)
    return dataclasses.replace(built, tv_weight=1e-3)


@path("training", *RECIPES)
def train(gpu, name, tmp_path):
    recipe = training.recipe(name, "smoke", steps=4, every=2, batch_size=2)
    where = tmp_path / "checkpoint.safetensors"
    for _ in range(2):
        trained, _ = trainings.train(recipe, "cuda", where, False, save_s=0.0)
        assert next(trained.parameters()).is_cuda


PUBLISHED = {
    "med-50": ("clipped-sgd", {"momentum": 0.99, "limit": 0.01}),
    "automap": ("rmsprop", {"alpha": 0.9}),
    "dagan": ("adam", {"betas": (0.5, 0.999)}),
}
"""Optimisers of the papers, where they are others than at smoke."""


@path("training as published", *PUBLISHED)
def train_as_published(gpu, name):
    optimiser, options = PUBLISHED[name]
    changes = dict(optimiser=optimiser, options=options, lr=1e-4, steps=3, every=3, batch_size=2)
    trainings.train(training.recipe(name, "smoke", **changes), "cuda", progress=False)


@path("training by IPALM")
def train_by_ipalm(gpu):
    changes = dict(optimiser="ipalm", options={"momentum": 0.7}, steps=2, every=2, batch_size=2)
    trainings.train(training.recipe("mri-vn", "smoke", lr=1.0, **changes), "cuda", progress=False)


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
        assert A.fbp(A(x), "hann", measured=[True] * 4 + [False] * 4).is_cuda


SOLVERS = {
    "fbp": lambda A, y: solvers.fbp(A, y),
    "cgls": lambda A, y: solvers.cgls(A, y, 2),
    "sirt": lambda A, y: solvers.sirt(A, y, 2),
    "sart": lambda A, y: solvers.sart(A, y, 2),
    "em": lambda A, y: solvers.em(A, y, 2),
    "tv": lambda A, y: solvers.tv(A, y, 1e-3, n_iter=2),
    "tgv": lambda A, y: solvers.tgv(A, y, 1e-3, n_iter=2),
    "wavelet": lambda A, y: solvers.wavelet(A, y, n_iter=3),
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


@path(
    "attack",
    *[(kind, algorithm) for kind in ("dncnn", "ell-50", "deep-mri") for algorithm in (1, 2)],
)
def worst(gpu, name, algorithm):
    c = case(name, 2)
    ascent = attacks.Ascent(
        algorithm=algorithm, method="heavy-ball" if algorithm == 1 else "sphere"
    )
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
    worst = worst_case.search(c.f, c, 0, SIZE)
    own = worst_case.own_search(c, 0, SIZE)
    worst_case.average([worst_case.effects(c, 0, SIZE, worst, own)])
    if name in ("dncnn", "deep-mri"):
        worst_case.search(c.f, c, 0, SIZE, "truth")
        e = worst_case.search(c.f, c, 0, SIZE, domain="measurement")
        worst_case.effects(c, 0, SIZE, e, domain="measurement")
        worst_case.rarity([worst_case.around(c, 0, worst[0.05], 0.05, 2)], 2)


@path("test 2", *CASES)
def details(gpu, name):
    c = case(name)
    if name == "automap":  # its images are too small for suits
        return
    structure.average([structure.shown_details(c, 0, 1)])


@path("test 3", *[name for name in CASES if name not in sampling.EXCLUDED])
def samples_more(gpu, name):
    c = case(name)
    rates = list(sampling.rates(c))
    psnrs = [more_samples.at_rate(c, rate) for rate in rates]
    more_samples.trend([(rate.share, rate.n_samples) for rate in rates], psnrs)


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


@path("audit", *[(name, "auto") for name in AUDITED], ("ell-50", "black box"))
def audited(gpu, name, access, tmp_path):
    f, A, x = AUDITED[name](case(name))
    options = audit.AuditOptions(profile="smoke", access=access, say=None)
    for _ in range(1 + (name == "dncnn")):  # the second time from what is stored
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
    *[("antun2020", "worst-cases", name) for name in ("dncnn", "mri-vn")],
    ("antun2020", "fig5-details", "unet-limited"),
    ("antun2020", "fig5-samples", "ell-50"),
    ("antun2020", "fig2", "deep-mri"),
    ("oala2021", "table1", "ct_limited"),
    *[("oala2021", "alarms", task) for task in changes.NETWORKS],
    ("oala2021", "sweep", None),
    ("vasconcelos2021", "hmc", "5"),
    ("vasconcelos2021", "baselines", None),
    ("vasconcelos2021", "real_data", None),
    ("vasconcelos2021", "field_alarms", None),
]


@path("papers", *PAPERS)
def paper(gpu, name, artefact, only):
    records = run_paper(name, artefact, "smoke", only and [only])
    assert records


@path("papers vasconcelos2021 sweep")
def sweep(gpu):
    _, table = table1.best_settings("bbb", 5, "smoke", workers=0)
    assert "failed" not in set(table.status)


@path("papers vasconcelos2021 table1")
def fields_table(gpu):
    assert table1.table(5, "smoke", workers=0)


@path("papers vasconcelos2021 explorer")
def explorer(gpu):
    table1.explorer("smoke", ["5"], workers=0)


# -- all of them


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the initial weights of every network and fit, and small pools of images."""
    folder = tmp_path_factory.mktemp("devices")
    draw = image_pools._real_or_phantoms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            image_pools,
            "_real_or_phantoms",
            lambda kind, size, split, n=None: draw(kind, size, split, n or 40),
        )
        patch.setenv("INSTAB_OFFLINE", "1")
        patch.setenv("INSTAB_DATA", str(folder / "no data"))
        patch.setenv("INSTAB_RESULTS", str(folder))
        patch.setenv("INSTAB_BOOK", "1")  # no bars
        patch.setattr(table1_oala, "SEEDS", (0,))
        patch.setattr(textures, "dead_leaves", lambda n, size, generator: noise(n, size, generator))
        specs = [training.recipe(name, "smoke") for name in RECIPES]
        for spec in [*specs, *shipped_fits("smoke")]:
            save_initial(spec)
        yield folder


@pytest.fixture(scope="module")
def prepared(weights):
    """The folder of weights, while all sizes are the smallest."""
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, "stability", n_iter=3, unrolled=2, ascent=2, n_twins=1, n_near=2)
        patch.setattr(real_data, "tooth_scan", lambda n, _: phantom_scan((1,), n, 24))
        patch.setattr(scans, "RASTER", 96)
        set_sizes(patch, "baselines", share=0.01, scans=((24, False),))
        set_sizes(patch, "field_alarms", n_iter=2, steps=(2, 2, 2), image_size=24, test=(6,))
        set_sizes(patch, "hmc", image_size=24, map_steps=3, n_warmup=2, n_steps=2)
        set_sizes(patch, "inr", image_size=24, final_steps=4)
        set_sizes(patch, "real_data", share=0.01, steps=3, image_size=24)
        set_sizes(patch, "audit", n_calls=16, n_passes=2)
        set_sizes(
            patch, "detection", image_size=32, n_evaluations=2, n_passes_denoising=2, n_passes_ct=2
        )
        scans._clipped.cache_clear()  # of images on this raster
        yield weights
        scans._clipped.cache_clear()


def noise(n, size, generator):
    return torch.rand(n, 1, size, size, generator=generator)


def set_sizes(patch, stage, **sizes):
    rows = profiles.STAGES[stage]
    for name, value in sizes.items():
        patch.setitem(rows, name, rows[name]._replace(smoke=value))


def save_initial(spec):
    about = dict.fromkeys(("architecture", "data", "licence", "device"), "")
    about |= dict.fromkeys(("steps", "seed", "seconds"), 0) | {"validation": {"psnr_db": 0.0}}
    about["curve"] = [{"step": 1, "loss": 1.0, "validation_db": 0.0}]
    built = spec.build("cpu")
    if isinstance(built, IntervalNetwork):
        built.widen_(0.01)
    state = built.state_dict()
    store.save_weights(spec.weights, state, {**about, "key": spec.key, "half": False})


@pytest.fixture
def steps():
    """For every optimiser the waits so far at the end of each step, those of checkpoints apart."""
    counts = defaultdict(list)
    logs = []

    def note(optimiser, *_):
        waits = [event for event in logs[0].syncs if "store/tensors.py" not in event.where]
        counts[id(optimiser)].append(len(waits))

    hook = register_optimizer_step_post_hook(note)
    yield logs, counts
    hook.remove()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.filterwarnings("ignore:best weight:UserWarning")
def test_path(name, prepared, tmp_path, steps):
    function, values = PATHS[name]
    logs, counts = steps
    extra = [tmp_path] if "tmp_path" in inspect.signature(function).parameters else []
    with simulated_cuda() as gpu:
        logs.append(gpu)
        function(gpu, *values, *extra)
    for marks in counts.values():
        waits = [after - before for before, after in zip(marks, marks[1:])]
        most = 4 if "IPALM" in name else 1  # its line search waits for each try
        assert not waits or min(waits) <= most, gpu.waits()[:20]


def attacked(n_steps):
    c = case("dncnn", 2)
    options = dict(generator=seeded("r"), n_iter=n_steps, ascent=attacks.Ascent(step=1e-3))
    attacks.worst_case(c.f, c.A, c.x, strengths=(1e9,), **options)


def aimed(n_steps):
    x, f = image(batch=2), network()
    attacks.targeted(f, x, f(x) / 2, n_evaluations=n_steps)


def fitted(n_steps):
    s = scan()
    fit_fields(field(), s.A, s.y, n_steps)


@pytest.mark.parametrize("run", [attacked, aimed, fitted], ids=lambda run: run.__name__)
def test_a_step_waits_at_most_once(run, prepared):
    waits = []
    for n_steps in (4, 8):
        with simulated_cuda() as gpu:
            run(n_steps)
        waits.append(len(gpu.syncs))
    assert waits[1] - waits[0] <= 4, gpu.waits()
