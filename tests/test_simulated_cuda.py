"""The simulated CUDA device refuses what CUDA would, counts what waits, and changes no value."""

import threading
import warnings

import numpy as np
import pytest
import torch
from simulated_cuda import simulated_cuda
from torch import nn

from instab_utils import profiles
from instab_utils.operators import LinearOperator, MaskedFourier, Radon

MIXED = "Expected all tensors to be on the same device"


@pytest.fixture
def gpu():
    with simulated_cuda() as log:
        yield log


class Forgetful(LinearOperator):
    """A mask that stays on the CPU."""

    image_shape = (4, 4)

    def forward(self, x):
        return x * torch.ones(4, 4)

    adjoint = pinv = forward


class Scaled(torch.autograd.Function):
    """2 x, whose derivative is on the CPU."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.full((4, 4), 2.0)


def on_cuda(*shape):
    return torch.ones(*shape, device="cuda")


def sparse(device):
    crow, column, values = (torch.tensor(v, device=device) for v in ([0, 1], [0], [1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sparse tensors are in beta
        return torch.sparse_csr_tensor(crow, column, values, (1, 1), check_invariants=False)


FAULTS = {
    "operator on the CPU": (lambda: Forgetful()(on_cuda(1, 1, 4, 4)), MIXED),
    "network on the CPU": (lambda: nn.Conv2d(1, 1, 3)(on_cuda(1, 1, 4, 4)), MIXED),
    "image on the CPU": (lambda: nn.Conv2d(1, 1, 3).cuda()(torch.ones(1, 1, 4, 4)), MIXED),
    "derivative on the CPU": (
        lambda: Scaled.apply(on_cuda(4, 4).requires_grad_()).sum().backward(),
        MIXED,
    ),
    "a number of CUDA beside an array": (lambda: torch.ones(3) * on_cuda(()), MIXED),
    "a number of the CPU in a stack": (lambda: torch.stack([on_cuda(()), torch.ones(())]), MIXED),
    "result on the CPU": (lambda: torch.ones(3).add_(on_cuda(3)), MIXED),
    "sparse matrix on the CPU": (lambda: sparse("cpu") @ on_cuda(1, 1), MIXED),
    "vector on the CPU": (lambda: sparse("cuda") @ torch.ones(1, 1), MIXED),
    "spectrum on the CPU": (lambda: torch.fft.fft2(on_cuda(4, 4)) * torch.ones(4, 4), MIXED),
    "indices on CUDA": (
        lambda: torch.ones(3)[torch.zeros(1, dtype=torch.long, device="cuda")],
        "indices should be either on cpu",
    ),
    "generator of the CPU": (
        lambda: torch.rand(3, device="cuda", generator=profiles.generator(0, "r")),
        "'cuda' device type for generator",
    ),
    "generator of CUDA": (
        lambda: torch.rand(3, generator=profiles.generator(0, "r", "cuda")),
        "'cpu' device type for generator",
    ),
    "generator of weights": (
        lambda: nn.init.normal_(on_cuda(3), generator=profiles.generator(0, "r")),
        "'cuda' device type for generator",
    ),
    "array": (lambda: on_cuda(3).numpy(), "can't convert cuda:0"),
    "array, unseen": (lambda: np.add(on_cuda(3), 1), "can't convert cuda:0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_as_on_cuda(gpu, fault):
    function, message = FAULTS[fault]
    with pytest.raises((RuntimeError, TypeError), match=message):
        function()


SOUND = {
    "a number of the CPU": lambda: on_cuda(3) * torch.tensor(2.0),
    "indices on the CPU": lambda: on_cuda(3)[torch.tensor([0, 2])],
    "generator of CUDA": lambda: torch.rand(
        3, device="cuda", generator=profiles.generator(0, "r", "cuda")
    ),
    "as another": lambda: torch.ones(3).to(on_cuda(3)),
    "from an array": lambda: torch.from_numpy(np.ones(3)).to("cuda", torch.float32),
    "new": lambda: on_cuda(3).new_zeros(3) + torch.zeros_like(on_cuda(3)),
    "frequencies": lambda: torch.fft.fftfreq(4, device="cuda"),
    "sparse": lambda: sparse("cuda") @ on_cuda(1, 1),
    "Radon": lambda: Radon(8, [0.0, 40.0]).to("cuda").fbp(on_cuda(1, 1, 2, 13)),
    "Fourier": lambda: MaskedFourier(torch.eye(4)).to("cuda")(on_cuda(1, 1, 4, 4)),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_cuda_takes_is_taken(gpu, name):
    out = SOUND[name]()
    assert out.is_cuda and out.device == torch.device("cuda", 0)


WAITING = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "copy": lambda x: torch.zeros(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "assignment by a mask": lambda x: x.__setitem__(x > 0, 2 * x),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "index": lambda x: x[x.argmax()],
    "tensor": lambda x: torch.tensor([x[0], 1.0]),
}


@pytest.mark.parametrize("name", WAITING)
def test_every_wait_is_counted_once(gpu, name):
    x = on_cuda(3)
    WAITING[name](x)
    assert len(gpu.syncs) == 1
    assert gpu.syncs[0].where.startswith("tests/test_simulated_cuda.py:")


def test_what_does_not_wait(gpu):
    x = on_cuda(3).requires_grad_()
    optimiser = torch.optim.Adam([x], fused=True)
    for _ in range(2):
        loss = torch.where(x > 0, x, 2 * x).square().sum()
        loss.backward()
        nn.utils.clip_grad_norm_([x], 1.0)
        optimiser.step()
    x.detach().to("cpu", non_blocking=True)
    assert gpu.syncs == []


def test_an_item_hidden_in_a_step_is_counted_with_its_line(gpu):
    Radon(8, [0.0, 40.0]).to("cuda").norm()
    lines = [line for line, _ in gpu.waits()]
    assert any(line.startswith("instab_utils/operators/base.py:") for line in lines)


def test_copies_have_their_direction_and_bytes(gpu):
    torch.ones(5).cuda().cpu()
    assert [(c.kind, c.n_bytes) for c in gpu.copies] == [
        ("host to device", 20),
        ("device to host", 20),
    ]


def test_gradients_go_back_to_the_device_of_their_leaf(gpu):
    x = torch.ones(3, requires_grad=True)
    layer = nn.Linear(3, 1).cuda()
    layer(x.cuda()).sum().backward()
    assert x.grad.device.type == "cpu" and layer.weight.grad.is_cuda


def test_threads_see_the_device_too(gpu):
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.ones(3).cuda().is_cuda))
    thread.start()
    thread.join()
    assert found == [True]


def test_values_are_those_of_the_cpu():
    A = Radon(15, torch.arange(8) * 22.5)
    x = torch.rand(1, 1, 15, 15, generator=profiles.generator(0, "x"))

    def slope(device):
        leaf = x.to(device).requires_grad_()
        y = A.to(device)(leaf)
        return torch.autograd.grad(y.square().sum(), leaf)[0].cpu()

    expected = slope("cpu")
    with simulated_cuda():
        found = slope("cuda")
    assert torch.equal(found, expected)
    assert not torch.cuda.is_available() and not A(x).is_cuda


def test_tensors_without_memory_stay_what_they_are(gpu):
    t = 2 * torch.empty(2**50, device="meta")
    assert t.device.type == "meta" and not t.is_cuda
