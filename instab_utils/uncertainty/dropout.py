"""Monte Carlo dropout: the variance of a reconstruction over passes with dropout switched on."""

import contextlib

import torch
from torch import Tensor, nn

from ..networks import DnCNN
from ..networks.layers import Dropout
from .prediction import Prediction, gaussian_prediction

_WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_LAYERS = (Dropout, nn.Dropout, *_WHOLE_CHANNELS)


class MCDropout:
    r"""u = 1 / (T - 1) sum_t (f_t(x) - mean_t f_t(x))^2 over T passes f_t with dropout.

    mean = f(x), without dropout; lower, upper = mean -+ 1.96 sqrt(u).

    Args:
        net: a network in evaluation mode with dropout layers: `networks.layers.Dropout` (DnCNN,
            LimitedAngleUNet) or torch.nn.Dropout, 1d, 2d, 3d. They are switched on by hooks that
            are gone after each call; mode and generator of the network stay as they are. Calls of
            F.dropout are not seen.
        n_passes: T >= 2; the paper has 128 for denoising and 16 for CT.
        generator: seeds the passes; None takes PyTorch's default generator.
        masks: "shared": pass t has the same masks for every image and in every call, so that two
            maps differ by what the images differ in. "fresh": new ones for every image; then the
            difference of two maps also has the noise of two samplings in it, about sqrt(4 / (T -
            1)) of u itself: 18 per cent at T = 128. The paper does not say which.
        batch: passes at once; None: 4 on a CPU, 32 elsewhere. Masks depend on pass, layer and
            device only: neither on `batch` nor on what else is in x_in.

    Raises:
        ValueError: for a network without active dropout layers, and for other choices than these.

    The fraction is rounded to a multiple of 2^-16. Source: Gal and Ghahramani 2016; Oala et al.,
    Sec. 2, and their code, which divides by T - 1, too.
    """

    name = "dropout"

    def __init__(
        self,
        net: nn.Module,
        n_passes: int = 128,
        generator: torch.Generator | None = None,
        *,
        masks: str = "shared",
        batch: int | None = None,
    ):
        if n_passes < 2 or (batch is not None and batch < 1):
            raise ValueError(
                "MCDropout expects n_passes >= 2, for a variance, and batch >= 1; "
                f"got {n_passes} and {batch}."
            )
        if masks not in ("shared", "fresh"):
            raise ValueError(f'MCDropout expects masks "shared" or "fresh"; got {masks!r}.')
        layers = [layer for layer in net.modules() if isinstance(layer, _LAYERS)]
        self.layers = [layer for layer in layers if _fraction(layer) > 0]
        if not self.layers:
            raise ValueError(
                f"MCDropout: {type(net).__name__} has no dropout layer with a fraction above 0, so "
                "that all passes are the same. Train it with dropout, such as DnCNN(dropout=0.05)."
            )
        self.net = net
        self.n_passes = n_passes
        self.generator = generator
        self.batch = batch
        self.seeds = self._draw_seeds() if masks == "shared" else None

    @torch.no_grad()
    def predict(self, x_in: Tensor) -> Prediction:
        mean = self.net(x_in)
        if self.seeds is None:
            images = x_in.split(1)
            variance = torch.cat([self._variance(image, self._draw_seeds()) for image in images])
        else:
            variance = self._variance(x_in, self.seeds)
        return gaussian_prediction(mean, variance.sqrt(), variance)

    def passes(self, image: Tensor, first: int | None = None) -> Tensor:
        """Return f_1(x), ..., f_T(x) of one image (1, channels, n, m), differentiable in it.

        Args:
            first: only so many of the T passes; None: all.

        Returns:
            (n_passes, channels, n, m).
        """
        seeds = (self.seeds or self._draw_seeds())[:first]
        chunks = self._chunks(seeds, image)
        return torch.cat([self._run(image, _Masks(chunk, image.device)) for chunk in chunks])

    def _variance(self, x_in: Tensor, seeds: list[int]) -> Tensor:
        """Merge chunks of passes by means and squared deviations: sums of squares would cancel."""
        mean = [0.0] * len(x_in)
        squares = [0.0] * len(x_in)
        done = 0
        for chunk in self._chunks(seeds, x_in):
            n = len(chunk)
            masks = _Masks(chunk, x_in.device, keep=len(x_in) > 1)
            for i, image in enumerate(x_in.split(1)):
                passes = self._run(image, masks)
                within = (passes - passes.mean(0)).square().sum(0)
                step = passes.mean(0) - mean[i]
                squares[i] = squares[i] + within + step.square() * (done * n / (done + n))
                mean[i] = mean[i] + step * (n / (done + n))
            done += n
        return torch.stack(squares) / (done - 1)

    def _run(self, image: Tensor, masks: "_Masks") -> Tensor:
        if any(layer.training for layer in self.layers):
            raise ValueError(
                "MCDropout expects its network in evaluation mode, or dropout acts twice. "
                "Call net.eval()."
            )
        masks.layer_calls = 0
        # DnCNN runs once up to its first dropout. U-Nets concatenate earlier features: their input
        # is repeated from the start.
        if not isinstance(self.net, DnCNN):
            image = image.repeat(len(masks.generators), 1, 1, 1)
        with contextlib.ExitStack() as hooks:
            for layer in self.layers:
                hooks.enter_context(layer.register_forward_hook(masks))
            return self.net(image)

    def _chunks(self, seeds: list[int], x_in: Tensor) -> list[list[int]]:
        size = self.batch or (4 if x_in.device.type == "cpu" else 32)
        return [seeds[i : i + size] for i in range(0, len(seeds), size)]

    def _draw_seeds(self) -> list[int]:
        return torch.randint(2**63 - 1, (self.n_passes,), generator=self.generator).tolist()


class _Masks:
    """Forward hook: inactive dropout layers multiply by keep / (1 - fraction).

    Args:
        seeds: of the generators, one for each pass.
        keep: hold the masks for the next image.
    """

    def __init__(self, seeds: list[int], device: torch.device, keep: bool = False):
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.keep = keep
        self.kept: list[Tensor] = []
        self.layer_calls = 0

    def __call__(self, layer: nn.Module, args: tuple, output: Tensor) -> Tensor:
        # 16 random bits decide about an element: on a CPU a quarter of the time of bernoulli_,
        # which costs half a pass
        dropped = min(max(round(_fraction(layer) * 2**16), 1), 2**16 - 1)
        if self.layer_calls < len(self.kept):
            mask = self.kept[self.layer_calls]
        else:
            mask = self._draw(output, isinstance(layer, _WHOLE_CHANNELS), dropped - 2**15)
            if self.keep:
                self.kept.append(mask)
        self.layer_calls += 1
        return output * mask.to(output.dtype).mul_(1 / (1 - dropped / 2**16))

    def _draw(self, like: Tensor, whole_channels: bool, limit: int) -> Tensor:
        channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        pixels = [1] * (like.ndim - 2) if whole_channels else like.shape[2:]
        masks = torch.empty(
            (len(self.generators), like.shape[1], *pixels),
            dtype=torch.bool,
            device=like.device,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        )
        words = torch.empty(-(-masks[0].numel() // 4), dtype=torch.int64, device=like.device)
        for mask, generator in zip(masks, self.generators):
            bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)
            torch.ge(bits.as_strided(mask.shape, mask.stride()), limit, out=mask)
        return masks


def _fraction(layer: nn.Module) -> float:
    return layer.fraction if isinstance(layer, Dropout) else layer.p
