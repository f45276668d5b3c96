"""A CUDA device on a machine that has none: tensors of the CPU that answer as tensors of CUDA.

    with simulated_cuda() as gpu:
        network.to("cuda")(x)  # RuntimeError: x is on the CPU
    gpu.syncs, gpu.copies

Each storage has a device, which every operation passes on. What CUDA refuses is refused here with
its message: operands on two devices (but for CPU numbers and CPU indices), a generator of another
device, `numpy()`. What makes the CPU wait for CUDA is counted with the line that asks. Values are
those of the CPU; kernels, memory and time are not simulated. Subprocesses do not see the device,
threads do.
"""

import contextlib
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ROOT = Path(__file__).parents[1]
FACTORIES = set(
    "zeros ones empty full rand randn randint randperm arange linspace logspace eye tensor "
    "as_tensor asarray from_numpy frombuffer tril_indices triu_indices empty_strided scalar_tensor "
    "fft_fftfreq fft_rfftfreq hann_window hamming_window kaiser_window bartlett_window normal"
    "".split()
)
WAITS = set(
    "_local_scalar_dense nonzero masked_select _unique _unique2 unique_dim unique_consecutive equal "
    "bincount _linalg_eigh _linalg_svd linalg_eig linalg_cholesky_ex linalg_lstsq".split()
)
ANY_DEVICE = {"copy_", "_to_copy", "lift_fresh", "_local_scalar_dense", "set_"}
GETTERS = {getattr(Tensor, name).__get__: name for name in ("device", "is_cuda", "is_cpu")}


class Event(NamedTuple):
    """What made the CPU wait, or copied, and the line of the package (else of the test)."""

    kind: str
    where: str
    n_bytes: int = 0


def _holder(t: Tensor) -> torch.UntypedStorage:
    if t.layout != torch.strided:
        t = t._values() if t.layout == torch.sparse_coo else t.values()
    return t.untyped_storage()


def _device(t: Tensor) -> torch.device:
    return getattr(_holder(t), "simulated", CPU)


def _tag(value, device: torch.device):
    for t in _tensors(value):
        _holder(t).simulated = device
    return value


def _tensors(value):
    """Yield the tensors in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _as_device(value) -> torch.device | None:
    """Return the device that an argument names, if it names one."""
    if not isinstance(value, (str, torch.device)):
        return None
    return CUDA if torch.device(value).type == "cuda" else torch.device(value)


class _Generator(torch.Generator):
    """A generator of the CPU that belongs to a device."""

    def __new__(cls, device="cpu"):
        generator = super().__new__(cls)
        generator.place = _as_device(device)
        return generator

    @property
    def device(self):
        return self.place


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
    """The log of a simulation: `syncs` and `copies`, each a list of `Event`."""

    def __init__(self):
        self.syncs: list[Event] = []
        self.copies: list[Event] = []

    def count(self) -> Counter:
        """Return how often each line waited: {"kind file:line": n}."""
        return Counter(f"{event.kind} {event.where}" for event in self.syncs)

    def wait(self, kind: str) -> None:
        self.syncs.append(Event(kind, _caller()))

    def copied(self, kind: str, t: Tensor) -> None:
        self.copies.append(Event(kind, _caller(), t.numel() * t.element_size()))

    def move(self, t: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Return t on a device: itself where it is there already."""
        source = _device(t)
        if source == device:
            return t
        to_cpu = source == CUDA
        self.copied("device to host" if to_cpu else "host to device", t)
        if to_cpu and not non_blocking:
            self.wait("cpu")
        return _Move.apply(t, device)


def _caller() -> str:
    """Return file:line of the innermost frame in the package, else in another file of the tests."""
    frame, lines = sys._getframe(1), {}
    while frame:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and path.is_relative_to(ROOT):
            folder = path.relative_to(ROOT).parts[0]
            lines.setdefault(folder, f"{path.relative_to(ROOT)}:{frame.f_lineno}")
        frame = frame.f_back
    return lines.get("instab_utils") or next(iter(lines.values()), "?")


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
            device = _device(args[0])
            answers = {"is_cuda": device == CUDA, "is_cpu": device == CPU}
            return answers.get(GETTERS[func], device)
        if name in ("to", "cuda", "cpu") and func is getattr(Tensor, name):
            return self._to(name, *args, **kwargs)
        on_cuda = any(_device(t) == CUDA for t in _tensors((args, kwargs)))
        if name in ("numpy", "__array__", "tolist") and on_cuda:
            if name != "tolist":
                raise TypeError(
                    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy "
                    "the tensor to host memory first."
                )
            self.log.wait(name)
        if name in ("pin_memory", "is_pinned", "record_stream", "get_device"):
            answers = {"is_pinned": False, "get_device": 0 if on_cuda else -1}
            return answers.get(name, args[0])
        wanted = _as_device(kwargs.get("device"))
        if wanted is not None:
            kwargs["device"] = CPU
        made = name in FACTORIES and getattr(Tensor, name, None) is not func
        if made and on_cuda and name in ("tensor", "asarray", "as_tensor"):
            if not isinstance(args[0], Tensor):
                self.log.wait(name)
        ambient = wanted or (CUDA if on_cuda and not made else CPU)
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Generator) and value.device.type != ambient.type:
                raise RuntimeError(
                    f"Expected a '{ambient.type}' device type for generator but found "
                    f"'{value.device.type}'"
                )
        before, self.operations.ambient = self.operations.ambient, ambient
        try:
            out = func(*args, **kwargs)
        finally:
            self.operations.ambient = before
        if name in ("as_tensor", "asarray"):  # may be its argument
            return self.log.move(out, wanted) if wanted else out
        if name == "__deepcopy__" or name.startswith("new_"):
            wanted = wanted or _device(args[0])
        if wanted is not None:
            if name in ("tensor", "new_tensor") and wanted == CUDA:
                self.log.copied("host to device", out)
            _tag(out, wanted)
        return out

    def _to(self, name: str, t: Tensor, *args, **kwargs):
        """Return `t.to(...)`, `t.cuda(...)` or `t.cpu(...)`."""
        device = {"cuda": CUDA, "cpu": CPU}.get(name)
        args = list(args) if name == "to" else []
        if args and isinstance(args[0], Tensor):
            device, args[0] = _device(args[0]), args[0].dtype
        for value in (*args[:1], kwargs.pop("device", None)):
            device = _as_device(value) or device
        if args and (args[0] is None or _as_device(args[0])):
            args.pop(0)
        options = dict(zip(("dtype", "non_blocking", "copy"), args)) if args else {}
        if args and not isinstance(args[0], torch.dtype) and args[0] is not None:
            options = dict(zip(("non_blocking", "copy"), args))
        options |= kwargs
        non_blocking = options.pop("non_blocking", False)
        options = {key: value for key, value in options.items() if value is not None}
        before, self.operations.ambient = self.operations.ambient, _device(t)
        try:
            t = t.to(**options) if options else t
            return t if device is None else self.log.move(t, device, non_blocking)
        finally:
            self.operations.ambient = before


class _Operations(TorchDispatchMode):
    """Operations below autograd: devices of operands are compared and passed on."""

    def __init__(self, log: SimulatedCuda):
        super().__init__()
        self.log, self.ambient = log, CPU

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name.partition("::")[2]
        with torch._C.DisableTorchFunction():
            operands = list(_tensors((args, kwargs)))
            devices = [_device(t) for t in operands]
            device = CUDA if CUDA in devices else CPU
            if CUDA in devices:
                self._check(func, name, args, operands, devices)
            device = device if operands else self.ambient
            out = func(*args, **kwargs)
            if name in ("copy_", "set_", "lift_fresh"):
                return out
            return _tag(out, CUDA) if device == CUDA else out

    def _check(self, func, name, args, operands, devices) -> None:
        """Refuse operands on two devices, and count what waits."""
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            indices = list(_tensors(args[1]))
            if devices[0] == CPU:
                raise RuntimeError(
                    "indices should be either on cpu or on the same device as the indexed tensor "
                    f"(cpu) in {func}"
                )
            if any(t.dtype in (torch.bool, torch.uint8) and _device(t) == CUDA for t in indices):
                self.log.wait("boolean mask")
            operands, devices = [args[0], *_tensors(args[2:])], [devices[0]]
            devices += [_device(t) for t in operands[1:]]
        if name == "copy_" and devices[0] != devices[1]:
            to_cpu = devices[0] == CPU
            self.log.copied("device to host" if to_cpu else "host to device", args[0])
            if to_cpu and not (args[2:] and args[2]):
                self.log.wait(name)
        elif name not in ANY_DEVICE:
            joined = name in ("cat", "stack")
            astray = [t for t, d in zip(operands, devices) if d == CPU and (t.ndim or joined)]
            changed = func._schema.is_mutable and devices[0] == CPU and operands[0] is args[0]
            if astray or changed:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, cuda:0 and cpu! (in {func}, shapes "
                    f"{[tuple(t.shape) for t in operands]}, {[str(d) for d in devices]})"
                )
        if name in WAITS or (name == "repeat_interleave" and len(operands) == len(args) == 1):
            self.log.wait(name.strip("_"))


@contextlib.contextmanager
def _modes(log: SimulatedCuda):
    operations = _Operations(log)
    with operations, _Functions(log, operations) as functions:
        yield functions


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
        # backward is asked through the function mode, which is off within its own handler
        off = not torch.overrides._get_current_function_mode_stack()
        with functions if off else contextlib.nullcontext():
            return backward(*args, **kwargs)

    def grouped(lists, with_indices=False):
        groups = group(lists, with_indices)
        return {
            (next(map(_device, _tensors(value)), key[0]), key[1]): value
            for key, value in groups.items()
        }

    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "simulated",
        "is_bf16_supported": lambda *_, **__: True,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (2**30, 2**31),
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
    }
    with contextlib.ExitStack() as stack:
        for owner, changes in (
            (torch.cuda, answers),
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
