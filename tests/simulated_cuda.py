"""A CUDA device on a machine that has none: tensors of the CPU that answer as tensors of CUDA.

    with simulated_cuda() as gpu:
        network.to("cuda")(x)  # RuntimeError: x is on the CPU
    print(gpu.waits())

Each storage has a device, which every operation passes on. What CUDA refuses is refused here with
its message: operands on two devices (but for numbers and indices on the CPU), a generator of
another device, `numpy()`. What makes the CPU wait for CUDA is counted, with the line that asks.
Values are those of the CPU; kernels, memory and time are not simulated. Threads see the device,
other processes do not.
"""

import contextlib
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ROOT = f"{Path(__file__).parents[1]}/"
PACKAGE = f"{ROOT}instab_utils/"
FACTORIES = re.compile(
    "zeros|ones|empty|full|rand|randn|randint|randperm|normal|arange|linspace|logspace|eye|tensor"
    "|as_tensor|asarray|from_numpy|frombuffer|scalar_tensor|(tril|triu)_indices|fft_r?fftfreq"
    "|(hann|hamming|kaiser)_window"
)
WAITS = re.compile(
    "_local_scalar_dense|nonzero|masked_select|_unique2|unique_dim|unique_consecutive|equal"
    "|bincount|_?linalg_(eigh?|svd|cholesky_ex|lstsq)"
)
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
ANY_DEVICE = {"copy_", "_to_copy", "lift_fresh", "_local_scalar_dense", "set_"}
GETTERS = {
    Tensor.device.__get__: lambda device: device,
    Tensor.is_cuda.__get__: lambda device: device == CUDA,
    Tensor.is_cpu.__get__: lambda device: device == CPU,
    Tensor.get_device: lambda device: 0 if device == CUDA else -1,
}


class Event(NamedTuple):
    """What made the CPU wait, or was copied, and the line of the package that asked for it."""

    kind: str
    where: str
    n_bytes: int = 0


def _storage(t: Tensor) -> torch.UntypedStorage:
    if t.layout != torch.strided:
        t = t._values() if t.layout == torch.sparse_coo else t.values()
    return t.untyped_storage()


def _device(t: Tensor) -> torch.device:
    storage = _storage(t)
    return getattr(storage, "simulated", storage.device)


def _tag(value, device: torch.device):
    for t in _tensors([value]):
        _storage(t).simulated = device
    return value


def _tensors(values) -> list[Tensor]:
    """Return the tensors in nested arguments or results."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
        elif isinstance(value, dict):
            found += _tensors(value.values())
    return found


def _named(value) -> torch.device | None:
    """Return the device that an argument names, if it names one."""
    if not isinstance(value, (str, torch.device)):
        return None
    return CUDA if torch.device(value).type == "cuda" else torch.device(value)


class _Generator(torch.Generator):
    """A generator of the CPU that belongs to a device."""

    device = CPU

    def __new__(cls, device="cpu"):
        generator = super().__new__(cls)
        generator.device = _named(device)
        return generator


class _Move(torch.autograd.Function):
    """A copy on another device, whose gradient moves back."""

    @staticmethod
    def forward(ctx, t, device):
        ctx.source = _device(t)
        return _tag(t.clone(), device)

    @staticmethod
    def backward(ctx, grad):
        return _tag(grad.clone(), ctx.source), None


class SimulatedCuda:
    """What happened: `syncs`, each a wait of the CPU for the device, and `copies` between them."""

    def __init__(self):
        self.syncs: list[Event] = []
        self.copies: list[Event] = []

    def waits(self) -> list[tuple[str, int]]:
        """Return the lines that waited, and how often each did, the most frequent first."""
        return Counter(f"{event.where} {event.kind}" for event in self.syncs).most_common()

    def wait(self, kind: str) -> None:
        self.syncs.append(Event(kind, _caller()))

    def copied(self, t: Tensor, to_cpu: bool, non_blocking: bool = True) -> None:
        kind = "device to host" if to_cpu else "host to device"
        self.copies.append(Event(kind, _caller(), t.numel() * t.element_size()))
        if to_cpu and not non_blocking:
            self.wait("copy to the CPU")

    def move(self, t: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Return t on a device: itself where it is there already."""
        if _device(t) == device:
            return t
        self.copied(t, device == CPU, non_blocking)
        return _Move.apply(t, device)


def _caller() -> str:
    """Return file:line of the innermost frame in the package, else in another of our files."""
    frame, other = sys._getframe(1), "?"
    while frame:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return f"{name.removeprefix(ROOT)}:{frame.f_lineno}"
        ours = name.startswith(ROOT) and "site-packages" not in name and name != __file__
        if other == "?" and ours:
            other = f"{name.removeprefix(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return other


class _Functions(TorchFunctionMode):
    """Python's calls: what names a device, asks for it, or leaves torch."""

    def __init__(self, log: SimulatedCuda, operations: "_Operations"):
        super().__init__()
        self.log, self.operations = log, operations

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        for other in types:  # such as an interval, whose rules call torch again
            if not issubclass(other, Tensor):
                with self:
                    return other.__torch_function__(func, types, args, kwargs)
        if func in GETTERS:
            return GETTERS[func](_device(args[0]))
        if name in ("to", "cuda", "cpu") and func is getattr(Tensor, name):
            return self._to(name, *args, **kwargs)
        if name in ("pin_memory", "record_stream"):
            return args[0]
        on_cuda = any(_device(t) == CUDA for t in _tensors([args, kwargs]))
        if on_cuda and name in ("numpy", "__array__"):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy "
                "the tensor to host memory first."
            )
        made = FACTORIES.fullmatch(name) and func is not getattr(Tensor, name, None)
        converted = name in ("tensor", "as_tensor", "asarray")
        if on_cuda and (name == "tolist" or converted and not isinstance(args[0], Tensor)):
            self.log.wait(name)
        wanted = _named(kwargs.get("device"))
        if wanted is not None:
            kwargs["device"] = wanted if wanted.type == "meta" else CPU
        device = wanted or (CUDA if on_cuda and not made else CPU)
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Generator) and value.device.type != device.type:
                raise RuntimeError(
                    f"Expected a '{device.type}' device type for generator but found "
                    f"'{value.device.type}'"
                )
        with self.operations.on(device):
            out = func(*args, **kwargs)
        if name in ("as_tensor", "asarray"):  # may be its argument
            return self.log.move(out, wanted) if wanted else out
        if name == "__deepcopy__" or name.startswith("new_"):
            wanted = wanted or _device(args[0])
        if wanted == CUDA and name in ("tensor", "new_tensor"):
            self.log.copied(out, to_cpu=False)
        return out if wanted is None else _tag(out, wanted)

    def _to(self, name: str, t: Tensor, *args, **kwargs):
        """Return `t.to(...)`, `t.cuda(...)` or `t.cpu(...)`."""
        if name != "to":
            args = ({"cuda": CUDA, "cpu": CPU}[name],)
            kwargs.pop("device", None)
        if args and isinstance(args[0], Tensor):
            args = (_device(args[0]), args[0].dtype, *args[1:])
        copy = kwargs.pop("copy", False)
        device, dtype, non_blocking, form = torch._C._nn._parse_to(*args, **kwargs)
        with self.operations.on(_device(t)):
            form = form or torch.preserve_format
            t = t.to(dtype or t.dtype, copy=copy, memory_format=form)
            return t if device is None else self.log.move(t, _named(device), non_blocking)


class _Operations(TorchDispatchMode):
    """Operations below autograd: devices of operands are compared and passed on."""

    def __init__(self, log: SimulatedCuda):
        super().__init__()
        self.log, self.ambient = log, CPU

    @contextlib.contextmanager
    def on(self, device: torch.device):
        """Create what torch itself creates within a call on the device of that call."""
        before, self.ambient = self.ambient, device
        try:
            yield
        finally:
            self.ambient = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name.partition("::")[2]
        with torch._C.DisableTorchFunction():
            operands = _tensors([args, kwargs])
            devices = [_device(t) for t in operands]
            device = CUDA if CUDA in devices else CPU if operands else self.ambient
            if CUDA in devices:
                self._check(func, name, args, operands, devices)
            out = func(*args, **kwargs)
            if device == CPU or name in ("copy_", "set_", "lift_fresh"):
                return out
            return _tag(out, CUDA)

    def _check(self, func, name, args, operands, devices) -> None:
        """Refuse operands on two devices, and count what waits."""
        shown = [f"{d} {tuple(t.shape)}" for t, d in zip(operands, devices)]
        if name in INDEXING:
            if devices[0] == CPU:
                raise RuntimeError(
                    "indices should be either on cpu or on the same device as the indexed tensor "
                    f"(cpu), in {func} of {', '.join(shown)}"
                )
            indices = _tensors(args[1])
            if any(t.dtype == torch.bool and _device(t) == CUDA for t in indices):
                self.log.wait("boolean mask")
            operands = [args[0], *_tensors(args[2:])]
            devices = [_device(t) for t in operands]
        if name == "copy_" and devices[0] != devices[1]:
            self.log.copied(args[0], devices[0] == CPU, bool(args[2:] and args[2]))
        elif name not in ANY_DEVICE:
            numbers = name not in ("cat", "stack")  # may stay on the CPU
            astray = any(
                d == CPU and not (numbers and t.ndim == 0) for t, d in zip(operands, devices)
            )
            changed = func._schema.is_mutable and operands[0] is args[0] and devices[0] == CPU
            if astray or changed:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, cuda:0 and cpu! ({func} of {', '.join(shown)})"
                )
        if WAITS.fullmatch(name) or (name == "repeat_interleave" and len(args) == 1):
            self.log.wait(name.strip("_"))


@contextlib.contextmanager
def _modes(log: SimulatedCuda):
    operations = _Operations(log)
    with operations, _Functions(log, operations) as functions:
        yield functions


def _answers() -> dict[str, object]:
    """Return what torch.cuda says of its one device."""
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": (9, 0),
        "get_device_name": "simulated",
        "is_bf16_supported": True,
        "mem_get_info": (2**33, 2**34),
        **dict.fromkeys(("synchronize", "empty_cache", "reset_peak_memory_stats"), None),
        **dict.fromkeys(("max_memory_allocated", "memory_allocated"), 0),
    }
    return {name: lambda *_, value=value, **__: value for name, value in answers.items()}


@contextlib.contextmanager
def simulated_cuda():
    """Pretend that there is one CUDA device of compute capability 9.0; yield a `SimulatedCuda`."""
    log = SimulatedCuda()
    run, backward = threading.Thread.run, torch.autograd._engine_run_backward
    group, cast = torch._C._group_tensors_by_device_and_dtype, torch.autocast.__init__
    enabled = torch.is_autocast_enabled

    def run_with_modes(thread):
        with _modes(log):
            run(thread)

    def run_backward(*args, **kwargs):
        # it is asked for through the function mode, which is off within its own handler
        off = not _get_current_function_mode_stack()
        with functions if off else contextlib.nullcontext():
            return backward(*args, **kwargs)

    def grouped(lists, with_indices=False):
        groups = group(lists, with_indices).items()
        return {(_device(_tensors(value)[0]), key[1]): value for key, value in groups}

    with contextlib.ExitStack() as stack:
        for owner, changes in (
            (torch.cuda, _answers()),
            (torch, {"Generator": _Generator}),
            (threading.Thread, {"run": run_with_modes}),
            (torch.autograd, {"_engine_run_backward": run_backward}),
            (torch._C, {"_group_tensors_by_device_and_dtype": grouped}),
            (torch.autocast, {"__init__": lambda s, d, *a, **k: cast(s, "cpu", *a, **k)}),
            (torch, {"is_autocast_enabled": lambda device="cpu": enabled("cpu")}),
        ):
            stack.enter_context(mock.patch.multiple(owner, **changes))
        functions = stack.enter_context(_modes(log))
        yield log
