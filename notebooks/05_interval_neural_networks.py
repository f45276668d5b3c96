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
# *Oala et al. 2021: interval networks (Sec. 2, App. A.2) and their settings (Table 2).
# Fits: `python -m instab_utils.papers oala2021 fits`.*
#
# **What you will see**
# - Arithmetic with intervals in the place of numbers: one layer by hand, then a whole trained network, whose output becomes a
#   lower and an upper picture. The guarantee of these two pictures is checked by drawing networks at random and by searching
#   for the worst one.
# - Why widths explode with depth, and what that means for the learning rate with which intervals are fitted.
# - What one number, $\beta$, decides: how wide the intervals are and how often they hold the truth. And what an interval
#   of this kind is *not*.
#
# **Needs** [trained networks](03_training_denoisers_and_post_processors). Measured minutes and memory per profile:
# [status](../book/status.md). Whether the widths raise an alarm when a reconstruction fails is a chapter of its own.

# %% tags=["parameters"]
# smoke: seconds, proves that it runs · standard: shipped fits · paper: on a GPU
profile = "standard"
seed = 0  # of the network, its fit, and every random draw of this chapter
task = "denoising"  # denoising: DnCNN · ct_limited: the limited-angle U-Net
beta = 0.0  # price of width; 0: the paper's, 1e-3 for denoising, 1e-4 for CT
# layers with intervals, from the last; 0: the paper's, 8 of DnCNN, 7 of the U-Net
n_interval_layers = 0

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("denoising", "ct_limited")})

# %%
import copy
import dataclasses
import itertools

import torch
from torch.nn import functional as F

from instab_utils import data, figures, metrics, report, store, training, widgets
from instab_utils.papers import oala2021
from instab_utils.uncertainty import arithmetic, detection, fits, interval

# %%
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
# terms a bound, for inputs of any sign. The package has both in one function, `arithmetic.affine`. The table compares them
# with brute force, which tries all ends of all intervals.


# %%
def two_terms(W_low, W_high, x_low, x_high):
    """Bounds of W x for x_low >= 0: the two sums above."""
    lower = W_low.clamp(max=0) @ x_high + W_low.clamp(min=0) @ x_low
    upper = W_high.clamp(max=0) @ x_low + W_high.clamp(min=0) @ x_high
    return round(lower.item(), 4), round(upper.item(), 4)


def rule(weights, inputs):
    """Bounds of sum_i w_i x_i by the package's rule for a layer."""
    (low, high), ends = torch.tensor(weights).T, torch.tensor(inputs).T
    positive = bool(ends[0].min() >= 0)
    x = arithmetic.Interval(None, ends.reshape(1, -1), positive, keep_point=False)
    box = arithmetic.Box(low[None], high[None], None, None)
    out = arithmetic.affine(x, box, None, None, F.linear, 1)
    return round(out.lower.item(), 4), round(out.upper.item(), 4)


# %%
def brute_force(weights, inputs):
    sums = [
        sum(w * x for w, x in zip(W, X))
        for W in itertools.product(*weights)
        for X in itertools.product(*inputs)
    ]
    return round(min(sums), 4), round(max(sums), 4)


# %% tags=["hide-input"]
near_two, near_minus_one = (1.9, 2.1), (-1.1, -0.9)
by_hand = {
    "weights exact": ([(2.0, 2.0), (-1.0, -1.0)], [(1.0, 2.0), (0.5, 1.0)]),
    "weights with intervals": ([near_two, near_minus_one], [(1.0, 2.0), (0.5, 1.0)]),
    "a weight of either sign": ([near_two, (-0.5, 0.5)], [(1.0, 2.0), (0.5, 1.0)]),
    "negative inputs": ([near_two, near_minus_one], [(-2.0, -1.0), (0.5, 1.0)]),
    "an input of either sign": ([near_two, near_minus_one], [(-1.0, 1.0), (0.5, 1.0)]),
    "weight and input of either sign": ([(-1.0, 2.0)], [(-1.0, 1.0)]),
}
figures.table(
    [
        {"": case, "rule": str(rule(*ends)), "brute force": str(brute_force(*ends))}
        for case, ends in by_hand.items()
    ],
    caption="Bounds of one layer's output",
)

# %%
weights, inputs = by_hand["weights with intervals"]
ends = [torch.tensor(t).T for t in (weights, inputs)]
assert (
    two_terms(*ends[0], *ends[1])
    == rule(weights, inputs)
    == brute_force(weights, inputs)
)

# %% [markdown]
# The rules agree with brute force except in the last line, where the four-term rule is too wide: it never is too narrow
# (**sound**), and it is exact unless a weight *and* an input can have either sign. Behind a ReLU that does not happen.
#
# ## A network runs on intervals
#
# ReLU, max-pooling and up-sampling never turn an order around, so they act on both bounds alike. Dropout takes one mask for
# both. DnCNN ends with a subtraction, $f(x) = x - R(x)$, which swaps bounds like a negative weight. With these rules the network's own
# `forward` runs on an object that carries two pictures in the place of one.
#
# Only the *last* layers get intervals, and only their widths are new: the weights stay those of the trained network, which stays
# the reconstruction. An interval has two widths, one down and one up, so each weight gets two parameters, $\ge 0$.

# %%
recipe = training.recipe(name, profile, seed)
net = store.load_or_train(recipe, progress=False).network
n_all = sum(isinstance(module, interval.LAYERS) for module in net.modules())
usual = fits.fit_recipe("interval", name, seed, profile)
n_layers = min(n_interval_layers or usual.n_layers, n_all)
spec = dataclasses.replace(usual, beta=beta or usual.beta, n_layers=n_layers)
what = training.task(name, 180 if name == "dncnn" else recipe.image_size)
source = training.test_images(what, 1)[1]
small = 64 if not standard and name == "dncnn" else None
x_in, x = fits.inputs(recipe, 2 * budget.n_images, "test", image_size=small)


# %%
net64, probe = copy.deepcopy(net).double(), x_in[:1, :, :64, :64].double()


def with_intervals(n):
    """The network in double precision, intervals of width zero in n layers."""
    return interval.IntervalNetwork.from_network(net64, n, probe).double()


blank = with_intervals(spec.n_layers)
n_weights, n_widths = (sum(w.numel() for w in m.parameters()) for m in (net, blank))
print(
    f"{title}: {n_all} layers with weights, {spec.n_layers} of them with intervals: "
    f"{', '.join(blank.layers)}\n{n_weights:,} weights, {n_widths:,} widths; "
    f"tested on {len(x)} {source}, {x.shape[-1]} pixels a side"
)


# %%
def off_from_f(intervals, u):
    """Largest distance of the two pictures from f(u)."""
    boxes = {id(widths.layer.weight): widths.box() for widths in intervals.widths}
    with torch.no_grad():
        out = intervals.net(arithmetic.Interval(u, boxes=boxes))
        f_u = intervals.net(u)
    return max((bound - f_u).abs().max().item() for bound in (out.lower, out.upper))


in_single = interval.IntervalNetwork.from_network(net, spec.n_layers, x_in[:1])
off = {
    "double": off_from_f(blank, probe),
    "single": off_from_f(in_single, probe.float()),
}

# %%
with torch.no_grad():
    f_x = net(x_in)
print(
    f"all widths zero: lower and upper picture are f(x) up to {off['double']:.0e} "
    f"in double precision, {off['single']:.0e} in single\n"
    f"PSNR of f(x) {metrics.psnr_db(f_x, x).mean():.2f} dB, "
    f"of its input {metrics.psnr_db(x_in, x).mean():.2f} dB"
)

# %% [markdown]
# ## What the two pictures guarantee
#
# Fitted widths come with the project; how they are fitted is shown further down. The guarantee: every network with weights in
# the box gives a picture between the bounds. The test draws networks from the box, uniformly, or with every weight at one end of
# its interval, and counts pixels outside (in double precision).

# %%
fitted = store.load_or_train(spec, progress=False)
prediction = fitted.network.predict(x_in)
exact = copy.deepcopy(fitted.network).double()
exact.net.double()
side = 32 if standard else 16
spot = x_in[:1, :, :side, :side].double()
inside = exact.predict(spot)


# %%
@torch.no_grad()
def from_box(position):
    """The network with its weights at position(weight): 0 lower end, 1 upper end."""
    other = copy.deepcopy(exact.net)
    for layer, widths in zip(exact.layers, exact.widths):
        box, layer = widths.box(), other.get_submodule(layer)
        for weight, low, high in (
            (layer.weight, box.weight_lower, box.weight_upper),
            (layer.bias, box.bias_lower, box.bias_upper),
        ):
            weight.copy_(low + position(weight) * (high - low))
    return other


# %%
draw = profiles.generator(seed, "networks from the box")


def uniform(weight):
    return torch.rand(weight.shape, generator=draw, dtype=weight.dtype).to(weight)


drawn = {"uniform": uniform, "at the ends": lambda weight: uniform(weight).round()}
n_drawn = 50 if standard else 6
answers = {}
with torch.no_grad():
    for how, position in drawn.items():
        pictures = [from_box(position)(spot) for _ in range(n_drawn)]
        answers[how] = torch.cat(pictures)

# %%
outside, share = {}, {}
for how, a in answers.items():
    is_out = (a < inside.lower - 1e-9) | (a > inside.upper + 1e-9)
    outside[how] = int(is_out.sum())
    filled = (a.amax(0) - a.amin(0)) / (inside.upper - inside.lower)[0]
    share[how] = filled.mean().item()
    print(
        f"{n_drawn} networks, weights {how}: {outside[how]} of {a.numel():,} pixels "
        f"outside; they fill {100 * share[how]:.1f} % of the interval in the mean"
    )

# %% [markdown]
# No pixel is outside. How much of the interval a hundred networks fill depends on the number of layers: random changes of many
# weights average out. A search finds more. For *one* pixel, every weight goes to the end that pushes this pixel up (the sign of
# its gradient, taken again a few times).


# %%
def ascent_step(at, row, column):
    """The network of the box at the ends that push one pixel of `at` up."""
    at = copy.deepcopy(at).requires_grad_(True)
    at(spot)[0, 0, row, column].backward()
    layers = [at.get_submodule(layer) for layer in exact.layers]
    gradients = [weight.grad for layer in layers for weight in layer.parameters()]
    signs = iter([(g > 0).to(g.dtype) for g in gradients])
    return from_box(lambda weight: next(signs))


# %%
def push_up(row, column, n_steps=4):
    """Share of the way to the upper bound: of this pixel (largest), of all (mean)."""
    at, best = exact.net, -1.0
    for _ in range(n_steps):
        at = ascent_step(at, row, column)
        with torch.no_grad():
            pushed = (at(spot) - inside.mean) / (inside.upper - inside.mean)
        best = max(best, pushed[0, 0, row, column].item())
    return best, pushed.mean().item()


# %%
places = [(side // 2, side // 2), (side // 4, side // 3), (2 * side // 3, side // 4)]
places = places[: 3 if standard else 1]
pushed = [push_up(*place) for place in places]
for place, (there, elsewhere) in zip(places, pushed):
    print(
        f"pixel {place}: {100 * there:.0f} % of the way to its upper bound; "
        f"the mean pixel goes {100 * elsewhere:.0f} %"
    )

# %% [markdown]
# The bounds are sound, but not tight. A weight of a convolution serves all places of the picture at once;
# interval arithmetic lets it stand at its lower end for one pixel and at its upper end for the next, in every layer anew, and so
# adds up more than any single network can do. The upper *picture* is the output of no network in the box, and the interval
# is not the spread of random outputs.
#
# ## Widths explode with depth
#
# Let every weight of the last $k$ layers move by a millionth. A layer adds up its inputs' widths, weighted by $|W|$, and nothing
# cancels, so each layer multiplies widths by about the row sums of $|W|$, where the values themselves grow by a factor near one.

# %%
STEP = 1e-6
depths = [k for k in (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23) if k <= n_all]
gain = interval.gains(with_intervals(depths[-1]), probe).flip(0)  # last layer first
width_at = []
for k in depths:
    width_at.append(with_intervals(k).widen_(STEP).predict(probe).spread.mean().item())

# %% tags=["hide-input"]
first_order = [STEP * gain[:k].sum().item() for k in depths]
figures.curves(
    depths,
    {"measured": width_at, "first-order prediction": first_order},
    x_label="layers with intervals, from the last",
    y_label="mean width of the output",
    log_y=True,
    title="All widths a millionth: the width of the output",
    alt="Mean output width against the number of layers with intervals of half-width "
    "one millionth, logarithmic: it grows by a large factor with every layer.",
)

# %% [markdown]
# The curve is nearly straight on a logarithmic axis: geometric growth (and faster, once widths multiply each other). An image has grey values between 0 and 1, so an interval wider than 1
# carries no information. The **gain** $g_j$ of layer $j$ is the slope, width of the output per width of that layer's weights. An optimiser like
# Adam moves *every* parameter by its learning rate $\eta$ in the first step, however small the gradient. The intervals' width after one
# step is therefore about $\eta \sum_j g_j$, and that decides which learning rates make sense. The table has a row for each of five.

# %%
total = gain[: spec.n_layers].sum().item()
rates = [1e-10, 1e-9, 1e-8, 1e-7, 1e-6]
after_step = [blank.widen_(rate).predict(probe).spread.mean().item() for rate in rates]

# %% tags=["hide-input"]
figures.table(
    [
        {
            "learning rate": f"{rate:.0e}",
            "predicted": rate * total,
            "measured": w,
            "": "wider than the image's range" if w > 1 else "",
        }
        for rate, w in zip(rates, after_step)
    ],
    caption="Mean width after one step that moves all weights of the last "
    f"{spec.n_layers} layers by the learning rate",
)

# %% [markdown]
# The paper's network has more and wider layers, and weights that are not published; its learning rate of $10^{-6}$ may have
# been right for it. For ours the rate follows from the gains. The shipped fits prescribe a *width after the first step* instead of a
# rate, and share it equally among the layers, $\eta_j \propto 1 / g_j$. The size of that width is a choice made on validation
# images: intervals that start too wide and are pruned end at a lower loss than intervals that grow from zero.
#
# Rounding matters here: in single precision a weight of 0.1 has a resolution of about $10^{-8}$, so the smallest of these widths are
# lost when they are added to it, and rounding in the first layers grows from layer to layer like a width (for that reason two
# pictures that should have been equal differed above). The next cell compares the same fitted interval in single and in double precision.

# %%
single = fitted.network.predict(x_in[:1])
double = exact.predict(x_in[:1].double())
lost = 1 - (single.spread.double().mean() / double.spread.mean()).item()
smallest = min(w.weight_upper.mean().item() for w in fitted.network.widths)
print(
    f"smallest mean width of a layer {smallest:.1e}; mean width of the output "
    f"{single.spread.mean():.4f} in single, {double.spread.mean():.4f} in double "
    f"precision: {100 * lost:.1f} % lost"
)

# %% [markdown]
# ## The fit
#
# The loss penalises both wide intervals and pixels outside them. Over pixels and images (Sec. 2 of the paper),
#
# $$ \min_{\text{widths} \ge 0} \; \operatorname{mean} \max(x - \overline f, 0)^2 + \operatorname{mean} \max(\underline f - x, 0)^2
#    + \beta \operatorname{mean} (\overline f - \underline f) . $$


# %%
def interval_loss(lower, upper, x, beta):
    above = (x - upper).clamp(min=0)
    below = (lower - x).clamp(min=0)
    return (above.square() + below.square() + beta * (upper - lower)).mean()


ends = prediction.lower, prediction.upper, x, spec.beta
assert torch.equal(interval_loss(*ends), interval.interval_loss(*ends))
card = fitted.card
print(
    f"fitted for {card['steps']} steps of {spec.batch_size} images, "
    f"{card['seconds'] / 60:.1f} minutes on {card['device']}; seen: {card['data']}"
)

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
    above, below = truth - p.upper, p.lower - truth
    return [t.clamp_min(0).mean().item() for t in (above, below)]


x_in_val, x_val = fits.inputs(recipe, 4 * budget.n_images, "validate", image_size=small)
val = fitted.network.predict(x_in_val)
error = x_val - val.mean
largest = max(error.clamp_min(0).mean().item(), (-error).clamp_min(0).mean().item())
beta_collapse = 2 * largest
heuristic = 0.1 * error.abs().mean().item()

# %%
missed, missed_in_test = misses(val, x_val), misses(prediction, x)
print(
    f"beta / 2 = {spec.beta / 2:.2g}; mean misses on validation images: "
    f"{missed[0]:.2g} above, {missed[1]:.2g} below; "
    f"on test images {missed_in_test[0]:.2g} and {missed_in_test[1]:.2g}\n"
    f"from beta = {beta_collapse:.2g} on, collapse; the rule of thumb in the authors' "
    f"code, 0.1 mean |error|, gives {heuristic:.2g}"
)

# %% [markdown]
# ## A yardstick: the same width everywhere
#
# A yardstick without interval arithmetic is $[f - s, f + t]$ with two numbers for *all* pixels, found from the same loss on
# validation images. Any advantage over this constant width is due to the interval layers.


# %%
def constant_end(error, price):
    """t >= 0 with mean max(error - t, 0) = price / 2, by bisection; 0: collapsed."""
    low, high = 0.0, error.max().item()
    for _ in range(40):
        t = (low + high) / 2
        too_short = (error - t).clamp_min(0).mean() > price / 2
        low, high = (t, high) if too_short else (low, t)
    return low


# %%
betas = oala2021.BETAS if standard else oala2021.BETAS[1:2]
specs = {b: dataclasses.replace(spec, beta=b) for b in sorted({spec.beta, *betas})}
if standard:  # with other parameters one fit is enough of a wait
    specs = {b: s for b, s in specs.items() if b == spec.beta or store.is_trained(s)}


def scores_of(q, b):
    """Calibration, loss and mean miss, image by image."""
    per_image = zip(q.lower, q.upper, x)
    losses = [interval_loss(low, high, truth, b) for low, high, truth in per_image]
    miss = torch.tensor(misses(q, x)).mean()
    return detection.calibration(q, x) | {
        "loss": torch.stack(losses).double(),
        "miss": miss,
    }


# %%
def against_constant(p, b):
    """Scores of the network, of one constant width, and their paired differences."""
    below, above = constant_end(-error, b), constant_end(error, b)
    spread = torch.full_like(p.mean, below + above)
    same = p._replace(lower=p.mean - below, upper=p.mean + above, spread=spread)
    each = {"network": scores_of(p, b), "constant": scores_of(same, b)}
    paired = {}
    for k in ("loss", "interval_score"):
        paired[k] = metrics.mean_ci(each["network"][k] - each["constant"][k])
    means = {k: {m: v.mean().item() for m, v in row.items()} for k, row in each.items()}
    return means | {"paired": paired}


# %%
scores = []
for b, s in specs.items():
    p = store.load_or_train(s, progress=False).network.predict(x_in)
    scores.append(against_constant(p, b))
print(f"fits for beta = {', '.join(f'{b:g}' for b in specs)}")

# %% tags=["hide-input"]
KINDS = {"network": "interval network", "constant": "same width everywhere"}
LABELS = {"coverage": "share of pixels in the interval", "width": "mean width"}
for key, label in LABELS.items():
    display(
        figures.curves(
            list(specs),
            {
                label: [row[kind][key] for row in scores]
                for kind, label in KINDS.items()
            },
            x_label="β",
            y_label=label,
            log_x=True,
            height=330,
            title=f"{title}: {label} against β",
            alt=f"{label} against beta for the interval network and for one constant "
            "interval: both fall as beta grows, to zero at collapse.",
        )
    )

# %% tags=["hide-input"]
figures.table(
    [
        {
            "β": f"{b:g}" if key == "network" else "",
            "": KINDS[key],
            "coverage": row[key]["coverage"],
            "width": row[key]["width"],
            "mean miss / (β/2)": row[key]["miss"] / (b / 2),
            "loss": row[key]["loss"],
            "correlation with |error|": row[key]["corr_error"],
            "Winkler, 95 %": row[key]["interval_score"],
        }
        for b, row in zip(specs, scores)
        for key in KINDS
    ],
    caption=f"Test images: {len(x)} {source}. A constant has no correlation; smaller "
    "is better for the loss and for Winkler's score",
)


# %%
def verdict(difference):
    if difference.high < 0:
        return "better than"
    return "worse than" if difference.low > 0 else "not told apart from"


for b, row in zip(specs, scores):
    print(
        f"beta = {b:g}: the interval network is {verdict(row['paired']['loss'])} one "
        "constant width in its own loss, "
        f"{verdict(row['paired']['interval_score'])} it in Winkler's score"
    )

# %% [markdown]
# $\beta$ sets the coverage to any value from nearly all pixels to none, and a fit that covers 95 % is no better
# founded than one that covers 50 %. A constant covers about as much. But a constant cannot be wide *where the
# error is*: the column of correlations shows that, and it lowers the loss where the verdict is "better". Note the last fit: a
# correlation has no scale and does not show that the interval has collapsed.
#
# ## Turn beta
#
# The slider shows the same image under every fit: the reconstruction; its error, which does not depend on $\beta$; the width at the same
# scale; and in white the pixels whose truth lies outside.

# %% tags=["hide-input"]
if source.startswith("AAPM"):  # not to be redistributed: the sliders show phantoms
    generator = profiles.generator(seed, "sliders")
    ellipses = data.phantoms.random_ellipses(len(x), what.pool_size, generator)[0]
    y, shown_x, _ = what.measure(ellipses, None)
    shown_in, shown_source = what.A.pinv(y), "phantoms of ellipses"
else:
    shown_in, shown_x, shown_source = x_in, x, source
SCALE = 2.5  # of errors and widths, both, so that they compare


def look(p, i, truth, first, what_first, lossless=True):
    """One image: first panel, |error|, width, and pixels outside their interval."""
    error = (p.mean - truth).abs()[i]
    out = ((truth < p.lower) | (truth > p.upper))[i].float()
    notes = [f"mean {error.mean():.3f}", f"mean {p.spread[i].mean():.3f}"]
    return figures.panels(
        [first, SCALE * error[0], SCALE * p.spread[i, 0], out[0]],
        window=(0, 1),
        columns=4,
        lossless=lossless,
        titles=[what_first, f"|error| × {SCALE}", f"width × {SCALE}", "truth outside"],
        captions=["", *notes, f"{100 * out.mean():.1f} % of the pixels"],
        alt=f"{what_first}, absolute error, interval width, and the pixels whose truth "
        "is outside the interval.",
    )


by_beta = {}
for b, s in specs.items():
    by_beta[b] = store.load_or_train(s, progress=False).network.predict(shown_in[:1])
print(shown_source)
widgets.explore(
    [look(p, 0, shown_x[:1], p.mean[0, 0], "reconstruction") for p in by_beta.values()],
    [f"{b:g}" for b in by_beta],
    name="β",
    value=list(by_beta).index(spec.beta),
)

# %% [markdown]
# ## Image by image
#
# The slider shows the fit of the parameters cell on test images. Compare the width with the error.

# %% tags=["hide-input"]
shown = fitted.network.predict(shown_in)
of_each = detection.calibration(shown, shown_x)
labels = [
    f"{i + 1}: coverage {of_each['coverage'][i]:.2f}, "
    f"correlation of width and |error| {of_each['corr_error'][i]:.2f}"
    for i in range(len(shown_x))
]
widgets.explore(
    [
        look(shown, i, shown_x, shown_in[i, 0], "input of the network")
        for i in range(len(shown_x))
    ],
    labels,
    name=shown_source,
)

# %%
if source.startswith("AAPM"):
    display(look(prediction, 0, x, x_in[0, 0], "input of the network", lossless=False))
calibrated = detection.calibration(prediction, x)
mean = {key: metrics.mean_ci(values) for key, values in calibrated.items()}
LABELS |= {"coverage": "coverage", "corr_error": "correlation of width and |error|"}
for key, label in LABELS.items():
    low, high = mean[key].low, mean[key].high
    print(f"{label}: {mean[key].mean:.3f} [{low:.3f}, {high:.3f}], {len(x)} {source}")

# %% [markdown]
# ## What does the width follow?
#
# No map can have a correlation of 1 with $|$error$|$: an error has its size by chance, even where its *expected* size is known.
# The table therefore has two more things: the error averaged over 7 x 7 pixels, as an estimate of its expected size, and maps
# without interval arithmetic: brightness and gradient of the reconstruction, variation of the input within 7 x 7 pixels.


# %%
def deviation(image):
    """Standard deviation within 7 x 7 pixels."""
    mean_square, mean = detection.averaged(image**2), detection.averaged(image)
    return (mean_square - mean**2).clamp_min(0).sqrt()


slopes = torch.stack(torch.gradient(prediction.mean, dim=(2, 3)))
maps = {
    "width": prediction.spread,
    "variation of the input": deviation(x_in),
    "variation of f(x)": deviation(prediction.mean),
    "steepness of f(x)": slopes.square().sum(0).sqrt(),
    "brightness of f(x)": prediction.mean,
}

# %%
absolute = (prediction.mean - x).abs()
targets = {
    "width": prediction.spread,
    "|error|": absolute,
    "|error|, averaged": detection.averaged(absolute),
}
follows = {m: {} for m in maps}
for m, values in maps.items():
    for label, target in targets.items():
        follows[m][label] = metrics.pearson(values, target).mean().item()

# %% tags=["hide-input"]
figures.table(
    [
        {"": m, **{f"correlation with {label}": r for label, r in row.items()}}
        for m, row in follows.items()
    ],
    caption=f"Pearson correlation within an image, mean over {len(x)} {source}",
)

# %% [markdown]
# The width is close to a map that needs no uncertainty: for DnCNN the local variation of its input, for the U-Net (`task = "ct_limited"`) the
# brightness of its picture. The reason: widths of weights are multiplied by the activations, so intervals are wide where activations are
# large. Errors are often larger there, too.
#
# ## Not a confidence interval
#
# A 95 % confidence interval makes a claim: in 95 % of the cases that the model describes, the truth is inside. An interval network makes none.
# Its coverage is set by $\beta$, on images and noise like those of the fit. Other noise levels show it: if the width followed
# the error, both curves of the second figure would run in parallel.

# %%
LEVELS = [0, 10, 20, 25, 30, 40, 50]  # standard deviation × 255
if task == "ct_limited":
    LEVELS = [0.0, 0.5, 1.0, 2.0, 3.0, 5.0]  # % of the sinogram's maximum
few = x[:4]
y = few if task == "denoising" else what.A(few)
unit = 25 / 255 / 25 if task == "denoising" else y.amax().item() / 100
draw = profiles.generator(seed, "other noise levels")
noise = unit * torch.randn(y.shape, generator=draw).to(y)
noisy = []
for level in LEVELS:
    again = fits.network_input(task, what.A, y + level * noise)
    noisy.append(fitted.network.predict(again))
by_level = [detection.calibration(p, few) for p in noisy]
errors = [(p.mean - few).abs().mean().item() for p in noisy]

# %% tags=["hide-input"]
levels = {
    key: [c[key].mean().item() for c in by_level] for key in ("coverage", "width")
}
axis = {
    "denoising": "noise, standard deviation × 255 (fitted at 25)",
    "ct_limited": "noise, % of the sinogram's maximum (fitted at 0)",
}[task]
for label, values in (
    ("coverage", {"coverage": levels["coverage"]}),
    ("grey values", {"mean width": levels["width"], "mean |error|": errors}),
):
    display(
        figures.curves(
            LEVELS,
            values,
            x_label=axis,
            y_label=label,
            height=330,
            title=f"{title}, other noise: {label}",
            alt=f"{', '.join(values)} against the noise level of the measurement.",
        )
    )

# %% [markdown]
# ## Plainly
#
# - **What the interval is.** A guarantee about *networks*: all weights in the box give pictures between the bounds. One forward
#   pass gives it, in which a layer with intervals costs four plain ones (two pictures in, two out).
# - **What it is not.** No guarantee about the *truth*. No level is claimed; coverage is set by $\beta$ through the mean miss, and holds
#   for images and noise like those of the fit. The bounds are worst cases that no single network reaches, not a spread of likely answers.
# - **What its width says.** Where activations are large: in texture and noise (DnCNN), in bright places (U-Net). Errors are larger there on
#   average, so the width has a correlation with the error, slightly larger than that of a map without intervals. It does not follow
#   the error: for DnCNN with less noise the interval shrinks though the error stays, and with more it falls behind.
# - **What it may be good for nevertheless** is to *change* when the input changes. That is the detection experiment of the paper,
#   with its own controls, in [chapter 09](09_uncertainty_as_an_alarm).
#
# ## Claims

# %%
exactly = {case: rule(*ends) == brute_force(*ends) for case, ends in by_hand.items()}
wrong = [case for case, equal in exactly.items() if not equal]
claim(
    "the rules agree with brute force, except where weight and input can have "
    "either sign",
    wrong == ["weight and input of either sign"],
    at_least="smoke",
)
claim(
    "all widths zero: both pictures are f(x), to rounding",
    off["double"] < 1e-9,
    at_least="smoke",
)

# %%
ordered = (prediction.lower <= prediction.mean) & (prediction.mean <= prediction.upper)
claim("lower <= f(x) <= upper in every pixel", bool(ordered.all()), at_least="smoke")
claim(
    "no network drawn from the box leaves the bounds, nor does one that was searched "
    "for",
    not any(outside.values()) and max(there for there, _ in pushed) <= 1 + 1e-9,
    at_least="smoke",
)
claim(
    "to first order, widths are the sum of gains times steps",
    abs(after_step[0] / (rates[0] * total) - 1) < 0.02,
    at_least="smoke",
)

# %%
claim(
    "one layer more multiplies the width fourfold in the mean, or more",
    width_at[-1] > 4 ** (depths[-1] - 1) * width_at[0],
)
if task == "denoising" and spec.n_layers >= 8:
    claim(
        "the paper's learning rate of 1e-6 would make intervals here wider than the "
        "image's range in one step",
        after_step[-1] > 1,
    )
coverages = [row["network"]["coverage"] for row in scores]
claim("coverage falls as beta grows", coverages == sorted(coverages, reverse=True))

# %%
for b, row in zip(specs, scores):
    if b > 1.1 * beta_collapse:
        claim(
            f"at beta = {b:g} the interval has collapsed: it covers less than a tenth",
            row["network"]["coverage"] < 0.1,
        )
        claim(
            "and the correlation with |error| does not show it",
            row["network"]["corr_error"] > 0.5 * mean["corr_error"].mean,
        )
if task == "ct_limited" and not n_interval_layers:
    repeats = follows["brightness of f(x)"]["width"] > 0.9
    claim("the U-Net's width repeats the brightness of its picture", repeats)

# %% tags=["hide-input"]
if task == "denoising" and not source.startswith("phantom"):
    claim(
        "networks drawn from the box fill less than a quarter of the interval",
        max(share.values()) < 0.25,
    )
    claim(
        "the mean miss is beta / 2, within a factor of two, on validation images",
        all(0.5 < m / (spec.beta / 2) < 2 for m in missed),
    )
    claim(
        "the width follows the error weakly: their correlation is between 0.1 and 0.5",
        mean["corr_error"].low > 0.1 and mean["corr_error"].high < 0.5,
    )
    claim(
        "the width repeats the variation of the input: their correlation is larger "
        "than that of width and averaged error",
        follows["variation of the input"]["width"]
        > max(0.6, follows["width"]["|error|, averaged"]),
    )
    claim(
        "in its own loss the interval network is better than one constant width",
        scores[list(specs).index(spec.beta)]["paired"]["loss"].high < 0,
    )

# %% tags=["hide-input"]
if task == "denoising" and not source.startswith("phantom"):
    none, at, twice = (LEVELS.index(level) for level in (0, 25, 50))
    width, coverage = levels["width"], levels["coverage"]
    claim(
        "at twice the noise the width grows, the error more",
        1 < width[twice] / width[at] < errors[twice] / errors[at],
    )
    claim(
        "without noise the width falls by a quarter or more, the error by less than a "
        "tenth, and coverage is lost",
        width[none] < 0.75 * width[at]
        and errors[none] > 0.9 * errors[at]
        and coverage[none] < coverage[at] - 0.1,
    )

# %% [markdown]
# ## Exercises
#
# **1.** An interval that is subtracted from itself is not zero. What is $[a, b] - [a, b]$, and where in DnCNN does the same thing
# make bounds wider than they need be?

# %% tags=["hide-cell"]
one = arithmetic.Interval(None, torch.tensor([[0.2, 0.5]]), keep_point=False)
difference = one - one
assert torch.allclose(difference.lower, torch.tensor(-0.3)) and torch.allclose(
    difference.upper, torch.tensor(0.3)
)
print(
    "[a - b, b - a]: arithmetic forgets that both are the same number. Channels of a "
    "layer are bounded by the same widths of the layer before; their sums in the next "
    "layer are bounded as if they were free"
)

# %% [markdown]
# **2.** ReLU may act on both bounds because it never decreases. $|t|$ does decrease. Write its rule, and check it by sampling.


# %% tags=["hide-cell"]
def magnitude(low, high):
    smallest = torch.where(
        (low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs())
    )
    return smallest, torch.maximum(low.abs(), high.abs())


ends = (
    torch.randn(2, 1000, generator=profiles.generator(seed, "exercise 2"))
    .sort(0)
    .values
)
sampled = (ends[0] + torch.linspace(0, 1, 501)[:, None] * (ends[1] - ends[0])).abs()
smallest, largest = magnitude(*ends)
assert (sampled >= smallest - 1e-6).all() and (sampled <= largest + 1e-6).all()
assert (sampled.amin(0) - smallest).max() < 0.01 and (
    largest - sampled.amax(0)
).abs().max() < 1e-6  # and tight
print(
    "the smallest magnitude is 0 where the interval holds 0; a naive rule on both ends "
    "would lose that"
)

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
covered = (sample.abs() <= t).double().mean()
print(
    f"s = {s:.3f} on validation images: beta = {price:.1e}. At beta = {spec.beta:g}, "
    f"the one of this chapter, a constant would cover {100 * covered:.0f} %: "
    "a coverage near that follows from beta, not from interval arithmetic"
)

# %% [markdown]
# ## References
#
# Interval networks, their arithmetic and their fit: {cite:t}`oala2021` and, longer, {cite:t}`macdonald2020`. The denoiser:
# {cite:t}`zhang2017`. Adam: {cite:t}`kingma2015`.
