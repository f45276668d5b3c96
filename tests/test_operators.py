"""Every operator: exact adjoint, derivatives, dense matrix, batches, types, errors; and oracles for
each kind.
"""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from instab_utils import profiles
from instab_utils.data import phantoms
from instab_utils.operators import (
    FourierSlice,
    Identity,
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    as_operator,
    fft2,
    limited_angle,
    measured_finely,
)

ROOT = Path(__file__).resolve().parents[1]
IRREGULAR = [0.0, 12.5, 45.0, 89.9, 90.0, 133.0, 135.0, 180.0, 201.0, -33.3]


def draw(*shape, dtype=torch.float64, stream="operators"):
    return torch.randn(
        shape, dtype=dtype, generator=profiles.generator(0, f"{stream}{shape}{dtype}")
    )


def mask(n):
    return draw(n, n, stream="mask") > 0


def coils(n):
    maps = draw(3, n, n, dtype=torch.complex128)
    return maps / maps.abs().square().sum(0).sqrt()


def kept_as(A, storage):
    A.storage = storage
    return A


OPERATORS = {  # name -> operator on n x n images
    "identity": lambda n: Identity(n),
    "fourier": lambda n: MaskedFourier(mask(n)),
    "fourier-centred": lambda n: MaskedFourier(mask(n), centred=True),
    "multi-coil": lambda n: MultiCoilFourier(mask(n), coils(n)),
    "multi-coil-uncentred": lambda n: MultiCoilFourier(mask(n), coils(n), centred=False),
    "radon-csr": lambda n: kept_as(Radon(n, [0, 30, 45, 77.7, 120, 170]), "csr"),
    "radon-symmetric": lambda n: kept_as(Radon(n, [0, 30, 45, 77.7, 120, 170]), "symmetric"),
    "radon-cut": lambda n: Radon(n, [10, 100], n_detectors=8),
    "fourier-slice": lambda n: FourierSlice(n, [0, 30, 45, 77.7, 120, 170]),
    "fourier-slice-cut": lambda n: FourierSlice(n, [10, 100], n_detectors=8),
}


@pytest.fixture(params=OPERATORS, scope="module")
def make(request):
    return OPERATORS[request.param]


def image(A, n, dtype, batch=2):
    return draw(batch, 1, n, n, dtype=dtype)


def gap(A, x, y):
    """|<A x, y> - <x, A* y>| / (||A x|| ||y||), with the complex inner product where the operator
    is complex.
    """
    Ax, Aty = A(x), A.adjoint(y)
    return float(
        abs(
            torch.vdot(Ax.flatten(), y.flatten())
            - torch.vdot(x.to(Aty.dtype).flatten(), Aty.flatten())
        )
        / (Ax.norm() * y.norm())
    )


@pytest.mark.parametrize("n", [15, 16, 17])
@pytest.mark.parametrize("wide", [True, False], ids=["float64", "float32"])
def test_adjoint_is_exact(make, n, wide):
    A = make(n)
    bar = 1e-12 if wide else 1e-6
    real, complex_ = (torch.float64, torch.complex128) if wide else (torch.float32, torch.complex64)
    for dtype in (complex_,) if A.is_complex else (real, complex_):
        x = image(A, n, dtype)
        y = draw(*A(x).shape, dtype=dtype)
        assert A(x).dtype == dtype and A.adjoint(y).dtype == dtype and A.adjoint(y).shape == x.shape
        assert gap(A, x, y) <= bar


def test_matrix_and_norm(make):
    """The operator equals its dense matrix, the adjoint its conjugate transpose, the norm its first
    singular value.
    """
    n, A = 9, make(9)
    dtype = torch.complex128 if A.is_complex else torch.float64
    basis = torch.eye(n * n, dtype=dtype).view(n * n, 1, n, n)
    dense = A(basis).flatten(1).T
    x = image(A, n, dtype, batch=3)
    assert torch.allclose(A(x).flatten(1).T, dense @ x.flatten(1).T, atol=1e-12)
    y = draw(*A(x).shape, dtype=dtype)
    assert torch.allclose(A.adjoint(y).flatten(1).T, dense.mH @ y.flatten(1).T, atol=1e-12)
    # from below
    assert A.norm() == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=5e-3)


def test_derivatives_to_second_order(make):
    n, A = 5, make(5)
    dtype = torch.complex128 if A.is_complex else torch.float64
    x = image(A, n, dtype).requires_grad_()
    y = draw(*A(x).shape, dtype=dtype).requires_grad_()
    for function, z in ((A, x), (A.adjoint, y), (A.pinv, y)):
        assert torch.autograd.gradcheck(function, (z,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda u, f=function: f(u) * f(u), (z,), fast_mode=True)


def test_vjp_is_the_adjoint(make):
    A = make(15)
    x = image(A, 15, torch.complex128 if A.is_complex else torch.float64).requires_grad_()
    y = draw(*A(x).shape, dtype=x.dtype)
    (gradient,) = torch.autograd.grad(A(x), x, y)
    assert torch.allclose(gradient, A.adjoint(y), atol=1e-13)


def test_batches_strides_and_aliases(make):
    n, A = 15, make(15)
    x = image(A, n, torch.complex128 if A.is_complex else torch.float64, batch=4)
    y = A(x)
    assert torch.allclose(y, torch.cat([A(one[None]) for one in x]), atol=1e-13)
    assert torch.allclose(A.adjoint(y), torch.cat([A.adjoint(one[None]) for one in y]), atol=1e-12)
    assert torch.allclose(A(x.mT), A(x.mT.contiguous()), atol=1e-13)
    assert torch.allclose(A(x[::2]), y[::2], atol=1e-13)
    assert torch.allclose(A.adjoint(y.flip(0)[..., :]), A.adjoint(y).flip(0), atol=1e-12)
    for alias, own in ((A.A, A.forward), (A.__call__, A.forward)):
        assert torch.equal(alias(x), own(x))
    assert torch.equal(A.A_adjoint(y), A.adjoint(y)) and torch.equal(A.A_dagger(y), A.pinv(y))


def test_channels_are_a_batch(make):
    n, A = 15, make(15)
    if isinstance(A, MultiCoilFourier):
        pytest.skip("its channels are coils")
    x = draw(2, 3, n, n)
    assert torch.allclose(A(x), A(x.view(6, 1, n, n)).view_as(A(x)), atol=1e-13)


def test_complex_images_of_real_operators():
    for make in OPERATORS.values():
        A = make(15)
        if A.is_complex:
            continue
        x = draw(2, 1, 15, 15, dtype=torch.complex128)
        assert torch.allclose(A(x), torch.complex(A(x.real), A(x.imag)), atol=1e-13)
        assert torch.allclose(A(x.conj()), A(x).conj(), atol=1e-13)
        assert torch.allclose(
            A.pinv(A(x)), torch.complex(A.pinv(A(x.real)), A.pinv(A(x.imag))), atol=1e-12
        )


def test_half_precision_and_autocast(make):
    """Half inputs and autocast are computed in float32: no product of these operators exists in
    half precision.
    """
    n, A = 15, make(15)
    x = draw(1, 1, n, n, dtype=torch.float32)
    layer = torch.nn.Conv2d(1, 1, 1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = layer(x)
        y = A(h)
        y.abs().square().sum().backward()
    assert h.dtype == torch.bfloat16 and torch.isfinite(layer.weight.grad).all()
    wide = A(h.float())
    assert torch.allclose(y.to(wide.dtype), wide, atol=1e-6 if not isinstance(A, Identity) else 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(A.pinv(wide), A.pinv(wide.clone()))
    if not isinstance(A, Identity):
        assert y.dtype in (torch.float32, torch.complex64)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # from inside torch.func
def test_function_transforms():
    """vmap, forward mode and batched gradients through the matrix operators (vmapped chains,
    ensembles).
    """
    A = Radon(9, [0, 33, 90])
    x, v = draw(4, 2, 1, 9, 9), draw(4, 2, 1, 9, 9, stream="v")
    assert torch.allclose(torch.vmap(A)(x), A(x.flatten(0, 1)).view(4, 2, 1, 3, -1), atol=1e-13)
    assert torch.allclose(torch.vmap(A, in_dims=1)(x), torch.vmap(A)(x.movedim(1, 0)), atol=1e-13)
    y, tangent = torch.func.jvp(A, (x[0],), (v[0],))
    assert torch.allclose(tangent, A(v[0]), atol=1e-13)
    gradients = torch.vmap(torch.func.grad(lambda u: A(u).square().sum()))(x)
    assert torch.allclose(gradients, 2 * torch.vmap(A.adjoint)(torch.vmap(A)(x)), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "identity"])
def test_shape_errors_name_the_cure(name):
    A = OPERATORS[name](15)
    with pytest.raises(ValueError, match=re.escape("got (15, 15). Add the axes: x[None, None].")):
        A(torch.zeros(15, 15))
    with pytest.raises(
        ValueError, match=r"expects x of shape \(batch, channels, 15, 15\); got \(1, 1, 15, 14\)"
    ):
        A(torch.zeros(1, 1, 15, 14))
    with pytest.raises(TypeError, match="torch.as_tensor"):
        A(np.zeros((1, 1, 15, 15)))
    with pytest.raises(ValueError, match="got"):
        A.adjoint(torch.zeros(1, 1, 3, 3))


def test_errors_of_radon():
    A = Radon(15, [0, 45, 90])
    with pytest.raises(ValueError, match=re.escape("Views come before bins: y.mT.")):
        A.fbp(torch.zeros(1, 1, *A.sinogram_shape[::-1]))
    with pytest.raises(ValueError, match="one of ramp, shepp-logan"):
        A.fbp(torch.zeros(1, 1, *A.sinogram_shape), filter="rampp")
    with pytest.raises(ValueError, match=r"measured of shape \(3,\)"):
        A.fbp(torch.zeros(1, 1, *A.sinogram_shape), measured=[True])
    with pytest.raises(ValueError, match="over several operators"):
        kept_as(Radon(1024, torch.arange(0, 180, 0.1)), "csr")(torch.zeros(1, 1, 1024, 1024))
    with pytest.raises(ValueError, match="at least one finite angle"):
        Radon(15, [])
    with pytest.raises(ValueError, match="n_coils, 15, 15"):
        MultiCoilFourier(mask(15), torch.ones(15, 15))
    with pytest.raises(TypeError, match="A_dagger"):
        as_operator(object(), 15)


# -- Fourier


@pytest.mark.parametrize("name", ["fourier", "fourier-centred"])
def test_single_coil_projects(name):
    """A A* = I on the samples and A* A is idempotent: what the exactness of data consistency rests
    on.
    """
    A = OPERATORS[name](15)
    y = A(draw(2, 1, 15, 15))
    assert torch.allclose(A(A.adjoint(y)), y, atol=1e-13)
    x = A.adjoint(y)
    assert torch.allclose(A.adjoint(A(x)), x, atol=1e-13)
    assert bool((y[:, :, A.mask == 0] == 0).all())


def test_transform_is_the_unitary_dft():
    n = 5
    k = torch.arange(n, dtype=torch.float64)
    F = torch.polar(
        torch.full((n, n), n**-0.5, dtype=torch.float64), -2 * torch.pi * k[:, None] * k / n
    )
    x = draw(n, n, dtype=torch.complex128)
    assert torch.allclose(fft2(x), F @ x @ F.T, atol=1e-13)
    c = k - n // 2
    F = torch.polar(
        torch.full((n, n), n**-0.5, dtype=torch.float64), -2 * torch.pi * c[:, None] * c / n
    )
    assert torch.allclose(fft2(x, centred=True), F @ x @ F.T, atol=1e-13)


@pytest.mark.parametrize("shape", [(16, 16), (18, 16), (18, 18), (15, 16), (15, 17)])
def test_centred_transform_of_every_parity(shape):
    """Even sizes merge the shifts into signs on the mask and the coil maps; odd ones shift."""
    x, maps = (draw(*lead, *shape, dtype=torch.complex128) for lead in ((2, 1), (3,)))
    sampled = draw(*shape) > 0
    for centred in (True, False):
        A = MaskedFourier(sampled, centred)
        assert torch.allclose(A(x), fft2(x, centred) * sampled, atol=1e-13)
        assert torch.allclose(A(x.real), fft2(x.real, centred) * sampled, atol=1e-13)
        A = MultiCoilFourier(sampled, maps, centred)
        assert torch.allclose(A(x), fft2(x * maps, centred) * sampled, atol=1e-12)


def test_multi_coil_pinv_inverts_full_sampling():
    A = MultiCoilFourier(torch.ones(15, 15), 2 * coils(15))
    x = draw(2, 1, 15, 15, dtype=torch.complex128)
    assert torch.allclose(A.pinv(A(x)), x, atol=1e-12)


# -- Radon


@pytest.mark.parametrize("n", [15, 16])
@pytest.mark.parametrize("n_detectors", [None, 9, 20])
@pytest.mark.parametrize(
    "angles",
    [IRREGULAR, np.linspace(0, 180, 12, endpoint=False), draw(7) * 360],
    ids=["irregular", "closed", "random"],
)
def test_storages_agree(n, n_detectors, angles):
    plain, folded = (
        kept_as(Radon(n, angles, n_detectors), storage) for storage in ("csr", "symmetric")
    )
    x = draw(3, 2, n, n)  # six columns: more than one chunk
    y = draw(*plain(x).shape)
    assert torch.allclose(plain(x), folded(x), atol=1e-10)
    assert torch.allclose(plain.adjoint(y), folded.adjoint(y), atol=1e-10)
    assert torch.allclose(plain(x.float()), folded(x.float()), atol=1e-4)


def test_storage_is_built_when_needed():
    A = Radon(33, [0.0, 30.0, 60.0, 90.0, 120.0, 150.0])
    assert not A._built
    A(torch.zeros(1, 1, 33, 33))
    assert [key[0] for key in A._built] == ["symmetric"]
    A(torch.zeros(5, 1, 33, 33))
    assert [key[0] for key in A._built] == ["symmetric", "csr"]
    assert A.to("cpu")._built is A._built


def test_symmetric_storage_is_an_eighth():
    plain, folded = (
        kept_as(Radon(64, np.linspace(0, 180, 60, endpoint=False)), s) for s in ("csr", "symmetric")
    )
    x = torch.zeros(1, 1, 64, 64)
    plain(x), folded(x)
    stored = [next(iter(A._built.values())).rays._nnz() for A in (plain, folded)]
    assert stored[0] / stored[1] > 7


def off_centre_disc(n, angles, n_detectors):
    """A disc of radius n / 4 at (n / 8 right, n / 6 up) and its chords, with no code shared with
    the phantoms.
    """
    radius, a0, b0 = n / 4, n / 8, n / 6
    fine = (torch.arange(8 * n, dtype=torch.float64) + 0.5) / 8 - n / 2
    disc = ((fine - a0)[None].square() + (-fine - b0)[:, None].square() < radius**2).double()
    x = disc.view(n, 8, n, 8).mean((1, 3))
    theta = torch.deg2rad(torch.as_tensor(angles, dtype=torch.float64))[:, None]
    s = torch.arange(n_detectors, dtype=torch.float64) - (n_detectors - 1) / 2
    t = s - a0 * theta.cos() - b0 * theta.sin()
    return x[None, None], 2 * (radius**2 - t.square()).clamp_min(0).sqrt()[None, None]


@pytest.mark.parametrize("kind", [Radon, FourierSlice])
@pytest.mark.parametrize("n", [64, 65])
def test_disc_in_closed_form(kind, n):
    """Fixes sign, orientation, centre and scale: half a pixel's shift, a mirror or a turn all give
    more than 5 %.
    """
    A = kind(n, IRREGULAR)
    x, y = off_centre_disc(n, IRREGULAR, A.n_detectors)
    assert (A(x) - y).norm() / y.norm() < 0.025


@pytest.mark.parametrize(("n", "n_views", "bar"), [(128, 20, 0.0268), (256, 50, 0.0136)])
def test_analytic_sinogram_of_the_shepp_logan_head(n, n_views, bar):
    """Relative error against the closed form, set by pixelisation: the bars are those of every line
    projector.
    """
    angles = np.linspace(0, 180, n_views, endpoint=False)
    x = phantoms.raster(phantoms.SHEPP_LOGAN, n)
    y = phantoms.ellipse_sinogram(phantoms.SHEPP_LOGAN, angles, image_size=n)
    assert (Radon(n, angles)(x) - y).norm() / y.norm() < bar + 5e-5
    assert (FourierSlice(n, angles)(x) - y).norm() / y.norm() < bar


def test_against_astra():
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    n, angles = 33, np.deg2rad(IRREGULAR)
    A = Radon(n, IRREGULAR)
    x = draw(1, 1, n, n, dtype=torch.float32)
    volume = astra.create_vol_geom(n, n)
    projector = astra.create_projector(
        "linear", astra.create_proj_geom("parallel", 1.0, A.n_detectors, angles), volume
    )
    identifier, y = astra.create_sino(x[0, 0].numpy(), projector)
    back_identifier, back = astra.create_backprojection(A(x)[0, 0].numpy(), projector)
    astra.data2d.delete([identifier, back_identifier])
    astra.projector.delete(projector)
    # its coordinates are float32
    assert np.linalg.norm(A(x)[0, 0].numpy() - y) < 1e-4 * np.linalg.norm(y)
    assert np.linalg.norm(A.adjoint(A(x))[0, 0].numpy() - back) < 1e-4 * np.linalg.norm(back)


def test_against_scikit_image():
    """It turns the image and sums columns: another discretisation, so smooth images, and odd n,
    whose centres agree.
    """
    from skimage.transform import iradon, radon

    n, angles = 65, np.linspace(0, 180, 90, endpoint=False)
    at = torch.arange(n, dtype=torch.float64) - n // 2
    x = torch.exp(-((at[:, None] - 8).square() + (at + 5).square()) / 40)
    x = x * (at[:, None].square() + at.square() < 30**2)
    A = Radon(n, angles, n)
    theirs = torch.from_numpy(radon(x.numpy(), angles, circle=True).T.copy())
    ours = A(x[None, None])[0, 0]
    assert (ours - theirs).norm() / theirs.norm() < 2e-3
    for name in ("ramp", "shepp-logan", "cosine", "hamming", "hann"):
        back = torch.from_numpy(iradon(ours.numpy().T, angles, circle=True, filter_name=name))
        inside = at[:, None].square() + at.square() < 30**2
        assert (
            ((A.fbp(ours[None, None], filter=name)[0, 0] - back)[inside]).norm()
            / back[inside].norm()
            < 0.04
        )


def test_fourier_slice_agrees_with_joseph_on_smooth_images():
    n = 65
    at = torch.arange(n, dtype=torch.float64) - n // 2
    x = torch.exp(-((at[:, None] - 8).square() + (at + 5).square()) / 60)[None, None]
    a, b = Radon(n, IRREGULAR)(x), FourierSlice(n, IRREGULAR)(x)
    assert (a - b).norm() / b.norm() < 3e-3


@pytest.mark.parametrize("n", [9, 12])
def test_fourier_slice_is_its_sum(n):
    """The non-uniform FFT against the sum it stands for."""
    A = FourierSlice(n, IRREGULAR, 8)
    x = draw(1, 1, n, n)
    length = max(8, int(np.ceil(np.sqrt(2) * n))) | 1
    w = 2 * np.pi / length * np.arange(-(length // 2), length // 2 + 1)
    at, s = np.arange(n) - (n - 1) / 2, np.arange(8) - 3.5
    for theta, views in zip(np.deg2rad(IRREGULAR), A(x)[0, 0].numpy(), strict=True):
        rows, columns = (
            np.exp(1j * np.outer(w * np.sin(theta), at)),
            np.exp(-1j * np.outer(w * np.cos(theta), at)),
        )
        spectrum = np.einsum("ij,wi,wj->w", x[0, 0].numpy(), rows, columns)
        assert np.allclose((np.exp(1j * np.outer(s, w)) @ spectrum).real / length, views, atol=1e-4)


# -- filtered back-projection


def test_fbp_recovers_a_disc_from_exact_data():
    n, angles = 128, np.linspace(0, 180, 400, endpoint=False)
    A = Radon(n, angles)
    x, y = off_centre_disc(n, angles, A.n_detectors)
    at = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    distance = ((at - n / 8).square() + (-at - n / 6)[:, None].square()).sqrt()
    inside, outside = distance < n / 4 - 3, (distance > n / 4 + 3) & (distance < n / 4 + 20)
    for name in ("ramp", "shepp-logan", "cosine", "hamming", "hann"):
        error = (A.fbp(y, name) - x)[0, 0]
        # no bias, as sampling |omega| in frequency would give
        assert error[inside].mean().abs() < 1e-3
        assert error[outside].mean().abs() < 1e-3 and error[inside].std() < 0.01
    # it smooths
    assert (A.fbp(y, "hann") - x)[0, 0][inside].std() < (A.fbp(y) - x)[0, 0][inside].std()
    assert torch.equal(A.pinv(y), A.fbp(y))
    assert torch.allclose(A.fbp(y, None), A.adjoint(y) * (np.pi / 400))


def test_fbp_of_zeroed_and_of_deleted_views():
    """The wedge may be zeroed or left out of the operator: the same image, if the step is given."""
    n, n_views = 33, 60
    angles = np.linspace(0, 180, n_views, endpoint=False)
    measured = limited_angle(n_views, 30)
    A, short = Radon(n, angles), Radon(n, angles[measured.numpy()])
    y = A(draw(1, 1, n, n))
    zeroed = A.fbp(y, measured=measured)
    assert torch.allclose(zeroed, short.fbp(y[:, :, measured], step_deg=180 / n_views), atol=1e-12)
    deleted = short.fbp(y[:, :, measured])
    assert torch.allclose(deleted, zeroed * n_views / int(measured.sum()), atol=1e-12)


def test_a_finer_image_is_measured_in_the_units_of_the_operator():
    """Every view of a blob inside the disc has its mass; on the operator's own raster it is what
    Radon measures.
    """
    A = Radon(12, [0, 30, 135])
    at = torch.arange(36, dtype=torch.float64) - 17.5
    fine = torch.stack(
        [torch.exp(-(at**2 + (at[:, None] - 2) ** 2) / (2 * width**2)) for width in (3, 4)]
    )[:, None]
    y = measured_finely(fine, A)
    mass = fine.sum((2, 3)) / 9
    assert y.shape == (2, 1, *A.sinogram_shape) and y.dtype == torch.float64
    assert torch.allclose(y.sum(3), mass[..., None].expand_as(y.sum(3)), rtol=1e-3)
    x = draw(1, 1, 12, 12)
    assert torch.equal(measured_finely(x, A), A(x))
    with pytest.raises(ValueError, match=r"k \* 12.*got \(1, 1, 30, 30\)"):
        measured_finely(torch.zeros(1, 1, 30, 30), A)


def test_limited_angle_counts_of_the_paper():
    measured = limited_angle(512, 30)
    assert (
        int(measured.sum()) == 427
        and not measured[:42].any()
        and measured[42]
        and not measured[-43:].any()
    )
    assert limited_angle(60, 0).all()


# -- the neighbour


def test_any_object_with_the_three_methods():
    A = Radon(15, [0, 45, 90])
    B = as_operator(SimpleNamespace(A=A.A, A_adjoint=A.A_adjoint, A_dagger=A.A_dagger), 15)
    x = draw(1, 1, 15, 15)
    y = A(x)
    assert (
        torch.equal(B(x), y)
        and torch.equal(B.adjoint(y), A.adjoint(y))
        and torch.equal(B.pinv(y), A.pinv(y))
    )
    assert B.norm() == pytest.approx(A.norm()) and B.device == A.device
    assert as_operator(A, 15) is A


@pytest.fixture
def deepinv(monkeypatch):
    if importlib.util.find_spec("deepinv") is None:
        pytest.skip("deepinv is not installed")
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.common import deepinv_physics

    return deepinv_physics()


@pytest.mark.filterwarnings("ignore")  # deepinv's own
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "identity"])
def test_ours_in_deepinv(deepinv, name):
    A = OPERATORS[name](15)
    physics = deepinv.LinearPhysics(A=A.A, A_adjoint=A.A_adjoint)
    dtype = torch.complex128 if A.is_complex else torch.float64
    assert float(physics.adjointness_test(img_size=(1, 15, 15), num_samples=4, dtype=dtype)) < 1e-12
    x = image(A, 15, dtype)
    assert torch.equal(physics.A(x), A(x))


@pytest.mark.filterwarnings("ignore")
def test_deepinv_in_ours(deepinv):
    tomography = as_operator(deepinv.Tomography(angles=10, img_width=16, normalize=False), 16)
    x = draw(2, 1, 16, 16, dtype=torch.float32)
    y = draw(*tomography(x).shape, dtype=torch.float32)
    assert gap(tomography, x, y) < 1e-5
    assert tomography.pinv(y).shape == x.shape and tomography.norm() > 1
    sampled = mask(16)
    physics = deepinv.MRI(mask=sampled.float()[None, None], img_size=(2, 16, 16))
    theirs = as_operator(physics, 16, complex_as_channels=True)
    ours = MaskedFourier(sampled, centred=True)
    x = draw(2, 1, 16, 16, dtype=torch.complex64)
    assert torch.allclose(theirs(x), ours(x), atol=1e-5)
    assert torch.allclose(theirs.adjoint(ours(x)), ours.adjoint(ours(x)), atol=1e-5)
    assert theirs.norm() == pytest.approx(1, abs=1e-3)


def test_angles_in_float32_fold_like_the_exact_ones():
    """3.6 k in float32 misses 3.6 k by round-off; without tolerance no two views would share their
    octant.
    """
    from instab_utils.operators.joseph import fold_factor

    exact = torch.arange(50, dtype=torch.float64) * 3.6
    rounded = (torch.arange(50) * 3.6).double()
    assert not torch.equal(exact, rounded) and fold_factor(rounded) == fold_factor(exact) == 4
    x = torch.rand(1, 1, 17, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    folded, full = (kept_as(Radon(17, rounded), storage)(x) for storage in ("symmetric", "csr"))
    assert (folded - full).norm() < 1e-6 * full.norm()
