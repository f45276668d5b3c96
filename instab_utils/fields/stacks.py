"""How many fields are trained side by side: as many as pay and as the device's memory takes."""

import torch

from ..networks import Fields

SHARE = 0.7
"""Of the free memory, used by a stack. The rest is for workspaces of products and for gaps."""
ENOUGH = 2**27
"""Numbers in a layer's output that keep a GPU busy.

At 3 TB/s an operation on them takes 0.3 ms, against some 5 us for its launch: a larger stack is no
faster, and more is lost when it is stopped.
"""


def field_bytes(
    field: Fields, image_size: int, n_samples: int = 0, trained_std: bool = False
) -> int:
    """Return the peak memory in bytes of training one field in float32, and of its samples.

    The output of a layer has u = 4 image_size^2 width bytes. A hidden layer keeps for the gradient
    its output before or after the activation (u), the input of the next product (u; the same tensor
    for relu and tanh without dropout) and a mask (u). Another 3 u are the working space of an
    operation and its gradient. A parameter takes 16 bytes, with its gradient and Adam's two
    moments; 64 where its standard deviation is trained too (Bayes by backprop). Samples are images
    of 4 image_size^2 bytes.
    """
    kept = 3 if field.drops else 1 if field.activation in ("relu", "tanh") else 2
    pixels = 4 * image_size**2
    activations = pixels * field.width * ((field.depth + 1) * kept + 3)
    return activations + (64 if trained_std else 16) * field.n_parameters + pixels * n_samples


def stack_size(
    field: Fields,
    image_size: int,
    device: torch.device,
    n_samples: int = 0,
    trained_std: bool = False,
) -> int:
    """Return how many such fields are trained at once on a device, at least 1.

    On a GPU as many as `SHARE` of its free memory takes, and no more than keep it busy (`ENOUGH`).
    Free are also blocks that PyTorch holds without a tensor in them. On a CPU it is 1: stacks pay
    nothing there, and a result is, to the last bit, that of the field alone.
    """
    if device.type != "cuda":
        return 1
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    fitting = int(SHARE * free) // field_bytes(field, image_size, n_samples, trained_std)
    return max(1, min(fitting, ENOUGH // (image_size**2 * field.width)))
