"""One case of a test: what is measured, how, with which noise, and what answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from .. import profiles, solvers
from ..operators import Identity, LinearOperator


@dataclass(frozen=True, eq=False)
class Reconstructor:
    """A network behind one operator: y -> network.reconstruct(y, operator).

    A module without a method `reconstruct` is called on A^+ y (filtered back-projection,
    zero-filled). Networks are not homogeneous: data of another scale c are reconstructed as
    c f(y / c).

    Call it with y (batch, ...); it returns x (batch, 1, n, n), not clipped; complex for Cascade and
    VariationalNetwork. Gradients flow to y, and to weights that ask for one.
    """

    network: nn.Module
    operator: LinearOperator

    @profiles.tf32(False)
    def __call__(self, y: Tensor) -> Tensor:
        if hasattr(self.network, "reconstruct"):
            return self.network.reconstruct(y, self.operator)
        return self.network(self.operator.pinv(y))


@dataclass(frozen=True, eq=False)
class Case:
    """y = A x + noise, a reconstruction f(y), and beside it total variation and the front end.

    `training.case` builds those of this package. x (n_images, 1, n, n), complex for most of MRI.
    """

    name: str
    title: str
    task: str  # one of store.TASKS
    A: LinearOperator
    x: Tensor
    y: Tensor
    reconstruct: Callable[[Tensor, LinearOperator], Tensor]  # (y, A) -> x
    source: str  # what the images are
    tv_weight: float | None = None  # of total variation, chosen on validation images
    originals: Tensor | None = None  # what was measured: x on a finer grid, or tables of ellipses
    network: nn.Module | None = None  # whose method `reconstruct` is, if it is a network's
    # (y, A) -> x behind another operator than that of the training, where it differs
    elsewhere: Callable[[Tensor, LinearOperator], Tensor] | None = None
    tv_iterations: int = 300
    unrolled_iterations: int = 60

    @property
    def f(self) -> Callable[[Tensor], Tensor]:
        """The reconstruction y -> x behind the operator of the case."""
        if self.network is not None:
            return Reconstructor(self.network, self.A)
        return partial(self.reconstruct, A=self.A)

    @profiles.tf32(False)
    def behind(self, A: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct y, measured by another operator, by the same method."""
        return (self.elsewhere or self.reconstruct)(y, A)

    def tv(self, y: Tensor) -> Tensor:
        """Return the minimiser of ||A x - y||^2 / 2 + tv_weight TV(x), see `solvers.tv`."""
        return self._tv(y, self.tv_iterations, 1e-3)

    def unrolled_tv(self, y: Tensor) -> Tensor:
        """Return total variation after a fixed, small number of iterations: differentiable."""
        return self._tv(y, self.unrolled_iterations, 0.0)

    def front_end(self, y: Tensor) -> Tensor:
        """Return A^+ y: filtered back-projection, the zero-filled image, or the noisy image."""
        return self.A.pinv(y)

    @property
    def attacked(self) -> Tensor:
        """The image to which r is added: x; the noisy image y for a denoiser, which measures it."""
        return self.y if isinstance(self.A, Identity) else self.x

    def _tv(self, y: Tensor, n_iter: int, tol: float) -> Tensor:
        if self.tv_weight is None:
            raise ValueError(
                f"the case {self.name!r} has no weight of total variation. Build it by "
                "training.case(...), or set it: dataclasses.replace(case, tv_weight=1e-3)."
            )
        return solvers.tv(self.A, y, self.tv_weight, n_iter=n_iter, tol=tol).x
