"""Attacks against closed forms: known singular vectors, the heavy-ball recurrence, exact norms."""

import pytest
import torch

from instab_utils import attacks, metrics, profiles
from instab_utils.attacks import Ascent
from instab_utils.networks import Reconstructor
from instab_utils.operators.base import LinearOperator
from instab_utils.operators.fourier import MaskedFourier
from instab_utils.operators.identity import Identity


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def identity(x):
    return x


class Dense(LinearOperator):
    """y = M x on flattened images, with a preconditioner that is not the adjoint."""

    def __init__(self, matrix, side):
        self.matrix, self.image_shape, self.is_complex = matrix, (side, side), matrix.is_complex()

    def forward(self, x):
        return torch.einsum("mn,bn->bm", self.matrix, x.flatten(1).to(self.matrix.dtype))

    def adjoint(self, y):
        return torch.einsum("mn,bm->bn", self.matrix.conj(), y).reshape(-1, 1, *self.image_shape)

    def pinv(self, y):
        return torch.einsum("nm,bm->bn", torch.linalg.pinv(self.matrix), y).reshape(
            -1, 1, *self.image_shape
        )


def spectrum(rows, columns, values, dtype, seed=0):
    """Random matrix with the given singular values: the top direction and the gap are known."""
    u, _ = torch.linalg.qr(randn(rows, rows, seed=seed, dtype=dtype))
    v, _ = torch.linalg.qr(randn(columns, columns, seed=seed + 1, dtype=dtype))
    s = torch.zeros(rows, columns, dtype=dtype)
    s.diagonal()[:] = torch.linspace(1, 0.05, min(rows, columns), dtype=torch.float64)
    s[0, 0] = values
    return u @ s @ v.mH, v[:, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", ["sphere", "heavy-ball"])
@pytest.mark.parametrize("init", ["singular", "uniform", "gaussian"])
def test_worst_case_of_a_linear_map_is_its_top_singular_vector(dtype, method, init):
    matrix, top = spectrum(13, 25, 4.0, dtype)
    A = Dense(matrix, 5)
    x = randn(2, 1, 5, 5, seed=3, dtype=dtype)
    result = attacks.worst_case(
        identity,
        A,
        x,
        generator=generator(),
        strengths=(0.01, 0.1),
        n_iter=300,
        ascent=Ascent(method, init, n_power=30, growth=1.05),
    )
    assert torch.allclose(result.sigma_max, torch.full((2,), 4.0, dtype=torch.float64), rtol=1e-6)
    for s in (0.01, 0.1):
        assert result.reached[s].all()
        assert torch.allclose(
            result.rel_norm[s], torch.full((2,), s, dtype=torch.float64), rtol=1e-12
        )
    tol = 1e-9 if init == "singular" else 1e-3
    assert torch.allclose(
        result.amplification[0.1], torch.tensor(4.0, dtype=torch.float64), rtol=tol
    )
    r = result.r[0.1].flatten(1)
    cosine = (r @ top.conj()).abs() / torch.linalg.vector_norm(r, dim=1)
    assert torch.allclose(cosine, torch.ones(2, dtype=torch.float64), rtol=tol)


@pytest.mark.parametrize("penalty", [0.15, 0.9, 1.5])
def test_heavy_ball_obeys_its_two_term_recurrence(penalty):
    """f = s x: |r_k| = c1 m1^k + c2 m2^k with m the roots of m^2 - (1 + gamma + step (1 - penalty))
    m + gamma.
    """
    gain, step, gamma, start = 3.0, 0.02, 0.6, 1e-3
    x = randn(1, 1, 7, 7)
    result = attacks.worst_case(
        lambda y: gain * y,
        Identity(),
        x,
        generator=generator(),
        strengths=(0.5,),
        n_iter=40,
        ascent=Ascent(
            "heavy-ball", "uniform", algorithm=1, penalty=penalty, step=step, momentum=gamma
        ),
    )
    trace = 1 + gamma + step * (1 - penalty)
    root = (trace**2 / 4 - gamma) ** 0.5
    m1, m2 = trace / 2 + root, trace / 2 - root
    after_one = start * (1 + step * (1 - penalty))
    c2 = (after_one - m1 * start) / (m2 - m1)
    k = torch.arange(len(result.history), dtype=torch.float64)
    expected = (start - c2) * m1**k + c2 * m2**k
    assert torch.allclose(result.history[:, 0], expected, rtol=1e-9)
    assert (result.history[-1, 0] > start) == (penalty < 1)
    # rate (s^2 - lambda) eta / (1 - gamma)
    assert abs((m1 - 1) / (step * (1 - penalty) / (1 - gamma)) - 1) < 0.1


def smooth_network(side, channels=1, dtype=torch.float64, seed=5):
    """A small nonlinear reconstruction with a strong direction; real two-channel inside, like a
    network for MRI.
    """
    weight = (
        randn(side * side * channels, side * side * channels, seed=seed, dtype=torch.float64) / side
    )

    def network(z):
        return z + torch.tanh(z.flatten(1) @ weight).reshape(z.shape)

    return network


def two_channel(z):
    return torch.cat([z.real, z.imag], 1)


def one_complex(z):
    return torch.complex(z[:, :1], z[:, 1:])


@pytest.mark.parametrize("method", ["sphere", "heavy-ball"])
def test_complex_and_two_channel_attacks_are_the_same(method):
    side = 7
    A = MaskedFourier((torch.arange(side) % 3 != 1)[:, None].expand(side, side))
    network = smooth_network(side, channels=2)
    x = randn(2, 1, side, side, dtype=torch.complex128)
    start = randn(2, 1, side, side, seed=9, dtype=torch.complex128)
    options = dict(strengths=(0.05, 0.2), n_iter=25, generator=generator())
    complex_run = attacks.worst_case(
        lambda y: one_complex(network(two_channel(A.adjoint(y)))),
        A,
        x,
        ascent=Ascent(method, start, algorithm=1),
        **options,
    )
    real_run = attacks.worst_case(
        lambda y: network(two_channel(A.adjoint(one_complex(y)))),
        lambda z: two_channel(A(one_complex(z))),
        two_channel(x),
        ascent=Ascent(method, two_channel(start), algorithm=1),
        **options,
    )
    assert torch.allclose(two_channel(complex_run.r[0.05]), real_run.r[0.05], atol=1e-12)
    assert torch.allclose(complex_run.amplification[0.2], real_run.amplification[0.2])


def test_a_real_image_gets_a_real_perturbation():
    A = MaskedFourier(torch.ones(9, 9))
    result = attacks.worst_case(
        lambda y: A.adjoint(y), A, randn(1, 1, 9, 9), generator=generator(), strengths=(0.01,)
    )
    assert not result.r[0.01].is_complex()


@pytest.mark.parametrize("method", ["sphere", "heavy-ball"])
@pytest.mark.parametrize("target", ["prediction", "truth"])
def test_a_batch_is_a_loop_over_its_images(method, target):
    side = 7
    network = smooth_network(side)
    x = torch.cat([scale * randn(1, 1, side, side, seed=i) for i, scale in enumerate((1, 10, 0.1))])
    start = randn(3, 1, side, side, seed=4)
    options = dict(strengths=(0.02, 0.1), n_iter=80, target=target, generator=generator())
    batch = attacks.worst_case(network, Identity(), x, ascent=Ascent(method, start), **options)
    assert len(set(batch.n_iter.tolist())) > 1 or method == "sphere"  # own stop
    for i in range(3):
        alone = Ascent(method, start[i : i + 1])
        single = attacks.worst_case(network, Identity(), x[i : i + 1], ascent=alone, **options)
        assert torch.allclose(batch.r[0.1][i], single.r[0.1][0], atol=1e-10)
        assert torch.allclose(batch.amplification[0.02][i], single.amplification[0.02][0])
        assert batch.n_iter[i] == single.n_iter[0]


def test_truth_target_increases_the_error_to_the_truth_more():
    side = 9
    network = smooth_network(side)
    x = randn(3, 1, side, side)
    error = {}
    for target in ("prediction", "truth"):
        result = attacks.worst_case(
            network, Identity(), x, generator=generator(), strengths=(0.3,), target=target
        )
        error[target] = (result.x_rec_perturbed[0.3] - x).flatten(1).norm(dim=1)
    assert (error["truth"] > error["prediction"]).all()


def test_every_reported_number_is_what_it_says():
    side = 7
    network = smooth_network(side)
    x = randn(2, 1, side, side)
    result = attacks.worst_case(network, Identity(), x, generator=generator())
    for s, r in result.r.items():
        size = r.flatten(1).norm(dim=1)
        assert torch.allclose(
            size / x.flatten(1).norm(dim=1), torch.full((2,), s, dtype=torch.float64), rtol=1e-12
        )
        change = (network(x + r) - network(x)).flatten(1).norm(dim=1)
        assert torch.allclose(result.amplification[s], change / size)
        assert torch.allclose(
            result.amplification[s], attacks.amplification(network, Identity(), x, r)
        )
        images = (network(x), network(x + r))
        for found, image in zip(result.psnr_db(s), images):
            assert torch.allclose(found, metrics.psnr_db(image, x))
    assert len(result.history) == int(result.n_iter.max())
    jacobian = torch.func.jacrev(lambda z: network(z[None])[0])(x[0]).reshape(side**2, side**2)
    top = torch.linalg.matrix_norm(jacobian, 2)
    assert 0.7 * top < result.sigma_max[0] < 1.01 * top  # four power iterations, from below


def test_same_generator_state_same_attack_and_other_state_another():
    network, x = smooth_network(7), randn(1, 1, 7, 7)
    first, again, other = (
        attacks.worst_case(
            network, Identity(), x, generator=generator(s), ascent=Ascent(init="uniform")
        ).r[0.01]
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_an_attack_that_falls_short_says_so():
    x = randn(1, 1, 7, 7)
    result = attacks.worst_case(
        identity,
        Identity(),
        x,
        generator=generator(),
        strengths=(0.01, 0.5),
        n_iter=12,
        ascent=Ascent("heavy-ball"),
    )
    assert result.reached[0.01] and not result.reached[0.5]
    assert 0.01 < result.rel_norm[0.5] < 0.5 and result.n_iter == 12


@pytest.mark.parametrize("algorithm", [1, 2])
def test_algorithm_2_uses_the_preconditioner(algorithm):
    """With B = A^+ and f = B: d = B B^T r, so the top direction is that of the pseudo-inverse's
    range.
    """
    matrix, _ = spectrum(25, 25, 4.0, torch.float64)
    A = Dense(matrix, 5)
    W = randn(25, 25, seed=8)

    def f(y):
        return torch.einsum("mn,bn->bm", W, y).reshape(-1, 1, 5, 5)

    back = torch.linalg.pinv(matrix) if algorithm == 2 else matrix.T
    values, vectors = torch.linalg.eig(back @ W.T @ W @ matrix)
    top = values.real.argmax()
    result = attacks.worst_case(
        f,
        A,
        randn(1, 1, 5, 5),
        generator=generator(),
        strengths=(0.1,),
        ascent=Ascent("heavy-ball", n_power=200, algorithm=algorithm),
    )
    assert torch.allclose(result.sigma_max**2, values.real[top], rtol=1e-6)
    r = result.r[0.1].flatten()
    assert (
        abs(float(r @ vectors[:, top].real) / float(r.norm() * vectors[:, top].real.norm()))
        > 1 - 1e-6
    )


def test_auto_means_algorithm_2_where_there_is_an_fbp():
    class Tomography(Dense):
        fbp = Dense.pinv

    matrix, _ = spectrum(25, 25, 4.0, torch.float64)

    def f(y):
        return y.reshape(-1, 1, 5, 5)

    runs = {
        name: attacks.worst_case(
            f,
            kind(matrix, 5),
            randn(1, 1, 5, 5),
            generator=generator(),
            strengths=(0.1,),
            ascent=Ascent(algorithm=algorithm),
        ).r[0.1]
        for name, kind, algorithm in (
            ("auto", Tomography, "auto"),
            ("two", Tomography, 2),
            ("one", Dense, "auto"),
        )
    }
    assert torch.equal(runs["auto"], runs["two"]) and not torch.allclose(runs["auto"], runs["one"])


def test_a_deepinv_physics_is_attacked_without_its_noise():
    class Physics:
        def __call__(self, x):
            return x + torch.randn_like(x)  # global noise: must not be called

        def A(self, x):
            return 2 * x

        def A_adjoint(self, y):
            return 2 * y

    result = attacks.worst_case(
        identity, Physics(), randn(1, 1, 5, 5), generator=generator(), strengths=(0.1,)
    )
    assert torch.allclose(result.amplification[0.1], torch.tensor(2.0, dtype=torch.float64))


def test_a_gradient_that_blows_up_ends_one_run_and_is_named():
    def f(y):  # finite as long as the first image stays near its start, infinite slope after
        return 3 * y / (y.abs() < 1.05)

    x = torch.stack([torch.ones(1, 5, 5), 0.1 * torch.ones(1, 5, 5)]).double()
    with pytest.warns(RuntimeWarning, match="image 0: the gradient was not finite at iteration"):
        result = attacks.worst_case(
            f, Identity(), x, generator=generator(), strengths=(0.01, 2.0), n_iter=40
        )
    assert list(result.notes) == [0] and result.reached[0.01].all()
    assert result.reached[2.0].tolist() == [False, True]
    assert torch.isfinite(result.r[2.0]).all() and torch.isfinite(result.amplification[2.0]).all()


def test_a_reconstruction_that_is_not_finite_is_not_reached():
    x = torch.ones(1, 1, 5, 5, dtype=torch.float64)
    result = attacks.worst_case(
        lambda y: 3 * y / (y.abs() < 1.5),
        Identity(),
        x,
        generator=generator(),
        strengths=(0.01, 2.0),
        n_iter=4,
    )
    assert result.reached[0.01] and not result.reached[2.0] and list(result.notes) == [0]


def test_a_known_sigma_saves_the_power_iteration():
    x = randn(2, 1, 5, 5)

    def f(y):
        return 3 * y

    estimated, given = (
        attacks.worst_case(
            f,
            Identity(),
            x,
            generator=generator(),
            strengths=(0.1,),
            ascent=Ascent("heavy-ball", "uniform", sigma=sigma, algorithm=1),
        )
        for sigma in (None, 3.0)
    )
    assert (estimated.n_evaluations == given.n_evaluations + 4).all() and (
        given.n_evaluations == given.n_iter
    ).all()
    assert torch.allclose(estimated.r[0.1], given.r[0.1])


def test_refusals_name_the_cure():
    x, g = randn(1, 1, 5, 5), generator()
    A = Identity()
    with pytest.raises(ValueError, match="all-zero image"):
        attacks.worst_case(identity, A, 0 * x, generator=g)
    with pytest.raises(ValueError, match="no .detach"):
        attacks.worst_case(lambda y: y.detach(), A, x, generator=g)
    with pytest.raises(ValueError, match="not finite without"):
        attacks.worst_case(lambda y: y / 0, A, x, generator=g)
    with pytest.raises(ValueError, match="zero gradient"):
        attacks.worst_case(lambda y: y * 0, A, x, generator=g)
    with pytest.raises(FloatingPointError, match="eps"):
        attacks.worst_case(lambda y: y + ((y * 0) ** 2).sum().sqrt(), A, x, generator=g)
    with pytest.raises(ValueError, match="one of 'prediction', 'truth'"):
        attacks.worst_case(identity, A, x, generator=g, target="label")
    with pytest.raises(ValueError, match="above init_scale"):
        attacks.worst_case(identity, A, x, generator=g, strengths=(1e-4, 0.1))
    with pytest.raises(ValueError, match="init expects"):
        attacks.worst_case(identity, A, x, generator=g, ascent=Ascent(init="ones"))
    with pytest.raises(ValueError, match="algorithm=2 needs"):
        attacks.worst_case(identity, lambda z: z, x, generator=g, ascent=Ascent(algorithm=2))
    with pytest.raises(ValueError, match="one of 'sphere', 'heavy-ball'"):
        Ascent("adam")


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_twins_have_the_norm_the_support_and_the_type(dtype):
    r = randn(3, 1, 7, 7, dtype=dtype) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None]
    r[..., :2] = 0
    twins = attacks.random_twin(r, generator(6), n=4)
    assert twins.shape == (4, *r.shape) and twins.dtype == dtype
    for twin in [*twins, attacks.random_twin(r, generator(7))]:
        assert torch.allclose(twin.flatten(1).norm(dim=1), r.flatten(1).norm(dim=1))
        assert not twin[..., :2].any()
        cosine = (twin.conj() * r).sum().abs() / r.norm() / twin.norm()
        assert cosine < 0.6


def test_gaussian_plus_adds_a_quarter_in_the_range_of_the_adjoint():
    A = MaskedFourier((torch.arange(9) % 2 == 0)[:, None].expand(9, 9))
    r = randn(2, 1, 9, 9, dtype=torch.complex128)
    both, v = attacks.gaussian_plus(r, A, generator())
    assert torch.allclose(both - v, r)
    assert torch.allclose(v.flatten(1).norm(dim=1), 0.25 * r.flatten(1).norm(dim=1))
    assert torch.allclose(A.adjoint(A(v)), v)  # A* A is the projection on that range
    assert not attacks.gaussian_plus(r.real, A, generator())[1].is_complex()


def test_a_measurement_attack_stays_on_the_samples():
    mask = (torch.arange(9) % 2 == 0)[:, None].expand(9, 9)
    A = MaskedFourier(mask)
    y = A(randn(2, 1, 9, 9))
    gain = 1 + 3 * (torch.arange(81) == 20).reshape(9, 9)
    result = attacks.measurement_attack(
        lambda z: A.adjoint(gain * z),
        y,
        generator=generator(),
        strengths=(0.05,),
        ascent=Ascent(n_power=30),
    )
    e = result.r[0.05]
    assert not e[..., ~mask].any()
    assert torch.allclose(result.rel_norm[0.05], torch.tensor(0.05, dtype=torch.float64))
    assert torch.allclose(result.amplification[0.05], torch.tensor(4.0, dtype=torch.float64))


@pytest.mark.real_data
def test_deep_mri_amplifies_its_worst_case_and_not_its_twin(real_data):
    from instab_utils import data
    from instab_utils.networks import pretrained
    from instab_utils.operators.masks import variable_density_lines

    A = MaskedFourier(variable_density_lines(64, 3, generator=generator()))
    f = pretrained.reconstructor("deep-mri", A)
    x = data.dicom_series("vs-seg-001", 64, n=1).to(torch.complex64)
    result = attacks.worst_case(f, A, x, generator=generator(), strengths=(0.01,))
    twin = attacks.random_twin(result.r[0.01], generator(1))
    assert result.amplification[0.01] > 4 > 1.2 > attacks.amplification(f, A, x, twin)
    before, after = result.psnr_db(0.01)
    assert after < before - 0.3


def test_attacks_and_cases_multiply_in_full_precision():
    """A worst case of half a per cent is not larger than TF32's rounding."""
    seen = []

    def f(y):
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return y.square()

    x = torch.rand(1, 1, 5, 5, generator=generator(1))
    with profiles.tf32(True):
        f(x)  # negative control
        attacks.worst_case(f, Identity(5), x, generator=generator(2), n_iter=2)
        attacks.targeted(f, x, 1 - x, n_evaluations=3)
        network = torch.nn.Module()
        network.reconstruct = lambda y, A: f(y)
        Reconstructor(network, Identity(5))(x)
    assert seen[0] == (True, True) and len(seen) > 5 and set(seen[1:]) == {(False, False)}
