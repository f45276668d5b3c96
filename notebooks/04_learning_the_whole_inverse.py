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
# # Learning the whole inverse
#
# *Four of the six networks of Antun et al. (SI 2), trained by `python -m instab_utils.training all`; every size beside the
# paper's is in `profiles.STAGES`.*
#
# **What you will see**
# - Four networks that turn k-space into an image: two with the scanner's physics inside, one that has to learn the
#   Fourier transform itself, and one that is trained to look real.
# - What each of them assumes, what each can only have learned, and whether its image still *agrees with the measurement*.
# - Ours beside the authors' published weights and beside total variation, with intervals, and a small one trained live.
#
# **Needs** [operators](01_operators_and_fbp) for $y = Ax$, [stable solvers](02_what_stable_looks_like) for total variation
# (TV). Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
# smoke: proves that it runs · standard: shipped weights · paper: papers' sizes (GPU)
profile = "standard"
seed = (
    0  # of the masks and of the live training; the trained networks are those of seed 0
)
task = "all"  # all, deep_mri, mri_vn, automap or dagan
sampling = [1.5, 2, 3, 4, 6, 8]  # accelerations; Deep MRI was trained at 3
live_steps = 400  # updates of the small cascade that is trained live

# %% tags=["remove-cell"]
from instab_utils import profiles

NETWORKS = ("deep_mri", "mri_vn", "automap", "dagan")
profiles.check_parameters(In, choices={"task": ("all", *NETWORKS)})
numbers = all(isinstance(a, (int, float)) for a in sampling)
if not sampling or not numbers or not all(1.25 <= a <= 12 for a in sampling):
    raise ValueError(
        f"sampling expects accelerations from 1.25 to 12, at least one; got {sampling}."
    )
if live_steps < 1:
    raise ValueError(f"live_steps expects at least 1; got {live_steps}.")

# %%
import torch
from torch.nn import functional as F

from instab_utils import data, figures, metrics, networks, operators, report
from instab_utils import solvers, store, training, widgets
from instab_utils.training import losses
from instab_utils.training import TITLES as title

names = list(NETWORKS) if task == "all" else [task]
names = [name.replace("_", "-") for name in names]

# %% tags=["hide-input"]
budget = profiles.get(profile)
claim = report.claims(profile)
print(f"profile {profile}, data: {data.situation()}")


def interval(m, digits=1):
    """A mean with its interval; one image has none."""
    ends = "" if m.low != m.low else f" [{m.low:.{digits}f}, {m.high:.{digits}f}]"
    return f"{m.mean:.{digits}f}{ends}".replace("-", "−")


# %% [markdown]
# ## From repairing images to inverting scans
#
# A post-processor $x_{rec} = \Phi(A^\dagger y)$ sees the measurement once, through a fixed linear map, and never again. If it
# paints over something that the scanner saw, nothing inside it will notice. Two ways lead on from there. One is to let the
# network *ask the scanner again*, layer after layer, by putting $A$ and $A^*$ between its layers. The other is to trust
# learning with everything, $A$ included.
#
# | | takes in | built in | can only have learned | cannot know |
# |---|---|---|---|---|
# | **Deep MRI** | $y$, mask | $F$, the mask; measured samples are put back exactly | what images look like *between* the measured lines | whether an image is of the kind it was trained on |
# | **MRI-VN** | $y$, mask, coil maps | gradient of $\lVert Ax - y\rVert^2$, ten steps | filters, activations, step sizes | the same; nor that the coil maps are right |
# | **AUTOMAP** | $y$ as a list of numbers | nothing: two dense layers, then three small convolutions | the Fourier transform, for this one mask and size | any other mask; where a sample lies in k-space |
# | **DAGAN** | the zero-filled magnitude | $A^\dagger$ in front; output = input + correction | the correction, judged also by how *real* it looks | $y$: it never sees the measurement again |
#
# All four are trained on MR slices of four volumes (AUTOMAP on photographs, CT slices and ellipses besides: to learn a
# transform takes more than heads), are chosen by a fifth, and are tested on a sixth. A test of this project
# compares file names and pixels, and fails if any slice turns up on two sides.


# %% tags=["hide-input"]
def subject(path):
    folder, _, rest = path.partition("/")
    return folder if "vs-seg" in folder else rest.split(".")[0].split("/")[0]


for split, paths in data.SPLITS.items():
    mr = [p for p in paths if p.startswith(("vs-seg", "volumes/")) and "CT_" not in p]
    print(f"{split:8} " + ", ".join(dict.fromkeys(map(subject, mr))))

# %% [markdown]
# ## Four trained networks
#
# The weights are looked up by everything that decides them (the recipe), or trained here if there are none. Minutes,
# device and data are from the card that lies beside each file.

# %%
recipes = {name: training.recipe(name, profile) for name in names}
trained = {name: store.load_or_train(recipe) for name, recipe in recipes.items()}

# %% tags=["hide-input"]
figures.table(
    [
        {
            "network": title[name],
            "image": f"{recipes[name].image_size}²",
            "parameters": f"{sum(w.numel() for w in net.parameters()):,}",
            "updates": recipes[name].steps,
            "minutes": card["seconds"] / 60,
            "device": card["device"],
            "validation, dB": card["validation"]["psnr_db"],
            "best at update": card["steps"],
        }
        for name, (net, card, _) in trained.items()
    ],
    caption="How they were made",
)

# %%
for name, (_, card, _) in trained.items():
    print(f"{title[name]} learned from {card['data']}")


# %% tags=["hide-input"]
def over_updates(field):
    curves = {name: card["curve"] for name, (_, card, _) in trained.items()}
    updates = sorted({row["step"] for curve in curves.values() for row in curve})
    values = {}
    for name, curve in curves.items():
        at = {row["step"]: row[field] for row in curve}
        values[title[name]] = [at.get(k, float("nan")) for k in updates]
    return updates, values


figures.curves(
    *over_updates("validation_db"),
    x_label="updates",
    y_label="PSNR on validation slices, dB",
    title="Validation while they learn",
    log_x=True,
    alt="PSNR on validation slices against updates, one curve a network.",
).update_traces(connectgaps=True)

# %% tags=["hide-input"]
figures.curves(
    *over_updates("loss"),
    x_label="updates",
    y_label="training loss",
    title="Losses, each in its own units",
    log_x=True,
    log_y=True,
    alt="Training loss against updates, one curve a network.",
).update_traces(connectgaps=True)

# %% [markdown]
# ## The same measurement, three ways
#
# Each network gets test slices through its own scanner: single-coil lines for Deep MRI and DAGAN, 15 coils for MRI-VN,
# scattered samples for AUTOMAP. TV gets the same $y$, and solves for a *complex* image: nothing is won by projecting onto
# real ones. Its one weight comes from validation slices. There is no noise yet.

# %%
runs = {}
for name, recipe in recipes.items():
    options = dict(n_iter=budget.solver_iterations, n_validation=2)
    runs[name] = run = training.compare(recipe, 2 * budget.n_images, **options)
    print(f"{title[name]:9} {run.case.A}; {len(run.case.x)} {run.case.source}")


# %% tags=["hide-input"]
def scores(name, run):
    psnr = {f"{m}, dB": interval(metrics.mean_ci(db)) for m, db in run.psnr_db.items()}
    ssim = {m: interval(metrics.mean_ci(run.ssim[m]), 2) for m in ("TV", "network")}
    return {
        "network": title[name],
        **psnr,
        "gain over TV, dB": interval(run.gain_db("TV"), 2),
        **{f"SSIM {m}": value for m, value in ssim.items()},
        "TV weight": f"{run.tv_weight:g}" + (" (end of grid)" if run.at_end else ""),
    }


figures.table(
    [scores(name, run) for name, run in runs.items()],
    caption="Test slices: mean and 95 % interval over slices of ONE subject. It says "
    "how "
    "sure we are of this head, not of the next patient",
)

# %% tags=["hide-input"]
for name, run in runs.items():
    store.save_record(
        store.record(
            experiment="reconstruct",
            task=run.case.task,
            network=name,
            method=name,
            seed=0,
            profile=profile,
            parameters={"image_size": recipes[name].image_size},
            inputs=[trained[name].key, run.case.source],
            metrics=run.metrics(),
        )
    )


# %% tags=["hide-input"]
def row(run, caption):
    picture = {m: images[:1].abs() for m, images in run.images.items()}
    peak = run.case.x[0].abs().max().item()
    return figures.panels(
        [*picture.values(), run.case.x[:1].abs()],
        ["zero-filled", "TV", caption, "truth"],
        window=(0, peak),
        captions=[*[f"{run.psnr_db[m][0]:.1f} dB" for m in picture], ""],
        error_of=3,
        error_limit=0.25 * peak,
        alt=f"{caption}: zero-filled, total variation, network and true image, with "
        "errors below.",
    )


for name, run in runs.items():
    display(row(run, title[name]))

# %% [markdown]
# Which of the two is ahead is a property of the *images* as much as of the method. Same network, same mask, same TV weight,
# but pictures made of smooth ellipses and a little texture, which are what TV believes in and no network here was shown:

# %% tags=["hide-input"]
if "deep-mri" in runs:
    A, n = runs["deep-mri"].case.A, recipes["deep-mri"].image_size
    x_made = data.textures.mr_like(n, profiles.generator(seed, "made images"), 4)
    x_made = (x_made / x_made.abs().amax((1, 2, 3), keepdim=True)).to(A.device)
    y_made, weight = A(x_made), runs["deep-mri"].tv_weight
    answers = {
        "zero-filled": A.pinv(y_made),
        "Deep MRI": trained["deep-mri"].network(y_made, A),
        "TV": solvers.tv(A, y_made, weight, n_iter=budget.solver_iterations).x,
    }
    made_db = {k: metrics.psnr_db(z, x_made).mean().item() for k, z in answers.items()}
    made_row = {f"{k}, dB": v for k, v in made_db.items()}
    display(
        figures.table(
            [{"images": "ellipses and texture", **made_row}],
            caption="The same Deep MRI on images of another kind",
        )
    )

# %% [markdown]
# ## Deep MRI: ask again after every few layers
#
# Five small networks in a row. Each proposes a correction; after each, **data consistency** takes the proposal to k-space,
# throws away what it says about the measured lines, and puts the measurement there:
#
# $$ x_{k+1} = z - A^*(A z - y), \qquad z = x_k + \mathrm{net}_k(x_k) . $$
#
# So the network has a say only about lines that were not measured. This is not learned and cannot be unlearned. The whole
# of it, with the same image as the network's own code:

# %%
net = networks.Cascade(3, 3, 8, generator=profiles.generator(seed, "shown")).eval()
half = operators.masks.variable_density_lines(
    32, 2, generator=profiles.generator(seed, "m")
)
A = operators.MaskedFourier(half)
y = A(data.textures.mr_like(32, profiles.generator(seed, "shown image"), 1))

x = A.adjoint(y)
for convs in net.blocks:
    hidden = networks.cascade.to_channels(x)  # real and imaginary part
    for conv in convs[:-1]:
        hidden = F.relu(conv(hidden))
    z = x + networks.cascade.to_complex(convs[-1](hidden))
    x = z - A.adjoint(A(z) - y)
assert torch.allclose(x, net(y, A), atol=1e-6)

# %% [markdown]
# Step through the cascade. Left the proposal $z$, right the same after data consistency. The disagreement with the
# measurement, $\|Az - y\| / \|y\|$, stands below each. Only the last image enters the loss of the training, so that
# the proposals in between may look odd.


# %%
def disagreement(A, x, y):
    """||A x - y|| / ||y|| of one image or the largest of a batch."""
    return metrics.relative_error(A(x.to(y.dtype)), y).max().item()


# %% tags=["hide-input"]
def stage(k, pair, case):
    x, y, peak = case.x[:1], case.y[:1], case.x[:1].abs().max().item()
    captions = []
    for z in pair:
        apart = 100 * disagreement(case.A, z, y)
        score = metrics.psnr_db(z, x).item()
        captions.append(f"{score:.1f} dB, disagrees by {apart:.2g} %")
    return figures.panels(
        [z.abs() for z in pair],
        ["proposal", "after data consistency"],
        window=(0, peak),
        error_of=x.abs(),
        error_limit=0.25 * peak,
        captions=captions,
        alt=f"Cascade {k}: the image before and after data consistency, with errors.",
    )


def cascade_slider(net, case):
    y = case.y[:1]
    stages = [(case.A.adjoint(y), case.A.adjoint(y))]
    hook = net.data_consistency.register_forward_hook(
        lambda layer, inputs, out: stages.append((inputs[0], out))
    )
    net(y, case.A)
    hook.remove()
    frames = [stage(k, pair, case) for k, pair in enumerate(stages)]
    steps = ["zero-filled", *range(1, len(stages))]
    return widgets.explore(frames, steps, name="cascade", value=len(stages) - 1)


if "deep-mri" in runs:
    display(cascade_slider(trained["deep-mri"].network, runs["deep-mri"].case))

# %% [markdown]
# ## MRI-VN: ten steps of an old method, with learned filters
#
# Minimising $\frac12\|Ax - y\|^2 + \sum_i \rho_i(k_i * x)$ by gradient steps gives, with $\phi_i = \rho_i'$,
#
# $$ u_{t+1} = u_t - \frac{1}{N_k} K_t^{T} \phi_t(K_t u_t) - \lambda_t A^*(A u_t - y) . $$
#
# Without the middle term it is the iteration of {cite:t}`landweber1951`. The variational network makes ten such steps and *learns*
# filters $k_i$, activations $\phi_i$ and step sizes $\lambda_t$, all of them new in every step. Nothing forces the image to
# agree with $y$ at the end: the data pull ten times, the learned term pulls back. Since the filters are few and large, one
# can look at them. They *start* as noise, and after a short training they still look like it. Subtract the start, and what
# training has added comes out: oriented edges and waves, other ones in every step.


# %% tags=["hide-input"]
def mosaic(filters, columns=8):
    """(n, k, k) -> one image; each filter scaled to its largest weight."""
    scaled = filters / filters.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    lines = F.pad(scaled, (0, 1, 0, 1)).split(columns)
    lines = [torch.cat(list(line), 1) for line in lines if len(line) == columns]
    return torch.cat(lines, 0)


def filter_slider(net, start):
    frames = []
    for t, (now, then) in enumerate(zip(net.filters, start.filters)):
        parts, columns = (now[:, 0], (now - then.detach())[:, 0]), min(8, len(now))
        frames.append(
            figures.panels(
                [mosaic(part, columns) for part in parts],
                ["filters, real parts", "what training added"],
                signed=(0, 1),
                alt=f"Filters of step {t + 1}: they look like noise; their change "
                "during "
                "training shows edges and waves.",
            )
        )
    return widgets.explore(frames, range(1, len(frames) + 1), name="step t")


def neighbours(filters):
    """Correlation of weights one pixel apart: 0 for noise, 1 for smooth filters."""
    left, right = filters[..., :-1].reshape(1, -1), filters[..., 1:].reshape(1, -1)
    return metrics.pearson(right, left).item()

# %%
if "mri-vn" in runs:
    net, start = trained["mri-vn"].network, recipes["mri-vn"].build()
    display(filter_slider(net, start))
    now, then = (torch.stack(list(n.filters)).detach() for n in (net, start))
    now, then = now.flatten(0, 1), then.flatten(0, 1)
    still = torch.cosine_similarity(now.flatten(1), then.flatten(1)).mean().item()
    parts = {"start": then, "now": now, "change": now - then}
    grain = {label: neighbours(part) for label, part in parts.items()}
    print(
        f"cosine between a filter and its random start: {still:.2f}; correlation of "
        "neighbouring weights: "
        + ", ".join(f"{label} {value:.2f}" for label, value in grain.items())
    )

# %% [markdown]
# And the activations. A *shrinking* prior, as in TV, has an odd, rising $\phi_i$: it pulls every filter response towards
# zero. A falling stretch does the opposite: it *strengthens* what the filter has found.


# %% tags=["hide-input"]
def activation_slider(net, n_shown=6):
    z = torch.linspace(-1, 1, 101, device=net.steps.device)
    families, falling = {}, []
    for t, activation in enumerate(net.activations):
        phi = activation.formula(z.expand(1, len(activation.weight), 1, -1))[0, :, 0]
        falling.append((phi.diff(dim=1) < 0).float().mean().item())
        largest = phi.abs().amax(1).argsort(descending=True)[:n_shown]
        labels = ["largest, 1", *[f"{k + 1}" for k in range(1, len(largest))]]
        families[t + 1] = {k: phi[i].tolist() for k, i in zip(labels, largest)}
    return falling, widgets.curves_slider(
        z.tolist(),
        families,
        name="step t",
        x_label="filter response z",
        y_label="φ(z)",
        markers=False,
        title="The largest activations of each step",
        alt="Learned activation functions of each step of MRI-VN.",
    )


if "mri-vn" in runs:
    falling, slider = activation_slider(trained["mri-vn"].network)
    display(slider)
    steps = trained["mri-vn"].network.steps.tolist()
    share = 100 * sum(falling) / len(falling)
    print(
        f"step sizes λ from {min(steps):.2f} to {max(steps):.2f}; "
        f"the activations fall on {share:.0f} % of [-1, 1]"
    )

# %% [markdown]
# ### What did the learned term add, and was it needed?
#
# Two controls. *Landweber*: the same ten steps with the learned term taken out. *CGLS*: plain least squares, no prior, no
# training. With 15 coils there are several measurements for every pixel, so without noise, and with coil maps that are
# known exactly, least squares is a very strong opponent. Then add noise to the measurement.


# %%
def without_learned_term(net, A, y):
    u = A.adjoint(y)
    for step in net.steps:
        u = u - step * A.adjoint(A(u) - y)
    return u


# %% tags=["hide-input"]
vn_rows = []
if "mri-vn" in runs:
    net, case = trained["mri-vn"].network, runs["mri-vn"].case
    A, x, y = case.A, case.x[:2], case.y[:2]
    n_iter, weight = min(100, budget.solver_iterations), runs["mri-vn"].tv_weight
    for level in (0, 0.01, 0.05):
        random = profiles.generator(seed, f"coil noise {level}")
        noisy = solvers.add_noise(y, level, random) if level else y
        answers = {
            "MRI-VN": case.f(noisy),
            "its steps without the learned term": without_learned_term(net, A, noisy),
            f"CGLS, {n_iter} steps": solvers.cgls(A, noisy, n_iter=n_iter).x,
            f"TV, {n_iter} steps": solvers.tv(A, noisy, weight, n_iter=n_iter).x,
        }
        score = {k: metrics.psnr_db(z, x).mean().item() for k, z in answers.items()}
        vn_rows.append({"noise": f"{100 * level:g} %", **score})
    share = y.shape[1] * A.mask.float().mean().item()
    display(
        figures.table(
            vn_rows,
            caption=f"PSNR in dB, 15 coils, {share:.1f} complex measurements a pixel; "
            "no method was tuned to the noise, the network least of all",
        )
    )

# %% [markdown]
# ## AUTOMAP: no physics at all
#
# Here $y$ is a list of numbers. Two dense layers, every number connected to every pixel, then three convolutions to tidy up.
# Nothing says that the numbers are frequencies, or which. That is the promise (any scanner, even one with unmodelled
# errors) and the price:

# %%
AUTOMAP = networks.AUTOMAP
counted = {"as published": AUTOMAP(device="meta")}
counted["at twice the pixels"] = AUTOMAP(256, 39_420, 100_000, device="meta")
if "automap" in trained:
    counted["ours"] = trained["automap"].network


# %% tags=["hide-input"]
def dense_size(which, net):
    n_weights = sum(w.numel() for w in net.parameters())
    dense = sum(layer.weight.numel() for layer in net.dense)
    fourier = net.n**2 * 2 * torch.tensor(net.n).log2().item()
    return {
        "AUTOMAP": which,
        "image": f"{net.n}²",
        "samples": net.m,
        "parameters": f"{n_weights:,}",
        "float32 weights, GB": 4 * n_weights / 1e9,
        "dense multiplications / FFT's": dense / fourier,
    }


figures.table(
    [dense_size(which, net) for which, net in counted.items()],
    caption="The dense layers grow with the fourth power of the image's side; the fast "
    "Fourier transform with n² log n",
)

# %% [markdown]
# All of it in six lines. $v$ holds the real and imaginary parts of the samples; the convolutions work on an image whose
# mean was taken away, and the mean is read off the first number.

# %%
net = AUTOMAP(16, 154, 64, 8, generator=profiles.generator(seed, "shown"))
v = torch.randn(1, 2 * 154, generator=profiles.generator(seed, "shown samples"))

h = net.dense[1](torch.tanh(net.dense[0](v)))
image = (h - h.mean()).reshape(1, 1, 16, 16)
padded = networks.layers.symmetric_pad(image, 4)
codes = F.relu(net.convs[1](torch.tanh(net.convs[0](padded))))
z = net.last(codes)[..., 4:-4, 4:-4]
x_rec = z - z.mean() + v[0, 0] / (0.48 * 16)

assert torch.allclose(x_rec, net(v), atol=1e-6)

# %% [markdown]
# Did it learn the Fourier transform? Near zero $\tanh(v) \approx v$, so the dense part is the matrix $W_2 W_1$: one row a
# pixel, one column a measured number. Arrange a row in k-space and the inverse Fourier transform would show a plane wave.
# Then ask the more forgiving question, of the *image*: which pixels of the true image does one pixel of the output depend
# on? Through $W_2 W_1$, and through the whole network by its gradient. (A row may look like noise in k-space and still do the
# right thing: it was only ever asked about images that exist, and those have their energy at low frequencies.)


# %% tags=["hide-input"]
def rows_of_inverse(net, A, p):
    """Row p of W2 W1, the true inverse's up to a factor, and the scan of every pixel."""
    row = net.dense[1].weight[p] @ net.dense[0].weight
    impulses = torch.eye(net.n**2, device=row.device).reshape(-1, 1, net.n, net.n)
    encoded = networks.automap.encode(A(impulses), A.mask)  # (pixels, 2m)
    return row, encoded[p], encoded


def in_k_space(net, A, row):
    wave = row.new_zeros(net.n**2)
    wave[A.mask.flatten().bool()] = row[: net.m] / row.abs().max()
    return torch.fft.fftshift(wave.reshape(net.n, net.n))

# %%
if "automap" in runs:
    net, case = trained["automap"].network, runs["automap"].case
    n, p = (
        net.n,
        (net.n // 2) * net.n + net.n // 2 + net.n // 8,
    )  # a pixel off the middle
    row, true, encoded = rows_of_inverse(net, case.A, p)
    image = case.x[:1].clone().requires_grad_()
    (whole,) = torch.autograd.grad(case.f(case.A(image))[0, 0].flatten()[p], image)
    reads = [encoded @ row, encoded @ true, whole.flatten()]
    alike = [
        metrics.pearson(v[None], reads[1][None]).item() for v in (reads[0], reads[2])
    ]
    rows_alike = metrics.pearson(row[None], true[None]).item()

# %% tags=["hide-input"]
if "automap" in runs:
    waves = [in_k_space(net, case.A, part.detach()) for part in (row, true)]
    shown = [(part / part.abs().max()).reshape(n, n).detach() for part in reads]
    display(
        figures.panels(
            [*waves, *shown],
            [
                "row of W₂W₁, k-space",
                "true row, k-space",
                "reads through W₂W₁",
                "true inverse reads",
                "whole network reads",
            ],
            signed=range(5),
            columns=5,
            captions=[
                f"correlation {rows_alike:.2f}",
                "",
                f"correlation {alike[0]:.2f}",
                "",
                f"{alike[1]:.2f}",
            ],
            alt="One row of the product of AUTOMAP's dense layers beside the row of "
            "the "
            "true inverse Fourier transform, and the image pixels that one output "
            "pixel "
            "depends on.",
        )
    )

# %% [markdown]
# ## DAGAN: trained to look real
#
# A U-Net corrects the zero-filled magnitude. A second network, the *discriminator*, learns meanwhile to tell corrected images
# from fully sampled ones, and the first is rewarded for fooling it:
#
# $$ \begin{aligned}
#    & 15 \cdot \underbrace{\frac{\lVert \hat x - x\rVert}{\lVert x\rVert}}_{\text{image}} \;+\; 0.1 \cdot
#    \underbrace{\big\lVert |F\hat x| - |Fx| \big\rVert^2}_{\text{frequency}} \\
#    & +\; 0.0025 \cdot \underbrace{\lVert \mathrm{VGG}(\hat x) - \mathrm{VGG}(x)\rVert^2}_{\text{perceptual}} \;-\;
#    \underbrace{\log D(\hat x)}_{\text{adversarial}} .
#    \end{aligned} $$
#
# The perceptual term compares features of VGG16, whose weights may not be shipped: our training leaves it out and puts
# nothing in its place. Look at what the last term is given:

# %%
logits = torch.linspace(-4, 4, 9)  # of the discriminator D: log D = -softplus(-logit)
adversarial = F.softplus(-logits).mean()

assert torch.equal(adversarial, losses.adversarial(logits, real=True))
assert torch.allclose(adversarial, -torch.sigmoid(logits).log().mean())
if "dagan" in trained:
    print("Trained with:", trained["dagan"].card["architecture"])

# %% [markdown]
# Neither $x$ nor $y$. "Realistic" means *could have come from the training set*, and nothing else. To see why that is
# dangerous, score four candidates for one scan. The last is a fully sampled image of the same head, one slice on. No
# discriminator in the world would reject it.


# %%
def scored(label, image, case):
    x, y, weight = case.x[:1], case.y[:1], losses.DAGAN_WEIGHTS
    a, b = 2 * image - 1, 2 * x - 1
    return {
        "candidate": label,
        "15 × image": weight["nmse"] * losses.nmse(a, b).item(),
        "0.1 × frequency": weight["frequency"] * losses.frequency_loss(a, b).item(),
        "PSNR, dB": metrics.psnr_db(image, x).item(),
        "disagrees with y, %": 100 * disagreement(case.A, image, y),
    }


# %% tags=["hide-input"]
if "dagan" in runs:
    run = runs["dagan"]
    candidates = {
        "zero-filled": run.images["input"][:1],
        "TV": run.images["TV"][:1],
        "DAGAN": run.images["network"][:1],
        "another slice, perfectly real": run.case.x[1:2],
    }
    dagan_rows = [scored(label, z, run.case) for label, z in candidates.items()]
    display(
        figures.table(
            dagan_rows,
            caption="Four candidates for one scan. The columns but the last need the "
            "true image; only the last can be computed for a patient",
        )
    )

# %% tags=["hide-input"]
for name in [name for name in ("automap", "dagan") if name in runs]:
    first = {m: images[:1].abs() for m, images in runs[name].images.items()}
    display(
        widgets.compare(
            first["input"],
            first["network"],
            titles=("zero-filled", title[name]),
            window=(0, 1),
            alt=f"Wipe from the zero-filled image to {title[name]}'s.",
        )
    )

# %% [markdown]
# ## Does the picture agree with the scan?
#
# The one number that needs no truth: $\|A\hat x - y\| / \|y\|$. There is no noise here, so the true image has zero. Agreement
# proves little (the zero-filled image agrees perfectly and is bad); *disagreement* proves that something is wrong.
#
# And it can be repaired. For single-coil scans $A A^* = I$, so $\hat x - A^*(A\hat x - y)$ is the nearest image that agrees: a
# projection onto a set that holds the true image, which can never make an image worse. Then the question that matters: of
# the energy that was *not* measured, how much is supplied correctly (zero-filling 0 %, perfection 100 %, below zero: worse
# than nothing)? AUTOMAP and DAGAN know one thing that is not learned: their images are real. What that alone is worth
# shows in the last column, where zero-filling is followed by nothing but taking the magnitude.


# %%
def onto_data(A, x, y):
    """The image nearest to x that agrees with y, for A A* = I."""
    return x - A.adjoint(A(x) - y)


def supplied(A, raw, x, y):
    """Per cent: error after the projection, share of the unseen part that is right."""
    error = metrics.relative_error(onto_data(A, raw, y), x)
    unseen = metrics.relative_error(A.adjoint(y), x)
    return 100 * error, 100 * (1 - (error / unseen) ** 2)


# %% tags=["hide-input"]
agreement = {}
for name, run in runs.items():
    A, x, y = run.case.A, run.case.x.to(run.case.y.dtype), run.case.y
    raw = run.case.f(y).to(y.dtype)
    entry = {
        "network": title[name],
        "disagrees with y, %": 100 * disagreement(A, raw, y),
        "error, %": 100 * metrics.relative_error(raw, x),
    }
    if run.case.task == "mri_single":
        error, share = supplied(A, raw, x, y)
        entry["error after one projection, %"] = error
        entry["unseen part supplied, %"] = share
        if not run.case.x.is_complex():
            magnitude = A.adjoint(y).abs().to(y.dtype)
            entry["by the magnitude alone, %"] = supplied(A, magnitude, x, y)[1]
    agreement[name] = entry


def means(entry):
    return {
        k: v.mean().item() if isinstance(v, torch.Tensor) else v
        for k, v in entry.items()
    }


figures.table(
    [means(entry) for entry in agreement.values()],
    caption="Agreement with the measurement (the worst slice), and complex relative "
    "errors "
    "(the mean)",
)

# %% [markdown]
# ## Ours beside the published weights
#
# Two of the four exist with weights that others trained: Deep MRI by its authors, on 256 × 256 cardiac frames; MRI-VN by a
# public port, on knees with other coils. Heads are a shift for both; the smaller image is another. So the same measurement
# goes through both at our size and at twice our size, which is a shift for *ours*.


# %%
def both(name, size):
    what = training.task(name, size)
    images, source = training.test_images(what, min(4, budget.n_images))
    y, x, A = what.measure(images, None)
    answers = {
        "zero-filled": A.pinv(y),
        "ours": trained[name].network.reconstruct(y, A),
        "published": networks.pretrained.reconstructor(name, A)(y),
    }
    scores = {k: metrics.psnr_db(z, x) for k, z in answers.items()}
    return {"network": title[name], "image": f"{size}²", **scores}


# %% tags=["hide-input"]
published = []
for name in [name for name in ("deep-mri", "mri-vn") if name in runs]:
    try:
        published += [both(name, recipes[name].image_size * k) for k in (1, 2)]
    except data.DataUnavailable as missing:
        print(f"{title[name]}: the published weights are not here. {missing}")
if published:
    rows = []
    for entry in published:
        ahead = metrics.mean_ci(entry["ours"] - entry["published"])
        rows.append({**means(entry), "ours − published": interval(ahead)})
    display(
        figures.table(
            rows,
            caption="PSNR in dB, same measurement; paired difference with its 95 % "
            "interval over slices of one subject",
        )
    )

# %% tags=["hide-input"]
for entry in published:
    name = next(name for name in names if title[name] == entry["network"])
    store.save_record(
        store.record(
            experiment="reconstruct",
            task="mri_single" if name == "deep-mri" else "mri_parallel",
            network=f"{name}-published",
            method=name,
            seed=0,
            profile=profile,
            parameters={"image_size": int(entry["image"][:-1])},
            inputs=[networks.pretrained.FILES[name], runs[name].case.source],
            metrics={
                "network": {"psnr_db": metrics.mean_ci(entry["published"])},
                "front_end": {"psnr_db": metrics.mean_ci(entry["zero-filled"])},
                "n_images": len(entry["published"]),
            },
        )
    )

# %% [markdown]
# ## Another number of lines
#
# Deep MRI was trained at acceleration 3. The mask is an input, so it *runs* at any. Here the masks are nested: each keeps all
# lines of the one before and adds some (so even a third of the lines is drawn a little differently than in training). More
# data, same network: a method that uses what it is given can only improve. Look at the distance to TV. This is a first
# glimpse of a question that a later chapter asks of every network.


# %% tags=["hide-input"]
def by_sampling(run, net):
    x = run.case.x[: min(4, budget.n_images)]
    n, rows = x.shape[-1], []
    kept = [a for a in sampling if int(n / a) >= 8]  # the centre alone has 8 lines
    random = profiles.generator(seed, "sampling")
    nested = operators.masks.nested_lines(n, kept, generator=random) if kept else {}
    for acceleration, mask in nested.items():
        A = operators.MaskedFourier(mask).to(x.device)
        y = A(x)
        tv = solvers.tv(A, y, run.tv_weight, n_iter=budget.solver_iterations).x
        answers = {"zero-filled": A.pinv(y), "TV": tv, "Deep MRI": net(y, A)}
        score = {k: metrics.psnr_db(z, x) for k, z in answers.items()}
        rows.append((100 * mask.float().mean().item(), acceleration, score))
    return rows


sampled = []
if "deep-mri" in runs:
    sampled = by_sampling(runs["deep-mri"], trained["deep-mri"].network)
if sampled:
    methods = list(sampled[0][2])
    display(
        figures.curves(
            [lines for lines, _, _ in sampled],
            {m: [db[m].mean().item() for _, _, db in sampled] for m in methods},
            x_label="lines measured, %",
            y_label="PSNR, dB",
            title="Trained at a third of the lines, tested at others",
            alt="PSNR against the share of measured lines for zero-filling, total "
            "variation and Deep MRI.",
        )
    )
    for _, acceleration, db in sampled:
        ahead = (db["Deep MRI"] - db["TV"]).mean().item()
        print(f"acceleration {acceleration:4g}: Deep MRI − TV = {ahead:+.1f} dB")

# %% [markdown]
# ## Train one yourself
#
# A cascade small enough for seconds: two networks of three convolutions. Same loop, same recipe type, same data as the
# shipped ones. (`live_steps` makes it longer.)

# %%
size = max(32, budget.image_size // 4)
steps = live_steps if budget.at_least("standard") else min(live_steps, 40)
small = dict(image_size=size, architecture={"width": 16})
short = dict(steps=steps, every=max(1, steps // 10))
tiny = training.recipe("deep-mri", "smoke", seed, **small, **short)
live, card = training.train(tiny)

# %% tags=["hide-input"]
figures.curves(
    [row["step"] for row in card["curve"]],
    {"validation": [row["validation_db"] for row in card["curve"]]},
    x_label="updates",
    y_label="PSNR, dB",
    title=f"{card['architecture']}, {card['seconds']:.0f} s on {card['device']}",
    alt="PSNR on validation slices against updates of the small cascade, rising.",
)

# %%
what = training.task("deep-mri", size)
images, source = training.test_images(what, 2 * budget.n_images)
y, x, A = what.measure(images, None)
untrained = tiny.build().eval()
with torch.no_grad():
    answers = {
        "zero-filled": A.adjoint(y),
        "untrained": untrained(y, A),
        "trained here": live(y, A),
    }
live_db = {k: metrics.psnr_db(z, x) for k, z in answers.items()}

# %% tags=["hide-input"]
figures.panels(
    [*[z[:1].abs() for z in answers.values()], x[:1].abs()],
    [*answers, "truth"],
    error_of=3,
    captions=[*[f"{db[0]:.1f} dB" for db in live_db.values()], ""],
    alt="Zero-filled, untrained and trained cascade, and the true image, with errors.",
)

# %% [markdown]
# ## Claims

# %%
for name, run in runs.items():
    gain, over_tv = run.gain_db("input"), run.gain_db("TV")
    print(
        f"{title[name]}: {interval(gain)} dB over its zero-filled input, "
        f"{interval(over_tv, 2)} dB over TV"
    )
    # only the ellipses are images of a training
    if not run.case.source.startswith("phantom"):
        claim(
            f"{title[name]} improves on the zero-filled image, beyond the interval",
            gain.low > 0,
        )

# %% tags=["hide-input"]
if "deep-mri" in runs:
    claim(
        "Deep MRI returns the measured lines exactly, to rounding",
        agreement["deep-mri"]["disagrees with y, %"] < 1e-3,
        "smoke",
    )
    claim(
        "... and so does the cascade that never learned anything",
        disagreement(A, answers["untrained"], y) < 1e-5,
        "smoke",
    )
    # on phantoms TV is ahead: next claim
    if not runs["deep-mri"].case.source.startswith("phantom"):
        claim(
            "Deep MRI beats TV on heads at the acceleration it was trained for",
            runs["deep-mri"].gain_db("TV").low > 0,
        )
    claim(
        "... and TV beats Deep MRI on made images, with the same mask and weight",
        made_db["TV"] > made_db["Deep MRI"],
    )
    claim(
        "Deep MRI improves on zero-filling at every sampling tried",
        all((db["Deep MRI"] - db["zero-filled"]).mean() > 0 for _, _, db in sampled),
    )

# %% tags=["hide-input"]
if vn_rows:
    clean, loud = vn_rows[0], vn_rows[-1]
    network, bare, cgls, tv = list(clean)[1:]
    claim(
        "MRI-VN's learned term is worth more than 1 dB over the same steps without it",
        clean[network] > clean[bare] + 1,
    )
    claim(
        "what training added to its filters is smooth where their start was noise",
        grain["change"] > 0.3 > abs(grain["start"]),
    )
    claim(
        "MRI-VN loses less than 1 dB to 5 % of noise that it never saw in training",
        clean[network] - loud[network] < 1,
    )
    claim(
        "CGLS without a prior is ahead of MRI-VN without noise and behind it at 5 %",
        clean[cgls] > clean[network] and loud[cgls] < loud[network],
    )
if vn_rows and budget.at_least("standard"):
    report.differs(
        "MRI-VN and the classical way",
        theirs="better than standard algorithms on clinical knee scans, in numbers and "
        "to "
        "readers",
        ours=f"TV is {-runs['mri-vn'].gain_db('TV').mean:.1f} dB ahead on the same "
        "data, "
        f"CGLS without any prior {clean[cgls] - clean[network]:.1f} dB",
        reason="our scan has no noise and our coil maps are exactly right, so plain "
        "least "
        "squares almost determines the image; real maps are estimates. The network is "
        "a "
        "small one, minutes old. It is not told that the data can be trusted",
    )

# %% tags=["hide-input"]
for name in [name for name in ("mri-vn", "automap", "dagan") if name in runs]:
    claim(
        f"{title[name]} disagrees with the measurement by one per cent or more",
        agreement[name]["disagrees with y, %"] > 1,
    )
if "automap" in runs:
    claim(
        "AUTOMAP found the Fourier transform by itself: one output pixel reads the "
        "image "
        "as the true inverse does (correlation above 0.5)",
        alike[1] > 0.5,
    )
for name in [name for name in ("automap", "dagan") if name in runs]:
    projected, raw = (
        agreement[name][k] for k in ("error after one projection, %", "error, %")
    )
    claim(
        f"one projection onto the measurement makes no slice of {title[name]} worse",
        (projected <= raw * (1 + 1e-5)).all(),
        "smoke",
    )
if steps >= 300 or not budget.at_least("standard"):
    claim(
        "the small cascade learned: better than zero-filling on every test slice",
        (live_db["trained here"] > live_db["zero-filled"]).all(),
    )

# %% [markdown]
# ## Exercises
#
# **1.** Data consistency is a projection: doing it twice is doing it once. Show it, on an image that has nothing to do with
# the measurement.

# %% tags=["hide-cell"]
project = networks.DataConsistency()
random = profiles.generator(seed, "exercise")
anything = torch.randn(x.shape, generator=random, dtype=x.dtype).to(x.device)
once = project(anything, y, A)
assert metrics.relative_error(project(once, y, A), once).max() < 1e-6
assert disagreement(A, once, y) < 1e-5
print("from pure noise to perfect agreement in one step: agreement is cheap")

# %% [markdown]
# **2.** Set every activation of an (untrained) variational network to zero. What is left, and does it agree with your own
# loop?

# %% tags=["hide-cell"]
how = training.recipe("mri-vn", "smoke", seed)
coils = training.task("mri-vn", how.image_size)
y2, x2, A2 = coils.measure(training.test_images(coils, 1)[0], None)
bare = how.build()
with torch.no_grad():
    for activation in bare.activations:
        activation.weight.zero_()
    u = A2.adjoint(y2)
    for _ in bare.steps:
        u = u - A2.adjoint(A2(u) - y2)
    assert metrics.relative_error(bare(y2, A2), u).max() < 1e-5
print(f"Landweber's iteration: {len(bare.steps)} steps of size 1, no learning at all")

# %% [markdown]
# **3.** AUTOMAP takes a list of numbers. Shuffle the list, and shuffle the columns of its first matrix in the same way. What
# changes? What would happen to Deep MRI?

# %% tags=["hide-cell"]
how = training.recipe("automap", "smoke", seed)
net, shuffled = how.build().eval(), how.build().eval()
order = torch.randperm(2 * net.m, generator=profiles.generator(seed, "shuffle"))
# our code reads the mean off the first number
order = torch.cat([torch.zeros(1, dtype=order.dtype), order[order != 0]])
v = torch.randn(2, 2 * net.m, generator=profiles.generator(seed, "numbers"))
v = v.to(profiles.default_device())
with torch.no_grad():
    shuffled.dense[0].weight.copy_(net.dense[0].weight[:, order])
    assert metrics.relative_error(shuffled(v[:, order]), net(v)).max() < 1e-5
print(
    "nothing: AUTOMAP has no notion of where a number was measured. Deep MRI has the "
    "Fourier transform inside, and breaks"
)

# %% [markdown]
# ## References
#
# Deep MRI: {cite:t}`schlemper2018`. MRI-VN: {cite:t}`hammernik2018`. AUTOMAP: {cite:t}`zhu2018`. DAGAN: {cite:t}`yang2018`.
# The four as subjects of a stability test: {cite:t}`antun2020`; details of sizes and training are from its supplement and
# from the published code ([reading notes](../book/reading-notes.md)). Total variation: {cite:t}`rudin1992`.
