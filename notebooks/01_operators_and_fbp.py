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
# # Operators and filtered back-projection
#
# *The measurement models of all three papers: masked Fourier transforms (Antun et al.), Radon transforms with few views
# (Antun et al., Vasconcelos et al.) or a missing wedge (Oala et al.). No table of a paper is repeated here.*
#
# **What you will see**
# - A scanner does not take pictures. It measures sums, $y = A x$, and the picture is worked out afterwards: here from real
#   CT slices, and from a tooth that was really x-rayed.
# - How far the oldest method, filtered back-projection, gets with few views and with a range of angles missing.
# - What no method can see: two different images with *the same* measurements. Every later chapter leans on this one.
#
# **Needs** nothing before it. Measured minutes and memory per profile: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard · paper: more images
seed = 0  # every random draw of this chapter
image_size = 0  # side of the images in pixels; 0 takes the profile's
n_views = 50  # views of the sparse scan
wedge_deg = 30  # width of the missing range of angles, degrees

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In)

# %%
import inspect

import torch

from instab_utils import data, figures, metrics, operators, report, shifts, widgets
from instab_utils.data import phantoms

budget, claim = profiles.get(profile), report.claims(profile)
n = image_size or budget.image_size
print(f"profile {profile}, {n} x {n} pixels, data: {data.situation()}")

# %% [markdown]
# ## A scan is a set of sums
#
# An x-ray loses intensity along its path, $I = I_0\, e^{-\int x}$, so $-\log (I/I_0)$ is the integral of the attenuation $x$
# along one line. A *view* at angle $\theta$ is one such integral for every detector bin; all views together are the
# *sinogram* $y = A x$. On the computer $A$ is a sparse matrix: row $i$ says how much of each pixel lies on line $i$.
# Each point of the body runs along a sine curve in $y$, hence the name.

# %%
slices, source = data.demo("ct", budget.n_images, n, "test")
x = slices[:1]
views = torch.linspace(0, 180, 181)[:-1]
A = operators.Radon(n, views)
y = A(x)
print(f"{source}; A is {y.shape[-2] * y.shape[-1]:,} sums of {n * n:,} pixels")
figures.panels(
    [x, y / y.max()],
    [f"image x ({n} x {n})", f"sinogram y = A x ({y.shape[-2]} views, top to bottom)"],
    window=(0, 1),
    lossless=False,
    alt="A CT slice, and its sinogram: one row of line integrals for each of 180 "
    "angles.",
)

# %% [markdown]
# ## The adjoint, and why it must be exact
#
# Back-projection $A^* y$ smears every measured sum back along its line. It is the *adjoint* of $A$, defined by
# $\langle A x, y \rangle = \langle x, A^* y \rangle$ for all $x, y$. Gradients flow through $A^*$: a solver with a
# not-quite adjoint converges to something else, and an attack with one understates how unstable a network is. So every
# operator of this book is tested for its gap, $|\langle Ax, y\rangle - \langle x, A^*y\rangle| \,/\, (\|Ax\| \|y\|)$.

# %%
draw = profiles.generator(seed, "adjoint")
mask = operators.masks.variable_density_lines(n, acceleration=3, generator=draw)
coils = data.simulated_coils(4, n)
few_views = torch.arange(n_views) * 180 / n_views
family = {
    f"Radon, {n_views} views": operators.Radon(n, few_views),
    f"Fourier slice, {n_views} views": operators.FourierSlice(n, few_views),
    "Single-coil MRI": operators.MaskedFourier(mask),
    "Four-coil MRI": operators.MultiCoilFourier(mask, coils),
}


# %%
def adjoint_gap(A):
    dtype = torch.complex128 if A.is_complex else torch.float64
    x = torch.randn(1, 1, n, n, generator=draw, dtype=dtype)
    Ax = A(x)
    y = torch.randn(Ax.shape, generator=draw, dtype=Ax.dtype)
    left = torch.vdot(Ax.flatten(), y.flatten())
    right = torch.vdot(x.flatten(), A.adjoint(y).flatten())
    return float(abs(left - right) / (Ax.norm() * y.norm()))


# %%
gaps = {name: adjoint_gap(A) for name, A in family.items()}
figures.table(
    [
        {"operator": name, "adjoint gap, float64": f"{gap:.1e}"}
        for name, gap in gaps.items()
    ],
    caption="Round-off only: the adjoints are exact.",
)

# %% [markdown]
# ## Is A right? Ask an ellipse
#
# A pair can be adjoint and still wrong together. The sum through an ellipse has a closed form, so the Shepp-Logan phantom,
# ten ellipses, has an exact sinogram. Our two discretisations, one that interpolates along lines (Joseph) and one that never
# draws a line at all (it samples the image's Fourier transform along radii, by the Fourier slice theorem), are compared with it.
# What remains is the error of the pixels, not of the operators: an image made of squares is not an ellipse, and the error
# halves each time the squares do.

# %%
sizes = [32, 64, 128, 256] if budget.at_least("standard") else [16, 32]
angles = torch.arange(20) * 9.0
errors = {"Radon (Joseph)": [], "Fourier slice": []}
for size in sizes:
    pixels = phantoms.raster(phantoms.SHEPP_LOGAN, size, oversample=8)
    for name, kind in zip(errors, [operators.Radon, operators.FourierSlice]):
        B = kind(size, angles)
        exact = phantoms.ellipse_sinogram(
            phantoms.SHEPP_LOGAN, angles, B.n_detectors, size
        )
        errors[name].append(float((B(pixels) - exact).norm() / exact.norm()))

# %%
figures.curves(
    sizes,
    errors,
    x_label="image side, pixels",
    y_label="relative error of the sinogram",
    log_x=True,
    log_y=True,
    title="Both discretisations approach the closed form",
    alt="Relative error of two projectors against the exact sinogram of the "
    "Shepp-Logan phantom; both fall with image size.",
)

# %% [markdown]
# ## Filtered back-projection
#
# Back-projection alone blurs, because low frequencies are measured by many views and high ones by few. The cure is to weight
# each frequency $\omega$ of each view by $|\omega|$ first (the *ramp*):
#
# $$ x_{\mathrm{fbp}} = \frac{\pi}{n_{\mathrm{views}}}\, A^* \left( h * y \right), \qquad \hat h(\omega) = |\omega| . $$
#
# The ramp also multiplies noise at high frequencies; a Hann window tames it, and costs sharpness.

# %%
noise = torch.randn(y.shape, generator=profiles.generator(seed, "noise"))
y_noisy = y + 0.01 * y.norm() / noise.norm() * noise  # 1 % of ||y||
recs = [A.adjoint(y_noisy), A.fbp(y_noisy), A.fbp(y_noisy, filter="hann")]
recs[0] = recs[0] * (x.norm() / recs[0].norm())  # its scale is arbitrary: matched
names = ["A* y, unfiltered", "ramp", "Hann"]
scores = [metrics.psnr_db(r, x).item() for r in recs]

# %%
figures.panels(
    [x, *recs],
    ["image", *[f"{t}: {s:.1f} dB" for t, s in zip(names, scores)]],
    window=(0, 1),
    lossless=False,
    alt="The slice; its blurred back-projection; filtered back-projections with ramp "
    "and with Hann window.",
)

# %% [markdown]
# The formula by hand: filter each view in Fourier space (padded to four times its length, so that its ends do not meet),
# then back-project. Sampling $|\omega|$ there loses a little of the mean, which the package's filter, the transform of
# the ramp's samples in space, keeps.

# %%
bins = y.shape[-1]
omega = torch.fft.rfftfreq(4 * bins)  # cycles per bin, |omega| <= 1/2
filtered = torch.fft.irfft(omega * torch.fft.rfft(y_noisy, 4 * bins), 4 * bins)[
    ..., :bins
]
by_hand = torch.pi / len(views) * A.adjoint(filtered)
hand_change = ((by_hand - recs[1]).norm() / recs[1].norm()).item()
print(f"by hand and by the package: {100 * hand_change:.1f} % apart")

# %% [markdown]
# ## How many views are enough?
#
# Fewer views mean less dose and a faster scan. Move the slider: below about one view per pixel of the image's side, streaks
# appear, and they are the same streaks every time. A network trained to remove streaks learns to tell them from anatomy,
# which is where the trouble of this book begins. (The slider shows a CT scan of a physical head phantom.)

# %%
counts = [10, 20, 30, 50, 90, 180, 360]
head, head_source = data.demo("ct", 8, min(n, 256), "train")
head = head[4:5]


# %%
def frame(count):
    B = operators.Radon(head.shape[-1], torch.arange(count) * 180 / count)
    rec = B.fbp(B(head))
    score = metrics.psnr_db(rec, head).item()
    return score, figures.panels(
        [head, rec],
        ["image", f"{count} views"],
        captions=["", f"{score:.1f} dB"],
        window=(0, 1),
        error_of=0,
        error_limit=0.3,
        alt=f"A head slice, its reconstruction from {count} views, and the error.",
    )


# %%
sparse_db, frames = zip(*[frame(count) for count in counts])
print(head_source)
widgets.explore(frames, counts, name="number of views", value=counts.index(50))

# %% [markdown]
# ## The missing wedge
#
# If the gantry cannot turn all the way, whole directions are never looked along. By the Fourier slice theorem a view at angle
# $\theta$ measures the image's Fourier transform on the line at that angle, so a missing range of angles is a missing *wedge* of
# the Fourier plane: edges that run along the missing views vanish. It is not noise and not blur. The information is not there.

# %%
kept = operators.limited_angle(len(views), wedge_deg)
x_wedge = A.fbp(y, measured=kept)


def spectrum(image):
    transform = operators.fft2(image.to(torch.complex64), centred=True)
    logs = transform.abs().clamp_min(1e-3).log10()
    return (logs - logs.min()) / (logs.max() - logs.min())


# %%
wedge_db = metrics.psnr_db(x_wedge, x).item()
figures.panels(
    [x, x_wedge, spectrum(x), spectrum(x_wedge)],
    [
        "image",
        f"FBP, {wedge_deg}° missing: {wedge_db:.1f} dB",
        "its Fourier transform (log)",
        "the wedge that was never measured",
    ],
    window=(0, 1),
    columns=4,
    lossless=False,
    alt="A slice and its limited-angle reconstruction with their Fourier transforms; "
    "the second has a dark wedge.",
)

# %% [markdown]
# ## Two images, one measurement
#
# MRI measures the Fourier transform itself, on the lines of a mask $M$. What lies off the mask is not measured, so it can be
# anything. Take a text, remove what the mask sees of it, and add the rest to a scan. The two images below differ, and **their
# measurements are the same to the last digit**. Whatever maps measurements to images (a solver, a network, a radiologist's
# intuition) returns the same answer for both. If it shows the text, it has invented it for the one; if not, it has erased it from
# the other. Accuracy on typical images says nothing about which.

# %%
scans, scan_source = data.demo("mr", 7, n, "test")
scan = scans[-1:]
F = operators.MaskedFourier(mask)
text = shifts.text("CAN U SEE IT", n).to(scan.dtype) * scan.abs().max() * 0.8
unseen = text - F.adjoint(F(text))  # the part of the text in the null space of A
difference = ((F(scan + unseen) - F(scan)).norm() / F(scan).norm()).item()
change = 100 * (unseen.norm() / scan.norm()).item()
print(
    f"{scan_source}\nimages differ by {change:.0f} %, "
    f"their measurements by {difference:.0e}"
)

# %%
figures.panels(
    [scan, scan + unseen, F.pinv(F(scan)), F.pinv(F(scan + unseen))],
    ["image 1", "image 2", "zero-filled, from image 1", "zero-filled, from image 2"],
    columns=2,
    alt="Two MR images, the second with a faint text; the reconstructions from their "
    "measurements are identical.",
)

# %% [markdown]
# ## A measurement that was really made
#
# So far we simulated $y$. This tooth was scanned at a synchrotron (it comes with TomoPy): counts, a flat field, a dark field, and a rotation axis None of this was simulated, and the same `fbp` must handle it.

# %%
if data.situation("sinograms") != "phantoms":
    measured = data.tooth(binning=max(1, 512 // n))
    tooth, tooth_angles = measured.y, measured.angles_deg
    tooth_source = (
        "measured at a synchrotron; "
        f"rotation axis found at bin {measured.centre} of 640"
    )
else:  # neither files nor network: a simulated scan, and the page says so
    tooth_angles = torch.arange(181) * 1.0
    tooth_source = "simulated phantom scan (no data files, no network)"
    tooth = phantoms.ellipse_sinogram(phantoms.SHEPP_LOGAN, tooth_angles, None, n)

# %%
bins, every = tooth.shape[-1], 4
full = operators.Radon(bins, tooth_angles, bins).fbp(tooth)
few = operators.Radon(bins, tooth_angles[::every], bins).fbp(tooth[:, :, ::every])
scale = torch.quantile(full.flatten()[::7], 0.999)

# %%
print(tooth_source)
n_tooth = tooth.shape[-2]
figures.panels(
    [tooth / tooth.max(), full / scale, few / scale],
    [f"sinogram, {n_tooth} views", "FBP, every view", f"FBP, every {every}th view"],
    window=(0, 1),
    alt="Measured sinogram of a tooth and its reconstructions from all views and from "
    "a quarter of them.",
)

# %% [markdown]
# ## The code
#
# This is all there is to the filter. The operators themselves: [`instab_utils.operators`](../book/api.md).

# %%
print(inspect.getsource(operators.Radon.fbp))

# %% [markdown]
# ## Claims

# %%
largest = max(gaps.values())
claim("every adjoint is exact to round-off", largest <= 1e-12, at_least="smoke")
claim(
    "both discretisations approach the closed form as pixels shrink",
    all(e[-1] < e[0] / 3 for e in errors.values()),
)
claim("more views, better FBP", all(a < b for a, b in zip(sparse_db, sparse_db[1:])))
claim("the formula by hand is the package's FBP within 5 %", hand_change < 0.05)

# %%
claim("under 1 % noise the Hann window beats the bare ramp", scores[2] > scores[1])
claim(
    "two visibly different images have the same measurements",
    difference < 1e-6 and unseen.norm() > 0.05 * scan.norm(),
    at_least="smoke",
)
claim(
    "a quarter of the tooth's views still resembles all of them",
    metrics.pearson(few, full).item() > 0.8,
)

# %% [markdown]
# ## Exercises
#
# **1.** `Radon` is linear. Without running it: what is the sinogram of a slice with everything outside the body set to $-1$
# instead of $0$, in terms of two sinograms? Check it.

# %% tags=["hide-cell"]
body = (x > 0.05).to(x.dtype)
shifted = x - (1 - body)
assert torch.allclose(A(shifted), A(x) - A(1 - body), atol=1e-3)
print("A(x - (1 - body)) = A x - A(1 - body)")

# %% [markdown]
# **2.** The unseen text above is 'the rest' after projection. Show that projecting twice changes nothing, and that a solver
# which starts from zero and only moves along $A^*$ (every gradient method) can never produce any of it.

# %% tags=["hide-cell"]
again = unseen - F.adjoint(F(unseen))
assert (again - unseen).norm() < 1e-5 * unseen.norm()
anything = torch.randn(
    F(scan).shape, generator=profiles.generator(seed, "exercise"), dtype=torch.complex64
)
overlap = torch.vdot(unseen.flatten(), F.adjoint(anything).flatten()).abs() / (
    unseen.norm() * F.adjoint(anything).norm()
)
assert overlap < 1e-3
print(f"the text is orthogonal to every A* y: cosine {overlap:.0e}")

# %% [markdown]
# **3.** Rotate the missing wedge by 90° (keep the other views). Which edges vanish now?

# %% tags=["hide-cell"]
other = torch.roll(kept, len(views) // 2)
rotated = A.fbp(y, measured=other)
assert not torch.allclose(rotated, x_wedge, atol=0.05)
figures.panels(
    [x_wedge, rotated],
    [
        f"wedge missing at {90 - wedge_deg / 2:.0f}°-{90 + wedge_deg / 2:.0f}°",
        "wedge rotated by 90°",
    ],
    window=(0, 1),
    lossless=False,
    alt="Limited-angle reconstructions with two different missing wedges; different "
    "edges are lost.",
)

# %% [markdown]
# ## References
#
# The setting $y = Ax$ and the tests built on it: {cite:t}`antun2020`. The missing wedge as a benchmark for detectors: {cite:t}`oala2021`.
# The measured tooth: {cite:t}`gursoy2014`.
