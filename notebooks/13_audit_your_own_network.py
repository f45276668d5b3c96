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
# # Audit your own network
#
# **What you will see**
# - The tests of this book put to a reconstruction that *you* bring, in ten lines or one command, within a budget of time; the result is
#   one page for people who have not read any paper, the *stability card*.
# - How far an attack that sees gradients gets, how far one that only asks for answers, and a bound that no attack can pass.
# - What the audit says when something does not fit: a wrong adjoint, a network that answers differently each time, a file that could
#   run code.
#
# **Needs** [worst cases](07_tiny_worst_case_perturbations), [details and more samples](08_structure_shift_and_more_samples). Measured
# minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard: the published page · paper: longer
seed = 0
network = "ell-50"  # a network of this book; or leave it and give the four below
module = ""  # package.module:function that maps y, or y and A, to an image; with weights: package.module:Class
weights = ""  # .safetensors, .pt2 (torch.export) or a state dict
operator = ""  # as --operator of the command below, or package.module:function
images = ""  # files, a folder or a pattern: PNG, NPY, DICOM, NIfTI, HDF5
budget_s = 120.0  # for the whole audit

# %% tags=["remove-cell"]
from instab_utils import profiles
from instab_utils.training import NAMES

profiles.check_parameters(In, choices={"network": NAMES})

# %%
import contextlib
import io
import tempfile
import warnings
from pathlib import Path

import torch
from IPython.display import Markdown

from instab_utils import audit, figures, report, store, training
from instab_utils.audit.__main__ import main as command
from instab_utils.operators import MaskedFourier, Radon

budget = profiles.get(profile)
claim = report.claims(profile)
budget_s = min(budget_s, 10.0) if profile == "smoke" else budget_s
print(f"profile {profile}, budget {budget_s:g} s")

# %% [markdown]
# ## Ten lines
#
# A reconstruction $f$ is any function from measurements to images, and $A$ is what measured. Here both are this book's: Ell-50, a U-Net
# behind filtered back-projection. Written as `f(y, A)` it can also be asked about *other* sampling, which the third test needs.

# %%
folder = Path(tempfile.mkdtemp())
if module or weights:  # papermill -p module my_package:f -p operator radon:image_size=128,n_views=50 -p images 'scans/*.png'
    given = ["--network", weights, "--architecture", module] if weights else ["--function", module]
    given += ["--operator", operator, *(["--images", images] if images else [])]
    assert command([*given, "--profile", profile, "--seed", f"{seed}", "--budget", f"{budget_s}", "--folder", f"{folder}"]) == 0
    card = report.card.load(folder / "card.json")
else:
    case = training.case(training.recipe(network, profile), n_images=2, tv=False)
    card = audit.run(case.f, case.A, case.x, y=case.y, name=case.title, source=case.source, public="AAPM" not in case.source,
                     profile=profile, seed=seed, budget_s=budget_s, folder=folder, say=lambda line: None)

# %% [markdown]
# The same from a shell, where it leaves `card.html` and `card.json`:
#
# ```console
# $ python -m instab_utils audit --network ell-50 --budget 600
# $ python -m instab_utils audit --network weights.safetensors --architecture my_package:UNet --front-end pinv \
#       --operator radon:image_size=128,n_views=50 --images 'scans/*.png'
# ```
#
# ## The card

# %%
report.card.show(card)

# %% [markdown]
# Read it from the top: what was asked, in a word each, for the network and for total variation on the same data; then the evidence; at the
# end what was *not* tested, and what is needed to do all of it again. It is one file without any request to elsewhere, prints on a few pages,
# and carries its numbers as JSON (`report.card.save(card, "card.html")`, `"card.json"`; the [schema](../instab_utils/report/card.schema.json)).

# %%
page = report.card.save(card, folder / "card.html")
again = report.card.load(page)
Markdown(f"> {card['summary']}\n\n{page.stat().st_size / 1e3:.0f} kB in one file; read back, it is the same card: **{again == card}**.")

# %% [markdown]
# ## How much worse could it be?
#
# An attack is a lower bound: somebody may search better. For some networks there is an upper bound, too: no $e$ with
# $\lVert e \rVert \le \varepsilon$ moves the answer farther, whoever looks for it. It comes from the norm of every layer,
# $\lVert f(y + e) - f(y) \rVert \le \prod_l \lVert W_l \rVert\, \varepsilon$ in the simplest case, or from running the
# whole ball, as a box, through interval arithmetic (chapter [05](05_interval_neural_networks)); the smaller counts. Between the two
# lies the truth.

# %% tags=["hide-input"]
brackets = sorted(store.records(experiment="bracket", profile="standard"),
                  key=lambda r: (r["metrics"]["certificate"] / r["metrics"]["attack"] > 10, r["network"], r["parameters"]["rel_norm"]))
figures.table([{"network": r["network"], "‖e‖ / ‖y‖": f"{100 * r['parameters']['rel_norm']:g} %", "random": r["metrics"]["twin"],
                "best attack": r["metrics"]["attack"], "no more than": r["metrics"]["certificate"],
                "ratio": r["metrics"]["certificate"] and r["metrics"]["certificate"] / r["metrics"]["attack"],
                "by": r["parameters"].get("by", "")} for r in brackets],
              caption="‖f(y + e) − f(y)‖: what a random e does, what the best attack found, and what nothing can exceed")

# %% [markdown]
# A bound that is a thousand times the attack certifies nothing. Such is the price of depth: every layer multiplies. A network whose layers were
# kept short in training is bracketed closely, and pays in decibels.

# %% [markdown]
# ## Without gradients
#
# Not every reconstruction can be differentiated: a vendor's program, NumPy, a server. Then the search may only ask for answers.
# Here the same network is treated so. The search starts from the worst cases of total variation and of the linear front end, whose gradients
# are known, and goes on from there by asking. The card says which search it was: *not found* is not *safe*.

# %%
blind = audit.run(case.f, case.A, case.x[:1], y=case.y[:1], name=f"{case.title}, as a black box", source=case.source,
                  access="black box", profile=profile, seed=seed, budget_s=budget_s / 3,
                  say=lambda line: None) if not (module or weights) else None


# %% tags=["hide-input"]
def row(card, r):
    m = {name: r[name]["values"][0] if r[name] else None for name in ("amplification", "twin_amplification", "stable_own_amplification",
                                                                     "lost_db", "lost_stable_db")}
    return {"search": card["worst_case"]["search"].split(":")[0].split(",")[0],
            "‖r‖ / ‖x‖": f"{100 * r['strength']:g} %", "amplified": m["amplification"], "random r": m["twin_amplification"],
            "TV, its own worst": m["stable_own_amplification"], "lost, dB": m["lost_db"],
            "TV on the same data, dB": m["lost_stable_db"]}


both = [c for c in (card, blind) if c and c["worst_case"]]
figures.table([row(c, r) for c in both for r in c["worst_case"]["rows"]],
              caption="Worst cases found for the first image, with and without gradients")

# %% [markdown]
# ## Yours
#
# Four examples that run as they stand, in `book/examples`: a [deepinv](https://deepinv.github.io) model with its physics, handed over as they
# are; a network saved by `torch.export`, whose file is all there is; scikit-image's SART in NumPy; an operator of one's own, as a pair of
# functions. Three of them run here, within seconds each; the tests of the package run all four.

# %%
print((Path("book/examples/own_operator.py")).read_text())

# %% tags=["hide-input"]
import importlib.util


def example(name):
    spec = importlib.util.spec_from_file_location(name, Path("book/examples") / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLES = ("own_operator", "numpy_sart", "exported_model")
seconds = 5.0 if profile == "smoke" else 15.0
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries; each example is tested by itself
    with contextlib.redirect_stdout(io.StringIO()):  # a line for every unit
        cards = {name: example(name).main(profile=profile, budget_s=seconds) for name in EXAMPLES}
Markdown("\n\n".join(f"**{c['name']}** ({c['subject']['access']}). {c['summary']}" for c in cards.values()))

# %% [markdown]
# ## When something does not fit
#
# Nothing is tested before the pair $f$, $A$ has been looked at: shapes, types, NaN, whether $A^*$ is the adjoint of $A$, whether the same
# measurement gives the same answer twice. What is wrong is named, with the cure.

# %%
A, x = Radon(32, torch.arange(0, 180, 6)), torch.rand(1, 1, 32, 32, generator=profiles.generator(seed, "wrong"))
torch.save(torch.nn.Conv2d(1, 1, 3), folder / "whole_module.pth")  # a pickle of a class: loading it would run its code
wrong = {
    "an adjoint that is not": lambda: audit.run(A.pinv, audit.operator(A.forward, lambda y: 2 * A.adjoint(y), 32, pinv=A.pinv), x),
    "another shape": lambda: audit.run(lambda y: A.pinv(y)[..., 1:], A, x),
    "not a number": lambda: audit.run(lambda y: A.pinv(y).sqrt() * 0 + float("nan"), A, x),
    "a different answer each time": lambda: audit.run(lambda y: A.pinv(y) + 0.1 * torch.randn(1, 1, 32, 32), A, x),
    "a file that could run code": lambda: audit.load_network(folder / "whole_module.pth", torch.nn.Conv2d,
                                                                 {"in_channels": 1, "out_channels": 1, "kernel_size": 3}),
}
said = []
for what, do in wrong.items():
    try:
        do()
        said.append({"mistake": what, "the audit says": "nothing"})
    except (ValueError, TypeError) as error:
        said.append({"mistake": what, "the audit says": str(error)})
figures.table(said, caption="Mistakes, and what the audit says of them")

# %% [markdown]
# A reconstruction that fails *during* the tests does not end them: the input that broke it is saved and named on the card, and the rest goes on.
#
# ## Two cards beside each other
#
# Accuracy alone decides nothing, and neither does stability. The linear front end of the same network, filtered back-projection alone, on the
# same data:

# %%
if not (module or weights):
    alone = audit.run(lambda y, A: A.pinv(y), case.A, case.x, y=case.y, name="the front end alone", source=case.source,
                      public="AAPM" not in case.source, profile=profile, seed=seed, budget_s=budget_s,
                      say=lambda line: None)
    rows = [r for r in report.card_comparison.difference_rows(card, alone) if "dB" in r["what"] or "amplification" in r["what"]]
    shown = figures.table(rows, caption=f"{card['name']} (a) and {alone['name']} (b) on the same data")
else:
    shown = None
shown

# %% [markdown]
# ## Claims

# %%
claim("a card is valid and comes back whole", again == card)
claim("every mistake is named", all(s["the audit says"] != "nothing" for s in said))
claim("nothing went wrong unnoticed", not card["failures"])
largest = {c["name"]: c["worst_case"]["rows"][-1] for c in (card, blind) if c and c["worst_case"]}
claim("both searches found more than a random change of the same size", len(largest) == 1 + bool(blind) and all(
    r["amplification"]["values"][0] > r["twin_amplification"]["values"][0] for r in largest.values()), at_least="standard")
claim("no attack passes a certificate",
      all(r["metrics"]["certificate"] is None or r["metrics"]["attack"] <= r["metrics"]["certificate"] for r in brackets))
claim("the audit kept its budget", card["run"]["seconds"] <= 2 * budget_s, at_least="standard")

# %% [markdown]
# ## Exercises
#
# **1.** The worst change of a *linear* reconstruction $B$ is known: the top singular vector of $B A$. Does the audit's search find it?

# %% tags=["hide-cell"]
A = MaskedFourier((torch.arange(16) % 2 == 0)[:, None].expand(16, 16))
B = torch.randn(256, 256, generator=profiles.generator(seed, "linear")) / 16
linear = audit.run(lambda y: (A.pinv(y).real.reshape(-1, 256) @ B.T).reshape(-1, 1, 16, 16), A,
                   torch.rand(1, 1, 16, 16, generator=profiles.generator(seed, "linear x")), profile="smoke",
                   budget_s=60.0, say=lambda line: None)
projector = torch.stack([A.pinv(A(e.reshape(1, 1, 16, 16))).real.flatten() for e in torch.eye(256)], 1)
known = float(torch.linalg.matrix_norm(B @ projector, 2))
best = max(r["amplification"]["mean"] for r in linear["worst_case"]["rows"])
assert 0.8 * known < best <= known * 1.001
print(f"{best:.3f} of {known:.3f}, in the few steps of the smoke profile")

# %% [markdown]
# **2.** A card's numbers can be read by a program. Which of the tests had no time?

# %% tags=["hide-cell"]
late = sorted({s["name"] for s in card["steps"] if s["status"] == "no time"})
assert all(any(name.split(",")[0].split(" ")[0] in n["what"] or n["why"] for n in card["not_tested"]) for name in late)
print(late or "none")

# %% [markdown]
# ## References
#
# The tests: {cite:t}`antun2020`. Intervals: {cite:t}`oala2021`. Networks that another test found wanting and the attack on measurements:
# {cite:t}`genzel2023`. Models and operators of others: {cite:t}`tachella2025`.
