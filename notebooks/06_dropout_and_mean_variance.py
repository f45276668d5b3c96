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
# # Dropout and mean-variance
#
# **What you will see**
# - Two cheap ways to get an error bar for every pixel. *MC dropout* asks one network many times, each time with parts of it switched
#   off, and takes the disagreement. *Mean-variance* gives the network a second output and lets it learn how large its errors are.
# - How many times one has to ask, and a detail that decides what a *change* of such a map means: whether the same parts are
#   switched off before and after.
# - A loss that is printed in one form, coded in another and derived in a third, and what each of them makes of the error bars. Then
#   both methods against the error that they are meant to know.
#
# **Needs** [trained networks](03_training_denoisers_and_post_processors). Measured minutes and memory per profile:
# [status](../book/status.md). Whether these maps raise an alarm when a reconstruction fails is a chapter of its own.

# %% tags=["parameters"]
profile = "standard"  # smoke: seconds, proves that it runs · standard: shipped weights · paper: trained at the paper's scale, on a GPU
seed = 0  # of the networks and of every random draw of this chapter
task = "denoising"  # denoising: DnCNN · ct_limited: the limited-angle U-Net
n_passes = 128  # passes with dropout; the paper has 128 for denoising and 16 for CT (smoke: 8 at most)
penalty = 1.0  # weight of the log variance in the shipped network's loss; 3 in the authors' code (trains it if it does not ship)

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("denoising", "ct_limited")})

# %%
import inspect
import time

import torch

from instab_utils import data, figures, metrics, report, store, training, widgets
from instab_utils.networks import layers
from instab_utils.training import SIGMA
from instab_utils.uncertainty import Prediction, detection, dropout, fits, null_detectors, probout

budget = profiles.get(profile)
claim = report.claims(profile)
standard = budget.at_least("standard")
name = {"denoising": "dncnn", "ct_limited": "unet-limited"}[task]
title = training.TITLES[name]
T = n_passes if standard else min(n_passes, 8)
print(f"profile {profile}, data: {data.situation()}; network: {title}, {T} passes")

# %%
recipe = training.recipe(name, profile, seed)
net = store.load_or_train(recipe, progress=False).network
what = training.task(name, 180 if name == "dncnn" else recipe.image_size)
source = training.test_images(what, 1)[1]
lossless = not source.startswith("AAPM")  # those may be printed, but not handed on
small = 48 if name == "dncnn" and not standard else None
x_in, x = fits.inputs(recipe, 2 * budget.n_images, "test", image_size=small)
side = 96 if task == "denoising" else x.shape[-1]
spot, spot_x = x_in[:1, :, :side, :side], x[:1, :, :side, :side]  # what many passes are taken of
with torch.no_grad():
    f_x, f_spot = net(x_in), net(spot)
print(f"tested on {len(x)} {source}, {x.shape[-1]} pixels a side")

# %% [markdown]
# ## A network that disagrees with itself
#
# **Dropout** {cite:p}`srivastava2014` switches off a random share of a layer's values while a network *trains*, so that no value can be relied on alone, and
# scales up the rest. In use it is off. The layer is short:

# %%
print(inspect.getsource(layers.Dropout.forward))

# %% [markdown]
# **MC dropout** {cite:p}`gal2016` leaves it on in use. Each of $T$ passes draws new **masks** (what is off), so each answers a little differently, $f_1(x), \dots, f_T(x)$. The reconstruction
# stays that of the whole network; the disagreement is the uncertainty,
#
# $$ u(x) = \frac{1}{T-1} \sum_{t=1}^T \Big( f_t(x) - \frac1T \sum_{\tau=1}^T f_\tau(x) \Big)^2 . $$
#
# One picture, one pass, and what the passes disagree about:

# %%
masks = {draw: dropout.MCDropout(net, T, profiles.generator(seed, f"masks {draw}")) for draw in "AB"}
passes = {draw: m.passes(spot)[:, 0] for draw, m in masks.items()}  # f_1(x), ..., f_T(x), twice
one, average, std = (t[None, None] for t in (passes["A"][0], passes["A"].mean(0), passes["A"].std(0)))
SCALE, FAINT = 4, 12  # brightness of errors, and of what dropout does, which is fainter
db = {key: metrics.psnr_db(image, spot_x).item() for key, image in
      {"the whole network": f_spot, "one pass": one, "mean of the passes": average}.items()}
figures.panels(
    [spot, f_spot, one, FAINT * (one - f_spot).abs(), FAINT * std, SCALE * (f_spot - spot_x).abs()],
    ["input", "the whole network", "one pass", f"|pass − whole| × {FAINT}", f"std of {T} passes × {FAINT}", f"|error| × {SCALE}"],
    captions=["", *(f"{db[k]:.1f} dB" for k in ("the whole network", "one pass")), "", f"mean {std.mean():.4f}",
              f"mean {(f_spot - spot_x).abs().mean():.4f}"],
    window=(0, 1), columns=3, lossless=lossless,
    alt="Input, the network's answer, one pass with dropout, what dropout changed, the standard deviation of all passes, the error.")

# %%
print(f"dropout {recipe.architecture['dropout']:g} of the values; " + ", ".join(f"{k} {v:.2f} dB" for k, v in db.items()))
print(f"mean standard deviation {std.mean():.4f}, root mean square error {(f_spot - spot_x).square().mean().sqrt():.4f}")

# %% [markdown]
# The disagreement is real, but its *size* is the doing of a fraction that somebody chose for training: drop twice as much and $u$ grows, though the
# network knows no less. Its *pattern* may mean something. What, is asked further down; first, how well is it known at all?
#
# ## How many passes?
#
# A variance from $T$ samples is itself random. For Gaussian samples its relative error is $\sqrt{2 / (T - 1)}$. Ask twice, with
# independent masks A and B, and correlate the two maps: below 1, the rest is noise of sampling. The dashed prediction has this formula, and from the two maps
# themselves how much $u$ truly varies over the image.

# %%
counts = [t for t in (2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= T]


def u(samples, t):
    """Variance of the first t passes, as a batch of one map."""
    return samples[:t].var(0)[None, None]


a, b = u(passes["A"], T), u(passes["B"], T)
true_spread, true_square = ((a - a.mean()) * (b - b.mean())).mean(), (a * b).mean()
agree = [metrics.pearson(u(passes["A"], t), u(passes["B"], t)).item() for t in counts]
predicted = [(true_spread / (true_spread + 2 * true_square / (t - 1))).item() for t in counts]
figures.curves(counts, {"two draws of the masks": agree, "predicted": predicted}, x_label="passes T", y_label="correlation of the two maps",
               log_x=True, y_range=(0, 1), height=340, title="The same question asked twice",
               alt="Correlation of two independently drawn variance maps against the number of passes: rising from low values towards one.")

# %% [markdown]
# ## The same masks or fresh ones?
#
# To use $u$ as an alarm, the INN paper compares it before and after a change of the input, $|u(x') - u(x)|$. Are the masks the same both
# times? The paper does not say; code that simply calls the network again takes fresh ones. It matters: with fresh masks the difference of two maps is not zero
# even for $x' = x$. Its noise is about $\sqrt{4 / (T - 1)}$ of $u$ itself, and a small change drowns in it. Here a square of the input
# gets noisier:

# %%
where = torch.zeros_like(spot, dtype=torch.bool)
where[..., side // 3 : side // 3 + side // 4, side // 3 : side // 3 + side // 4] = True
extra = SIGMA * torch.randn(spot.shape, generator=profiles.generator(seed, "extra noise"))
changed = torch.where(where, spot + extra, spot)
changed = changed.clamp(0, 1) if task == "denoising" else changed
after = {draw: m.passes(changed)[:, 0] for draw, m in masks.items()}
with torch.no_grad():
    moved = (net(changed) - f_spot).abs()


def alarm(before_by, after_by, t):
    return (u(after[after_by], t) - u(passes[before_by], t)).abs()


alarms = {"same masks": lambda t: [alarm("A", "A", t), alarm("B", "B", t)],
          "fresh masks": lambda t: [alarm("A", "B", t), alarm("B", "A", t)]}
pictures = [("input, changed", changed), ("change of f", moved / moved.amax())]
for how, of in alarms.items():
    pictures += [(f"{how}, T = {t}", of(t)[0] / of(t)[0].flatten().quantile(0.995)) for t in (counts[len(counts) // 2], T)]
figures.panels([p for _, p in pictures], [label for label, _ in pictures], window=(0, 1), columns=3, lossless=lossless,
               caption="Alarms |u(x') − u(x)|, each map with its own brightness.",
               alt="A changed input, the change of the reconstruction, and alarms with the same and with fresh masks, few and many passes: "
                   "with the same masks only the square lights up, with fresh ones the whole image does.")

# %%
follows = {how: [sum(metrics.pearson(m, moved).item() for m in of(t)) / 2 for t in counts] for how, of in alarms.items()}
outside = {how: [sum((m[~where].mean() / u(passes["A"], T)[~where].mean()).item() for m in of(t)) / 2 for t in counts]
           for how, of in alarms.items()}
display(figures.curves(counts, follows, x_label="passes T", y_label="correlation of the alarm with the change of f", log_x=True, height=340,
                       title="Does the alarm follow what happened?",
                       alt="Correlation of the alarm with the change of the reconstruction against passes: flat with the same masks, "
                           "slowly rising from near zero with fresh masks."))
figures.table([{"T": t, **{f"{how}, alarm where nothing changed": outside[how][k] for how in alarms},
                **{f"{how}, correlation": follows[how][k] for how in alarms}} for k, t in enumerate(counts)],
              caption="Alarm outside the changed square, in units of the mean u there; correlation of alarm and change")

# %% [markdown]
# With the same masks a dozen passes tell more than all of them with fresh ones. So a low score of MC dropout as a *detector*
# can be a statement about sampling rather than about dropout. Where [detectors are compared](09_uncertainty_as_an_alarm), MC dropout has to be listed twice.
#
# ## Variance or standard deviation? And the price
#
# The paper defines $u$ as the variance; one of its authors' scripts takes the root. The order of pixels is the same, a correlation is not: with squares a
# few bright pixels decide. On the test images, against the error of the reconstruction:

# %%
n_test = min(T, 32)
estimator = dropout.MCDropout(net, n_test, profiles.generator(seed, "masks test"))
started = time.perf_counter()
by_dropout = estimator.predict(x_in)
per_pass = (time.perf_counter() - started) / len(x_in) / (n_test + 1)
started = time.perf_counter()
with torch.no_grad():
    for image in x_in.split(1):
        net(image)
plain = (time.perf_counter() - started) / len(x_in)
error = (f_x - x).abs()
forms = {"variance": by_dropout.spread, "standard deviation": by_dropout.spread.sqrt()}
corr = {form: metrics.mean_ci(metrics.pearson(spread, error)) for form, spread in forms.items()}
for form, r in corr.items():
    print(f"correlation of the {form} with |error|: {r.mean:.2f} [{r.low:.2f}, {r.high:.2f}] on {len(x)} {source}")
print(f"{1000 * per_pass:.0f} ms a pass, {per_pass / plain:.1f} times a plain one: {n_test} passes "
      f"cost {n_test * per_pass / plain:.0f} reconstructions")

# %% [markdown]
# ## A network that predicts its own error
#
# The other way: let the network say it {cite:p}`nix1994`. A second output $s(x)$ reads what the last layer reads, and is taken for the *logarithm of the variance* of
# the first, so that any number is allowed. Where does it learn from? If errors are Gaussian with variance $e^s$, the negative
# logarithm of their probability is, up to factors and constants,
#
# $$ L = \operatorname{mean} \; (x - f)^2 \, e^{-s} + \lambda s , \qquad \lambda = 1 . $$
#
# The first term wants large variances, the second small ones. Over pixels that share an $s$, $L$ is least at $e^s = \operatorname{mean} (x - f)^2 / \lambda$: **the variance becomes
# the mean squared error**, and nobody told the network which pixels are hard. Two other forms are in circulation. The paper *prints* $|s|$ in the place of $s$; its
# authors' *code* has $\lambda = 3$. The three, for a squared error of the size we have here:

# %%
square = error.square().mean().item()
FORMS = {"derived": ("derived", 1.0), "as in the code, λ = 3": ("derived", 3.0), "as printed, |s|": ("printed", 1.0)}
grid = torch.linspace(-9, 2, 111, dtype=torch.float64)
typical = torch.tensor(square**0.5, dtype=torch.float64)
losses = {label: [probout.mean_variance_loss(torch.zeros_like(s), s, typical, form, weight).item() for s in grid]
          for label, (form, weight) in FORMS.items()}
lowest = {label: grid[torch.tensor(values).argmin()].item() for label, values in losses.items()}
display(figures.curves(grid, losses, x_label="s, logarithm of the variance", y_label="loss", markers=False, y_range=(-25, 15), height=360,
                       title="Three losses",
                       alt="Loss against s for three forms: the derived one is least at the squared error, the code's at a third "
                           "of it, the printed one at zero."))
for label, s in lowest.items():
    print(f"{label}: least at s = {s:.1f}, a variance of {torch.tensor(s).exp():.4f}; the squared error is {square:.4f}")

# %% [markdown]
# The printed form has its minimum at $s = 0$, a standard deviation of **1, the whole grey scale**, for every error below 1: $|s|$ rewards
# going to zero from either side. We take it for a slip of the pen, since the authors' code does not have it.
#
# See it happen. The trained network stays as it is; only its second output, one small layer, learns live, from validation images, with each
# of the three losses.

# %%
print(inspect.getsource(probout.MeanVariance.forward), inspect.getsource(probout.mean_variance_loss).split('"""')[-1], sep="\n")

# %%
learn_in, learn_x = fits.inputs(recipe, 8 if standard else 2, "validate", image_size=(64 if standard else 32) if name == "dncnn" else None)


@torch.enable_grad()
def second_output(form, weight, steps=200 if standard else 20):
    """The network with a second output that was trained alone, and the loss on the way."""
    model = probout.MeanVariance.from_network(net, generator=profiles.generator(seed, "second output"))
    mean, features = (t.detach() for t in model.with_features(learn_in))
    optimiser, path = torch.optim.Adam(model.variance.parameters(), 0.1), []
    for _ in range(steps):
        loss = probout.mean_variance_loss(mean, model.variance(features), learn_x, form, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        path.append(loss.item())
    return model.requires_grad_(False), path


live = {label: second_output(*how) for label, how in FORMS.items()}
answers = {label: model.predict(x_in) for label, (model, _) in live.items()}
n_new = sum(w.numel() for w in next(iter(live.values()))[0].variance.parameters())
for label, (_, path) in live.items():
    print(f"{label}: {n_new} weights, {len(path)} steps, loss {path[0]:.2f} → {path[-1]:.2f}")

# %% [markdown]
# How good are these error bars? If they are right, $z^2 = (x - f)^2 / \text{variance}$ is 1 in the mean, $f \pm 1.96\,$std
# holds the truth in 95 of 100 pixels, and the bars are long where the error is.

# %%
def bars(prediction):
    """Scores of a Gaussian error bar, as means over the test images."""
    found = detection.calibration(prediction, x)
    variance = ((prediction.upper - prediction.mean) / 1.96).square()
    z2 = ((prediction.mean - x).square() / variance.clamp_min(1e-12)).mean().item()
    return {"mean std": variance.sqrt().mean().item(), "mean z²": z2, "coverage of 95 %": found["coverage"].mean().item(),
            "correlation with |error|": found["corr_error"].mean().item(), "Winkler, 95 %": found["interval_score"].mean().item()}


live_scores = {label: bars(p) for label, p in answers.items()}
figures.table([{"loss": label, **row} for label, row in live_scores.items()],
              caption=f"Second outputs trained live, on {len(x)} {source}. Root mean square error {square**0.5:.4f}")

# %% [markdown]
# The factor 3 makes all error bars shorter by $\sqrt 3$ and changes nothing else; a *map* that only has to be correlated with
# something does not notice. The printed form makes bars that cover everything and say nothing.
#
# ## The shipped one: all layers learn
#
# In the paper the whole network is trained with the new loss, not only the new output. That is allowed to move the reconstruction, too: where the network declares
# a large variance, errors count less.

# %%
spec = fits.fit("probout", name, seed, profile, penalty=penalty)
trained = store.load_or_train(spec, progress=False)
model, card = trained.network, trained.card
by_variance = model.predict(x_in)
gain = metrics.mean_ci(metrics.psnr_db(by_variance.mean, x) - metrics.psnr_db(f_x, x))
print(f"{card['steps']} steps of {spec.batch_size} images, {card['seconds'] / 60:.1f} minutes on {card['device']}; "
      f"learnt from {card['data']}\n"
      f"reconstruction: {gain.mean:+.2f} dB [{gain.low:+.2f}, {gain.high:+.2f}] against the network that it started from")
METHODS = {"MC dropout": by_dropout, "second output alone, live": answers["derived"], "mean-variance, all layers": by_variance}
scores = {label: bars(p) for label, p in METHODS.items()}
figures.table([{"": label, **row} for label, row in scores.items()],
              caption=f"Error bars on {len(x)} {source}; smaller is better for Winkler's score")

# %% [markdown]
# ## Do the bars hold what they say?
#
# A bar of level $p$ should hold the truth in a share $p$ of the pixels, for every $p$. A curve below the diagonal means bars that are too
# short: the method is surer of itself than it may be.

# %%
levels = torch.linspace(0.1, 0.95, 18, dtype=torch.float64)
normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)


def held(prediction):
    z = (prediction.mean - x).abs() / ((prediction.upper - prediction.mean) / 1.96).clamp_min(1e-6)
    return [(z <= normal.icdf((1 + p) / 2)).double().mean().item() for p in levels]


reliability = {label: held(p) for label, p in METHODS.items()}
figures.curves(levels, {"honest": levels.tolist(), **reliability}, x_label="level that the bar claims",
               y_label="share of pixels inside", markers=False, y_range=(0, 1), title="Claimed and held",
               alt="Share of pixels inside the error bar against its claimed level, for each method, beside the diagonal.")

# %% [markdown]
# A second output has *learnt* the size of errors, and holds what it says on images like those that it has learnt from. (The live one learnt from images of the kind that it is tested on, the shipped one
# from the network's training images; where these are harder, its bars come out too long.) MC dropout never compared itself
# with a truth; its bars are what a chosen fraction makes of them. One number repairs the length (exercise 3). No number repairs the pattern.
#
# ## What does the pattern follow?
#
# No map can be correlated with $|$error$|$ of single pixels by 1, because how large the error of a pixel turned out is luck; so the table has the error averaged over 7 x 7 pixels, too. Beside it stands
# what the network itself *computes*: DnCNN the noise $f(x) - x$ that it takes away, the U-Net the image. The last row is a control that holds no uncertainty: how much the reconstruction varies from
# pixel to pixel.

# %%
computed = ("the noise taken away", (f_x - x_in).abs()) if task == "denoising" else ("the image", f_x.abs())
TARGETS = {"|error|": error, "error, 7 x 7": detection.averaged(error.square()).sqrt(), computed[0]: computed[1]}
maps = {label: (p.upper - p.mean) / 1.96 for label, p in METHODS.items()}
maps["control: local variation of f(x)"] = null_detectors.NullDetector("variance", net).predict(x_in).spread.sqrt()
follow = {label: {target: metrics.mean_ci(metrics.pearson(m, v)) for target, v in TARGETS.items()} for label, m in maps.items()}
display(figures.table([{"standard deviation of": label, **{t: f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]" for t, r in row.items()}}
               for label, row in follow.items()], caption=f"Correlations on {len(x)} {source}"))
of_control = metrics.pearson(maps["control: local variation of f(x)"], error)
ahead = metrics.mean_ci(metrics.pearson(maps["mean-variance, all layers"], error) - of_control)
print(f"mean-variance is ahead of the control by {ahead.mean:.2f} [{ahead.low:.2f}, {ahead.high:.2f}] in the first column, image by image")

# %% [markdown]
# Dropout disturbs what the network computes in proportion to its size (exercise 1 has the formula), so **its map is foremost a map of that**. A denoiser computes noise: where it takes much away, the passes
# disagree much, right or wrong. The U-Net draws the image: bright places disagree. Look for it in the pictures.
#
# ## Image by image
#
# Error and mean-variance's bars at the same scale; those of MC dropout are shown brighter.

# %%
if lossless:
    shown_in, shown_x, shown_source = x_in, x, source
else:  # sliders show phantoms, through the same scan
    ellipses = data.phantoms.random_ellipses(len(x), what.pool_size, profiles.generator(seed, "sliders"))[0]
    y, shown_x, _ = what.measure(ellipses, None)
    shown_in, shown_source = what.A.pinv(y), "phantoms of ellipses"


def look(image, truth, drop, lossless=True):
    """Reconstruction, error, and the standard deviations of both methods."""
    var = model.predict(image)
    off, pictures = (drop.mean - truth).abs(), (drop.spread.sqrt(), var.spread.sqrt())
    notes = [f"mean {p.mean():.3f}, r = {metrics.pearson(p, off).item():.2f}" for p in pictures]
    return figures.panels(
        [image, drop.mean, SCALE * off, FAINT * pictures[0], SCALE * pictures[1]], lossless=lossless, window=(0, 1), columns=3,
        titles=["input", "reconstruction", f"|error| × {SCALE}", f"std, MC dropout × {FAINT}", f"std, mean-variance × {SCALE}"],
        captions=["", "", f"mean {off.mean():.3f}", *notes],
        alt="Input, reconstruction, absolute error, and the standard deviation of MC dropout and of the mean-variance network.")


shown = by_dropout if lossless else estimator.predict(shown_in)
pick = [slice(i, i + 1) for i in range(min(len(shown_x), 6))]
widgets.explore([look(shown_in[i], shown_x[i], Prediction(*(t[i] for t in shown))) for i in pick],
                [str(i.stop) for i in pick], name=shown_source)

# %%
if not lossless:
    display(look(x_in[:1], x[:1], Prediction(*(t[:1] for t in by_dropout)), lossless=False))
between = metrics.mean_ci(metrics.pearson(by_dropout.spread.sqrt(), by_variance.spread.sqrt()))
print(f"the two maps correlate with each other by {between.mean:.2f} [{between.low:.2f}, {between.high:.2f}], {len(x)} {source}")

# %% [markdown]
# Two methods for one quantity; the number above says how much their maps have in common. Neither knows the error of *this* image; at best a map knows where images are hard in general. And a bar that was learnt in training says
# what errors were like *in training*. Other noise than there:

# %%
LEVELS = {"denoising": [5, 15, 25, 35, 50], "ct_limited": [0.0, 0.5, 1.0, 2.0, 4.0]}[task]
few = x[:2] if name != "dncnn" else x[:2, :, :64, :64]
scan = what if name != "dncnn" else training.task(name, few.shape[-1])
y = few if task == "denoising" else scan.A(few)
unit = SIGMA / 25 if task == "denoising" else y.amax().item() / 100
noise = unit * torch.randn(y.shape, generator=profiles.generator(seed, "other noise levels"))
quick = dropout.MCDropout(net, min(T, 16), profiles.generator(seed, "masks noise"))
grown = {"root mean square error": [], "std, MC dropout": [], "std, mean-variance": []}
for level in LEVELS:
    noisy = fits.network_input(task, scan.A, y + level * noise)
    drop, var = quick.predict(noisy), model.predict(noisy)
    for key, value in zip(grown, ((drop.mean - few).square().mean().sqrt(), drop.spread.sqrt().mean(), var.spread.sqrt().mean())):
        grown[key].append(value.item())
axis = {"denoising": "noise, standard deviation × 255 (trained at 25)",
        "ct_limited": "noise, % of the sinogram's maximum (trained at 0)"}[task]
figures.curves(LEVELS, grown, x_label=axis, y_label="grey values", title=f"{title}, other noise: error and error bars", height=360,
               alt="Root mean square error and the mean standard deviations of both methods against the noise of the measurement.")

# %% [markdown]
# ## Plainly
#
# - **MC dropout** costs nothing to train and $T$ reconstructions to ask. Its size is a setting, not a finding; its pattern is first of all that of what the network computes.
#   Never compare two of its maps with different masks.
# - **Mean-variance** costs a training and hardly anything to ask. Its variance is a regression like any other: right on average for images like those it has learnt from; as
#   wrong as any other regression where the input is new.
# - In the words of {cite:t}`kendall2017`: mean-variance is after what the *data* leave open, dropout after what the *weights* leave open. Whoever wants both has to add both.
# - Take the loss from its derivation, not from a page: one sign made the variance meaningless, one factor made it three times too small.
#
# ## Claims

# %%
same, fresh = (follows[how] for how in ("same masks", "fresh masks"))
claim("with the same masks nothing changes where nothing reaches, with fresh ones everything does",
      outside["same masks"][-1] < outside["fresh masks"][-1], at_least="smoke")
claim("the printed loss is least at a variance of 1, whatever the error", abs(lowest["as printed, |s|"]) < 0.06, at_least="smoke")
claim("the derived loss is least at the squared error, the code's at a third of it",
      all(abs(torch.tensor(lowest[label]).exp() * weight / square - 1) < 0.06
          for label, (form, weight) in FORMS.items() if form == "derived"),
      at_least="smoke")
if T >= 64:
    claim("two draws of the masks agree as the formula says, within 0.1", all(abs(p - q) < 0.1 for p, q in zip(agree[2:], predicted[2:])))
    claim("16 passes with the same masks follow the change better than all passes with fresh ones",
          same[counts.index(16)] > fresh[-1] + 0.05)
claim("one pass is worse than the whole network", db["one pass"] < db["the whole network"])
claim("live: the derived loss gives variances of the right size", 0.7 < live_scores["derived"]["mean z²"] < 1.5)
claim("live: factor 3 gives variances a third of that, and the same map",
      2.6 < live_scores["as in the code, λ = 3"]["mean z²"] / live_scores["derived"]["mean z²"] < 3.4
      and abs(live_scores["as in the code, λ = 3"]["correlation with |error|"] - live_scores["derived"]["correlation with |error|"]) < 0.05)
claim("live: the printed loss gives bars as wide as the grey scale", live_scores["as printed, |s|"]["mean std"] > 0.5)
if penalty == 1 and task == "denoising":
    claim("mean-variance: 95 % bars hold between 90 and 99 % of the pixels",
          0.90 < scores["mean-variance, all layers"]["coverage of 95 %"] < 0.99)
claim("MC dropout: 95 % bars hold less than 90 %", scores["MC dropout"]["coverage of 95 %"] < 0.90)
of_dropout = follow["MC dropout"]
claim("MC dropout's map follows what the network computes more than the error", of_dropout[computed[0]].low > of_dropout["|error|"].high)
if task == "denoising":
    claim("the map of a second output follows the error, MC dropout's hardly does", of_dropout["|error|"].high < 0.1
          < follow["mean-variance, all layers"]["|error|"].low)
    claim("at twice the noise the error more than doubles, the bars of both methods do not",
          grown["root mean square error"][-1] > 2 * grown["root mean square error"][2]
          and all(grown[key][-1] < 1.8 * grown[key][2] for key in ("std, MC dropout", "std, mean-variance")))

# %% [markdown]
# ## Exercises
#
# **1.** Put dropout of fraction $p$ in front of *one* linear layer, $z = \sum_k w_k x_k$. What is the variance of $z$ over the masks? Check it with
# `MCDropout`. What does it say about where $u$ is large, and why is MC dropout's map of a denoiser a map of noise?

# %% tags=["hide-cell"]
p = 0.2
linear = torch.nn.Conv2d(6, 1, 1, bias=False)
with torch.no_grad():
    linear.weight.copy_(torch.randn(1, 6, 1, 1, generator=profiles.generator(seed, "exercise 1")))
values = torch.rand(1, 6, 20, 20, generator=profiles.generator(seed, "exercise 1 values"))
toy = torch.nn.Sequential(layers.Dropout(p), linear).requires_grad_(False).eval()
found = dropout.MCDropout(toy, 2000, profiles.generator(seed, "exercise 1 masks"), batch=200).predict(values).spread
by_hand = p / (1 - p) * (linear.weight.square() * values.square()).sum(1, keepdim=True)
assert abs((found / by_hand).mean().item() - 1) < 0.02
print("p / (1 - p) sum of (w x)^2: u is large where many values are large, right or wrong. It grows with p, whatever is known")

# %% [markdown]
# **2.** Somebody hands you a network that was trained with $\lambda = 3$. Repair its error bars without training.

# %% tags=["hide-cell"]
short = live["as in the code, λ = 3"][0]
before = bars(short.predict(x_in))
short.variance.bias += torch.tensor(3.0).log()  # s + log 3: every variance three times as large
repaired = bars(short.predict(x_in))
assert abs(repaired["mean z²"] * 3 / before["mean z²"] - 1) < 0.01
assert abs(repaired["correlation with |error|"] - before["correlation with |error|"]) < 1e-4
print(f"add log 3 to the bias: mean z² {before['mean z²']:.2f} → {repaired['mean z²']:.2f}; the pattern stays as it was")

# %% [markdown]
# **3.** Give MC dropout's bars the right length by one factor, found on *validation* images. Does it hold on test images? What does it not repair?

# %% tags=["hide-cell"]
check = estimator.predict(learn_in)
factor = ((check.mean - learn_x).square().mean() / check.spread.mean()).sqrt().item()
half = factor * (by_dropout.upper - by_dropout.mean)
longer = by_dropout._replace(lower=by_dropout.mean - half, upper=by_dropout.mean + half)
old, new = scores["MC dropout"], bars(longer)
assert new["correlation with |error|"] == old["correlation with |error|"]
if standard:
    assert new["coverage of 95 %"] > old["coverage of 95 %"]
print(f"times {factor:.1f}: coverage {old['coverage of 95 %']:.2f} → {new['coverage of 95 %']:.2f}, "
      f"Winkler's score {old['Winkler, 95 %']:.3f} → "
      f"{new['Winkler, 95 %']:.3f}. Bars are still long and short in the wrong places: the correlation with |error| has not moved")

# %% [markdown]
# ## References
#
# Dropout: {cite:t}`srivastava2014`; in use: {cite:t}`gal2016`. Mean and variance: {cite:t}`nix1994`; both together: {cite:t}`kendall2017`.
# Both beside interval networks: {cite:t}`oala2021`. The denoiser: {cite:t}`zhang2017`; the U-Net: {cite:t}`ronneberger2015`.
