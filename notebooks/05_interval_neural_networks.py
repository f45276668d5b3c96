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
# # Interval neural networks
#
# **What you will see**
# - Arithmetic with intervals in the place of numbers: one layer by hand, then a whole trained network, whose output becomes a
#   lower and an upper picture. What these two pictures promise is checked by drawing networks at random and by searching for
#   the worst one.
# - Why widths explode with depth, and what that means for the learning rate with which intervals are fitted.
# - What one number, $\beta$, decides: how wide the intervals are and how often they hold the truth. And what an interval
#   of this kind is *not*.
#
# **Needs** [trained networks](03_training_denoisers_and_post_processors). Measured minutes and memory per profile:
# [status](../book/status.md). Whether the widths raise an alarm when a reconstruction fails is a chapter of its own.

# %% tags=["parameters"]
profile = "standard"  # smoke: seconds, proves that it runs · standard: shipped fits · paper: fits at the paper's scale, on a GPU
seed = 0  # of the network, its fit, and every random draw of this chapter
task = "denoising"  # denoising: DnCNN · ct_limited: the limited-angle U-Net
beta = 0.0  # price of width; 0: the paper's, 1e-3 for denoising, 1e-4 for CT
n_interval_layers = 0  # layers with intervals, counted from the last; 0: the paper's, 8 of DnCNN, 7 of the U-Net

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("denoising", "ct_limited")})

# %%
import copy
import dataclasses
import inspect
import itertools

import torch
from torch.nn import functional as F

from instab_utils import data, figures, metrics, report, store, training, widgets
from instab_utils.training import SIGMA
from instab_utils.uncertainty import arithmetic, detection, fits, interval, study

budget = profiles.get(profile)
claim = report.claims(profile)
standard = budget.at_least("standard")
name = {"denoising": "dncnn", "ct_limited": "unet-limited"}[task]
title = training.TITLES[name]
print(f"profile {profile}, data: {data.situation()}; network: {title}")

# %% [markdown]
# ## One layer by hand
#
# Let two numbers be known up to intervals, $x_1 \in [1, 2]$ and $x_2 \in [0.5, 1]$. What can $2 x_1 - x_2$ be? At least
# $2 \cdot 1 - 1 = 1$ and at most $2 \cdot 2 - 0.5 = 3.5$. The positive weight takes its bounds as they come, **the negative one
# swaps them**: a large $x_2$ makes the result small. Let the weights have intervals, too, $W \in [\underline W, \overline W]$. For
# $\underline x \ge 0$ the bounds are still two sums,
#
# $$ \underline z = \min(\underline W, 0)\, \overline x + \max(\underline W, 0)\, \underline x + \underline b , \qquad
#    \overline z = \min(\overline W, 0)\, \underline x + \max(\overline W, 0)\, \overline x + \overline b . $$
#
# This is the rule that the paper prints (App. A.2): behind a ReLU nothing is negative. Its code has a second rule, four
# terms a bound, for inputs of any sign. Both against brute force, which tries all ends of all intervals:

# %%
def rule(weights, inputs):
    """Bounds of sum_i w_i x_i by the package's rule for a layer."""
    (low, high), ends = torch.tensor(weights).T, torch.tensor(inputs).T
    x = arithmetic.Interval(None, ends.reshape(1, -1), nonnegative=bool(ends[0].min() >= 0), keep_point=False)
    out = arithmetic.affine(x, arithmetic.Box(low[None], high[None], None, None), None, None, F.linear, 1)
    return round(out.lower.item(), 4), round(out.upper.item(), 4)


def brute_force(weights, inputs):
    sums = [sum(w * x for w, x in zip(W, X)) for W in itertools.product(*weights) for X in itertools.product(*inputs)]
    return round(min(sums), 4), round(max(sums), 4)


by_hand = {
    "weights exact": ([(2.0, 2.0), (-1.0, -1.0)], [(1.0, 2.0), (0.5, 1.0)]),
    "weights with intervals": ([(1.9, 2.1), (-1.1, -0.9)], [(1.0, 2.0), (0.5, 1.0)]),
    "a weight of either sign": ([(1.9, 2.1), (-0.5, 0.5)], [(1.0, 2.0), (0.5, 1.0)]),
    "negative inputs": ([(1.9, 2.1), (-1.1, -0.9)], [(-2.0, -1.0), (0.5, 1.0)]),
    "an input of either sign": ([(1.9, 2.1), (-1.1, -0.9)], [(-1.0, 1.0), (0.5, 1.0)]),
    "weight and input of either sign": ([(-1.0, 2.0)], [(-1.0, 1.0)]),
}
figures.table([{"": case, "rule": str(rule(*ends)), "brute force": str(brute_force(*ends))} for case, ends in by_hand.items()],
              caption="Bounds of one layer's output")

# %% [markdown]
# The rules agree with brute force except in the last line, where the four-term rule is too wide: it never is too narrow
# (**sound**), and it is exact unless a weight *and* an input can have either sign. Behind a ReLU that does not happen.
#
# ## A network runs on intervals
#
# ReLU, max-pooling and up-sampling never turn an order around, so they act on both bounds alike. Dropout takes one mask for
# both. DnCNN ends with a subtraction, $f(x) = x - R(x)$, which swaps bounds like a negative weight. With these rules the network's own
# `forward` runs on an object that carries two pictures where it expected one:

# %%
print(inspect.getsource(interval.IntervalNetwork._run))

# %% [markdown]
# Only the *last* layers get intervals, and only their widths are new: the weights stay those of the trained network, which stays
# the reconstruction. An interval has two widths, one down and one up, so each weight gets two parameters, $\ge 0$.

# %%
recipe = training.recipe(name, profile, seed)
net = store.load_or_train(recipe, progress=False).network
n_all = sum(isinstance(module, interval.LAYERS) for module in net.modules())
usual = fits.fit("interval", name, seed, profile)
spec = dataclasses.replace(usual, beta=beta or usual.beta, n_layers=min(n_interval_layers or usual.n_layers, n_all))
what = training.task(name, 180 if name == "dncnn" else recipe.image_size)
source = training.test_images(what, 1)[1]
x_in, x = fits.inputs(recipe, 2 * budget.n_images, "test", image_size=64 if not standard and name == "dncnn" else None)

net64, probe = copy.deepcopy(net).double(), x_in[:1, :, :64, :64].double()


def with_intervals(n):
    """The network in double precision with intervals, all of width zero, in its last n layers."""
    return interval.IntervalNetwork.from_network(net64, n, probe).double()


blank = with_intervals(spec.n_layers)
print(f"{title}: {n_all} layers with weights, {spec.n_layers} of them with intervals: {', '.join(blank.layers)}\n"
      f"{sum(w.numel() for w in net.parameters()):,} weights, {sum(w.numel() for w in blank.parameters()):,} widths; "
      f"tested on {len(x)} {source}, {x.shape[-1]} pixels a side")

# %%
def rounding(intervals, u):
    """Largest distance of the two pictures from f(u)."""
    with torch.no_grad():
        return max((bound - intervals.net(u)).abs().max().item() for bound in intervals.bounds(u))


in_single = interval.IntervalNetwork.from_network(net, spec.n_layers, x_in[:1])
off = {"double": rounding(blank, probe), "single": rounding(in_single, probe.float())}
with torch.no_grad():
    f_x = net(x_in)
print(f"all widths zero: lower and upper picture are f(x) up to {off['double']:.0e} in double precision, {off['single']:.0e} in single\n"
      f"PSNR of f(x) {metrics.psnr_db(f_x, x).mean():.2f} dB, of its input {metrics.psnr_db(x_in, x).mean():.2f} dB")

# %% [markdown]
# ## What the two pictures promise
#
# Fitted widths come with the project; how they are fitted is the subject further down. First, what do they promise? Every
# network with weights in the box gives a picture between the bounds. Take that at its word: draw networks from the
# box, uniformly, or with every weight at one end of its interval, and count pixels outside (in double precision).

# %%
fitted = store.load_or_train(spec, progress=False)
prediction = fitted.network.predict(x_in)
exact = copy.deepcopy(fitted.network).double()
exact.net.double()
side = 32 if standard else 16
spot = x_in[:1, :, :side, :side].double()
inside = exact.predict(spot)


@torch.no_grad()
def from_box(position):
    """The network whose weights stand at position(weight) of their intervals: 0 lower end, 1 upper end."""
    other = copy.deepcopy(exact.net)
    for layer, widths in zip(exact.layers, exact.widths):
        box, layer = widths.box(), other.get_submodule(layer)
        for weight, low, high in ((layer.weight, box.weight_lower, box.weight_upper), (layer.bias, box.bias_lower, box.bias_upper)):
            weight.copy_(low + position(weight) * (high - low))
    return other


draw = profiles.generator(seed, "networks from the box")
drawn = {"uniform": lambda w: torch.rand(w.shape, generator=draw, dtype=w.dtype),
         "at the ends": lambda w: torch.rand(w.shape, generator=draw, dtype=w.dtype).round()}
n_drawn = 50 if standard else 6
with torch.no_grad():
    answers = {how: torch.cat([from_box(position)(spot) for _ in range(n_drawn)]) for how, position in drawn.items()}
outside = {how: int(((a < inside.lower - 1e-9) | (a > inside.upper + 1e-9)).sum()) for how, a in answers.items()}
share = {how: ((a.amax(0) - a.amin(0)) / (inside.upper - inside.lower)[0]).mean().item() for how, a in answers.items()}
for how in answers:
    print(f"{n_drawn} networks, weights {how}: {outside[how]} of {answers[how].numel():,} pixels outside; "
          f"they fill {100 * share[how]:.1f} % of the interval in the mean")

# %% [markdown]
# None outside. How much of the interval a hundred networks fill depends on how deep it reaches: random changes of many weights
# average out. So search, too. For *one* pixel, let every weight go to the end that pushes this pixel up (the sign of its gradient,
# taken again a few times).

# %%
def push_up(row, column, n_steps=4):
    """How far towards its upper bound a network of the box can push one pixel, and what all its pixels do meanwhile."""
    step, at, best = {}, exact.net, -1.0
    for _ in range(n_steps):
        at = copy.deepcopy(at).requires_grad_(True)
        at(spot)[0, 0, row, column].backward()
        signs = [w.grad for layer in exact.layers for w in at.get_submodule(layer).parameters()]
        signs = iter([(g > 0).to(g.dtype) for g in signs])
        at = from_box(lambda w: next(signs))  # noqa: B023
        with torch.no_grad():
            pushed = (at(spot) - inside.mean) / (inside.upper - inside.mean)
        best = max(best, pushed[0, 0, row, column].item())
    return best, pushed.mean().item()


places = [(side // 2, side // 2), (side // 4, side // 3), (2 * side // 3, side // 4)][: 3 if standard else 1]
pushed = [push_up(*place) for place in places]
for place, (there, elsewhere) in zip(places, pushed):
    print(f"pixel {place}: {100 * there:.0f} % of the way to its upper bound; the mean pixel goes {100 * elsewhere:.0f} %")

# %% [markdown]
# The bounds are honest, but not tight. A weight of a convolution serves all places of the picture at once;
# interval arithmetic lets it stand at its lower end for one pixel and at its upper end for the next, in every layer anew, and so
# adds up what no single network can do. The upper *picture* is no answer of any network in the box, and the interval is
# not the spread of anything random.
#
# ## Widths explode with depth
#
# Let every weight of the last $k$ layers move by a millionth. A layer adds up its inputs' widths, weighted by $|W|$, and nothing
# cancels, so each layer multiplies widths by about the row sums of $|W|$, where the values themselves grow by a factor near one.

# %%
STEP = 1e-6
depths = [k for k in (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23) if k <= n_all]
gain = interval.gains(with_intervals(depths[-1]), probe).flip(0)  # of the last layer first
width_at = []
for k in depths:
    width_at.append(with_intervals(k).widen_(STEP).predict(probe).spread.mean().item())
figures.curves(
    depths, {"measured": width_at, "first-order prediction": [STEP * gain[:k].sum().item() for k in depths]},
    x_label="layers with intervals, from the last", y_label="mean width of the output", log_y=True,
    title="All widths a millionth: the width of the output",
    alt="Mean output width against the number of layers with intervals of half-width one millionth, logarithmic: it grows by a large "
        "factor with every layer.")

# %% [markdown]
# Nearly straight on a logarithmic axis: geometric growth (and faster, once widths multiply each other). An image has grey values between 0 and 1, so an interval wider than 1
# says nothing. The **gain** $g_j$ of layer $j$ is the slope, width of the output per width of that layer's weights. An optimiser like
# Adam moves *every* parameter by its learning rate $\eta$ in the first step, however small the gradient. The intervals' width after one
# step is therefore about $\eta \sum_j g_j$, and that decides which learning rates make sense:

# %%
total = gain[: spec.n_layers].sum().item()
rates = [1e-10, 1e-9, 1e-8, 1e-7, 1e-6]
after_step = [blank.widen_(rate).predict(probe).spread.mean().item() for rate in rates]
figures.table(
    [{"learning rate": f"{rate:.0e}", "predicted": rate * total, "measured": w, "": "wider than the image's range" if w > 1 else ""}
     for rate, w in zip(rates, after_step)],
    caption=f"Mean width after one step that moves all weights of the last {spec.n_layers} layers by the learning rate")

# %% [markdown]
# The paper's network is another one (more and wider layers, its weights unknown to us), and its learning rate of $10^{-6}$ may have
# been right for it; for ours it is to be found from the gains. The shipped fits ask for a *width after the first step* instead of a
# rate, and share it equally among the layers, $\eta_j \propto 1 / g_j$. How large a width is itself a choice, made on validation
# images: intervals that start too wide and are pruned end at a lower loss than intervals that grow from nothing.
#
# A trap on the way: in single precision a weight of 0.1 is known to about $10^{-8}$, so the smallest of these widths drown when
# they are added to it, and rounding in the first layers grows on its way like a width (that is why two pictures that should
# have been equal differed above). The same fitted interval in single and in double precision:

# %%
single = fitted.network.predict(x_in[:1])
double = exact.predict(x_in[:1].double())
lost = 1 - (single.spread.double().mean() / double.spread.mean()).item()
smallest = min(w.weight_upper.mean().item() for w in fitted.network.widths)
print(f"smallest mean width of a layer {smallest:.1e}; mean width of the output {single.spread.mean():.4f} in single, "
      f"{double.spread.mean():.4f} in double precision: {100 * lost:.1f} % lost")

# %% [markdown]
# ## The fit
#
# Widths are paid for, and misses are, too. Over pixels and images (Sec. 2 of the paper),
#
# $$ \min_{\text{widths} \ge 0} \; \operatorname{mean} \max(x - \overline f, 0)^2 + \operatorname{mean} \max(\underline f - x, 0)^2
#    + \beta \operatorname{mean} (\overline f - \underline f) . $$

# %%
print(inspect.getsource(interval.interval_loss).split('"""')[0], "...", inspect.getsource(interval.interval_loss).split('"""')[-1])
card = fitted.card
print(f"fitted for {card['steps']} steps of {spec.batch_size} images, {card['seconds'] / 60:.1f} minutes on {card['device']}; "
      f"seen: {card['data']}")

# %% [markdown]
# The optimum can be read off without solving anything. The upper end of the *last bias* moves $\overline f$ everywhere at once, so
# at the optimum the derivative by it is zero:
#
# $$ \beta - 2 \operatorname{mean} \max(x - \overline f, 0) = 0 \quad\Longrightarrow\quad
#    \operatorname{mean} \max(x - \overline f, 0) = \beta / 2 , $$
#
# and the same below. $\beta$ prescribes **the mean miss**, not the share of pixels that are missed. And if even
# $\overline f = f$ misses by less than $\beta / 2$, no width pays at all: the interval **collapses** to a point.

# %%
def misses(p, truth):
    """Mean one-sided misses, above and below."""
    return [(truth - p.upper).clamp_min(0).mean().item(), (p.lower - truth).clamp_min(0).mean().item()]


def constant_end(error, price):
    """t >= 0 with mean max(error - t, 0) = price / 2: the best upper end of an interval that is the same everywhere; 0: collapsed."""
    low, high = 0.0, error.max().item()
    for _ in range(40):
        t = (low + high) / 2
        low, high = (t, high) if (error - t).clamp_min(0).mean() > price / 2 else (low, t)
    return low


x_in_val, x_val = fits.inputs(recipe, 4 * budget.n_images, "validate", image_size=64 if not standard and name == "dncnn" else None)
val = fitted.network.predict(x_in_val)
error = x_val - val.mean
beta_collapse = 2 * max(error.clamp_min(0).mean().item(), (-error).clamp_min(0).mean().item())
heuristic = 0.1 * error.abs().mean().item()
missed = misses(val, x_val)
print(f"beta / 2 = {spec.beta / 2:.2g}; mean misses on validation images: {missed[0]:.2g} above, {missed[1]:.2g} below; on test "
      f"images {misses(prediction, x)[0]:.2g} and {misses(prediction, x)[1]:.2g}\n"
      f"from beta = {beta_collapse:.2g} on, collapse; the rule of thumb in the authors' code, 0.1 mean |error|, gives {heuristic:.2g}")

# %% [markdown]
# ## A yardstick: the same width everywhere
#
# A yardstick that needs no interval arithmetic: $[f - s, f + t]$ with two numbers for *all* pixels, found from the same loss on
# validation images. What the interval network is better at, its layers have earned.

# %%
specs = {b: dataclasses.replace(spec, beta=b) for b in sorted({spec.beta, *(study.BETAS if standard else study.BETAS[1:2])})}
if standard:  # a reader who changes parameters waits for one fit, not for a series
    specs = {b: s for b, s in specs.items() if b == spec.beta or store.is_trained(s)}
sweep, scores = {}, []
for b, s in specs.items():
    p = store.load_or_train(s, progress=False).network.predict(x_in)
    ends = constant_end(-error, b), constant_end(error, b)
    same = p._replace(lower=p.mean - ends[0], upper=p.mean + ends[1], spread=torch.full_like(p.mean, sum(ends)))
    sweep[b] = p
    each = {key: detection.calibration(q, x) | {
        "loss": torch.stack([interval.interval_loss(*ends, b) for ends in zip(q.lower, q.upper, x)]).double(),
        "miss": torch.stack([torch.tensor(misses(q, x)).mean()])} for key, q in (("network", p), ("constant", same))}
    paired = {k: metrics.mean_ci(each["network"][k] - each["constant"][k]) for k in ("loss", "interval_score")}
    scores.append({key: {k: v.mean().item() for k, v in part.items()} for key, part in each.items()} | {"paired": paired})
print(f"fits for beta = {', '.join(f'{b:g}' for b in specs)}")

# %%
KINDS = {"network": "interval network", "constant": "same width everywhere"}
for key, label in (("coverage", "share of pixels in the interval"), ("width", "mean width")):
    display(figures.curves(
        list(specs), {label: [row[kind][key] for row in scores] for kind, label in KINDS.items()},
        x_label="β", y_label=label, log_x=True, height=330, title=f"{title}: {label} against β",
        alt=f"{label} against beta for the interval network and for one constant interval: both fall as beta grows, to zero at collapse."))

# %%
figures.table(
    [{"β": f"{b:g}" if key == "network" else "", "": KINDS[key],
      "coverage": row[key]["coverage"], "width": row[key]["width"], "mean miss / (β/2)": row[key]["miss"] / (b / 2),
      "loss": row[key]["loss"], "correlation with |error|": row[key]["corr_error"], "Winkler, 95 %": row[key]["interval_score"]}
     for b, row in zip(specs, scores) for key in KINDS],
    caption=f"Test images: {len(x)} {source}. A constant has no correlation; smaller is better for the loss and for Winkler's score")

# %%
def verdict(difference):
    return "better than" if difference.high < 0 else "worse than" if difference.low > 0 else "not told apart from"


for b, row in zip(specs, scores):
    print(f"beta = {b:g}: the interval network is {verdict(row['paired']['loss'])} one constant width in its own loss, "
          f"{verdict(row['paired']['interval_score'])} it in Winkler's score")

# %% [markdown]
# Coverage is *bought*: the whole range from nearly all pixels to none is for sale, and a fit that covers 95 % is no better
# founded than one that covers 50 %. A constant buys about as much of it. What a constant cannot do is to be wide *where the
# error is*: that is the column of correlations, and what lowers the loss where the verdict is "better". Note the last fit: a
# correlation has no scale and does not notice that the interval has collapsed.
#
# ## Turn beta
#
# The same image under every fit. Left the error of the reconstruction, which $\beta$ does not touch; the width at the same
# scale; and in white the pixels whose truth lies outside.

# %%
if source.startswith("AAPM"):  # these may not be handed on, so the sliders show phantoms, through the same scan
    ellipses = data.phantoms.random_ellipses(len(x), what.pool_size, profiles.generator(seed, "sliders"))[0]
    y, shown_x, _ = what.measure(ellipses, None)
    shown_in, shown_source = what.A.pinv(y), "phantoms of ellipses"
else:
    shown_in, shown_x, shown_source = x_in, x, source
SCALE = 2.5  # of errors and widths, both, so that they compare


def look(p, i, truth, first, what_first, lossless=True):
    """One image: the first panel, |error|, width, and the pixels outside their interval."""
    error, out = (p.mean - truth).abs()[i], ((truth < p.lower) | (truth > p.upper))[i].float()
    return figures.panels(
        [first, SCALE * error[0], SCALE * p.spread[i, 0], out[0]], window=(0, 1), columns=4, lossless=lossless,
        titles=[what_first, f"|error| × {SCALE}", f"width × {SCALE}", "truth outside"],
        captions=["", f"mean {error.mean():.3f}", f"mean {p.spread[i].mean():.3f}", f"{100 * out.mean():.1f} % of the pixels"],
        alt=f"{what_first}, absolute error, interval width, and the pixels whose truth is outside the interval.")


by_beta = {b: store.load_or_train(s, progress=False).network.predict(shown_in[:1]) for b, s in specs.items()}
print(shown_source)
widgets.explore([look(p, 0, shown_x[:1], p.mean[0, 0], "reconstruction") for p in by_beta.values()], [f"{b:g}" for b in by_beta],
                name="β", value=list(by_beta).index(spec.beta))

# %% [markdown]
# ## Image by image
#
# The fit of the parameters cell on test images. Does the width know where the error is?

# %%
shown = fitted.network.predict(shown_in)
of_each = detection.calibration(shown, shown_x)
widgets.explore(
    [look(shown, i, shown_x, shown_in[i, 0], "input of the network") for i in range(len(shown_x))],
    [f"{i + 1}: coverage {of_each['coverage'][i]:.2f}, correlation of width and |error| {of_each['corr_error'][i]:.2f}"
     for i in range(len(shown_x))], name=shown_source)

# %%
if source.startswith("AAPM"):
    display(look(prediction, 0, x, x_in[0, 0], "input of the network", lossless=False))
calibrated = detection.calibration(prediction, x)
mean = {key: metrics.mean_ci(values) for key, values in calibrated.items()}
for key, label in (("coverage", "coverage"), ("width", "mean width"), ("corr_error", "correlation of width and |error|")):
    print(f"{label}: {mean[key].mean:.3f} [{mean[key].low:.3f}, {mean[key].high:.3f}], {len(x)} {source}")

# %% [markdown]
# ## What does the width follow?
#
# A correlation of 1 with $|$error$|$ is out of reach for anybody: an error has its size by chance, even where its *expected* size is known.
# So put two things beside the width: the error averaged over 7 x 7 pixels, as a stand-in for its expected size, and maps that
# need no interval arithmetic: how bright the reconstruction is, how steep, how much the input varies within 7 x 7 pixels.

# %%
def deviation(image):
    """Standard deviation within 7 x 7 pixels."""
    return (detection.averaged(image**2) - detection.averaged(image) ** 2).clamp_min(0).sqrt()


absolute = (prediction.mean - x).abs()
steep = torch.stack(torch.gradient(prediction.mean, dim=(2, 3))).square().sum(0).sqrt()
maps = {"width": prediction.spread, "variation of the input": deviation(x_in), "variation of f(x)": deviation(prediction.mean),
        "steepness of f(x)": steep, "brightness of f(x)": prediction.mean}
targets = {"width": prediction.spread, "|error|": absolute, "|error|, averaged": detection.averaged(absolute)}
follows = {m: {label: metrics.pearson(values, to).mean().item() for label, to in targets.items()} for m, values in maps.items()}
figures.table([{"": m, **{f"correlation with {label}": r for label, r in row.items()}} for m, row in follows.items()],
              caption=f"Pearson correlation within an image, mean over {len(x)} {source}")

# %% [markdown]
# The width is close to something that can be had for nothing: for DnCNN how restless its input is, for the U-Net (`task = "ct_limited"`) how
# bright its picture is. That is no wonder. Widths of weights are multiplied by what flows through the layers, so intervals are wide where activations are
# large. Errors happen to be larger there, too.
#
# ## Not a confidence interval
#
# A 95 % confidence interval makes a claim: in 95 % of the cases that the model describes, the truth is inside. Nothing above did.
# Coverage was whatever the price of width made of it, on images and noise like those of the fit. Change the noise and watch. If the
# width knew the error, both curves below would run in parallel.

# %%
LEVELS = {"denoising": [0, 10, 20, 25, 30, 40, 50], "ct_limited": [0.0, 0.5, 1.0, 2.0, 3.0, 5.0]}[task]
few = x[:4]
y = few if task == "denoising" else what.A(few)
unit = SIGMA / 25 if task == "denoising" else y.amax().item() / 100
noise = unit * torch.randn(y.shape, generator=profiles.generator(seed, "other noise levels"))
noisy = [fitted.network.predict(fits.network_input(task, what.A, y + level * noise)) for level in LEVELS]
by_level = [detection.calibration(p, few) for p in noisy]
errors = [(p.mean - few).abs().mean().item() for p in noisy]
axis = {"denoising": "noise, standard deviation × 255 (fitted at 25)",
        "ct_limited": "noise, % of the sinogram's maximum (fitted at 0)"}[task]
for label, values in (("coverage", {"coverage": [c["coverage"].mean().item() for c in by_level]}),
                      ("grey values", {"mean width": [c["width"].mean().item() for c in by_level], "mean |error|": errors})):
    display(figures.curves(LEVELS, values, x_label=axis, y_label=label, height=330, title=f"{title}, other noise: {label}",
                           alt=f"{', '.join(values)} against the noise level of the measurement."))

# %% [markdown]
# ## Plainly
#
# - **What the interval is.** A guarantee about *networks*: all weights in the box give pictures between the bounds. One forward
#   pass, in which a layer with intervals costs four plain ones (two pictures in, two out).
# - **What it is not.** No guarantee about the *truth*. No level is claimed; coverage is set by $\beta$ through the mean miss, and holds
#   for images and noise like those of the fit. The bounds are worst cases that no single network reaches, not a spread of likely answers.
# - **What its width says.** Where activations are large: in texture and noise (DnCNN), in bright places (U-Net). Errors are larger there on
#   average, and in that sense the width knows something of the error, a little more than a map without intervals does. It does not follow
#   the error: for DnCNN with less noise the interval shrinks though the error stays, and with more it falls behind.
# - **What it may be good for nevertheless** is to *change* when the input changes. That is the detection experiment of the paper,
#   with its own controls, and another chapter.
#
# ## Claims

# %%
exactly = {case: rule(*ends) == brute_force(*ends) for case, ends in by_hand.items()}
claim("the rules agree with brute force, except where weight and input can have either sign",
      [case for case, equal in exactly.items() if not equal] == ["weight and input of either sign"], at_least="smoke")
claim("all widths zero: both pictures are f(x), to rounding", off["double"] < 1e-9, at_least="smoke")
claim("lower <= f(x) <= upper in every pixel", bool(((prediction.lower <= prediction.mean) & (prediction.mean <= prediction.upper)).all()),
      at_least="smoke")
claim("no network drawn from the box leaves the bounds, nor does one that was searched for",
      not any(outside.values()) and max(there for there, _ in pushed) <= 1 + 1e-9, at_least="smoke")
claim("to first order, widths are the sum of gains times steps", abs(after_step[0] / (rates[0] * total) - 1) < 0.02, at_least="smoke")
claim("one layer more multiplies the width fourfold in the mean, or more", width_at[-1] > 4 ** (depths[-1] - 1) * width_at[0])
if task == "denoising" and spec.n_layers >= 8:
    claim("the paper's learning rate of 1e-6 would make intervals here wider than the image's range in one step", after_step[-1] > 1)
coverages = [row["network"]["coverage"] for row in scores]
claim("coverage falls as beta grows", coverages == sorted(coverages, reverse=True))
for b, row in zip(specs, scores):
    if b > 1.1 * beta_collapse:
        claim(f"at beta = {b:g} the interval has collapsed: it covers less than a tenth", row["network"]["coverage"] < 0.1)
        claim("and the correlation with |error| does not show it", row["network"]["corr_error"] > 0.5 * mean["corr_error"].mean)
if task == "ct_limited" and not n_interval_layers:
    claim("the U-Net's width repeats the brightness of its picture", follows["brightness of f(x)"]["width"] > 0.9)
if task == "denoising" and not source.startswith("phantom"):
    claim("networks drawn from the box fill less than a quarter of the interval", max(share.values()) < 0.25)
    claim("the mean miss is beta / 2, within a factor of two, on validation images", all(0.5 < m / (spec.beta / 2) < 2 for m in missed))
    claim("the width knows something of the error, not much: their correlation is between 0.1 and 0.5",
          0.1 < mean["corr_error"].low and mean["corr_error"].high < 0.5)
    claim("the width repeats how restless the input is: their correlation is larger than that of width and averaged error",
          follows["variation of the input"]["width"] > max(0.6, follows["width"]["|error|, averaged"]))
    claim("in its own loss the interval network is better than one constant width",
          scores[list(specs).index(spec.beta)]["paired"]["loss"].high < 0)
    none, at, twice = (LEVELS.index(level) for level in (0, 25, 50))
    levels = {key: [c[key].mean().item() for c in by_level] for key in ("coverage", "width")}
    claim("at twice the noise the width grows, the error more",
          1 < levels["width"][twice] / levels["width"][at] < errors[twice] / errors[at])
    claim("without noise the width falls by a quarter or more, the error by less than a tenth, and coverage is lost",
          levels["width"][none] < 0.75 * levels["width"][at] and errors[none] > 0.9 * errors[at]
          and levels["coverage"][none] < levels["coverage"][at] - 0.1)

# %% [markdown]
# ## Exercises
#
# **1.** An interval that is subtracted from itself is not zero. What is $[a, b] - [a, b]$, and where in DnCNN does the same thing
# make bounds wider than they need be?

# %% tags=["hide-cell"]
one = arithmetic.Interval(None, torch.tensor([[0.2, 0.5]]), keep_point=False)  # [0.2, 0.5]
difference = one - one
assert torch.allclose(difference.lower, torch.tensor(-0.3)) and torch.allclose(difference.upper, torch.tensor(0.3))
print("[a - b, b - a]: arithmetic forgets that both are the same number. Channels of a layer are bounded by the same widths of the "
      "layer before; their sums in the next layer are bounded as if they were free")

# %% [markdown]
# **2.** ReLU may act on both bounds because it never decreases. $|t|$ does decrease. Write its rule, and check it by sampling.

# %% tags=["hide-cell"]
def magnitude(low, high):
    smallest = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))
    return smallest, torch.maximum(low.abs(), high.abs())


ends = torch.randn(2, 1000, generator=profiles.generator(seed, "exercise 2")).sort(0).values
sampled = (ends[0] + torch.linspace(0, 1, 501)[:, None] * (ends[1] - ends[0])).abs()
smallest, largest = magnitude(*ends)
assert (sampled >= smallest - 1e-6).all() and (sampled <= largest + 1e-6).all()
assert (sampled.amin(0) - smallest).max() < 0.01 and (largest - sampled.amax(0)).abs().max() < 1e-6  # and tight
print("the smallest magnitude is 0 where the interval holds 0; a naive rule on both ends would lose that")

# %% [markdown]
# **3.** Let the error be Gaussian with standard deviation $s$, the same everywhere. Which $\beta$ gives an interval of constant width that
# covers 95 %? Compare with the paper's choice.

# %% tags=["hide-cell"]
normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
z = normal.icdf(torch.tensor(0.975, dtype=torch.float64))
s = error.std().item()
price = 2 * s * (normal.log_prob(z).exp() - 0.025 * z).item()  # 2 E max(e - z s, 0)
sample = s * torch.randn(400_000, generator=profiles.generator(seed, "exercise 3"))
t = constant_end(sample, price)
assert abs((sample.abs() <= t).double().mean().item() - 0.95) < 0.005
t = constant_end(sample, spec.beta)
print(f"s = {s:.3f} on validation images: beta = {price:.1e}. At beta = {spec.beta:g}, the one of this chapter, a constant would cover "
      f"{100 * (sample.abs() <= t).double().mean():.0f} %: a coverage near that is the price's doing, not that of interval arithmetic")

# %% [markdown]
# ## References
#
# Interval networks, their arithmetic and their fit: {cite:t}`oala2021` and, longer, {cite:t}`macdonald2020`. The denoiser:
# {cite:t}`zhang2017`. Adam: {cite:t}`kingma2015`.
