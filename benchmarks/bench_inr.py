"""One training step of a field, against a loop of nn.Linear layers with deepinv's tomography.

The features are computed once for both.

    python benchmarks/bench_inr.py [--width 256] [--size 128] [--views 20]

forward, sum of squares in the sinogram, backward, Adam. The operator is a few per cent of a step,
so that the ratio is that of the
networks: ours multiplies the low rank of the grid's features (less work in the first layer: exact
to float32). What is left are the same matrix products; the count of operations, printed beside,
bounds the ratio. A target of 1.6 at width 256 was set where 1x1 convolutions ran 1.8 times faster
than matrix products (AVX-512); with AVX2 both run at the same rate. Measured there, one thread: 1.8
and 2.7 at width 64 (128 and 363 frequencies), 1.1 and 1.5 at width 256.
"""

import math

import torch
from common import Report, arguments, deepinv_physics, interleave, ratio, show
from torch import nn

from instab_utils import profiles
from instab_utils.networks import Fields
from instab_utils.operators import Radon


def peer(fields, size):
    """The same field as a list of nn.Linear on the pixels' features, weights copied: what one would
    write first.
    """
    layers = []
    for w, b in zip(fields.weights, fields.biases):
        layer = nn.Linear(*w.shape[1:])
        layer.weight.data, layer.bias.data = w[0].T.clone().contiguous(), b[0, 0].clone()
        layers += [layer, nn.ReLU()]
    net, features = nn.Sequential(*layers[:-1], nn.Sigmoid()), fields.features(size)[0].clone()
    return net, lambda: net(features).view(1, 1, size, size)


def step(image, parameters, A, y):
    optimiser = torch.optim.Adam(parameters, 1e-4, fused=True)

    def run():
        optimiser.zero_grad()
        loss = (A(image()) - y).square().mean()
        loss.backward()
        optimiser.step()

    return run


def operations(fields, size):
    """Multiplications of a step, peer and ours: forward, weights' gradient, inputs' gradient (not
    of the features).
    """
    n, rest = size * size, sum(i * o for i, o in fields.shapes[2::2])
    first = n * math.prod(fields.shapes[0])
    grid = fields._grid(size)
    r_y, r_x = grid.t.shape[1:3]
    ours = fields.width * (r_y * r_x * grid.n_features + size * r_y * r_x + n * r_x)
    return 2 * first + 3 * n * rest, 2 * (ours if grid._dense is None else first) + 3 * n * rest


def main():
    options = arguments(__doc__, width=[64, 256], size=128, views=20)
    angles = torch.arange(options.views) * 180 / options.views
    report = Report(
        f"One step of a field, relu, depth 3, omega0 10, {options.size} x {options.size}, "
        f"{options.views} views, float32"
    )
    A = Radon(options.size, angles)
    physics = deepinv_physics().Tomography(
        angles=angles, img_width=options.size, circle=False, normalize=False
    )
    y = torch.rand(1, 1, *A.sinogram_shape, generator=profiles.generator(0, "views"))
    y_peer = torch.rand(
        physics.A(torch.zeros(1, 1, options.size, options.size)).shape,
        generator=profiles.generator(0, "views"),
    )
    for width in options.width:
        for n_frequencies in (128, 363):  # 363: the follow-up's code
            ours = Fields(
                width,
                3,
                "relu",
                10.0,
                n_frequencies,
                generator=profiles.generator(0, "weights"),
            )
            net, image = peer(ours, options.size)
            torch.testing.assert_close(image(), ours.render(options.size), atol=1e-4, rtol=1e-4)
            runs = {
                "deepinv": step(image, net.parameters(), physics.A, y_peer),
                "nn.Linear": step(image, net.parameters(), A, y),
                "ours": step(lambda ours=ours: ours.render(options.size), ours.parameters(), A, y),
            }
            times = interleave(runs, rounds=5)
            show(times, f"  width {width}, {n_frequencies} frequencies, ")
            more, fewer = operations(ours, options.size)
            report.row(
                f"width {width}, {n_frequencies} frequencies: deepinv loop",
                ratio(times, "deepinv", "ours"),
                1.6 if width >= 256 else 1.3,
                0.9,
                f"operations allow {more / fewer:.2f}",
            )
            report.row(
                f"width {width}, {n_frequencies} frequencies: nn.Linear, our Radon",
                ratio(times, "nn.Linear", "ours"),
                1.3,
                0.9,
            )
    report.finish()


if __name__ == "__main__":
    main()
