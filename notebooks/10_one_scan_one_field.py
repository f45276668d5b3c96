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
# # One scan, one field
#
# *Vasconcelos, He, Teh: Table 1 and Figures 2 to 4, by `papers.vasconcelos2021` (`table1`, `baselines`, `explorer`, `real_data`).*
#
# **What you will see**
# - A small network that has never seen another image: it *is* the image, a function of a point, fitted to the few views of one scan. Watch it come into
#   being, and see what its activation and its frequencies decide.
# - Three ways to make it doubt: dropout, Bayes by backprop, ensembles. What their samples are samples of, and what a reliability curve says of them.
# - Table 1 of the paper that proposed this, beside ours, with the classical methods it has to beat, and a verdict on each of the paper's claims.
#
# **Needs** [operators](01_operators_and_fbp), [stable methods](02_what_stable_looks_like), [dropout](06_dropout_and_mean_variance).
# Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard · paper: on a GPU
seed = 0  # of the fields that are trained on this page; tables have their own
n_views = 20  # of the fields that are trained on this page: 20 or 5; tables have both
activation = "silu"  # relu, silu, sine, softplus or tanh
width = 64
depth = 3
omega0 = 5.0  # scale of the frequencies: 1, 5, 10 or 15
p = 0.2  # dropout: 0.2, 0.5 or 0.8

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(
    In,
    choices={
        "n_views": (5, 20),
        "activation": ("relu", "silu", "sine", "softplus", "tanh"),
        "width": (16, 64, 256),
        "depth": (3, 6, 9),
        "omega0": (1.0, 5.0, 10.0, 15.0),
        "p": (0.2, 0.5, 0.8),
    },
)

# %%
import inspect
from dataclasses import replace

import numpy as np
import torch

from instab_utils import data, fields, figures, metrics, networks
from instab_utils import report, solvers, store, sweep, widgets
from instab_utils.papers import vasconcelos2021 as paper
from instab_utils.uncertainty import bbb

# %% tags=["hide-input"]
claim = report.claims(profile)
standard = profiles.get(profile).at_least("standard")
live = profiles.stage("inr", "standard" if standard else "smoke")  # small on a GPU, too
n, steps = live.image_size, live.final_steps
setting = paper.settings.Setting(
    n_views=n_views,
    activation=activation,
    width=width,
    depth=depth,
    omega0=omega0,
    p=p,
    steps=steps,
    image_size=n,
    n_frequencies=live.n_frequencies,
    seed=seed,
)
phantom = setting.scan(fields.FREE)  # a phantom that is in none of the tables
on_gpu = profile == "paper" and store.records(experiment="inr", profile="paper")
recorded = "paper" if on_gpu else "standard"  # what the tables show
usual = (activation, width, depth, omega0, p) == ("silu", 64, 3, 5.0, 0.2)
print(
    f"profile {profile}, data: {data.situation()}; {phantom.name}, {n_views} views, "
    f"{n} x {n} "
    "pixels; "
    f"sweep and tables: recorded at {recorded}"
)

# %% [markdown]
# ## A field is a function
#
# Every network so far learned from many images. This one learns from none. It takes in a point $v \in [-1, 1]^2$ and gives
# the grey value there,
#
# $$ f_\theta(v) = \operatorname{sigmoid}\bigl(\mathrm{MLP}_\theta(\gamma(v))\bigr), \qquad
#    \gamma(v) = \bigl[\sin(v B^\top + \tfrac{\pi}{4}),\ \cos(v B^\top + \tfrac{\pi}{4})\bigr] . $$
#
# $B$ is drawn once, $B_{ij} \sim \Omega_0\, \mathcal N(0, 1)$, and stays. Such a **field** (*implicit neural representation*) is fitted to the $M$ rays of **one** scan,
# here noiseless views of a head phantom (equation 1 of the paper):
#
# $$ \min_\theta \; \frac{1}{2 M} \sum_{j=1}^{M} \bigl( y_j - (A f_\theta)_j \bigr)^2 . $$
#
# So there is no training set and nothing to overfit to but the scan. What the field brings along is its form: values between 0 and 1, and shapes that
# come easily to a small network of sines. The next patient starts from scratch.

# %%
print(inspect.getsource(networks.Fields.forward))
print(inspect.getsource(networks.Fields._mlp))

# %% [markdown]
# Without $\gamma$ a small network would only make soft blobs. The sines and cosines give it waves to build edges from, and
# $\Omega_0$ says how short they may be. Compare four of them at $\Omega_0 = 1$ with four at 10.

# %%
waves = {
    scale: replace(setting, omega0=scale).field(fields.FREE).features(n)[0, :, :4]
    for scale in (1.0, 10.0)
}
figures.panels(
    [wave for four in waves.values() for wave in four.T.view(4, n, n)],
    [f"Ω₀ = {scale:g}" for scale in waves for _ in range(4)],
    window=(-1, 1),
    columns=4,
    alt="Four of the features as images: at omega0 1 they hardly change across the "
        "image, "
    "at 10 they are waves of several periods in all directions.",
)

# %%
field = setting.field(fields.FREE)
rms = (
    (phantom.y / n).square().mean().sqrt().item()
)  # lengths in units of the image's side
zero = 1 - fields.interior(phantom.x).float().mean().item()
print(
    f"{phantom.y.numel():,} rays measure {n * n:,} pixels; the field has "
    f"{field.n_parameters:,} weights.\n{100 * zero:.0f} % of the pixels are exactly 0 "
    "or 1. A sigmoid never gets there: remember this when it comes to intervals."
)

# %% [markdown]
# More unknowns than data, twice over: pixels outnumber rays, weights outnumber pixels. Whatever a method shows beyond the rays is what it assumes.
#
# One precaution. The paper's code makes its data with the very projector that it reconstructs with, an *inverse crime*: then a grid of
# pixels exists that explains the data exactly. Here data are measured on 512 pixels a side, and no image on the coarse grid explains them, not even the truth.

# %%
truth_residual = fields.residual(phantom.A, phantom.x, phantom.y).item()
print(
    f"‖A x - y‖ / ‖y‖ = {truth_residual:.4f} for the truth x. A residual below this "
    "value means the method is fitting discretisation error."
)

# %% [markdown]
# ## A field is born
#
# This is equation 1 in code: one step of the fit, with lengths in units of the image's side as in the paper's projector.

# %%
optimiser = torch.optim.Adam(field.parameters(), lr=1e-2)
loss = ((phantom.A(field.render(n)) - phantom.y) / n).square().mean() / 2
loss.backward()  # through A and through all pixels to all weights
optimiser.step()

# %% [markdown]
# `fields.fit_fields` repeats this step with a learning rate that falls at the end. Now all of them, from the start and without dropout: all weights, all rays in each step.
# Drag the slider: image and truth through one grey window, the error below on a fixed scale.

# %%
shares = (0, .005, .01, .02, .03, .05, .08, .12, .16, .2, .25, .3, .4, .5, .6, .7, .8,
          .9, 1)
at = sorted({round(steps * share) for share in shares})
device = profiles.default_device()
field, scan = replace(setting, p=0.0).field(fields.FREE), phantom.to(device)
born = fields.fit_fields(field.to(device), scan.A, scan.y, steps, record=at)
frames, residuals = torch.cat(born.frames), born.residual[:, 0]
psnr = metrics.psnr_db(frames, phantom.x.expand_as(frames), 1.0)

# %% tags=["hide-input"]
def frame_of(frame, q, r):
    return figures.panels(
        [frame, phantom.x],
        ["field", "truth"],
        window=(0, 1),
        error_of=1,
        error_limit=0.5,
        captions=[f"{q:.1f} dB, residual {r:.3f}", ""],
        alt="The field at this step, the truth, and the error of the field.",
    )


widgets.explore(
    [frame_of(*one) for one in zip(frames, psnr.tolist(), residuals.tolist())],
    at,
    name="step",
    value=len(at) - 1,
)

# %% tags=["hide-input"]
later = [i for i, step in enumerate(at) if step]
curves = (("‖A f - y‖ / ‖y‖", residuals[later], True), ("PSNR, dB", psnr[later], False))
for label, values, log in curves:
    plot = figures.curves(
        [at[i] for i in later],
        {"field": values},
        x_label="step",
        y_label=label,
        log_x=True,
        log_y=log,
        height=330,
        title=f"{activation}, Ω₀ = {omega0:g}, {n_views} views: {label}",
        alt=f"{label} of the field against the training step, on a logarithmic axis.",
    )
    truth_line = {
        "y": truth_residual,
        "line_dash": "dot",
        "annotation_text": "the truth",
    }
    display(plot.add_hline(**truth_line) if log else plot)

# %%
best, last = psnr.max().item(), psnr[-1].item()
print(f"{steps} steps, {born.seconds:.0f} s on this machine: residual "
      f"{residuals[-1]:.4f}, {last:.2f} dB; the best of the recorded steps is step "
      f"{at[psnr.argmax()]}, {best:.2f} dB.")
below = residuals[-1] < truth_residual
print("It ends with a smaller residual than the truth: it fits discretisation error."
      if below else
      "It ends with a larger residual than the truth: these steps have not used up "
      "what the data say.")

# %% [markdown]
# Coarse shapes come first, fine ones later: this *is* the regularisation, and the number of steps is one of its parameters. The lower curve needs the truth:
# from the scan alone it cannot be drawn, so stopping must be decided on other images (here: validation phantoms) or by the residual.
#
# ## Activation and frequencies
#
# One phantom, five activations, four $\Omega_0$, all trained for as many steps, with one learning rate for each activation, which was
# found on a validation phantom. A small $\Omega_0$ gives soft images that are learned slowly; a large one gives sharp images that are free to be wrong *between* the rays. With 5 views that freedom shows as texture.

# %% tags=["hide-input"]
results = paper.results.Results(recorded)
explorer = results.exhibits("inr-explorer")
for v, (arrays, about) in explorer.items():
    names = [str(a) for a in arrays["activations"]]
    truth = torch.as_tensor(arrays["truth"]).float()
    truth = truth / 255 if truth.max() > 1 else truth
    images, levels = (torch.as_tensor(arrays[name]) for name in ("images", "psnr"))
    print(f"{v} views. {about['note']}")
    display(
        widgets.explore(
            [
                figures.panels(
                    [*(images[:, k].float() / 255), truth],
                    [*names, "truth"],
                    window=(0, 1),
                    columns=3,
                    captions=[*(f"{q:.1f} dB" for q in levels[:, k].tolist()), ""],
                    alt="Fields with five activations at this omega0, and the truth.",
                )
                for k in range(len(arrays["omega0"]))
            ],
            [f"{float(w):g}" for w in arrays["omega0"]],
            name=f"Ω₀, {v} views",
            value=1,
        )
    )

# %%
for v, (arrays, _) in explorer.items():
    by_activation = {str(a): q for a, q in zip(arrays["activations"], arrays["psnr"])}
    display(
        figures.curves(
            arrays["omega0"],
            by_activation,
            x_label="Ω₀",
            y_label="PSNR, dB",
            height=360,
            title=f"{v} views: what Ω₀ decides, by activation",
            alt=f"PSNR against omega0 with {v} views, one curve for each of five "
                "activations.",
        )
    )

# %%
for v, (arrays, _) in explorer.items():
    top = torch.as_tensor(arrays["psnr"]).max(1)
    found = zip(arrays["activations"], top.indices.tolist(), top.values.tolist())
    print(f"{v} views, best Ω₀: "
          + ", ".join(f"{a} {arrays['omega0'][k]:g} ({q:.1f} dB)" for a, k, q in found))

# %% [markdown]
# ## The bar to clear
#
# Before a new method is praised: what do old ones do with the same views? FBP, CGLS and EM, and SIRT and SART with three degrees of
# knowledge: nothing; $x \ge 0$; or the *box* $0 \le x \le 1$. The box matters for fairness: **the sigmoid at a field's end implies it**, so the field's fair opponent
# may have it, too. Last the stable method of this book, total variation (TV), which the paper leaves out; it assumes that images have few edges. Numbers of iterations and TV's weight are
# chosen on five validation phantoms, results are those of five others.

# %%
CONSTRAINTS = {"none": "nothing", "nonnegative": "x ≥ 0", "box": "0 ≤ x ≤ 1"}
KNOWS = {m: "few edges" if m.name == "tv" else CONSTRAINTS[m.constraint]
         for m in paper.baselines.METHODS}
level = results.level


# %% tags=["hide-input"]
def rival_row(m, split="test"):
    row = {"": m.name.upper(), "knows": KNOWS[m]}
    for v in (5, 20):
        r = results.baseline(m.name, m.constraint, v, split)
        about = r["parameters"]
        chosen = (
            about.get("n_iter") or f"weight {about['weight']:.1g}"
            if m.name != "fbp"
            else ""
        )
        row |= {
            f"{v} views, dB": r["metrics"]["psnr_db"],
            f"{v} clipped": r["metrics"]["psnr_clipped_db"],
            f"{v} paper": r["paper"]["value"] if r["paper"] else None,
            f"{v} iterations": str(chosen),
        }
    return row


figures.table(
    [rival_row(m) for m in KNOWS],
    digits=4,
    caption=f"PSNR, mean over test phantoms, {results.image_size} x "
    f"{results.image_size} pixels: "
    "as it "
    "is, clipped to [0, 1], and in the paper (which does not say what its SIRT and "
    "SART know)",
)

# %% tags=["hide-input"]
DROPOUT, CLASSICAL = (
    {v: paper.published.FIELDS["dropout", v][1][0] for v in (20, 5)},
    paper.published.CLASSICAL,
)
for v in (20, 5):
    free, positive, boxed = (
        max(level(m, c, v) for m in ("sirt", "sart")) for c in CONSTRAINTS
    )
    five = paper.published.FIELDS["ensemble-5", v][1][0]
    off = boxed - DROPOUT[v]
    print(
        f"{v} views: SIRT or SART reach {free:.1f} dB knowing nothing, as CGLS "
        f"({level('cgls', 'none', v):.1f}); {positive:.1f} with "
        f"x ≥ 0, as EM ({level('em', 'nonnegative', v):.1f}), which has that built in; "
        f"{boxed:.1f} in the box.\n   TV, which knows of "
        f"edges: {level('tv', 'none', v):.1f} dB.\n   In the paper SIRT has "
        f"{CLASSICAL[v, 'sirt'][1]:.1f}, MC dropout "
        f"{DROPOUT[v]:.1f}, an ensemble of five {five:.1f}; the better of SIRT and "
        "SART with 0 ≤ "
        f"x ≤ 1 is {abs(off):.1f} dB "
        f"{'above' if off > 0 else 'below'} the paper's MC dropout."
    )

# %% [markdown]
# The constraint decides, not the solver. The paper's levels of SIRT and SART are those of $x \ge 0$, not of a method without constraint (an inference from the
# numbers; it is not said, and the paper's image size is unknown). Nor is that the end of what a classical method may know: the box is worth more, and it
# is what the field has. And a phantom of ellipses is exactly what TV is made for; a method that is tested on nothing else should be compared with it.
#
# ## The inverse crime changes the ranking
#
# An iterative method on honest data **semi-converges**: PSNR rises, then falls while the residual still shrinks. Data made by the reconstruction's
# own matrix take that away: more iterations are always better, and the method that may iterate longest wins.

# %%
n_iter, courses = 1000 if standard else 20, {}
for crime, kind in ((False, "honest data"), (True, "same matrix")):
    one = fields.phantom_scan(fields.FREE, n_views, n, crime=crime)
    for constraint in ("nonnegative", "box"):
        bounds, course = paper.baselines.BOUNDS[constraint], []
        solvers.sirt(one.A, one.y, n_iter, bounds=bounds,
                     callback=lambda k, x, course=course: course.append(x.clamp(0, 1)))
        courses[f"{CONSTRAINTS[constraint]}, {kind}"] = [
            metrics.psnr_db(x, phantom.x, 1.0).item() for x in course]

# %% tags=["hide-input"]
few = sorted({min(round(1.15**k), n_iter) for k in range(60)})
figures.curves(
    few,
    {label: [course[k] for k in few] for label, course in courses.items()},
    x_label="iterations of SIRT",
    y_label="PSNR, dB",
    log_x=True,
    markers=False,
    title=f"SIRT on one phantom, {n_views} views, with and without the inverse crime",
    alt="PSNR against iterations: with honest data the curves level off or fall, with "
    "data from "
    "the same matrix they rise.",
)

# %%
# with the inverse crime TV's best weight is zero
iterative = [m for m in paper.baselines.METHODS if m.name not in ("fbp", "tv")]


def crime_row(m):
    row = {"": m.name.upper(), "knows": KNOWS[m]}
    for v in (5, 20):
        pair = [results.baseline(m.name, m.constraint, v, crime=crime)
                for crime in (False, True)]
        honest, same = (r["metrics"]["psnr_clipped_db"] for r in pair)
        counts = " / ".join(str(r["parameters"]["n_iter"]) for r in pair)
        row |= {f"{v} views, honest": honest, f"{v}, same matrix": same,
                f"{v}, iterations": counts}
    return row


# %% tags=["hide-input"]
figures.table(
    [crime_row(m) for m in iterative],
    digits=4,
    caption="PSNR on test phantoms, clipped, and the iterations that validation "
    "phantoms chose",
)

# %% tags=["hide-input"]
def at_cap(m, v, crime=False):
    return results.baseline(m.name, m.constraint, v, "validate", crime)["metrics"][
        "at_cap"
    ]


for v in (20, 5):
    honest, same = (
        sum(at_cap(m, v, crime) for m in iterative) for crime in (False, True)
    )
    gain = {
        m: level(m, c, v, crime=True) - level(m, c, v)
        for m, c in (("em", "nonnegative"), ("sart", "box"))
    }
    print(
        f"{v} views: the chosen number of iterations is the largest allowed for "
        f"{honest:.0f} of "
        f"{len(iterative)} methods on "
        f"honest data, for {same:.0f} with the same matrix; which gives EM "
        f"{gain['em']:+.1f} dB, "
        "SART in the box "
        f"{gain['sart']:+.1f}."
    )

# %% [markdown]
# ## Dropout: samples of what?
#
# Leave dropout on after training and every pass gives another image. Fifty passes: their mean is the reconstruction, their
# spread the uncertainty. But a field is asked *point by point*, and `nn.Dropout`, which the authors use, draws **a mask for every
# point**. Then a pass is no function of $v$: each pixel is answered by another sub-network. One mask **shared** by all points gives
# draws of one function. Here is the same field trained both ways; look at the grain.

# %%
kinds = {"pixel": "a mask for every pixel", "shared": "one mask for all pixels"}
drawn = {}
for masks in kinds:
    one = replace(setting, steps=min(steps, 500), masks=masks)
    drawn[masks] = paper.trials.passes(one, fields.FREE)[0]  # (50, 1, 1, n, n)

# %% tags=["hide-input"]
passes = [(masks, i) for masks in kinds for i in range(3)]
figures.panels(
    [drawn[masks][i] for masks, i in passes],
    [f"{kinds[masks]}, pass {i + 1}" for masks, i in passes],
    window=(0, 1),
    columns=3,
    captions=[
        f"{metrics.psnr_db(drawn[masks][i], phantom.x, 1.0).item():.1f} dB"
        for masks, i in passes
    ],
    alt="Three passes of a field with a mask for every pixel, which look grainy, and "
    "three with "
    "one mask, which do not.",
)

# %%
def neighbours(samples):
    """Correlation of deviations from the mean at neighbours: 0 for pixel noise."""
    away = samples - samples.mean(0)
    pairs = (away[..., 1:].reshape(1, -1), away[..., :-1].reshape(1, -1))
    return metrics.pearson(*pairs).item()


def moves_by(samples):
    """Relative deviation of a pass in the image, and in the sinogram."""
    away = (samples - samples.mean(0))[:, 0]
    image, views = (
        t.square().sum((1, 2, 3)).mean().sqrt() for t in (away, phantom.A(away))
    )
    return (image / phantom.x.norm()).item(), (views / phantom.y.norm()).item()


# %%
together = {masks: neighbours(samples) for masks, samples in drawn.items()}
moves = {masks: moves_by(samples) for masks, samples in drawn.items()}
for masks, (image, views) in moves.items():
    print(
        f"{kinds[masks]}: neighbouring deviations correlate with "
        f"{together[masks]:.2f}; a pass deviates by {image:.3f} in the image and by "
        f"{views:.3f} in the sinogram, {views / image:.2f} of it"
    )

# %% [markdown]
# Pixel noise is nearly invisible to a scanner: a ray sums over many pixels, and there it averages out. The loss sees only rays, so with a
# mask for every pixel it tolerates noise in the image that it would punish if it were shared. The two are different models, not two
# implementations of one. Shared draws differ mostly along edges (see the maps below), in thin
# structures, so that their neighbours do not agree as they would in a blob. The tables below use masks for every pixel, as the paper's code does.

# %%
maps = []
for samples in drawn.values():
    maps += [6 * samples.std(0), 6 * (samples.mean(0) - phantom.x).abs()]
titles = [title for kind in kinds.values()
          for title in (f"std × 6: {kind}", "|error of the mean| × 6")]
figures.panels(maps, titles, window=(0, 1), columns=2,
               alt="For both kinds of masks, the standard deviation of 50 passes and "
                   "the absolute error of their mean.")

# %%
NAMES = {"psnr_db": "PSNR of the mean, dB", "psnr_sample_db": "of one pass",
         "nll": "NLL", "ece": "ECE, δ = 0", "ece_tuned": "ECE, tuned δ",
         "ece_interior": "ECE, interior pixels",
         "coverage_interior": "90 % interval holds, interior",
         "residual": "‖A mean - y‖ / ‖y‖", "correlation": "r(std, |error|)"}
passed, rows = {}, []
for masks, samples in drawn.items():
    scores = passed[masks] = paper.trials.score(samples, phantom)
    row = {label: scores[name].item() for name, label in NAMES.items()}
    rows.append({"": kinds[masks], **row})
figures.table(rows, digits=3, caption=f"Fifty passes of one field, one phantom, "
                                      f"{n_views} views")

# %%
by_pixel, shared = (passed[masks]["psnr_db"].item() for masks in ("pixel", "shared"))
print(
    f"PSNR of the mean of 50 passes: {by_pixel:.1f} dB with a mask for every pixel, "
    f"{shared:.1f} dB with a shared one; the same field without dropout has {last:.1f} "
    "dB."
)
for masks, scores in passed.items():
    held = scores["coverage_interior"].item()
    print(
        f"{kinds[masks]}: intervals of 90 % hold {100 * held:.0f} % of the interior "
        f"pixels: {'too wide' if held > 0.9 else 'too narrow'}"
    )

# %% [markdown]
# ## Reading a reliability curve
#
# Take the central interval that holds a share $p$ of the samples at each pixel. If the samples are as they should be, it holds the truth in a share $p$ of the
# pixels: the diagonal. Below it, intervals are too narrow. The **calibration error** (ECE) is the mean distance from the diagonal over 20 levels.
#
# Two traps. About half of the pixels are *exactly* 0, a sigmoid is always above, and so no interval between its samples holds them: over all pixels even a perfect
# posterior of a field cannot reach the diagonal. And the authors' code widens every interval by a $\delta$ that is chosen to make the error
# smallest, **with the truth**. Hence three numbers: $\delta = 0$; tuned; and *interior* pixels, strictly between 0 and 1.

# %%
inside = fields.interior(phantom.x)
reliability = {}
for k, s in drawn.items():
    delta = metrics.tuned_calibration_error(s, phantom.x)[1].item()
    curve = metrics.reliability(s, phantom.x)
    reliability[f"{k}: δ = 0"] = curve.coverage[0]
    if delta:
        tuned = metrics.reliability(s, phantom.x, delta)
        reliability[f"{k}: δ = {delta:.1g}, tuned"] = tuned.coverage[0]
    within = metrics.reliability(s, phantom.x, where=inside)
    reliability[f"{k}: interior"] = within.coverage[0]
    print(f"{kinds[k]}: the δ that suits the truth best is {delta:.1g}")

# %% tags=["hide-input"]
figures.curves(
    curve.levels,
    {**reliability, "calibrated": curve.levels},
    x_label="level p of the interval",
    y_label="share of pixels it holds",
    markers=False,
    y_range=(0, 1),
    title="Reliability of dropout's samples, by masks and by which pixels count",
    alt="Share of pixels inside the central interval against its level, for both kinds "
    "of masks "
    "over all pixels, with a tuned "
    "tolerance, and over interior pixels; and the diagonal.",
)

# %%
ends = (
    metrics.reliability(drawn["pixel"], phantom.x, where=~inside).coverage.max().item()
)
outside = (~inside).float().mean()
print(
    f"pixels that are exactly 0 or 1: {100 * outside:.0f} %; the widest interval holds "
    f"{100 * ends:.0f} % of them.\nWith perfect intervals everywhere else the ECE "
    f"would still be {0.475 * outside:.3f}."
)

# %% [markdown]
# ## Bayes by backprop: two numbers that the paper does not choose
#
# Give every weight a mean and a standard deviation and fit both: minimise the data term plus $\xi$ times the divergence from the
# prior. But a data term that is a *mean* over $M$ rays, with a factor $\xi$ on the divergence, is the evidence bound for Gaussian noise of width
# $\sigma = \sqrt{M \xi}$. So the paper's grid of $\xi$ is a grid of noise widths, for data that have no noise. The table compares these widths with the data.

# %%
n_rays = phantom.y.numel()
figures.table(
    [
        {
            "ξ": f"{xi:g}",
            "noise width it stands for": bbb.likelihood_std(xi, n_rays),
            "in units of rms(y)": bbb.likelihood_std(xi, n_rays) / rms,
        }
        for xi in (1e-10, 1e-5, 0.1)
    ],
    digits=2,
    caption=f"M = {n_rays} rays, rms(y) = {rms:.3f} in units of the image's side",
)

# %% [markdown]
# The smallest says: fit everything, posterior of no width. The largest says: the data are noise. And then there is the start. A standard deviation
# is $\log(1 + e^\rho)$, and $\rho$ must start somewhere; the paper does not say where. The table shows short fits with the smallest $\xi$ from three starts of $\rho$ and
# with two priors. Compare the columns of the standard deviation before and after, and how far the PSNR moves with $\rho$ and with the prior.

# %%
TRIED = [(-7.0, 10.0), (-5.0, 10.0), (-3.0, 10.0), (-5.0, 1000.0)]  # (rho, prior_std)
short = replace(setting, method="bbb", xi=1e-10, steps=400 if standard else 10)


def bayes(setting, id, rho, prior_std):
    """Samples of Bayes by backprop; the mean standard deviation of a weight, twice."""
    one = paper.settings.Setting.of(setting)
    draws = profiles.generator(one.seed, "bayes on this page", device)
    net = bbb.BayesByBackprop(one.field(id).to(device), prior_std, rho)
    before, scan = net.std.mean().item(), one.scan(id).to(device)
    fields.fit_fields(net, scan.A, scan.y, one.steps, xi=one.xi, generator=draws)
    samples = fields.samples(net, one.image_size, paper.trials.N_SAMPLES, draws)
    return {"samples": samples, "before": before, "after": net.std.mean().item()}


# %%
weighed = {}
for rho, prior_std in TRIED:
    about = {"setting": short.parameters(), "id": fields.FREE, "rho": rho,
             "prior_std": prior_std}
    fitted = store.cached_arrays("bayes-start", about, bayes, version=1)
    weighed[rho, prior_std] = fitted
scored = {tried: {name: score.item() for name, score
                  in paper.trials.score(one["samples"].half().float(), phantom).items()}
          for tried, one in weighed.items()}

# %% tags=["hide-input"]
figures.table(
    [
        {
            "ρ starts at": f"{rho:g}",
            "prior": f"{prior:g}",
            "std of a weight, start": weighed[rho, prior]["before"],
            "after": weighed[rho, prior]["after"],
            **{
                NAMES[name]: scored[rho, prior][name]
                for name in ("psnr_db", "nll", "ece", "coverage_interior")
            },
        }
        for rho, prior in TRIED
    ],
    digits=3,
    caption=f"Bayes by backprop, ξ = 1e-10, {short.steps} steps",
)

# %% tags=["hide-input"]
samples_of = [weighed[tried]["samples"].half().float() for tried in TRIED]
figures.panels(
    [samples.mean(0) for samples in samples_of]
    + [6 * samples.std(0) for samples in samples_of],
    [f"mean, ρ = {rho:g}, prior {prior:g}" for rho, prior in TRIED]
    + ["std × 6"] * len(TRIED),
    window=(0, 1),
    columns=4,
    alt="Mean and standard deviation of Bayes by backprop for three starts of rho and "
    "two "
    "priors.",
)

# %%
by_rho = {tried: scored[tried]["psnr_db"] for tried in TRIED}
starts = [by_rho[tried] for tried in TRIED[:3]]
spread = max(starts) - min(starts)
by_prior = abs(by_rho[-5.0, 10.0] - by_rho[-5.0, 1000.0])
print(
    f"Three starts of ρ: {spread:.1f} dB apart. Two priors, a factor of 100 in width: "
    f"{by_prior:.1f} dB apart."
)

# %% [markdown]
# ## The sweep
#
# The paper tries 720 fields with dropout and 2160 with Bayes by backprop for each number of views, on a cluster. The next lines list what was run here, and what was not.

# %% tags=["hide-input"]
VIEWS, METHODS = (20, 5), {"dropout": "MC dropout", "bbb": "Bayes by backprop"}
swept = {
    (m, v): found
    for m in METHODS
    for v, found in results.exhibits(f"inr-sweep-{m}").items()
}
full = {m: paper.settings.grid(m, 20, "published") for m in METHODS}


def was_tried(arrays, axis, value):
    values = np.unique(arrays[axis][arrays["rung"] == 0])
    return (
        value in values
        if isinstance(value, str)
        else np.isclose(values, value, rtol=1e-4, atol=0).any()
    )


for (m, v), (arrays, _) in swept.items():
    axes = [
        axis
        for axis in full[m][0]
        if axis not in ("image_size", "n_frequencies", "n_views", "method")
    ]
    absent = {
        axis: [
            value
            for value in sorted({s[axis] for s in full[m]}, key=str)
            if not was_tried(arrays, axis, value)
        ]
        for axis in axes
    }
    by_rung = [arrays["steps"][arrays["rung"] == k] for k in np.unique(arrays["rung"])]
    rungs = [f"{len(done)} for {done.max():.0f} steps" for done in by_rung]
    left_out = "; ".join(
        f"{a} {', '.join(map(str, values))}" for a, values in absent.items() if values
    )
    print(
        f"{METHODS[m]}, {v} views: {len(by_rung[0])} of {len(full[m])} settings, "
        f"{arrays['image_size'].max():.0f} pixels a side, on "
        f"validation phantom 1: {', then '.join(rungs)}\n   not tried: {left_out}"
    )

# %% [markdown]
# Settings go on by *successive halving*: all of them for a few steps, the better ones for more. The best of them (of Bayes by backprop, the one best) are then trained in full on five validation
# phantoms, which choose, and on five test phantoms, which are looked at once. The box plots show the first rung, where all settings are present, as in Figures 3 and 4 of the paper; compare how far the boxes of one number of views overlap.


# %% tags=["hide-input"]
def boxes(method, axis, alt):
    """PSNR of the first rung by one axis of the grid, 5 and 20 views side by side."""
    values = {v: swept[method, v][0] for v in (5, 20) if (method, v) in swept}

    def label(value):
        return f"{value:g}" if axis == "omega0" else value

    names = sorted({a for arrays in values.values() for a in arrays[axis].tolist()})
    labels = [label(a) for a in names]
    plot = figures.bars(
        labels,
        {},
        y_label="PSNR, dB",
        x_label={"omega0": "Ω₀"}.get(axis, axis),
        title=f"{METHODS[method]}: all settings, by {axis}",
        alt=alt,
    )
    for colour, (v, arrays) in zip(("#D55E00", "#0072B2"), values.items()):
        first = (arrays["rung"] == 0) & (arrays["status"] != "failed")
        plot.add_box(
            x=[label(a) for a in arrays[axis][first].tolist()],
            y=arrays["psnr_db"][first],
            name=f"{v} views",
            marker_color=colour,
            boxpoints="all",
            jitter=0.3,
            pointpos=0,
            marker_size=3,
            line_width=1.5,
        )
    return plot.update_layout(boxmode="group").update_xaxes(
        categoryorder="array", categoryarray=labels
    )

# %%
for m in METHODS:
    for axis in ("activation", "omega0"):
        display(
            boxes(
                m,
                axis,
                f"Box plots of PSNR by {axis} for {METHODS[m]}, 5 and 20 views: the "
                "views separate, the boxes overlap.",
            )
        )

# %%
for (m, v), (arrays, _) in swept.items():
    rows = [{"activation": a, **{k: None if np.isnan(x) else x for k, x in row.items()}}
            for a, row in paper.results.ladder(arrays).items()]
    display(figures.table(rows, digits=4,
                          caption=f"{METHODS[m]}, {v} views: PSNR in dB, one phantom"))

# %% [markdown]
# What would the whole grid cost? Seconds per step are measured in the sweep, for the widths and depths that it has. The others are timed here against one of those, in
# turns; width 1024 at depth 3 only.


# %% tags=["hide-input"]
def step_ratio(width, depth, rounds):
    """Return the seconds of a step, one thread, relative to width 64 and depth 3."""
    threads, taken = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    shapes = {(width, depth): 1, (64, 3): 8}  # steps of a fit
    ones = {
        shape: replace(
            setting,
            method="dropout",
            width=shape[0],
            depth=shape[1],
            p=0.2,
            activation="silu",
            omega0=5.0,
            seed=0,
            n_views=20,
        )
        for shape in shapes
    }
    nets = {shape: one.field(fields.FREE) for shape, one in ones.items()}
    for _ in range(rounds):
        for shape, n_steps in shapes.items():
            nets[shape].features(n)  # what is done once for all steps is done before
            views = ones[shape].scan(fields.FREE)
            seconds = fields.fit_fields(nets[shape], views.A, views.y, n_steps).seconds
            taken.setdefault(shape, []).append(
                seconds / (n_steps + 1 / 3)
            )  # a fit ends with a pass, a third of a step
    torch.set_num_threads(threads)
    return {"ratio": min(taken[width, depth]) / min(taken[64, 3])}


def ratio(width, depth, rounds):
    about = {"width": width, "depth": depth, "rounds": rounds}
    return store.cached_arrays("step-ratio", about, step_ratio, version=1)["ratio"]


shapes, whole = {}, profiles.stage("inr", recorded)
if ("dropout", 20) in swept:
    measured = swept["dropout", 20][0]
    for shape in dict.fromkeys(
        zip(
            measured["width"].astype(int).tolist(),
            measured["depth"].astype(int).tolist(),
        )
    ):
        these = (
            (measured["width"] == shape[0])
            & (measured["depth"] == shape[1])
            & (measured["status"] != "failed")
        )
        shapes[shape] = float(
            np.median(measured["training_s"][these] / measured["steps"][these])
        )
if standard and recorded == "standard" and (64, 3) in shapes:
    ask = [(w, d) for w in (16, 64, 256) for d in (3, 6, 9) if (w, d) not in shapes]
    shapes |= {(w, d): shapes[64, 3] * ratio(w, d, 3) for w, d in ask}
    wide = shapes[64, 3] * ratio(1024, 3, 1)
    shapes |= {
        (1024, d): wide * d / 3 for d in (3, 6, 9)
    }  # matrix products are all that counts at this width
print(
    "seconds per step at (width, depth): "
    + ", ".join(f"{shape} {s:.3g}" for shape, s in sorted(shapes.items()))
)

# %% tags=["hide-input"]
if shapes:
    n_ids = len(whole.validation)
    costs = sweep.cost(shapes, whole.final_steps, n_ids, (1, 8, 64))
    display(
        figures.table(
            [
                {
                    "": row["sweep"],
                    "settings": row["configurations"],
                    "runs": row["runs"],
                    "longest run, h": row["longest_run_hours"],
                    "share of the widest": row["widest_share"],
                    **{f"hours on {w}": row[f"hours_on_{w}"] for w in (1, 8, 64)},
                }
                for row in costs.to_dict("records")
            ],
            digits=3,
            caption=f"The paper's whole grid for one number of views, every setting on "
            f"{n_ids} "
            "phantoms, "
            f"{whole.final_steps} steps, {whole.image_size} x {whole.image_size} "
            "pixels, widths "
            f"{sorted({w for w, _ in shapes})}; workers of one thread",
        )
    )

# %% [markdown]
# A worker here is one thread of this machine's CPU; on it, the widest networks are nearly all of the bill, which a GPU pays in another currency. The full grid at 256
# pixels and 15 000 steps is 16 times the pixels and 15 times the steps of this.
#
# ## Table 1, ours beside the paper's
#
# Ours have 64 pixels a side, narrower networks, 1000 steps and honest data; of the paper, image size, steps and learning rates are unknown. So compare
# *orders*. Brackets: 95 % bootstrap intervals over five phantoms. A deep ensemble pools samples of the best distinct architectures, 50 in all.


# %% tags=["hide-input"]
LEARNED = {
    "dropout": "MC dropout",
    "bbb": "Bayes by backprop",
    **{f"ensemble-{k}": f"ensemble of {k}" for k in (2, 5, 10)},
}
SCORES = {
    "psnr_db": ("PSNR", "value", 2),
    "nll": ("NLL", "nll", 2),
    "ece_tuned": ("ECE, tuned", "ece", 3),
}
table1, missing = results.table1, results.missing
chains = {v: {} for v in VIEWS}
for r in store.records(experiment="hmc", profile=recorded):
    about = r["parameters"]
    chains[about["n_views"]][about["sigma"], about["id"]] = r
missing += [f"records of {v} views" for v in VIEWS if not table1[v]]

# %% tags=["hide-input"]
def bracket(metrics, name, digits):
    ends = metrics.get(f"{name}_ci")
    return f"{metrics[name]:.{digits}f}" + (
        f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else ""
    )


def row_of(label, r):
    """One line of Table 1: ours with intervals, and the paper's."""
    m, printed, row = r["metrics"], r["paper"] or {}, {"": label}
    for name, (head, key, digits) in SCORES.items():
        theirs = "" if printed.get(key) is None else f"{printed[key]:.{digits}f}"
        row |= {head: bracket(m, name, digits), f"paper's {head}": theirs}
    return {
        **row,
        "ECE, δ = 0": f"{m['ece']:.3f}",
        "ECE, interior": f"{m['ece_interior']:.3f}",
    }


def table_one(v, split):
    rows = [
        row_of(label, table1[v][method, split])
        for method, label in LEARNED.items()
        if (method, split) in table1[v]
    ]
    if split == "test":
        rows += [
            row_of(f"HMC*, σ = {sigma:g} rms(y), phantom {id}", r)
            for (sigma, id), r in chains[v].items()
        ]
    for m, knows in KNOWS.items():
        if (m.name, m.constraint) in (
            ("sirt", "nonnegative"),
            ("sart", "box"),
            ("tv", "none"),
        ):
            r = results.baseline(m.name, m.constraint, v, split)
            rows.append(
                {
                    **dict.fromkeys(rows[0] if rows else [], ""),
                    "": f"{m.name.upper()}, {knows}",
                    "PSNR": bracket(r["metrics"], "psnr_clipped_db", 2),
                    "paper's PSNR": f"{r['paper']['value']:.2f}" if r["paper"] else "",
                }
            )
    return figures.table(
        rows,
        caption=f"{v} views, {split} phantoms. * HMC: one phantom outside both sets, "
        "here and in "
        "the paper",
    )

# %%
made = {
    (r["created"][:10], r["device"], r["profile"])
    for v in VIEWS
    for r in table1[v].values()
}
days = [
    f"{day} on {device} at {at_profile}" for day, device, at_profile in sorted(made)
]
print("records made", "; ".join(days))
for v in VIEWS:
    display(table_one(v, "test"))

# %%
for v in VIEWS:
    display(table_one(v, "validate"))

# %%
for v in VIEWS:
    for method, own in (("dropout", ("p",)), ("bbb", ("prior_std", "xi", "rho"))):
        if (method, "test") in table1[v]:
            about = table1[v][method, "test"]["parameters"]
            names = ("activation", "width", "depth", "omega0", *own)
            print(f"{v} views, {LEARNED[method]}, chosen on validation phantoms: "
                  + ", ".join(f"{name} {about[name]}" for name in names))

# %% [markdown]
# [Hamiltonian Monte Carlo](11_hamiltonian_monte_carlo) has a chapter of its own. The pictures of Figure 2, on test phantom 6: reconstruction with its error, and the
# standard deviation of the samples, all three methods through the same windows.

# %% tags=["hide-input"]
panels = results.exhibits("inr-panels")
pooled = next(
    (
        name
        for arrays, _ in panels.values()
        for name in arrays
        if name.startswith("std_ensemble")
    ),
    "std_ensemble5",
)[4:]
SHOWN = {
    "dropout": "MC dropout",
    pooled: f"ensemble of {pooled.removeprefix('ensemble')}",
    "bbb": "Bayes by backprop",
}
pictures = {
    v: {
        name: torch.as_tensor(array).float().squeeze() for name, array in arrays.items()
    }
    for v, (arrays, _) in panels.items()
}
for v, shown in pictures.items():
    means = [shown[f"mean_{m}"] for m in SHOWN]
    truth = shown["truth"][None]
    scores = [metrics.psnr_db(mean[None], truth, 1.0).item() for mean in means]
    display(
        figures.panels(
            [*means, shown["truth"]],
            [*SHOWN.values(), "truth"],
            window=(0, 1),
            error_of=3,
            columns=4,
            captions=[*(f"{score:.1f} dB" for score in scores), ""],
            alt=f"{v} views: reconstructions by dropout, an ensemble and Bayes by "
            "backprop, the "
            "truth, and errors.",
        )
    )

# %% tags=["hide-input"]
for v, shown in pictures.items():
    spreads = [shown[f"std_{m}"] for m in SHOWN]
    wrong = [(shown[f"mean_{m}"] - shown["truth"]).abs() for m in SHOWN]
    top = max(float(s.max()) for s in spreads)
    follows = [
        f"r = {metrics.pearson(s[None], e[None]).item():.2f}"
        for s, e in zip(spreads, wrong)
    ]
    display(
        figures.panels(
            [*spreads, *wrong],
            [*(f"std, {label}" for label in SHOWN.values()), *["|error|"] * len(SHOWN)],
            window=(0, top),
            columns=3,
            captions=[*[""] * len(SHOWN), *follows],
            alt=f"{v} views: standard deviation of each method's samples and its "
            "absolute error, "
            "one grey scale.",
        )
    )

# %% [markdown]
# The reliability curves say whether the samples deserve their spread: mean over the five test phantoms, all pixels beside interior ones.

# %%
levels = np.arange(20) / 20
WHERE = {"all pixels": "coverage", "interior pixels": "coverage_interior"}
for v, (arrays, _) in panels.items():
    for where, name in WHERE.items():
        curves = {label: np.asarray(arrays[f"{name}_{m}"], dtype=float).mean(0)
                  for m, label in SHOWN.items()}
        display(figures.curves(
            levels, {**curves, "calibrated": levels}, x_label="level p of the interval",
            y_label="share of pixels it holds", markers=False, y_range=(0, 1),
            height=360, title=f"{v} views, {where}",
            alt=f"Reliability curves of three methods with {v} views over {where}, and "
                "the diagonal."))

# %% [markdown]
# ## A real slice and a measured tooth
#
# Off the phantoms: CT slices at 60 views with noise of 1 % (40 dB), and 20 of the 181 views of a tooth that was really scanned. A field with dropout beside filtered
# back-projection, SIRT in the box and total variation, all on the same data. Of the tooth there is no truth: the reference is filtered back-projection of
# the *whole* scan, noisy itself. $\Omega_0$, iterations and TV's weight were chosen on one validation slice, for the tooth, too. The tooth is shown as recorded. The slice may not be
# stored, so its field is trained now, and not for as long as that of the table.


# %%
def on_real(setting, name, profile):
    """Mean and standard deviation of a field's passes on real data."""
    one, scan = paper.settings.Setting.of(setting), paper.real_data.scan(name, profile)
    passes, _ = paper.trials.train([one], scan, [fields.FREE])
    return {"mean": passes.mean(0), "std": passes.std(0)}


last_of = {(r["parameters"]["data"], r["method"], r["parameters"].get("p", 0)): r
           for r in paper.real_data.stored(recorded)}
at_profile = recorded if standard else "smoke"

# %% tags=["hide-input"]
RIVALS = {m: f"{m.name.upper()}, {KNOWS[m]}" for m in paper.real_data.METHODS[1:]}


def trained_now(name, steps):
    """The scan and what a field, SIRT and TV make of it now."""
    one = paper.real_data.scan(name, at_profile)
    if standard:
        about = replace(
            paper.settings.Setting.of(last_of[name, "dropout", 0.2]["parameters"]),
            steps=steps,
        )
        images = {
            RIVALS[m]: paper.baselines.solve(
                m, one, last_of[name, m.name, 0]["metrics"]["chosen"]
            )
            for m in RIVALS
        }
    else:
        about = paper.real_data.setting(name, "smoke")
        images = {
            RIVALS[m]: paper.real_data.classical(m, name, "smoke")[0] for m in RIVALS
        }
    parameters = {"setting": about.parameters(), "name": name, "profile": at_profile}
    field_of = store.cached_arrays("field-on-real-data", parameters, on_real, version=1)
    return (
        one.name,
        one.x,
        {f"field, {about.steps} steps": field_of["mean"], **images},
        field_of["std"],
    )


def from_exhibit(arrays, about):
    """The same as recorded, trained in full."""
    images = {
        name: torch.as_tensor(array).float()[None, None]
        for name, array in arrays.items()
    }
    methods = {RIVALS[m]: images[m.name] for m in RIVALS}
    title = f"{about['data'][0]}, recorded {about['created'][:10]}"
    return (
        title,
        images["reference"],
        {"field, MC dropout": images["mean"], **methods},
        images["std"],
    )


tooth, shown = results.exhibit("inr-tooth") if standard else None, {}
for name in ("aapm 0", "tooth"):
    try:
        shown[name] = (
            from_exhibit(*tooth)
            if name == "tooth" and tooth
            else trained_now(name, 200)
        )
    except (data.DataUnavailable, KeyError) as reason:
        missing += [name] * isinstance(reason, KeyError)
        print(f"{name} is left out: {reason}")

# %% tags=["hide-input"]
for name, (title, x, images, _) in shown.items():
    captions = [
        *(
            f"{metrics.psnr_db(x_rec, x, 1.0).item():.1f} dB"
            for x_rec in images.values()
        ),
        "",
    ]
    display(
        figures.panels(
            [*images.values(), x],
            [*images, "reference" if name == "tooth" else "truth"],
            window=(0, 1),
            error_of=3,
            columns=4,
            caption=title,
            lossless=not title.startswith("AAPM"),
            captions=captions,
            alt=f"{title}: a field with dropout, SIRT in the box, total variation and "
            "the "
            "reference, with errors.",
        )
    )

# %% tags=["hide-input"]
for title, x, images, spread_of in shown.values():
    error = (next(iter(images.values())) - x).abs()
    display(
        figures.panels(
            [6 * spread_of, 6 * error],
            ["std of 50 passes × 6", "|error| × 6"],
            window=(0, 1),
            columns=2,
            caption=title,
            lossless=not title.startswith("AAPM"),
            captions=["", f"r = {metrics.pearson(spread_of, error).item():.2f}"],
            alt=f"{title}: spread of the field's passes and error of their mean.",
        )
    )

# %% tags=["hide-input"]
LABELS = {
    ("dropout", 0.2): "field, MC dropout",
    ("dropout", 0.0): "field, no dropout",
    ("fbp", 0): "FBP",
    ("sirt", 0): "SIRT, 0 ≤ x ≤ 1",
    ("tv", 0): "TV, few edges",
}
on_data = {}
for name in dict.fromkeys(name for name, *_ in sorted(last_of)):
    row = {
        LABELS[key]: last_of[name, *key]["metrics"]
        for key in LABELS
        if (name, *key) in last_of
    }
    on_data[name] = {
        "": name,
        **{
            f"{label}, dB": m.get("psnr_clipped_db", m["psnr_db"])
            for label, m in row.items()
        },
    }
    if "field, MC dropout" in row:
        on_data[name] |= {
            "r(std, |error|)": row["field, MC dropout"]["correlation"],
            "90 % interval holds": row["field, MC dropout"]["coverage_interior"],
        }
if on_data:
    display(
        figures.table(
            list(on_data.values()),
            digits=4,
            caption="Recorded: PSNR, clipped to [0, 1], and dropout's spread",
        )
    )

# %%
for name, row in on_data.items():
    heads = [head for head in row if head.endswith(", dB")]
    order = sorted(heads, key=row.get, reverse=True)
    print(f"{name}: " + " > ".join(f"{head[:-4]} {row[head]:.1f}" for head in order))

# %% [markdown]
# ## The paper's claims
#
# Each against our records. Means of five phantoms are compared *per phantom*: the interval is that of the differences.


# %%
def said(d, digits=2, unit=" dB"):
    return f"{d.mean:+.{digits}f}{unit} [{d.low:+.{digits}f}, {d.high:+.{digits}f}]"


def judge(text, holds, ours, theirs, reason):
    """A claim of the paper: kept, or a finding."""
    if holds:
        claim(f"{text} ({ours})", True, at_least="smoke")  # of records
    else:
        report.differs(text, ours=ours, theirs=theirs, reason=reason)


needed = {(method, "test") for method in ("dropout", "bbb", "ensemble-2")}
tabled = [v for v in VIEWS if needed <= set(table1[v])]


# %% tags=["hide-input"]
def singles(v):
    """PSNR of every single field with dropout on validation phantoms, best first."""
    rows = [
        r
        for r in store.records(experiment="inr", method="dropout", profile=recorded)
        if r["parameters"].get("n_views") == v
        and r["parameters"].get("split") == "validate"
        and "data" not in r["parameters"]
    ]
    return ", ".join(
        f"{q:.1f}"
        for q in sorted((r["metrics"]["psnr_db"] for r in rows), reverse=True)
    )

# %% [markdown]
# **MC dropout is far ahead of Bayes by backprop; ensembles of five and ten are the best.**

# %% tags=["hide-input"]
for v in tabled:
    d, nll, ece = (
        results.difference(v, "dropout", "bbb", name)
        for name in ("psnr_db", "nll", "ece_interior")
    )
    theirs = {method: paper.published.FIELDS[method, v][1] for method in METHODS}
    judge(
        f"MC dropout is far ahead of Bayes by backprop, {v} views",
        d.low > 0,
        f"PSNR {said(d)}, NLL {said(nll, 2, '')}, ECE on interior pixels "
        f"{said(ece, 3, '')}",
        f"PSNR {theirs['dropout'][0] - theirs['bbb'][0]:+.2f} dB, NLL "
        f"{theirs['dropout'][1] - theirs['bbb'][1]:+.2f} (Table 1, test)",
        f"the start of ρ: {table1[v]['bbb', 'test']['parameters']['rho']:g} here, "
        "narrow enough "
        "to leave the fit alone; not said there",
    )

# %%
BETTER = {"psnr_db": ("PSNR, dB", 1, 2), "nll": ("NLL", -1, 2),
          "ece_tuned": ("ECE, tuned", -1, 3), "ece_interior": ("ECE, interior", -1, 3)}
gained, rows = {}, []
for v, k in [(v, k) for v in tabled for k in (2, 5, 10)]:
    if (f"ensemble-{k}", "test") in table1[v]:
        gains = gained[v, k] = {
            name: results.difference(v, f"ensemble-{k}", "dropout", name)
            for name in BETTER}
        row = {f"{head}, paired": said(gains[name], digits, "")
               for name, (head, _, digits) in BETTER.items()}
        rows.append({"": f"{v} views, ensemble of {k}", **row})
if rows:
    display(figures.table(
        rows, caption="Ensemble minus the best single field with dropout, mean over "
                      "test phantoms with 95 % intervals"))

# %% tags=["hide-input"]
for v in tabled:
    signed = [
        (d, BETTER[name][1])
        for (at_v, k), gains in gained.items()
        if at_v == v and k > 2
        for name, d in gains.items()
    ]
    better = sum((d.low if sign > 0 else -d.high) > 0 for d, sign in signed)
    worse = sum((d.high if sign > 0 else -d.low) < 0 for d, sign in signed)
    judge(
        f"ensembles of five and ten are better than one field in everything, {v} views",
        0 < len(signed) == better,
        f"{better} of {len(signed)} differences are beyond doubt better, {worse} worse",
        "better in PSNR, NLL and ECE (Table 1)",
        "five phantoms leave most differences open"
        if not worse
        else f"members are unequal: alone they have {singles(v)} dB on validation "
        "phantoms",
    )

# %% [markdown]
# **Sine gives the best single field; SiLU, tanh and ReLU are more consistent.** From the sweep: one phantom, each setting once, so no intervals.

# %% tags=["hide-input"]
for v in [v for v in VIEWS if ("dropout", v) in swept]:
    rungs = paper.results.ladder(swept["dropout", v][0])
    top = {
        a: np.nanmax([row["best"], row["best of the last rung"]])
        for a, row in rungs.items()
    }
    order = sorted(top, key=top.get, reverse=True)
    judge(
        f"sine has the best single setting, {v} views",
        order[0] == "sine",
        ", ".join(f"{a} {top[a]:.2f}" for a in order) + " dB",
        "sine has the best (Section 3)",
        "short trainings favour activations that learn fast, at learning rates that "
        "are ours, "
        "not the paper's",
    )
    wide = {a: row["quartile range"] for a, row in rungs.items()}
    judge(
        f"SiLU, tanh and ReLU vary less over the grid than sine, {v} views",
        max(wide[a] for a in ("silu", "tanh", "relu")) < wide["sine"],
        "quartile ranges "
        + ", ".join(
            f"{a} {w:.2f}" for a, w in sorted(wide.items(), key=lambda item: item[1])
        )
        + " dB",
        "they are more consistent (Figure 3)",
        "after few steps a setting that has learnt nothing yet is consistent, too; and "
        "the range depends on the grid and on learning rates, which are tuned for each "
        "activation here",
    )

# %% [markdown]
# **$\Omega_0$ must suit the number of views**: more views, higher frequencies.

# %%
if {("dropout", 20), ("dropout", 5)} <= set(swept):
    few, many = (
        paper.results.favourite_omega0(swept["dropout", v][0]) for v in (5, 20)
    )
    shift = [many[a] - few[a] for a in few]
    judge(
        "the best Ω₀ grows with the number of views",
        min(shift) >= 0 < max(shift),
        "best median at 5 -> 20 views: "
        + ", ".join(f"{a} {few[a]:g} -> {many[a]:g}" for a in few),
        "it must be matched to the views (Figure 4)",
        "a grid of four values, one phantom and 200 steps, in which small Ω₀ are also "
        "slow to learn",
    )

# %% [markdown]
# **Fields beat classical methods.** The field that is best on validation phantoms, against classical methods on the same test phantoms, pixels and data.

# %% tags=["hide-input"]
for v in tabled:
    field_name = results.best(v)
    best_classical = max(CLASSICAL[v, m][1] for m in ("em", "sart", "sirt"))
    theirs = paper.published.FIELDS[field_name, v][1][0] - best_classical
    for knows in dict.fromkeys(KNOWS.values()):
        on_validation = {
            m: level(m.name, m.constraint, v, split="validate")
            for m in KNOWS
            if KNOWS[m] == knows
        }
        rival = max(on_validation, key=on_validation.get)
        d = results.difference(v, field_name, (rival.name, rival.constraint))
        judge(
            f"the best field ({LEARNED[field_name]}) beats the best classical method "
            "that knows "
            f"{knows} ({rival.name.upper()}), "
            f"{v} views",
            d.low > 0,
            said(d),
            f"{theirs:+.2f} dB to its best classical method",
            "the interval holds 0: five phantoms do not tell"
            if d.low < 0 < d.high
            else "the paper's rivals knew neither the box nor TV; or its longer "
            "trainings and "
            "larger networks make the difference",
        )

# %% [markdown]
# ## Claims
#
# What holds on this page for the field that was trained on it, and of the classical methods' records.

# %%
claim("with a mask for every pixel neighbours deviate independently, with a shared one "
      "together", abs(together["pixel"]) < 0.05 and together["shared"] > 0.2)
seen = {masks: views / image for masks, (image, views) in moves.items()}
claim("the scanner hardly sees the noise of masks for every pixel",
      seen["pixel"] < seen["shared"])
claim("no interval of a field's samples holds a pixel that is exactly 0 or 1",
      ends < 0.05, at_least="smoke")

# %%
if usual:
    claim("the residual falls by a factor of ten or more",
          residuals[-1] < residuals[0] / 10)
    claim("the start of ρ moves Bayes by backprop further than a prior a hundred times "
          "as wide", spread > 3 * by_prior)
    moved = [one["after"] / one["before"] - 1 for one in weighed.values()]
    claim("whatever the start of ρ, the spread of the weights moves by less than a "
          "fifth", all(abs(share) < 0.2 for share in moved))

# %%
for v in VIEWS:
    cgls, steps_up = level("cgls", "none", v), []
    for m in ("sirt", "sart"):
        steps_up.append([level(m, constraint, v) for constraint in CONSTRAINTS])
    claim(f"SIRT and SART without a constraint are where CGLS is, {v} views",
          all(abs(free - cgls) < 0.5 for free, _, _ in steps_up), at_least="smoke")
    claim(f"x ≥ 0 is worth more than 3 dB, the box never loses, {v} views",
          all(free + 3 < positive <= boxed for free, positive, boxed in steps_up),
          at_least="smoke")

# %%
if recorded == "standard":
    honest = [at_cap(m, 20) for m in iterative]
    same = [at_cap(m, 20, crime=True) for m in iterative]
    claim("at 20 views the inverse crime makes all iterative methods wish for more "
          "iterations, honest data but few of them",
          all(same) and sum(honest) <= 2, at_least="smoke")
    claim("at 20 views SART in the box is within 2 dB of the paper's MC dropout",
          abs(level("sart", "box", 20) - DROPOUT[20]) < 2, at_least="smoke")
if missing:
    print(f"not computed yet: {missing}; python -m instab_utils.papers vasconcelos2021 "
          f"all --profile {recorded}")
claim("everything that this page shows was computed", not missing)

# %% [markdown]
# ## Exercises
#
# **1.** Halve all frequencies $B$ of the trained field and keep its weights. What will its image be? Predict first.

# %% tags=["hide-cell"]
line, field = torch.linspace(-1, 1, n), field.cpu()
points = torch.stack([line.repeat(n), line.repeat_interleave(n)], 1)
with torch.no_grad():
    middle = field(points / 2).view(
        1, 1, n, n
    )  # the field as it is, asked on the middle half
    before = phantom.A(field.render(n)) - phantom.y
    field.frequencies.mul_(0.5)
    zoomed = field.render(n)
    after = phantom.A(zoomed) - phantom.y
assert (zoomed - middle).abs().max() < 1e-3
print(
    "γ at v with B / 2 is γ at v / 2 with B: the middle of the image, twice as large. "
    "The "
    "residual goes from "
    f"{(before.norm() / phantom.y.norm()).item():.3f} to "
    f"{(after.norm() / phantom.y.norm()).item():.3f}"
)

# %% [markdown]
# **2.** Perfect samples, drawn exactly as the truth is: what calibration error do 50 of them get, what do 10? (The interval ends are samples, and a sample
# misses on both sides.)

# %% tags=["hide-cell"]
draw = profiles.generator(seed, "exercise 2")
for count in (20, 50):
    error = metrics.calibration_error(
        torch.randn(count, 1, 200, 200, generator=draw),
        torch.randn(1, 200, 200, generator=draw),
    ).item()
    assert abs(error - 0.95 / (count + 1)) < 0.006
    print(
        f"{count} samples: ECE {error:.4f}; 0.95 / (n + 1) = {0.95 / (count + 1):.4f}"
    )

# %% [markdown]
# **3.** Let samples be perfect, but 50 % of the pixels exactly 0 with samples that are all positive, however small. What is the ECE at $\delta = 0$, and after tuning
# $\delta$? Which of the two needs the truth?

# %% tags=["hide-cell"]
x = torch.randn(1, 200, 200, generator=draw)
samples = torch.randn(50, 1, 200, 200, generator=draw)
x[:, :100], samples[:, :, :100] = (
    0.0,
    1e-6 * torch.rand(50, 1, 100, 200, generator=draw),
)
strict, (best_error, best_delta) = (
    metrics.calibration_error(samples, x).item(),
    metrics.tuned_calibration_error(samples, x),
)
assert abs(strict - 0.475 / 2) < 0.02 and best_error.item() < strict
print(
    f"ECE {strict:.3f} at δ = 0: half the pixels fail at every level. Tuned to δ = "
    f"{best_delta.item():.0e}: {best_error.item():.3f}. "
    "δ was chosen with the help of x."
)

# %% [markdown]
# ## References
#
# The paper: {cite:t}`vasconcelos2021`; with the code that fills its gaps: {cite:t}`vasconcelos2023`. Dropout as Bayesian approximation: {cite:t}`gal2016`.
# Bayes by backprop: {cite:t}`blundell2015`; deep ensembles: {cite:t}`lakshminarayanan2017`. Adam: {cite:t}`kingma2015`. The phantom: {cite:t}`shepp1974`. SIRT, SART, EM, CGLS: {cite:t}`gilbert1972`, {cite:t}`andersen1984`, {cite:t}`shepp1982`,
# {cite:t}`hestenes1952`. Total variation: {cite:t}`rudin1992`. The slice: {cite:t}`mccollough2017`; the tooth: {cite:t}`gursoy2014`.
