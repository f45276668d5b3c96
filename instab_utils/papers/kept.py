"""Parts of a long run, each found once: a run that was stopped goes on after the last one."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from .. import store
from ..attacks.vectors import norm


def kept(
    name: str, images: Sequence[Tensor], find: Callable[[], Mapping], /, **about: object
) -> dict[str, object]:
    """Return find(), what takes long to find about some images, once and then from arrays.

    Args:
        name: of the result; letters, digits, hyphens, underscores.
        images: (batch, ...) each, by whose shapes and norms the result is looked up, and on whose
            device its tensors are returned.
        find: returns a dictionary of tensors, numbers and dictionaries of JSON values.
        about: everything else that the result depends on, as JSON values.
    """
    identity = {
        "shapes": [list(batch.shape) for batch in images],
        # four digits: a GPU does not measure the same bits twice
        "norms": [[f"{length:.4g}" for length in norm(batch).tolist()] for batch in images],
        **about,
    }
    found = store.cached_arrays(name, identity, lambda **_: find(), version=1)
    device = images[0].device
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in found.items()}
