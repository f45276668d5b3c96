# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What stable looks like
#
# *The methods that the three papers compare networks with: FBP, CGLS, EM, SART and SIRT (Vasconcelos et al., Table 1;
# driver `python -m instab_utils.papers vasconcelos2021 baselines`), and sparse solvers (Antun et al., SI).*
#
# **What you will see**
# - Six classical answers to one sparse CT scan, from filtered back-projection to total variation, on real slices.
# - What noise does to each of them: how more work can make an image *worse*, and how the error grows with the noise.
# - What "stable" means as a number, and the one stable solver that every later chapter puts beside its networks.
# - Three relatives of it, and how much they win: TGV, re-weighted shearlets, wavelets.
#
# **Needs** [operators](01_operators_and_fbp) for $y = Ax$, the adjoint and filtered back-projection. Measured minutes
# and memory per profile: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard · paper: more slices
seed = 0  # every random draw of this chapter
task = "ct_sparse"  # ct_sparse: over 180 degrees · ct_limited: over 150 degrees
n_views = 50  # views of the scan
noise_levels = [0.003, 0.01, 0.03, 0.1]  # ||e|| / ||y||

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("ct_sparse", "ct_limited")})

# %%
import functools
import inspect

import torch
from torch.nn.functional import avg_pool2d

from instab_utils import data, figures, metrics, operators, report
from instab_utils import solvers, store, widgets

budget, claim = profiles.get(profile), report.claims(profile)

# %%
n = budget.image_size
print(f"profile {profile}, {n} x {n} pixels, data: {data.situation()}")

# %% [markdown]
# ## A scan without the inverse crime
#
# If the same matrix makes the data and inverts them, its errors cancel and every method looks too good: the *inverse
# crime*. A body is not made of our pixels. So here the scan is made on a grid twice as fine, by the Fourier-slice
# operator, with two narrow detector bins averaged into one; the solvers work with Joseph's matrix on the coarse grid.
# What remains between $Ax$ and $y$ without noise is model error: an image that fits the data more closely fits the error of
# the grid.

# %%
span_deg = {"ct_sparse": 180, "ct_limited": 150}[task]
angles = (180 - span_deg) / 2 + torch.arange(n_views) * span_deg / n_views
A = operators.Radon(n, angles)
fine_scan = operators.FourierSlice(2 * n, angles, 2 * A.n_detectors)


def scan(fine):
    """Views of a fine image, in coarse pixels: pairs of narrow bins averaged."""
    return fine_scan(fine).unflatten(-1, (A.n_detectors, 2)).mean(-1) / 2


# %%
def slices(split, count):
    fine, source = data.demo("ct", count, 2 * n, split)
    return avg_pool2d(fine, 2), scan(fine), source


x, y_clean, source = slices("test", budget.n_images)
x_val, y_val_clean, source_val = slices(
    "validate", 2 if budget.at_least("standard") else 1
)
floor = metrics.relative_error(A(x), y_clean).mean().item()
print(
    f"{len(x)} {source}, parameters from {len(x_val)} {source_val}; "
    f"||Ax - y|| / ||y|| = {100 * floor:.2f} % without noise"
)

# %% [markdown]
# Noise is white and Gaussian, and its size is always quoted relative to the data, $\|e\| / \|y\|$. 1 % is mild noise.

# %%
level = 0.01


def noisy(y, level, stream):
    return solvers.add_noise(y, level, profiles.generator(seed, f"{stream} {level}"))


y, y_val = noisy(y_clean, level, "test"), noisy(y_val_clean, level, "validate")

# %%
figures.panels(
    [x[:1], *[(v[:1] / y_clean.max()).repeat_interleave(5, -2) for v in (y_clean, y)]],
    ["the slice", f"its {n_views} views", f"with {100 * level:g} % noise"],
    window=(0, 1),
    lossless=False,
    alt="A CT slice, its sinogram with few views, and the same sinogram with 1 % "
    "noise, which is hard to see.",
)

# %% [markdown]
# ## More work, worse image: semi-convergence
#
# Four classical methods start from a blank image and improve it step by step until it explains the data:
#
# - **CGLS** takes the fastest route to the least-squares solution $\min \|Ax - y\|^2$;
# - **SIRT** back-projects the misfit of all views at once, weighted by ray lengths; **SART** does so view by view;
# - **EM** multiplies instead of adding, so the image never becomes negative.
#
# All of them *explain the data* better with every step. But the data contain noise: the early steps recover the image,
# the late ones explain the noise. The error falls, turns, and climbs. To see where it turns one needs the true image,
# which a real scan does not have; so we stop where the error on *validation* slices is least.

# %% [markdown]
# Each is a few lines. With $R$ and $C$ the inverse sums of the rows and columns of $A$,
#
# $$ \text{SIRT:}\; x \leftarrow x + C A^* R\, (y - A x), \qquad
#    \text{EM:}\; x \leftarrow \frac{x}{A^* 1}\, A^*\! \left( \frac{y}{A x} \right) , $$
#
# and SART is SIRT's update with the rows of one view after another. CGLS, in full, is under
# [the code](#the-code). Three steps by hand are three steps of the package.

# %%
rows, columns = A(torch.ones_like(x)), A.adjoint(torch.ones_like(y))
met, seen = rows > 0, columns > 0  # rays that meet the image, pixels that are seen
x_sirt = torch.zeros_like(x)
x_em = (
    seen
    * y.clamp_min(0).sum((1, 2, 3), True)
    / A(seen * torch.ones_like(x)).sum((1, 2, 3), True)
)
for _ in range(3):
    r = torch.where(met, (y - A(x_sirt)) / rows, 0)
    x_sirt = x_sirt + torch.where(seen, A.adjoint(r) / columns, 0)
    ratio = torch.where(met, y.clamp_min(0) / A(x_em), 0)
    x_em = torch.where(seen, x_em * A.adjoint(ratio) / columns, 0)

# %%
package = {"sirt": solvers.sirt(A, y, 3).x, "em": solvers.em(A, y, 3).x}
differences = {}
for name, by_hand in {"sirt": x_sirt, "em": x_em}.items():
    change = (by_hand - package[name]).norm() / package[name].norm()
    differences[name] = change.item()
    print(f"{name}: 3 steps by hand and the package's differ by {change.item():.0e}")

# %% [markdown]
# Now all four, many steps, with the error of each iterate.

# %%
steps = {
    "CGLS": 30,
    "SIRT": budget.solver_iterations,
    "SART": 15,
    "EM": budget.solver_iterations // 2,
}

# %%
damped = functools.partial(
    solvers.sart, relaxation=0.2
)  # one view's noise: a fifth of a step
run = {"CGLS": solvers.cgls, "SIRT": solvers.sirt, "SART": damped, "EM": solvers.em}


# %%
def error_curve(method, y, x):
    """Mean relative error and misfit of every iterate."""
    errors = []

    def watch(k, x_k):
        errors.append(metrics.relative_error(x_k, x).mean().item())

    solution = run[method](A, y, n_iter=steps[method], callback=watch)
    return errors, solution.residuals.mean(1).tolist()


# %%
validation = {method: error_curve(method, y_val, x_val)[0] for method in run}
best = {
    method: max(1, errors.index(min(errors))) for method, errors in validation.items()
}
test, misfit = {}, {}
for method in run:
    test[method], misfit[method] = error_curve(method, y, x)
longest = max(steps.values())

# %%
gap = {method: [float("nan")] * (longest - steps[method]) for method in run}
figures.curves(
    range(1, longest + 1),
    {method: errors[1:] + gap[method] for method, errors in test.items()},
    x_label="iteration (SART: pass over all views)",
    y_label="relative error of the image",
    log_x=True,
    log_y=True,
    markers=False,
    title=f"Error on the test slices, {100 * level:g} % noise",
    alt="Relative error against iteration for CGLS, SIRT, SART and EM: each falls to a "
    "minimum and then rises again.",
)

# %%
figures.table(
    [
        {
            "method": method,
            "stop after (validation)": best[method],
            "error there, %": 100 * test[method][best[method]],
            "error at the end, %": 100 * test[method][-1],
            "misfit there, %": 100 * misfit[method][best[method]],
            "misfit at the end, %": 100 * misfit[method][-1],
        }
        for method in run
    ],
    caption="The misfit to the data goes on falling while the image gets worse",
)

# %% [markdown]
# A rule that needs no true image: stop as soon as the misfit is down to the noise, $\|Ax_k - y\| \le \|e\|$ (the
# *discrepancy principle*; `tol=` in every solver). Exercise 1 tries it.
#
# ## The whole picture at once: total variation
#
# Stopping early is one way of not fitting the data entirely. Total variation states instead *what* to assume where
# the data are silent: images are flat in most places and jump at few,
#
# $$ \min_x \; \frac12 \frac{\|Ax - y\|^2}{\|A\|^2} + \alpha\, \mathrm{TV}(x), \qquad \mathrm{TV}(x) = \sum |\nabla x| , $$
#
# There is no early or late: the minimum is one image, and any number of iterations that reaches it gives the same.
# (It is reached by a primal-dual method that also computes a lower bound of the minimum, so that we *know* how close
# we are: the duality gap.) The one dial is $\alpha$. Too small follows the noise, too large paints a cartoon. We set
# it on validation slices, once for each noise level.


# %%
def stored(method, compute, experiment="solver", task=task, **about):
    """Return the metrics of a stored row, computed where there is none."""
    inputs = about.pop("inputs")
    row = store.cached(
        compute,
        experiment=experiment,
        task=task,
        network="none",
        method=method,
        seed=seed,
        profile=profile,
        inputs=inputs,
        parameters={"n_views": n_views, **about},
    )
    return row["metrics"]


# %%
weights = [5e-5, 1.5e-4, 5e-4, 1.5e-3, 5e-3, 1.5e-2, 5e-2]


def validation_errors(noise):
    y_val = noisy(y_val_clean, noise, "validate")
    n_iter = budget.solver_iterations // 2
    _, errors = solvers.choose_weight(
        A, x_val, weights, y_validation=y_val, n_iter=n_iter, tol=0.05
    )
    best = min(errors, key=errors.get)
    return {"tv_weight": best, "n_images": len(x_val), "errors": list(errors.values())}


# %%
chosen, valleys = {}, {}
for noise in noise_levels:
    compute = functools.partial(validation_errors, noise)
    row = stored("tv", compute, "tv_weight", inputs=[source_val], noise=noise)
    chosen[noise] = row["tv_weight"]
    valleys[f"{100 * noise:g} % noise"] = [100 * error for error in row["errors"]]

# %%
figures.curves(
    weights,
    valleys,
    log_x=True,
    log_y=True,
    x_label="weight α of total variation",
    y_label="error on validation slices, %",
    title="One dial, one valley for each noise level",
    alt="Validation error against the weight of total variation: a valley that moves "
    "to larger weights with more noise.",
)

# %% [markdown]
# ## Six answers to one measurement
#
# Same data, each method with its parameter from the validation slices. Look at the error row, all in one colour
# scale: FBP spreads noise and streaks evenly over the slice; the iterative methods trade streaks for blur; TV leaves
# errors only at edges and fine texture.


# %%
def total_variation(noise, y):
    return solvers.tv(A, y, chosen[noise], n_iter=budget.solver_iterations).x


def iterated(name, n_iter, y):
    return run[name](A, y, n_iter=n_iter).x


def methods(noise, stops):
    """name -> y -> image, with parameters from validation at this noise level."""
    fbp = functools.partial(A.fbp, step_deg=span_deg / n_views)
    early = {name: functools.partial(iterated, name, stops[name]) for name in run}
    return {"FBP": fbp, **early, "TV": functools.partial(total_variation, noise)}


# %%
reference_noise = min(noise_levels, key=lambda noise: abs(noise - level))
answers = {name: f(y) for name, f in methods(reference_noise, best).items()}
psnr = {name: metrics.psnr_db(x_rec, x) for name, x_rec in answers.items()}

# %%
figures.panels(
    [x[:1], *[x_rec[:1] for x_rec in answers.values()]],
    ["the slice", *answers],
    captions=["", *[f"{psnr[name][0].item():.1f} dB" for name in answers]],
    window=(0, 1),
    error_of=0,
    error_limit=0.15,
    columns=4,
    lossless=False,
    alt="A slice and six reconstructions from few noisy views with their errors: FBP "
    "is streaky and noisy, CGLS, SIRT, SART and EM are smoother and blurred, total "
    "variation is clean with errors at edges only.",
)

# %%
stops = {name: f"stop after {k}" for name, k in best.items()}
parameter = {"FBP": "none", **stops, "TV": f"α = {chosen[reference_noise]:g}"}


def score(name, x_rec):
    clipped = metrics.psnr_db(x_rec.clamp(0, 1), x).mean().item()
    return {
        "method": name,
        "PSNR, dB": psnr[name].mean().item(),
        "worst slice": psnr[name].min().item(),
        "clipped to [0, 1], dB": clipped,
        "SSIM": metrics.ssim(x_rec, x).mean().item(),
        "parameter": parameter[name],
    }


# %%
figures.table(
    [score(name, x_rec) for name, x_rec in answers.items()],
    caption=f"Mean over {len(x)} test slices, {100 * level:g} % noise. Clipping to the "
    "known range flatters the noisy ones most",
)

# %% [markdown]
# ## Twice the noise, how much more error?
#
# Here is a first meaning of *stable*. Turn up the noise, give every method its best parameter for that level (again
# from validation slices), and plot error against noise with both axes logarithmic. A straight line of slope 1 is
# proportional: ten times the noise, ten times the error. A slope below 1 is better than that. What must not happen is
# a jump: a little more noise and a different image.


# %%
def scores(x_rec, x, parameter):
    return {
        "psnr_db": metrics.mean_ci(metrics.psnr_db(x_rec, x)),
        "relative_error": metrics.mean_ci(metrics.relative_error(x_rec, x)),
        "parameter": parameter,
        "n_images": len(x),
    }


# %%
def score_at(name, noise):
    """Scores on the test slices, with the best stop or weight of validation."""
    y_val, y = noisy(y_val_clean, noise, "validate"), noisy(y_clean, noise, "test")
    stops = dict.fromkeys(run, 1)
    if name in run:
        errors, _ = error_curve(name, y_val, x_val)
        stops[name] = max(1, errors.index(min(errors)))
    parameters = {"FBP": None, "TV": chosen[noise], **stops}
    return scores(methods(noise, stops)[name](y), x, parameters[name])


# %%
total = {name: [] for name in answers}
for noise in noise_levels:
    for name in answers:
        compute, both = functools.partial(score_at, name, noise), [source, source_val]
        row = stored(name.lower(), compute, inputs=both, noise=noise)
        total[name].append(100 * row["relative_error"])

# %%
slopes = {
    name: metrics.slope_loglog(noise_levels, errors) for name, errors in total.items()
}
figures.curves(
    [100 * noise for noise in noise_levels],
    {f"{name} (slope {slopes[name]:.2f})": errors for name, errors in total.items()},
    x_label="noise ‖e‖ / ‖y‖, %",
    y_label="error of the image, %",
    log_x=True,
    log_y=True,
    title="Error against noise, every method at its best",
    alt="Relative image error against relative noise on logarithmic axes: FBP rises "
    "fastest, TV is lowest everywhere.",
)

# %% [markdown]
# ## Stable as a number: what one unit of noise can do
#
# Averages over random noise say little about the worst case. The sharper question, which [chapter 07](07_tiny_worst_case_perturbations) asks of networks, is the **worst case**:
# among all $e$ of one size, which changes the image most, and by how much? Measured relative to image and data, the
# *amplification* is
#
# $$ \kappa = \frac{\|f(y+e) - f(y)\| \,/\, \|f(y)\|}{\|e\| \,/\, \|y\|} . $$
#
# FBP is linear, so its worst case is its largest singular value and *power iteration* finds it: apply $f$, apply its
# adjoint, normalise, repeat. The same loop climbs for any differentiable method if the adjoint is replaced by the
# gradient through its iterations. For nonlinear methods the result is a lower bound of the worst case.


# %%
def worst_noise(f, y, size, n_iter, generator):
    """e with ||e|| = size that changes f(y + e) most, by power iteration."""
    e = torch.randn(y.shape, generator=generator)
    with torch.no_grad():
        start = f(y)
    for _ in range(n_iter):
        e = (e * size / e.norm()).requires_grad_()
        change = f(y + e) - start
        (e,) = torch.autograd.grad(change.square().sum() / 2, e)
    return e * size / e.norm()


def amplification(f, y, e):
    with torch.no_grad():
        return ((f(y + e) - f(y)).norm() / f(y).norm() * y.norm() / e.norm()).item()


# %% [markdown]
# FBP climbs here, live; the numbers of the others are stored, since each climb runs their iterations back and forth.

# %%
y1 = noisy(y_clean[:1], level, "test")
size = level * y1.norm().item()
climbs, unrolled = (6, 100) if budget.at_least("standard") else (3, 20)
tried = methods(reference_noise, best)
tried["TV"] = lambda y: (
    solvers.tv(A, y, chosen[reference_noise], n_iter=unrolled, tol=0).x
)
random_e = torch.randn(y1.shape, generator=profiles.generator(seed, "random e"))
random_e = random_e * size / random_e.norm()
fbp_e = worst_noise(
    tried["FBP"], y1, size, climbs, profiles.generator(seed, "worst FBP")
)
grazing = (A(torch.ones(1, 1, n, n)) < 5).expand_as(
    y1
)  # rays with less than five pixels


# %%
def climb(name):
    """Amplification of the worst noise found, of FBP's and of random noise."""
    draw = profiles.generator(seed, f"worst {name}")
    worst = worst_noise(tried[name], y1, size, climbs, draw)
    tests = {"random": random_e, "fbp": fbp_e, "own": worst}
    found = {kind: amplification(tried[name], y1, e) for kind, e in tests.items()}
    return found | {"grazing_share": (worst[grazing].norm() / worst.norm()).item() ** 2}


# %%
climbed = {}
for name in ("FBP", "CGLS", "SIRT", "EM", "TV"):
    compute, both = functools.partial(climb, name), [source, source_val]
    about = {"noise": level, "climbs": climbs, "unrolled": unrolled}
    climbed[name] = stored(
        name.lower(), compute, "solver_worst_case", inputs=both, **about
    )

# %%
kinds = {
    "random": "random noise",
    "fbp": "the worst noise for FBP",
    "own": "its own worst noise found",
}
figures.bars(
    list(climbed),
    {label: [row[kind] for row in climbed.values()] for kind, label in kinds.items()},
    y_label="amplification κ",
    log_y=True,
    title=f"What {100 * level:g} % of change in the data does to the image",
    alt="Amplification of random, FBP's worst and each method's own worst noise, for "
    "FBP, CGLS, SIRT, EM and total variation.",
)

# %%
print(
    f"{100 * climbed['SIRT']['grazing_share']:.0f} % of the energy of SIRT's worst "
    f"noise sits on the {100 * grazing.float().mean().item():.0f} % "
    "of rays that graze or miss the image"
)

# %% [markdown]
# Three things to take from these bars.
#
# - *Random noise says little about the worst case.* It is mostly averaged away; the worst noise is not random at all.
# - *A weak spot can hide in one division.* SIRT divides each misfit by the length of its ray. A ray that only
#   grazes a corner of the image has almost no length, so noise there is blown up. The worst $e$ finds it at once; no
#   average over noise ever would.
# - *Stability alone is cheap.* CGLS stopped after a few steps amplifies less than TV, and the answer "always zero"
#   would beat both. The art is to be stable **and** accurate, so every later table shows both numbers side by side.
#
# The pictures below show FBP's worst case beside random noise of the same size, and TV on exactly the same data.

# %%
shown = {"FBP": tried["FBP"], "TV": tried["TV"]}
cases = [
    (f"{name}, {kind}", f(y1 + e).detach(), amplification(f, y1, e))
    for name, f in shown.items()
    for kind, e in (("random e", random_e), ("FBP's worst e", fbp_e))
]

# %%
figures.panels(
    [image for _, image, _ in cases],
    [title for title, _, _ in cases],
    captions=[f"κ = {kappa:.1f}" for _, _, kappa in cases],
    window=(0, 1),
    columns=4,
    lossless=False,
    alt="FBP and TV under random noise and under FBP's worst noise of the same size: "
    "FBP's image is visibly disturbed, TV's is not.",
)

# %% [markdown]
# ## The same idea in MRI
#
# A three-fold accelerated MR scan measures a third of the lines of k-space. Filling the rest with zeros smears the
# image along one direction. TV fills them with whatever makes the image flattest while the measured lines stay what
# they were. MR images have a *phase*, so the unknown is a complex image and stays one: forcing it to be real would
# give the solver free measurements (exercise 2). Drag the slider: the dial $\alpha$ again, on one slice.

# %%
m = min(n, 128)
mr, mr_source = data.demo("mr", budget.n_images, m, "test")
mr_val, mr_source_val = data.demo("mr", 2, m, "validate")
mask_draw = profiles.generator(seed, "mask")
mask = operators.masks.variable_density_lines(m, 3, generator=mask_draw)
F = operators.MaskedFourier(mask)
y_mr = noisy(F(mr), level, "mr")
mr_weights = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
draw = profiles.generator(seed, "mr validate")
mr_weight, _ = solvers.choose_weight(F, mr_val, mr_weights, level, draw)

# %%
mr_zf, mr_tv = (
    F.pinv(y_mr),
    solvers.tv(F, y_mr, mr_weight, n_iter=budget.solver_iterations),
)
mr_db = {
    name: metrics.psnr_db(image, mr).mean().item()
    for name, image in {"zero-filled": mr_zf, "TV": mr_tv.x}.items()
}
print(
    f"{mr_source}; {F}; mean over {len(mr)}: "
    f"zero-filled {mr_db['zero-filled']:.1f} dB, "
    f"TV (α = {mr_weight:g}) {mr_db['TV']:.1f} dB, "
    f"relative duality gap {mr_tv.gap.max().item():.0e}"
)

# %% [markdown]
# The primal-dual iteration behind it moves an image $x$ and a field $q$ of edge strengths, $|q| \le \alpha$, by turns:
#
# $$ \begin{aligned}
#    q &\leftarrow \mathrm{proj}_{|q| \le \alpha}\big( q + \sigma\, \nabla (2 x - x_{\text{last}}) \big), \\
#    x &\leftarrow v + \frac{\tau}{1+\tau} A^* (y - A v), \quad v = x - \tau\, \nabla^* q ,
#    \end{aligned} $$
#
# with $8\, \sigma \tau \le 1$. (The second is the proximal step of the data where $A A^* = I$.)

# %%
from instab_utils.solvers.differences import gradient, gradient_adjoint

tau = 0.03 / mr_weight
sigma = 1 / (8 * tau)
x_k = x_bar = F.pinv(y_mr)
q = gradient(torch.zeros_like(x_k))
for _ in range(20):
    q = [q_i + sigma * g_i for q_i, g_i in zip(q, gradient(x_bar))]
    size_q = sum(q_i.abs().square() for q_i in q).sqrt()
    q = [q_i / (size_q / mr_weight).clamp_min(1) for q_i in q]  # back to |q| <= weight
    v = x_k - tau * gradient_adjoint(q)
    x_new = v + tau / (1 + tau) * F.adjoint(y_mr - F(v))
    x_k, x_bar = x_new, 2 * x_new - x_k
package = solvers.tv(F, y_mr, mr_weight, n_iter=20, tol=0).x
differences["TV"] = ((x_k - package).norm() / package.norm()).item()

# %%
print(f"20 steps by hand and by the package differ by {differences['TV']:.0e}")
copies = y_mr[:1].repeat(len(mr_weights), 1, 1, 1)
sweep = solvers.tv(
    F, copies, torch.tensor(mr_weights), n_iter=budget.solver_iterations
).x
limit = 0.3 * mr[0].abs().max().item()


# %%
def frame(image, weight):
    parts = [metrics.psnr_db(part, mr[:1]).item() for part in (mr_zf[:1], image)]
    return figures.panels(
        [mr[:1], mr_zf[:1], image],
        ["the slice", "zero-filled", f"TV, α = {weight:g}"],
        captions=["", *[f"{db:.1f} dB" for db in parts]],
        error_of=0,
        error_limit=limit,
        alt="An MR slice, its zero-filled reconstruction, and total variation with "
        f"weight {weight:g}, with errors.",
    )


# %%
frames = [frame(image, weight) for image, weight in zip(sweep.split(1), mr_weights)]
widgets.explore(frames, mr_weights, name="weight α", value=mr_weights.index(mr_weight))

# %% [markdown]
# ## Is there nothing better than TV?
#
# TV assumes that images are flat between edges. Three relatives assume something else:
#
# - **TGV** (total generalised variation) lets the image rise and fall evenly: only changes of *slope* cost;
# - **shearlets**, needles at many scales and directions, describe edges along smooth curves with few coefficients. Antun et al. put them beside
#   their networks, re-weighted: in each iteration large coefficients are penalised less, and TV keeps what is left calm;
# - **wavelets**: among all images that explain the data up to the noise, the one with the smallest sum of coefficients, found by SPGL1. The same authors
#   use it for MRI with many coils.
#
# Three tasks, the same data for all; weights come from validation images, and the noise level is what shearlets and wavelets
# are given. The table reads stored rows; the images below it are computed here.

# %%
coils = data.simulated_coils(15, m)
lines = operators.masks.uniform_lines(0.3, m, n_centre=round(0.08 * m))
M = operators.MultiCoilFourier(lines, coils)
few = slice(0, min(2, len(mr)) if budget.at_least("standard") else 1)

y_ct, y_ct_val = noisy(y_clean, level, "test"), noisy(y_val_clean, level, "validate")
y_mr_val = noisy(F(mr_val), level, "mr validate")
y_coils = noisy(M(mr[few]), level, "coils")
y_coils_val = noisy(M(mr_val[:1]), level, "coils validate")

# %%
title_ct = f"CT, {n_views} views"
tasks = {  # title -> name in the records, (A, x, y, x_val, y_val), candidate weights
    title_ct: (task, (A, x[few], y_ct[few], x_val, y_ct_val), weights[1:5]),
    "MRI, 1 coil": (
        "mri_single",
        (F, mr[few], y_mr[few], mr_val, y_mr_val),
        mr_weights,
    ),
    "MRI, 15 coils": (
        "mri_parallel",
        (M, mr[few], y_coils, mr_val[:1], y_coils_val),
        [1e-5, 3e-5, *mr_weights[:4]],
    ),
}


# %%
SOLVERS = {"TV": solvers.tv, "TGV": solvers.tgv}


def parameter_of(method, A, x_val, y_val, weights):
    """A weight for TV and TGV; for the others the misfit of true images."""
    if method not in SOLVERS:
        return metrics.relative_error(A(x_val), y_val).mean().item()
    half = budget.solver_iterations // 2
    options = {"y_validation": y_val, "n_iter": half, "solver": SOLVERS[method]}
    return solvers.choose_weight(A, x_val, weights, **options)[0]


# %%
def answer(method, A, y, parameter):
    n_iter = budget.solver_iterations
    if method == "linear":
        return A.pinv(y)
    if method == "shearlets":
        return solvers.shearlet(A, y, noise_level=parameter).x
    if method == "wavelets":
        return solvers.wavelet(A, y, parameter, relative=True, n_iter=n_iter).x
    return SOLVERS[method](A, y, parameter, n_iter=n_iter).x


# %%
def compared(method, title):
    _, (A, x, y, x_val, y_val), weights = tasks[title]
    value = parameter_of(method, A, x_val, y_val, weights)
    return scores(answer(method, A, y, value), x, value)


# %%
rows_of = {}
for title, (name, (A_task, *_), _) in tasks.items():
    inputs = [source, source_val] if title == title_ct else [mr_source, mr_source_val]
    about = {"noise": level, "image_size": A_task.image_shape[0], "inputs": inputs}
    methods_here = ["linear", "TV", "TGV", "shearlets"]
    methods_here += ["wavelets"] if name == "mri_parallel" else []
    for method in methods_here:
        compute = functools.partial(compared, method, title)
        rows_of[title, method] = stored(method.lower(), compute, task=name, **about)

# %%
gain = {title: {} for title in tasks}
for (title, method), row in rows_of.items():
    gain[title][method] = row["psnr_db"]
figures.table(
    [{"task": title, **row} for title, row in gain.items()],
    digits=3,
    caption=f"PSNR in dB, mean over {few.stop} test slices, {100 * level:g} % noise; "
    "linear: FBP or zero-filling",
)

# %%
truth = mr[:1]
found = {
    method: answer(method, F, y_mr[:1], rows_of["MRI, 1 coil", method]["parameter"])
    for method in gain["MRI, 1 coil"]
}
captions = [
    f"{metrics.psnr_db(x_rec, truth).item():.1f} dB" for x_rec in found.values()
]

# %%
figures.panels(
    [truth, *found.values()],
    ["the slice", "zero-filled", *list(found)[1:]],
    captions=["", *captions],
    error_of=0,
    error_limit=limit,
    columns=5,
    lossless=False,
    alt="An MR slice and its zero-filled, TV, TGV and shearlet reconstructions with "
    "errors: shearlets keep the most fine structure.",
)

# %% [markdown]
# ## Which one, and why
#
# | solver | what it is good for | what to remember |
# |---|---|---|
# | FBP | speed, a linear front end, a baseline | amplifies noise; with few views the streaks are its own |
# | CGLS | a few fast steps, any operator, adjustable | semi-convergent: stop early |
# | SIRT, SART | bounds such as $x \ge 0$, patience | semi-convergent too, only slower |
# | EM | counts and positive images | real, positive operators only |
# | **TV** | few data, any operator, a minimum that is certified | one dial; flattens fine texture |
# | TGV | soft shading | two dials, three times the work; little gained on CT |
# | shearlets | fine structure of real MR slices | re-weighted: no minimum to certify; told the noise level |
# | wavelets | sparsity in an orthogonal basis, with a tested solver (SPGL1) | not shift-invariant: blocky |
#
# **From here on, "the stable solver" is TV**, with $\alpha$ from validation images and the duality gap checked, given
# exactly the measurement that the network gets. It is not the most accurate method one could build, and it is not
# immune ([chapter 07](07_tiny_worst_case_perturbations) attacks it too). It is the reference: it has nothing that it could have memorised from training images.
#
# ## The code
#
# This is the whole of CGLS: an algorithm here is a generator of its iterates, and one driver records and stops them
# all.

# %%
print(inspect.getsource(inspect.getmodule(solvers.cgls)._cgls))

# %% [markdown]
# ASTRA and TomoPy have some of these methods, too: `solvers.external(library, method, A, y)` runs theirs on the same
# operator. Same projector, same number of steps: the images agree to single precision. (FBP samples its ramp differently.)

# %%
agreement = {}
for method in ("fbp", "cgls", "sirt", "sart"):
    count = {} if method == "fbp" else {"n_iter": 3}
    ours = getattr(solvers, method)(A, y1, **count).x
    try:
        theirs = solvers.external("astra", method, A, y1, **count).x
    except ImportError as error:
        print(error)
        break
    agreement[method] = ((theirs - ours).norm() / ours.norm()).item()
print("relative difference to ASTRA:", {k: f"{v:.0e}" for k, v in agreement.items()})

# %% [markdown]
# ## Claims

# %%
for name in run:
    falls = misfit[name][-1] < misfit[name][best[name]]
    claim(f"{name} goes on lowering the misfit after its best image", falls)
    rise = test[name][-1] / min(test[name])
    if task == "ct_sparse":
        claim(
            f"{name} is semi-convergent: "
            "its last image on the test slices is worse than its best",
            rise > 1.02,
        )
    else:  # measured: the missing wedge is most of the error, not the noise
        print(f"   limited angle, {name}: last error over least error {rise:.2f}")

# %%
mean_db = {name: values.mean() for name, values in psnr.items()}
others = max(db for name, db in mean_db.items() if name != "TV")
claim("TV is the best of the six on the test slices", mean_db["TV"] > others)
claim("no method's error grows faster than the noise", max(slopes.values()) <= 1.05)
stabler = climbed["CGLS"]["own"] < climbed["TV"]["own"]
claim(
    "CGLS stopped early is the stabler of the two, TV the more accurate",
    stabler and mean_db["TV"] > mean_db["CGLS"],
)

# %%
fbp, tv = climbed["FBP"], climbed["TV"]
claim(
    "FBP's worst noise is far worse for FBP than random noise",
    fbp["own"] > 2 * fbp["random"],
)
claim("TV amplifies FBP's worst noise less than FBP does", tv["fbp"] < fbp["own"] / 2)
claim(
    "TV amplifies its own worst noise less than FBP amplifies its own",
    tv["own"] < fbp["own"],
)
claim(
    "TV gains more than 2 dB over zero-filling in MRI",
    mr_db["TV"] > mr_db["zero-filled"] + 2,
)
claim("the TV images are certified minimisers", mr_tv.gap.max() <= 1e-2)

# %%
for name, row in gain.items():
    for method in list(row)[1:]:
        more = row[method] - row["linear"]
        claim(
            f"{name}: {method} beats the linear reconstruction "
            f"by more than 1.5 dB ({more:.1f})",
            more > 1.5,
        )
single = gain["MRI, 1 coil"]
claim("shearlets beat TV in single-coil MRI", single["shearlets"] > single["TV"])
claim("the steps by hand are those of the package", max(differences.values()) < 1e-4)
same = all(value < 1e-3 for method, value in agreement.items() if method != "fbp")
claim("ASTRA agrees with CGLS, SIRT and SART", same)

# %% [markdown]
# ## Exercises
#
# **1.** Stop CGLS by the discrepancy principle, `tol` = the noise level, at 3 % noise. How much worse is it than the
# best iteration, which is unknown without the true image?

# %% tags=["hide-cell"]
y3 = noisy(y_clean, 0.03, "exercise")
blind = solvers.cgls(A, y3, n_iter=steps["CGLS"], tol=0.03)
errors, _ = error_curve("CGLS", y3, x)
blind_error = metrics.relative_error(blind.x, x).mean().item()
assert blind_error < 1.25 * min(errors)
print(
    f"discrepancy principle {100 * blind_error:.1f} %, "
    f"best possible {100 * min(errors):.1f} %"
)

# %% [markdown]
# **2.** The k-space of a *real* image is conjugate-symmetric: every measured line brings its mirror image for nothing.
# Give TV those free lines, on the magnitudes of the MR slices. How much better does it get, and why is that no
# achievement?

# %% tags=["hide-cell"]
real = mr.abs()
mirrored_lines = mask.flip(0).roll(1, 0)  # y(-k) = conj(y(k)): these come for nothing
free = operators.MaskedFourier(mask | mirrored_lines)
lines = [round(len(mask) * float(B.mask.mean())) for B in (F, free)]
assert lines[1] > lines[0]
once, mirrored = (
    metrics.psnr_db(solvers.tv(B, B(real), mr_weight, n_iter=60).x, real).mean().item()
    for B in (F, free)
)
assert mirrored > once
print(
    f"{lines[0]} lines count as {lines[1]}: {once:.1f} dB becomes {mirrored:.1f} dB, "
    "without one more measurement"
)

# %% [markdown]
# **3.** SIRT can keep $x \ge 0$ (`bounds=(0, None)`). Does that one fact about images lower its best error?

# %% tags=["hide-cell"]
bounded = []


def watch(k, x_k):
    bounded.append(metrics.relative_error(x_k, x).mean().item())


solvers.sirt(A, y3, n_iter=steps["SIRT"], bounds=(0, None), callback=watch)
errors, _ = error_curve("SIRT", y3, x)
assert min(bounded) <= min(errors)
print(
    f"best error with x >= 0: {100 * min(bounded):.2f} %, "
    f"without: {100 * min(errors):.2f} %"
)

# %% [markdown]
# ## References
#
# CGLS: {cite:t}`hestenes1952`. SIRT: {cite:t}`gilbert1972`. SART: {cite:t}`andersen1984`. EM: {cite:t}`shepp1982`.
# Total variation: {cite:t}`rudin1992`; the algorithm: {cite:t}`chambolle2011`. The classical baselines as the INR
# paper uses them: {cite:t}`vasconcelos2021`. Total generalised variation: {cite:t}`bredies2010`; SPGL1: {cite:t}`vandenberg2008`; shearlets and
# wavelets beside networks: {cite:t}`antun2020`. ASTRA, which our solvers are checked against: {cite:t}`vanaarle2016`.
