"""Precision of products of float32 on a GPU."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 on CUDA within a `with` block or a decorated function.

    TF32 rounds the factors of matrix products and convolutions to 10 bits of mantissa, keeps
    float32's range and sums in float32; on an H100 about 8 times the throughput of float32. Torch
    allows it for convolutions unless told otherwise. Allowed for trainings and for choices among
    settings, forbidden for reported fields, HMC, attacks, reconstructions of a case, and intervals.

    The setting is one of the whole process; the former one returns afterwards, also after an error.
    No effect on a CPU.
    """
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = allowed
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.allow_tf32 = value
