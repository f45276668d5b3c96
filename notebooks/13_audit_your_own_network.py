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
# *Tests 1 to 3 of {cite:t}`antun2020` and the alarms of {cite:t}`oala2021`, put by `audit.run` to
# any reconstruction.*
#
# **What you will see**
# - The tests of this book put to a reconstruction that *you* bring, in ten lines or one command,
#   within a budget of time; the result is one page for people who have not read any paper, the
#   *stability card*.
# - How far an attack that sees gradients gets, how far one that only asks for answers, and a
#   bound that no attack can pass.
# - What the audit says when something does not fit: a wrong adjoint, a network that answers
#   differently each time, a file that could run code.
#
# **Needs** [worst cases](07_tiny_worst_case_perturbations), [details and more
# samples](08_structure_shift_and_more_samples). Measured minutes and memory:
# [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: it runs · standard: the published page · paper: longer
seed = 0
network = "ell-50"  # of this book; or leave it and give the four below
module = ""  # package.module:function, y or (y, A) -> image; with weights: module:Class
weights = ""  # .safetensors, .pt2 (torch.export) or a state dict
operator = ""  # as --operator of the command below, or package.module:function
images = ""  # files, a folder or a pattern: PNG, NPY, DICOM, NIfTI, HDF5
budget_s = 120.0  # for the whole audit

# %% tags=["remove-cell"]
from instab_utils import profiles
from instab_utils.training import NAMES

profiles.check_parameters(In, choices={"network": NAMES})

# %%
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from IPython.display import Markdown, display

from instab_utils import audit, figures, report, training
from instab_utils.audit.recorded_cards import recorded_card
from instab_utils.operators import MaskedFourier, Radon

# %% [markdown]
# ## Ten lines
#
# A reconstruction $f$ is any function from measurements to images, and $A$ is what measured. Here
# both are this book's: Ell-50, a U-Net behind filtered back-projection. Written as `f(y, A)` it
# can also be asked about *other* sampling, which the third test needs.

# %% tags=["remove-cell"]
import tempfile

from instab_utils.audit.__main__ import main as command

claim = report.claims(profile)
budget_s = min(budget_s, 10.0) if profile == "smoke" else budget_s
folder = Path(tempfile.mkdtemp())
own = bool(module or weights)
print(f"profile {profile}, budget {budget_s:g} s")

# %%
if not own:
    case = training.case(network, profile, n_images=2, tv=False)
    public = "AAPM" not in case.source
    options = audit.AuditOptions(
        profile=profile, seed=seed, source=case.source, public=public, say=None
    )
    card = audit.run(
        case.f, case.A, case.x, y=case.y, name=case.title, budget_s=budget_s,
        folder=folder, options=options,
    )

# %% tags=["hide-input"]
# papermill -p module my_package:f -p operator radon:image_size=128,n_views=50 ...
if own:
    arguments = ["--function", module]
    if weights:
        arguments = ["--network", weights, "--architecture", module]
    arguments += ["--operator", operator, "--profile", profile, "--seed", f"{seed}"]
    arguments += ["--budget", f"{budget_s}", "--folder", f"{folder}"]
    arguments += ["--images", images] if images else []
    assert command(arguments) == 0
    card = report.card.load(folder / "card.json")

# %% [markdown]
# The same from a shell, where it leaves `card.html` and `card.json`:
#
# ```console
# $ python -m instab_utils audit --network ell-50 --budget 600
# $ python -m instab_utils audit --network weights.safetensors --architecture my_package:UNet \
#       --front-end pinv --operator radon:image_size=128,n_views=50 --images 'scans/*.png'
# ```
#
# ## The card

# %%
report.card.show(card)

# %% [markdown]
# Read it from the top: what was asked, in a word each, for the network and for total variation on
# the same data; then the evidence; at the end what was *not* tested, and what is needed to do all
# of it again. It is one file without any request to elsewhere, prints on a few pages, and carries
# its numbers as JSON (`report.card.save(card, "card.html")`, `"card.json"`; the
# [schema](../instab_utils/report/card.schema.json)).

# %%
page = report.card.save(card, folder / "card.html")
again = report.card.load(page)
size = f"{page.stat().st_size / 1e3:.0f} kB in one file"
same = f"{size}; read back, it is the same card: **{again == card}**."
Markdown(f"> {card['summary']}\n\n{same}")

# %% [markdown]
# ## How much worse could it be?
#
# An attack is a lower bound: a better search may find more. For some networks there is an upper
# bound, too: no $e$ with $\lVert e \rVert \le \varepsilon$ moves the answer farther.
# `audit.certificate` gets it from the norm of every layer, $\lVert f(y + e) - f(y) \rVert \le
# \prod_l \lVert W_l \rVert\, \varepsilon$ in the simplest case. The truth lies between the two,
# in the bracket of the table.

# %% tags=["hide-input"]
from instab_utils.audit.bracket import recorded
from instab_utils.audit.certificates import BY_NORMS


def bracket_row(record):
    m, rel_norm = record["metrics"], record["parameters"]["rel_norm"]
    return {
        "network": record["network"],
        "‖e‖ / ‖y‖": f"{100 * rel_norm:g} %",
        "random": m["twin"],
        "best attack": m["attack"],
        "no more than": m["certificate"],
        "ratio": m["certificate"] / m["attack"],
        "by": BY_NORMS,
    }


names = ("lipschitz-dncnn", "automap", "dncnn")
brackets = [record for name in names for record in recorded(name)]
figures.table(
    [bracket_row(record) for record in brackets],
    caption="‖f(y + e) − f(y)‖: what a random e does, what the best attack found, "
    "and what nothing can exceed",
)

# %% [markdown]
# A bound that is a thousand times the attack certifies nothing: every layer multiplies it. A
# network whose layers were kept short in training is bracketed closely, and pays in decibels.

# %% [markdown]
# ## Without gradients
#
# Not every reconstruction can be differentiated: a vendor's program, NumPy, a server. Then the
# search may only ask for answers. Here the same network is treated so. The search starts from the
# worst cases of total variation and of the linear front end, whose gradients are known, and goes
# on from there by asking. The card says which search it was: *not found* is not *safe*. This
# card, and those below, were recorded; another `network`, `seed` or `profile` is audited when the
# cell runs.

# %%
def black_box():
    return audit.run(
        case.f, case.A, case.x[:1], y=case.y[:1], name=f"{case.title}, as a black box",
        budget_s=budget_s, options=replace(options, access="black box"),
    )


name = f"{network}-s{seed}-black-box"
blind = None if own else recorded_card(name, profile, black_box)

# %% tags=["hide-input"]
COLUMNS = {
    "amplified": "amplification",
    "random r": "twin_amplification",
    "TV, its own worst": "stable_own_amplification",
    "lost, dB": "lost_db",
    "TV on the same data, dB": "lost_stable_db",
}


def worst_case_row(card, row):
    search = card["worst_case"]["search"].split(":")[0].split(",")[0]
    values = {head: row[key] and row[key]["values"][0] for head, key in COLUMNS.items()}
    return {"search": search, "‖r‖ / ‖x‖": f"{100 * row['strength']:g} %", **values}


both = [c for c in (card, blind) if c and c["worst_case"]]
figures.table(
    [worst_case_row(c, row) for c in both for row in c["worst_case"]["rows"]],
    caption="Worst cases found for the first image, with and without gradients",
)

# %% [markdown]
# ## Yours
#
# Four examples that run as they stand, in `book/examples`: a [deepinv](https://deepinv.github.io)
# model with its physics, handed over as they are; a network saved by `torch.export`, whose file
# is all there is; scikit-image's SART in NumPy; an operator of one's own, as a pair of functions.
# Here are the last one and what three of their cards say; the tests of the package run all four.

# %%
examples = Path(audit.__file__).parents[2] / "book" / "examples"
print((examples / "own_operator.py").read_text())

# %% tags=["hide-input"]
import contextlib
import runpy


def example_card(name):
    def compute():
        main = runpy.run_path(str(examples / f"{name}.py"))["main"]
        with contextlib.redirect_stdout(None):  # a line for every unit
            return main(profile=profile, budget_s=5.0 if profile == "smoke" else 120.0)

    return recorded_card(name, profile, compute)


cards = map(example_card, ("own_operator", "numpy_sart", "exported_model"))
said = [f"**{c['name']}** ({c['subject']['access']}). {c['summary']}" for c in cards]
Markdown("\n\n".join(said))

# %% [markdown]
# ## When something does not fit
#
# Before any test the pair $f$, $A$ is checked: shapes, types, NaN, whether $A^*$ is the adjoint
# of $A$, whether the same measurement gives the same answer twice. An error names what is wrong,
# and the cure.

# %%
A = Radon(32, torch.arange(0, 180, 6))
x = torch.rand(1, 1, 32, 32, generator=profiles.generator(seed, "wrong"))
twice = audit.operator(A.forward, lambda y: 2 * A.adjoint(y), 32, pinv=A.pinv)
noise = torch.distributions.Normal(0, 0.1)
nan = float("nan")
mistakes = {
    "an adjoint that is not": (A.pinv, twice),
    "another shape": (lambda y: A.pinv(y)[..., 1:], A),
    "not a number": (lambda y: A.pinv(y).sqrt() * 0 + nan, A),
    "a different answer each time": (lambda y: A.pinv(y) + noise.sample(x.shape), A),
}
audits = {name: partial(audit.run, f, B, x) for name, (f, B) in mistakes.items()}

# %%
path = folder / "whole_module.pth"
torch.save(torch.nn.Conv2d(1, 1, 3), path)  # a pickle: loading it would run its code
sizes = {"in_channels": 1, "out_channels": 1, "kernel_size": 3}
audits["a file that could run code"] = partial(
    audit.load_network, path, torch.nn.Conv2d, sizes
)
rows = []
for mistake, attempt in audits.items():
    try:
        attempt()
        rows.append({"mistake": mistake, "the audit says": "nothing"})
    except (ValueError, TypeError) as error:
        rows.append({"mistake": mistake, "the audit says": str(error)})
figures.table(rows, caption="Mistakes, and what the audit says of them")

# %% [markdown]
# A reconstruction that fails *during* the tests does not end them: the input that broke it is
# saved and named on the card, and the rest goes on.
#
# ## Two cards beside each other
#
# Accuracy alone decides nothing, and neither does stability. The linear front end of the same
# network, filtered back-projection alone, on the same data:

# %%
def front_end_alone():
    return audit.run(
        lambda y, A: A.pinv(y), case.A, case.x, y=case.y, name="the front end alone",
        budget_s=budget_s, options=options,
    )


# %% tags=["hide-input"]
if not own:
    alone = recorded_card(f"{network}-s{seed}-front-end", profile, front_end_alone)
    lines = []
    for line in report.card_comparison.difference_rows(card, alone):
        if "dB" in line["what"] or "amplification" in line["what"]:
            lines.append(line)
    caption = f"{card['name']} (a) and {alone['name']} (b) on the same data"
    display(figures.table(lines, caption=caption))

# %% [markdown]
# ## Claims

# %%
claim("a card is valid and comes back whole", again == card)
claim("every mistake is named", all(row["the audit says"] != "nothing" for row in rows))
claim("nothing went wrong unnoticed", not card["failures"])
largest = [c["worst_case"]["rows"][-1] for c in both]
gains = [(row["amplification"], row["twin_amplification"]) for row in largest]
beyond = all(worst["values"][0] > random["values"][0] for worst, random in gains)
claim("both searches found more than a random change of the same size",
      len(both) == 1 + bool(blind) and beyond, at_least="standard")
bounds = [(r["metrics"]["attack"], r["metrics"]["certificate"]) for r in brackets]
claim("no attack passes a certificate", all(low <= high for low, high in bounds))
seconds = card["run"]["seconds"]
claim("the audit kept its budget", seconds <= 2 * budget_s, at_least="standard")

# %% [markdown]
# ## Exercises
#
# **1.** The worst change of a *linear* reconstruction $B$ is known: the top singular vector of $B
# A$. Does the audit's search find it?

# %% tags=["hide-cell"]
A = MaskedFourier((torch.arange(16) % 2 == 0)[:, None].expand(16, 16))
B = torch.randn(256, 256, generator=profiles.generator(seed, "linear")) / 16
x = torch.rand(1, 1, 16, 16, generator=profiles.generator(seed, "linear x"))
smoke = audit.AuditOptions(profile="smoke", say=None)
linear = audit.run(
    lambda y: (A.pinv(y).real.reshape(-1, 256) @ B.T).reshape(-1, 1, 16, 16), A, x,
    budget_s=60.0, options=smoke,
)
images = torch.eye(256).reshape(256, 1, 16, 16)
projector = A.pinv(A(images)).real.reshape(256, 256).T
known = float(torch.linalg.matrix_norm(B @ projector, 2))
best = max(r["amplification"]["mean"] for r in linear["worst_case"]["rows"])
assert 0.8 * known < best <= known * 1.001
print(f"{best:.3f} of {known:.3f}, in the few steps of the smoke profile")

# %% [markdown]
# **2.** A card's numbers can be read by a program. Which of the tests had no time?

# %% tags=["hide-cell"]
late = sorted({s["name"] for s in card["steps"] if s["status"] == "no time"})
missing = " ".join(n["what"] for n in card["not_tested"])
assert all(name.split(",")[0] in missing for name in late)
print(late or "none")

# %% [markdown]
# ## References
#
# The tests: {cite:t}`antun2020`. Intervals: {cite:t}`oala2021`. Networks that another test found
# wanting and the attack on measurements: {cite:t}`genzel2023`. Models and operators of others:
# {cite:t}`tachella2025`.
