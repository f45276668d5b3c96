"""What a computation costs: counted once on tensors without memory, priced for a device."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, mm_flop

aten = torch.ops.aten
_CONVOLUTIONS = (aten.convolution, aten._convolution, aten.convolution_backward)
_TRANSFORMS = (aten._fft_c2c, aten._fft_r2c, aten._fft_c2r)
_FREE = (aten.empty, aten.empty_like, aten.new_empty, aten.detach, aten._unsafe_view)


@dataclass(frozen=True)
class Cost:
    """Work of a computation; `a + b` does both, `n * a` does it n times."""

    conv: float = 0.0  # floating-point operations of convolutions
    matmul: float = 0.0  # of dense products
    other: float = 0.0  # of FFTs and sparse products, whose time is that of their bytes
    bytes: float = 0.0  # read and written by all but convolutions, dense and sparse products
    sparse: float = 0.0  # bytes of sparse products
    kernels: float = 0.0  # calls
    memory: float = 0.0  # bytes held at once

    @property
    def flop(self) -> float:
        """Return all floating-point operations."""
        return self.conv + self.matmul + self.other

    def __add__(self, more: "Cost") -> "Cost":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(more))
        *sums, _ = (a + b for a, b in pairs)
        return Cost(*sums, max(self.memory, more.memory))

    def __rmul__(self, n: float) -> "Cost":
        *work, memory = dataclasses.astuple(self)
        return Cost(*(n * value for value in work), memory)

    def scaled(self, pixels: float, views: float = 1.0) -> "Cost":
        """Return the cost of images with so many times the pixels, and scans the views."""
        values = {name: pixels * value for name, value in dataclasses.asdict(self).items()}
        values["sparse"] *= views
        return Cost(**{**values, "kernels": self.kernels})


class Device(NamedTuple):
    """What a device reaches: shares of its data sheet's peaks, or measured."""

    title: str
    conv: dict[str, float]  # precision -> FLOP a second
    matmul: dict[str, float]
    stream: float  # bytes a second
    kernel_s: float  # seconds a call takes at least
    memory: float  # bytes


TENSOR, VECTOR, STREAM = 0.30, 0.60, 0.70
"""Shares of a GPU's peaks that are reached: tensor cores, fp32 without them, memory. Assumed."""


def _gpu(title: str, bf16: float, tf32: float, fp32: float, gb_s: float, gb: float) -> Device:
    """Return a GPU of these dense peaks in TFLOP/s; 6 us a call."""
    rates = {"bf16": TENSOR * bf16, "tf32": TENSOR * tf32, "fp32": VECTOR * fp32}
    rates = {name: 1e12 * max(rate, VECTOR * fp32) for name, rate in rates.items()}
    return Device(title, rates, rates, STREAM * 1e9 * gb_s, 6e-6, 1e9 * gb)


DEVICES = {
    "h100": _gpu("H100 SXM", 989, 495, 67, 3350, 80),
    "a100": _gpu("A100 SXM", 312, 156, 19.5, 2039, 80),
    "t4": _gpu("T4, no bfloat16", 8.1, 8.1, 8.1, 320, 16),
    "cpu2": Device(  # measured: two cores with AVX-512 and bfloat16
        "2 CPU cores",
        {"bf16": 0.70e12, "tf32": 0.40e12, "fp32": 0.40e12},
        {"bf16": 0.84e12, "tf32": 0.22e12, "fp32": 0.22e12},
        40e9,
        10e-6,
        24e9,
    ),
}


def known(device: str) -> str:
    """Return the name of a device, or raise ValueError with the list of them."""
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; expected one of {', '.join(DEVICES)}.")
    return device


def hours(cost: Cost, precision: str, device: str) -> float:
    """Return the hours of a computation in "bf16", "tf32" or "fp32" on one of `DEVICES`.

    Arithmetic and memory traffic are taken one after the other, and each call has its least time.
    """
    d = DEVICES[known(device)]
    seconds = cost.conv / d.conv[precision] + cost.matmul / d.matmul[precision]
    seconds += (cost.bytes + cost.sparse) / d.stream
    return max(seconds, cost.kernels * d.kernel_s) / 3600


@contextlib.contextmanager
def fake() -> Iterator[None]:
    """Give tensors made in the block shapes and no memory; real ones may be read."""
    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        # tables are looked up by the address of their weights
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield


def count(step: Callable[[], object], precision: str = "fp32") -> Cost:
    """Return the cost of one call of `step`, on real tensors or within `fake()`.

    `memory` is that of all tensors saved for a backward pass, parameters left out.
    """
    saved = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            saved[storage._cdata] = storage
        return tensor

    traffic, flops = _Traffic(), FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    low = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with hooks, flops, traffic, low:  # the flop counter takes kernels apart
        step()
    flop = {"conv": 0.0, "matmul": -traffic.sparse_flop, "other": traffic.sparse_flop}
    for op, counted in flops.get_flop_counts().get("Global", {}).items():
        kind = "conv" if op in _CONVOLUTIONS else "other" if op in _TRANSFORMS else "matmul"
        flop[kind] += counted
    memory = sum(storage.nbytes() for storage in saved.values())
    return Cost(**flop, **traffic.totals, memory=memory)


class _Traffic(TorchDispatchMode):
    """Count kernels and what they read and write; views are free."""

    def __init__(self):
        super().__init__()
        self.totals = {"bytes": 0.0, "sparse": 0.0, "kernels": 0}
        self.sparse_flop = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        op = function.overloadpacket
        if function.is_view or function.namespace != "aten" or op in _FREE:
            return out
        self.totals["kernels"] += 1
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        if any(t.layout != torch.strided for t in tensors):
            self.sparse_flop += _mm_flop(*args)
            self.totals["sparse"] += sum(map(_bytes, tensors))
        elif op not in _DENSE:
            self.totals["bytes"] += sum(map(_bytes, tensors))
        return out


def _bytes(tensor: Tensor) -> int:
    if tensor.layout == torch.strided:
        return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
    parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    return sum(part.numel() * part.element_size() for part in parts)


def _mm_flop(a: Tensor, b: Tensor, *_, **__) -> int:
    """Return the operations of a product, of a sparse matrix those of its entries."""
    if a.layout == torch.strided:
        return mm_flop(a.shape, b.shape)
    return 2 * a.values().numel() * b.shape[1]


def _fft_flop(x: Tensor, axes: list[int], *_, out_val: Tensor, **__) -> float:
    """Return 5 N log2 N for each complex transform of N values, half for real ones."""
    full = x if x.numel() > out_val.numel() else out_val
    n = math.prod(full.shape[axis] for axis in axes)
    share = 1.0 if x.is_complex() and out_val.is_complex() else 0.5
    return share * 5 * full.numel() * math.log2(n)


_mm_flop._get_raw = _fft_flop._get_raw = True  # formulas of tensors instead of their shapes
_FORMULAS = {aten.mm: _mm_flop, **dict.fromkeys(_TRANSFORMS, _fft_flop)}
_DENSE = (*_CONVOLUTIONS, aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
