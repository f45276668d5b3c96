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
# # Tiny worst-case perturbations
#
# **What you will see**
# - Three networks with their authors' own published weights, on real images, pushed over by a change of the image of about
#   one per cent that a reader can hardly see.
# - The same change through a stable solver on the same measurement, and random changes of the same size through both.
# - That the failure is not a needle in a haystack: added noise does not make it go away.
#
# **Needs** [operators](01_operators_and_fbp) for $y = Ax$; [stable solvers](02_what_stable_looks_like) for total variation.
# Measured minutes and memory per profile: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"   # smoke: seconds, proves that it runs · standard: the published page · paper: more iterations, restarts
seed = 0               # every random draw of this chapter
network = "all"        # all, deep_mri, mri_vn or dncnn
target = "prediction"  # p(x) of the attack: "prediction" f(Ax), or "truth" x
strength = 0.02        # largest ||r|| / ||x||; an eighth, a quarter and a half of it are shown beside

# %% tags=["remove-output"]
from instab_utils import profiles

profiles.check_parameters(
    In, choices={"network": ("all", "deep_mri", "mri_vn", "dncnn"), "target": ("prediction", "truth")})

# %%
import torch

from instab_utils import attacks, data, figures, metrics, report, solvers, store, widgets
from instab_utils.networks import settings

budget = profiles.get(profile)
claim = report.claims(profile)
names = ["deep_mri", "mri_vn", "dncnn"] if network == "all" else [network]
strengths = tuple(strength * part for part in (1 / 8, 1 / 4, 1 / 2, 1))
print(f"profile {profile}, data: {data.situation()}")

# %% [markdown]
# ## The question, as an optimisation problem
#
# A network $f$ turns measurements $y = A x$ into an image. Antun et al. ask for the small change $r$ of the image that changes the
# answer most,
#
# $$ \max_r \; \tfrac12 \| f(y + A r) - f(y) \|^2 - \tfrac{\lambda}{2} \| r \|^2 , $$
#
# and climb along the gradient, which goes through $A$ and through every layer of $f$. The number to watch is the **amplification**
# $\| f(y + A r) - f(y) \| / \| r \|$: how much bigger the change of the answer is than the change of the patient. Three yardsticks
# stand beside it all the way, because a large number alone proves nothing:
#
# - a **stable solver**, total variation, on *the same* measurement $y + A r$;
# - the **linear front end** $A^+$ (zero-filling): how much of the amplification is the scanner's geometry, not the network's;
# - **random twins**: Gaussian changes of the same norm. If those did the same, $r$ would be nothing special.
#
# ## Three networks, doing what they were made for
#
# *Deep MRI* fills in the two thirds of k-space lines that a three-fold accelerated scan leaves out. *MRI-VN* does so from 15 coils at
# once. *DnCNN* removes noise. All three run with the weights their authors published, rebuilt as our own modules.

# %%
try:
    cases = {name: settings.setting(name, 1, budget.image_size, seed) for name in names}
except data.DataUnavailable as missing:  # no files, no network: the recorded runs are shown, TV is attacked live
    cases = {}
    print(f"The published weights cannot be had here ({missing}). What follows is recorded; the last section runs live.")
for case in cases.values():
    print(f"{case.title:9} {case.source}; {case.A}")

# %% [markdown]
# The stable side minimises $\tfrac12 \|A x - y\|^2 + \alpha\, \mathrm{TV}(x)$ ([chapter 02](02_what_stable_looks_like)). Its one
# parameter is chosen on a validation image of another subject, never on the images below.

# %%
def total_variation(case, weight):
    return lambda y: solvers.tv(case.A, y, weight, n_iter=budget.solver_iterations).x


weights, stable = {}, {}
for name, case in cases.items():
    other = settings.setting(name, 1, budget.image_size, seed, split="validate")
    grid = [0.03, 0.06, 0.1, 0.15] if name == "dncnn" else [3e-4, 1e-3, 3e-3, 1e-2]
    scores = [metrics.psnr_db(total_variation(other, w)(other.y), other.x).item() for w in grid]
    weights[name] = grid[scores.index(max(scores))]
    stable[name] = total_variation(case, weights[name])
    print(f"{case.title:9} alpha = {weights[name]:g} ({max(scores):.1f} dB on {other.source})")

# %% [markdown]
# ## The attack
#
# One run per network passes through all four strengths. `study` collects, for each strength, what every method makes of
# $y + A r$ (as 8-bit pictures, the same for live and recorded runs) and how much it amplified.

# %%
def picture(image, peak):
    return (255 * (image.abs() / peak).clamp(0, 1)).round().to(torch.uint8)[0, 0].numpy()


def study(name, case):
    attack = attacks.worst_case(
        case.f, case.A, case.x, y=case.y, strengths=strengths, target=target, n_iter=budget.attack_iterations,
        generator=profiles.generator(seed, f"attack {name}"))
    methods = {"network": case.f, "TV": stable[name], "linear front end": case.A.pinv}
    clean = {method: f(case.y) for method, f in methods.items()}
    peak, run = case.x.abs().max(), {"x": picture(case.x, case.x.abs().max())}
    rows = []
    for s, r in [(0.0, torch.zeros_like(case.x)), *attack.r.items()]:
        row = {"strength": s}
        for method, f in methods.items():
            rec = f(case.y + case.A(r))
            row |= {f"{method} dB": metrics.psnr_db(rec, case.x).item(),
                    f"{method} gain": ((rec - clean[method]).norm() / r.norm()).item() if s else None}
            run[f"{method} {s:g}"] = picture(rec, peak)
        run[f"x + r {s:g}"] = picture(case.x + r, peak)
        if s:
            twins = attacks.random_twin(r, profiles.generator(seed, f"twin {name} {s}"), n=budget.n_random)
            row["random gain"] = max(((case.f(case.y + case.A(v)) - clean["network"]).norm() / v.norm()).item() for v in twins)
        rows.append(row)
    return attack, {"pictures": run, "rows": rows, "title": case.title, "source": case.source}


attacked, runs = {}, {}
for name, case in cases.items():
    attacked[name], runs[name] = study(name, case)
    steps = int(attacked[name].n_iter)
    print(f"{case.title:9} {steps} steps, sigma_max(J) about {attacked[name].sigma_max.item():.1f}, "
          f"reached {[f'{s:g}' for s in strengths if attacked[name].reached[s].all()]}")

# %%
figures.table([{"network": run["title"], "||r|| / ||x||": f"{100 * row['strength']:g} %",
                **{f"{m}, dB": row[f"{m} dB"] for m in ("linear front end", "network", "TV")},
                "network amplifies": row["network gain"], "TV, same r": row["TV gain"],
                "front end, same r": row["linear front end gain"], "random twin (worst)": row.get("random gain")}
               for run in runs.values() for row in run["rows"]],
              caption="Quality against the true image, and amplification, without (0 %) and with the perturbation")

# %% [markdown]
# ## Turn it up
#
# Drag the slider. Left: the image with the perturbation added, what a reader of the patient would see if nothing went wrong.
# Middle: what the network makes of its measurement. Right: what TV makes of the *same* measurement. The coloured row is the
# error against the true image.

# %%
def slider(run):
    frames = []
    for row in run["rows"]:
        s = row["strength"]
        images = [run["pictures"][f"{part} {s:g}"] / 255 for part in ("x + r", "network", "TV")]
        frames.append(figures.panels(
            images, ["x + r", run["title"], "TV, same data"], captions=["", *[f"{row[f'{m} dB']:.1f} dB" for m in ("network", "TV")]],
            error_of=run["pictures"]["x"] / 255, error_limit=0.25, window=(0, 1),
            alt=f"{run['title']} at perturbation {100 * s:g} %: perturbed image, network, total variation, with errors."))
    return widgets.explore(frames, [f"{100 * row['strength']:g} %" for row in run["rows"]], name="‖r‖ / ‖x‖",
                           value=len(frames) - 1)


for run in runs.values():
    print(f"{run['title']} · {run['source']}")
    display(slider(run))

# %% [markdown]
# ## How much more than chance, and than the alternatives?
#
# The same numbers as curves. A stable method amplifies by at most a constant of order one; a random perturbation is damped by any
# sensible reconstruction (most of it is not even measured). Pick the network below the plot.

# %%
labels = {"network": "network, its own worst r", "TV": "TV, same r", "linear front end": "linear front end, same r",
          "random": "network, random twin (worst)"}
widgets.curves_slider(
    [100 * s for s in strengths],
    {run["title"]: {label: [row[f"{m} gain"] for row in run["rows"][1:]] for m, label in labels.items()} for run in runs.values()},
    name="network", x_label="‖r‖ / ‖x‖ (%)", y_label="amplification", log_x=True, log_y=True,
    title="Amplification of a worst-case and of a random perturbation",
    alt="Amplification against perturbation strength for each network: the network's own worst case lies far above "
        "total variation on the same data and above random perturbations of the same norm.")

# %% [markdown]
# ## Not a needle in a haystack
#
# If only one exact $r$ did harm, one could ignore it: no scan repeats to the last digit. So measure $x + r$ with noise, $v = A^* e$, $e$ Gaussian,
# $\|v\| = \tfrac14 \|r\|$ (Fig. 2 of the paper), and compare artefacts. The control is the same noise *without* $r$. An artefact
# that needed its exact $r$ would lose its shape.

# %%
def artefact(case, perturbation):
    return (case.f(case.y + case.A(perturbation)) - case.f(case.y)).abs()


noise_rows = []
for name, case in cases.items():
    r = attacked[name].r[strengths[-1]]
    both, v = attacks.gaussian_plus(r, case.A, profiles.generator(seed, f"Fig. 2 {name}"))
    alone, together, control = (artefact(case, p) for p in (r, both, v))
    noise_rows.append({
        "network": case.title, "artefact of r + v like that of r (correlation)": metrics.pearson(together, alone).item(),
        "artefact of v alone": metrics.pearson(control, alone).item(),
        "size of r + v's": (together.norm() / alone.norm()).item(), "size of v's": (control.norm() / alone.norm()).item()})
    peak = alone.max()
    display(figures.panels([alone / peak, together / peak, control / peak], ["r", "r + Gaussian v", "v alone"], window=(0, 1),
                           caption=f"{case.title}: change of the reconstruction, one scale",
                           alt="Change of the reconstruction under r, under r with added noise, and under the noise alone."))
if noise_rows:
    display(figures.table(noise_rows, caption="The artefact survives added noise; the noise alone does not make it"))

# %% [markdown]
# ## A fair fight: attack the stable solver itself
#
# So far TV saw the network's $r$, not its own. That flatters it. TV is differentiable through its iterations, so it can be
# attacked in the same way, on the same measurement, from the same start. What is left of its stability then?

# %%
if "deep_mri" in cases:
    case, weight, rec = cases["deep_mri"], weights["deep_mri"], attacked["deep_mri"]
    x0, A = case.x, case.A
else:  # phantoms
    x0, phantom_source = data.demo("mr", 1, min(budget.image_size, 128))
    A = operators.MaskedFourier(operators.masks.variable_density_lines(x0.shape[-1], 3, generator=profiles.generator(seed, "mask")))
    weight, rec = 1e-3, None
    print("live on", phantom_source)
unrolled = lambda y: solvers.tv(A, y, weight, n_iter=min(budget.solver_iterations, 60), tol=0).x  # noqa: E731
tv_attack = attacks.worst_case(unrolled, A, x0, strengths=strengths, target=target, n_iter=budget.attack_iterations // 2,
                               generator=profiles.generator(seed, "attack tv"))
tv_rows = [{"||r|| / ||x||": f"{100 * s:g} %", "TV, attacked itself": tv_attack.amplification[s].item(),
            "TV, dB before": tv_attack.psnr_db(s)[0].item(), "TV, dB after": tv_attack.psnr_db(s)[1].item(),
            "Deep MRI, attacked itself": rec.amplification[s].item() if rec else None,
            "Deep MRI, dB after": rec.psnr_db(s)[1].item() if rec else None} for s in strengths]
figures.table(tv_rows, caption="Each method under its own worst case (60 unrolled iterations of TV; a lower bound, as every attack is)")

# %% [markdown]
# ## Claims

# %%
for name, run in runs.items():
    last, title = run["rows"][-1], run["title"]
    lost = {m: run["rows"][0][f"{m} dB"] - last[f"{m} dB"] for m in ("network", "TV")}
    claim(f"{title}: beats its input on the clean image", run["rows"][0]["network dB"] > run["rows"][0]["linear front end dB"] + 2)
    claim(f"{title}: its worst case is no chance, a random twin does less than a third", 3 * last["random gain"] < last["network gain"])
    claim(f"{title}: the same r does less through TV", last["TV gain"] < last["network gain"])
    print(f"   {title} loses {lost['network']:.1f} dB, TV {lost['TV']:.1f} dB at {100 * last['strength']:g} %")
for row in noise_rows:
    claim(f"{row['network']}: the artefact survives noise and the noise alone does not make it",
          row["artefact of r + v like that of r (correlation)"] > 0.8 > row["artefact of v alone"])
if rec:
    claim("attacked each by itself, Deep MRI still amplifies more than TV",
          rec.amplification[strengths[-1]].item() > tv_attack.amplification[strengths[-1]].item())
