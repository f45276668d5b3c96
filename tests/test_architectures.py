"""Architectures: parameter counts of the papers, and every place where frameworks disagree against
a loop or a peer.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from instab_utils import profiles
from instab_utils.networks import dagan
from instab_utils.networks.automap import AUTOMAP, encode
from instab_utils.networks.layers import Dropout, symmetric_pad
from instab_utils.networks.unet import FBPConvNet, LimitedAngleUNet
from instab_utils.training import losses


def random(stream, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=profiles.generator(0, stream), dtype=dtype)


def seeded(name="net", seed=0):
    return profiles.generator(seed, name)


def n_parameters(net, *kinds):
    layers = [layer for layer in net.modules() if isinstance(layer, kinds or nn.Module)]
    return sum(p.numel() for layer in layers for p in layer.parameters(recurse=False))


def with_biases(net):
    """Random biases in place of the zeros of the start, which would hide a wrong one."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.1 * random(name, *parameter.shape))
    return net


def lines(n, keep=0.5):
    mask = torch.rand(n, n, generator=seeded("mask")) < keep
    mask[0, 0] = True
    return mask


def tiny_automap(n=6):
    mask = lines(n)
    return with_biases(AUTOMAP(n, int(mask.sum()), 11, 3, generator=seeded()).double()), mask


def tiny(name):
    """A small network in float64 and evaluation mode, and an input of two images."""
    if name == "unet":
        net, x = LimitedAngleUNet(3, 3, generator=seeded()), random("x", 2, 1, 12, 20)
    elif name == "fbpconvnet":
        net, x = FBPConvNet(3, 3, generator=seeded()), random("x", 2, 1, 12, 20)
    elif name == "automap":
        net, mask = tiny_automap()
        x = random("x", 2, 2 * int(mask.sum()))
    elif name == "generator":
        net, x = dagan.Generator(16, 2, generator=seeded()), random("x", 2, 1, 16, 16) / 3
        for layer in net.modules():  # 0.01 is too little to tell a wrong layer from a right one
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.data *= 20
    else:
        net, x = dagan.Discriminator(16, 2, generator=seeded()), random("x", 2, 1, 16, 16) / 3
    return with_biases(net.double()).eval(), x


NAMES = ["unet", "fbpconvnet", "automap", "generator", "discriminator"]


def test_parameter_counts_of_the_papers():
    convolutions = nn.Conv2d, nn.ConvTranspose2d
    with torch.device("meta"):
        assert n_parameters(LimitedAngleUNet()) == 31_030_593
        net = FBPConvNet()
        assert (n_parameters(net, *convolutions), n_parameters(net)) == (
            34_549_121,
            34_549_121 + 13_824,
        )
        assert n_parameters(dagan.Generator(), *convolutions) == 98_574_337
        # 16 k^2 convolutions, then 1x1 2048-1024-512, 1x1 512-128, 3x3 128-128-512, biases only
        # where no norm follows
        down = (
            16
            * sum(
                i * o
                for i, o in [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048)]
            )
            + 64
        )
        rest = 2048 * 1024 + 1024 * 512 + 512 * 128 + 9 * 128 * 128 + 9 * 128 * 512
        assert n_parameters(dagan.Discriminator(), *convolutions) == down + rest
        assert n_parameters(dagan.Discriminator(), nn.Linear) == 4 * 4 * 512 + 1
    net = AUTOMAP(device="meta", generator=seeded())
    assert (n_parameters(net, nn.Linear), n_parameters(net, *convolutions)) == (
        902_391_384,
        107_265,
    )
    assert all(p.is_meta for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_to_the_input_is_exact(name):
    net, x = tiny(name)
    assert torch.autograd.gradcheck(net, x[:1].clone().requires_grad_(), fast_mode=True)
    net(x).square().sum().backward()
    unused = [n for n, p in net.named_parameters() if p.grad is None]
    assert not unused
    if name == "unet":  # MC dropout differentiates with the same masks
        net.train()

        def passes(v):
            net.generator = seeded("masks")
            return net(v)

        assert torch.autograd.gradcheck(passes, x[:1].clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_loop_in_evaluation(name):
    net, x = tiny(name)
    shape = (2, 1) if name == "discriminator" else (2, 1, 6, 6) if name == "automap" else x.shape
    assert net(x).shape == shape
    assert torch.allclose(net(x), torch.cat([net(one[None]) for one in x]))


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_come_from_the_generator(name):
    def build(seed):
        return {
            "unet": lambda g: LimitedAngleUNet(2, 2, generator=g),
            "fbpconvnet": lambda g: FBPConvNet(2, 2, generator=g),
            "automap": lambda g: AUTOMAP(5, 3, 4, 2, generator=g),
            "generator": lambda g: dagan.Generator(8, 2, generator=g),
            "discriminator": lambda g: dagan.Discriminator(8, 2, generator=g),
        }[name](seeded("init", seed)).state_dict()

    first, again, other = build(0), build(0), build(1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert all(
        not torch.equal(first[k], other[k])
        for k in first
        if k.endswith("weight") and not (first[k] == 1).all()
    )
    assert all(not v.any() for k, v in first.items() if k.endswith("bias"))


@pytest.mark.parametrize("name", NAMES)
def test_networks_run_in_bfloat16_and_channels_last(name):
    net, x = tiny(name)
    net, x = net.float(), x.float()
    plain = net(x).detach()
    if x.ndim == 4:
        last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        assert torch.allclose(last, plain, atol=1e-4 * float(plain.abs().max()))
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x).detach()
        net.train()(x).float().square().sum().backward()
    assert torch.isfinite(half).all() and (half.float() - plain).norm() < 0.1 * plain.norm()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_dropout_drops_its_fraction_and_rescales_the_rest():
    layer, x = Dropout(0.7), 1 + random("x", 4, 5, 50, 50).abs()
    layer.generator = seeded("drop")
    once, twice = layer(x), layer(x)
    kept = once != 0
    assert torch.allclose(once[kept], x[kept] / 0.3)
    assert abs(1 - kept.double().mean() - 0.7) < 5 * math.sqrt(0.21 / x.numel())
    maps = kept.double().mean((2, 3))  # single elements, not whole channels
    assert (maps - 0.3).abs().max() < 6 * math.sqrt(0.21 / 2500)
    layer.generator = seeded("drop")
    assert torch.equal(layer(x), once) and not torch.equal(once, twice)
    layer.generator = seeded("drop")
    assert torch.equal(layer(x.bfloat16()) != 0, kept)  # the masks of autocast are those of float32
    layer.eval()
    assert layer(x) is x and Dropout(0.0)(x) is x
    torch.manual_seed(0)
    first = Dropout(0.5)(x)
    torch.manual_seed(0)
    assert torch.equal(Dropout(0.5)(x), first)


def test_limited_angle_unet_drops_after_every_pooling_and_every_concatenation():
    net = LimitedAngleUNet(4, 5, generator=seeded())
    x = random("x", 1, 1, 32, 32, dtype=torch.float32)
    sizes = []
    net.drop.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape[1:])))
    outputs = []
    for seed in (3, 3, 4):
        net.generator = profiles.generator(seed, "masks")
        outputs.append(net(x))
    assert sizes[:8] == [
        (4, 16, 16),
        (8, 8, 8),
        (16, 4, 4),
        (32, 2, 2),
        (64, 4, 4),
        (32, 8, 8),
        (16, 16, 16),
        (8, 32, 32),
    ]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert net.drop.fraction == 0.7 and net.generator is net.drop.generator
    assert torch.equal(net.eval()(x), net.last(net.features(x)))


def unet_by_hand(net, x):
    """Two levels of the limited-angle network with its 2x2 convolution written as a sum over pixels
    that exist.
    """
    (a, b), (c, d) = net.down
    skip = F.relu(b(F.relu(a(x))))
    low = F.relu(d(F.relu(c(F.max_pool2d(skip, 2)))))
    high = low.repeat_interleave(2, -1).repeat_interleave(2, -2)
    up = torch.zeros(len(x), net.up[0].out_channels, *high.shape[-2:], dtype=x.dtype)
    for i in range(high.shape[-2]):
        for j in range(high.shape[-1]):
            for di in (0, 1):
                for dj in (0, 1):
                    if i + di < high.shape[-2] and j + dj < high.shape[-1]:
                        up[..., i, j] += (
                            high[..., i + di, j + dj] @ net.up[0].weight[:, :, di, dj].T
                        )
    up = F.relu(up + net.up[0].bias[:, None, None])
    e, f = net.merge[0]
    return net.last(F.relu(f(F.relu(e(torch.cat([skip, up], 1))))))


def test_the_2x2_convolution_pads_right_and_bottom_only():
    net = with_biases(LimitedAngleUNet(3, 2, generator=seeded()).double()).eval()
    x = random("x", 2, 1, 6, 10)
    assert torch.allclose(net(x), unet_by_hand(net, x))


def test_matconvnet_transposed_convolution_loses_its_last_row_and_column():
    """Every input pixel adds weight * value to the 3 x 3 pixels from (2i, 2j); what reaches beyond
    2n is cropped.
    """
    layer = FBPConvNet(2, 2, generator=seeded()).double().up[0][0]
    x = random("x", 1, 4, 3, 5)
    expected = torch.zeros(1, 2, 7, 11, dtype=torch.float64)
    for i in range(3):
        for j in range(5):
            expected[..., 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += torch.einsum(
                "bi,iokl->bokl", x[..., i, j], layer.weight
            )
    assert layer(x).shape == (1, 2, 6, 10)
    assert torch.allclose(layer(x), expected[..., :6, :10])


@pytest.mark.parametrize("training", [False, True])
def test_fbpconvnet_is_batch_norm_of_a_single_image_always(training):
    """Peer: PyTorch's batch norm in training mode on one image at a time; nothing depends on mode
    or neighbours.
    """
    net, x = tiny("fbpconvnet")
    net.train(training)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * random(str(parameter.shape), *parameter.shape))

    def block(layers, z):
        conv, norm, _ = layers
        return F.relu(
            F.batch_norm(conv(z), None, None, norm.weight, norm.bias, training=True, eps=1e-4)
        )

    def peer(z):
        skips = []
        for level, blocks in enumerate(net.down):
            hidden = F.max_pool2d(skips[-1], 2) if level else z
            for layers in blocks:
                hidden = block(layers, hidden)
            skips.append(hidden)
        for up, blocks, skip in zip(net.up, net.merge, reversed(skips[:-1])):
            hidden = torch.cat([skip, block(up, hidden)], 1)
            for layers in blocks:
                hidden = block(layers, hidden)
        return z + net.last(hidden)

    assert [len(blocks) for blocks in (*net.down, *net.merge)] == [3, 2, 2, 2, 2]
    assert torch.allclose(net(x), torch.cat([peer(one[None]) for one in x]))
    assert torch.equal(net(x), net.train(not training)(x))
    louder = torch.stack([x[0], 100 * x[1]])
    assert torch.allclose(net(louder)[0], net(x)[0])


def test_fbpconvnet_starts_close_to_the_identity():
    x = random("x", 1, 1, 32, 32, dtype=torch.float32).abs()
    for init, spread in (("he", math.sqrt(2 / (9 * 16))), ("published", 0.01)):
        net = FBPConvNet(16, 2, init=init, generator=seeded()).requires_grad_(False)
        assert (net(x) - x).norm() < 0.1 * x.norm()
        assert float(net.down[0][1][0].weight.std()) == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize(
    ("name", "skip_first"), [("unet", True), ("fbpconvnet", True), ("generator", False)]
)
def test_order_of_the_concatenation(name, skip_first):
    """Without the weights that read the up-sampled half of the last concatenation, nothing from
    below arrives; without those that read the skip, it does."""
    net, x = tiny(name)
    if name == "generator":  # a transposed convolution has its input channels first
        weight, width = net.up[-1][0].weight, net.up[-2][0].out_channels
        first, second = weight[:width], weight[width:]
    else:
        weight = net.merge[-1][0].weight if name == "unet" else net.merge[-1][0][0].weight
        first, second = weight.chunk(2, 1)
    skip, up = (first, second) if skip_first else (second, first)

    def hears_from_below():
        before = net(x)
        for i, parameter in enumerate(net.down[-1].parameters()):
            parameter += random(f"change {i}", *parameter.shape)
        return not torch.equal(net(x), before)

    with torch.no_grad():
        kept = up.clone()
        up.zero_()
        assert not hears_from_below()
        up.copy_(kept)
        skip.zero_()
        assert hears_from_below()


@pytest.mark.parametrize("width", [1, 4, 5])
def test_symmetric_padding_is_numpys(width):
    x = random("x", 2, 3, 5, 7)
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (width, width), (width, width)], mode="symmetric")
    assert np.array_equal(symmetric_pad(x, width).numpy(), expected)
    assert not np.array_equal(
        expected, np.pad(x.numpy(), [(0, 0)] * 2 + [(min(width, 4),) * 2] * 2, mode="reflect")
    )


def test_automap_is_the_published_sequence():
    """numpy and loops; the transposed 7x7 "same" convolution scatters from the padded codes and is
    cropped by 3, then 4.
    """
    net, mask = tiny_automap(6)
    v = random("v", 2, 2 * int(mask.sum()))
    x_rec, codes = net(v, return_codes=True)
    w1, b1, w2, b2 = (p.detach().numpy() for p in net.dense.parameters())
    hidden = np.tanh(v.numpy() @ w1.T + b1) @ w2.T + b2
    image = (hidden - hidden.mean(1, keepdims=True)).reshape(2, 6, 6)
    z = torch.from_numpy(np.pad(image, [(0, 0), (4, 4), (4, 4)], mode="symmetric"))[:, None]
    z = F.relu(
        F.conv2d(
            torch.tanh(F.conv2d(z, *net.convs[0].parameters(), padding=2)),
            *net.convs[1].parameters(),
            padding=2,
        )
    )
    assert torch.allclose(codes, z)
    scattered = torch.zeros(2, 1, 20, 20, dtype=torch.float64)
    for i in range(14):
        for j in range(14):
            scattered[..., i : i + 7, j : j + 7] += torch.einsum(
                "bi,iokl->bokl", z[..., i, j], net.last.weight
            )
    expected = scattered[..., 7:13, 7:13]
    expected = (
        expected - expected.mean((2, 3), keepdim=True) + (v[:, 0] / (0.48 * 6))[:, None, None, None]
    )
    assert torch.allclose(x_rec, expected)
    assert torch.equal(net(v), x_rec)


def test_automap_input_is_the_published_encoding():
    """4096 x, unnormalised FFT, real part then minus the imaginary part, times 0.0075 / (2 * 4096);
    n = 128.
    """
    x, mask = (
        torch.rand(2, 1, 128, 128, generator=seeded("x"), dtype=torch.float64),
        lines(128, 0.6),
    )
    k = np.fft.fft2(4096 * x[:, 0].numpy())[:, mask.numpy()]
    expected = np.concatenate([k.real, np.conj(k).imag], 1) * 0.0075 / (2 * 4096)
    assert np.allclose(encode(torch.fft.fft2(x, norm="ortho"), mask).numpy(), expected)
    scale = encode(torch.ones(1, 1, 5, 5) + 0j, lines(5))
    assert torch.allclose(scale[0, 0], torch.tensor(0.48))  # the same at every n


def test_automap_output_has_the_mean_that_was_measured():
    net, mask = tiny_automap(6)
    x = torch.rand(3, 1, 6, 6, generator=seeded("x"), dtype=torch.float64)

    def f(y):
        return net(encode(y, mask))

    y = torch.fft.fft2(x, norm="ortho")
    assert torch.allclose(f(y).mean((1, 2, 3)), x.mean((1, 2, 3)))
    assert torch.autograd.gradcheck(f, y[:1].clone().requires_grad_(), fast_mode=True)
    y = y.clone().requires_grad_()
    f(y).mean((1, 2, 3)).sum().backward()  # d mean / d y_00 = 1/n, nothing else
    expected = torch.zeros_like(y)
    expected[..., 0, 0] = 1 / 6
    assert torch.allclose(y.grad, expected, atol=1e-12)


def test_automap_starts_as_published():
    net = AUTOMAP(16, 100, 150, 8, generator=seeded()).requires_grad_(False)
    for layer, fan_in in zip(net.dense, (200, 150)):
        assert 0.999 < float(layer.weight.abs().max()) * math.sqrt(fan_in) <= 1
    for layer, fans in ((net.convs[0], 25 * 9), (net.convs[1], 25 * 16), (net.last, 49 * 9)):
        bound = math.sqrt(6 / fans)
        assert 0.95 * bound < float(layer.weight.abs().max()) <= bound


@pytest.mark.parametrize("size", [4, 8, 32, 512])
def test_generator_goes_down_to_one_pixel_at_every_size(size):
    net = dagan.Generator(size, 1, generator=seeded()).eval()
    shapes = []
    for block in (*net.down, *net.up):
        block.register_forward_hook(
            lambda _, inputs, output: shapes.append(tuple(output.shape[1:]))
        )
    x = random("x", 1, 1, size, size, dtype=torch.float32).clamp(-1, 1)
    assert net(x).shape == x.shape
    levels = int(math.log2(size))
    assert [s[1] for s in shapes] == [size >> k for k in range(1, levels + 1)] + [
        2 << k for k in range(levels)
    ]
    up = [s[0] for s in shapes[levels:]]
    assert (
        up
        == {4: [1, 1], 8: [2, 1, 1], 32: [8, 4, 2, 1, 1], 512: [8, 16, 16, 16, 16, 4, 2, 1, 1]}[
            size
        ]
    )


def test_generator_layers_are_the_published_ones():
    """The published order at 16 x 16, by plain functions: 4x4 "same" convolutions pad one pixel on
    every side.
    """
    net, x = tiny("generator")
    net.train()
    assert len(net.down) == len(net.up) == 4

    def norm(layer, z):
        centred = z - z.mean((0, 2, 3), keepdim=True)
        scaled = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]

    hidden, skips = x, []
    for k, block in enumerate(net.down):
        hidden = F.conv2d(F.pad(hidden, (1, 1, 1, 1)), block[0].weight, block[0].bias, stride=2)
        hidden = F.leaky_relu(norm(block[1], hidden) if 0 < k < 3 else hidden, 0.2)
        skips.append(hidden)
    for k, block in enumerate(net.up):
        hidden = torch.cat([hidden, skips[3 - k]], 1) if k else hidden
        full = F.conv_transpose2d(hidden, block[0].weight, block[0].bias, stride=2)[..., 1:-1, 1:-1]
        hidden = F.relu(norm(block[1], full))
    out = torch.tanh(F.conv2d(hidden, net.last.weight, net.last.bias))
    assert torch.allclose(net(x), (x + out).clamp(-1, 1))


def test_generator_clips_and_its_gradient_ends_there():
    net, _ = tiny("generator")
    net.last.weight.data.zero_()
    net.last.bias.data.fill_(0.5)
    x = torch.linspace(-1, 1, 256, dtype=torch.float64).reshape(1, 1, 16, 16).requires_grad_()
    net(x).sum().backward()
    assert torch.allclose(net(x), (x + math.tanh(0.5)).clamp(-1, 1))
    assert torch.equal(x.grad, (x < 1 - math.tanh(0.5)).double())


def test_batch_norm_of_dagan_uses_running_statistics_in_evaluation():
    net, x = dagan.Generator(8, 4, generator=seeded()).double(), random("x", 4, 1, 8, 8)
    norm = net.down[1][1]
    z = net.down[1][0](net.down[0](x)).detach()
    net(x)
    assert torch.allclose(norm.running_mean, 0.1 * z.mean((0, 2, 3)))
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * z.transpose(0, 1).flatten(1).var(1))
    assert norm.eps == 1e-5
    # a batch of one trains, too
    one = dagan.Generator(8, 4, generator=seeded())(random("x", 1, 1, 8, 8, dtype=torch.float32))
    assert torch.isfinite(one).all()


def test_dagan_starts_as_published():
    net = dagan.Generator(64, 16, generator=seeded()).requires_grad_(False)
    weight = net.up[1][0].weight
    # at two deviations
    truncated = 0.01 * math.sqrt(
        1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    )
    assert float(weight.abs().max()) <= 0.02 and float(weight.std()) == pytest.approx(
        truncated, rel=0.01
    )
    gains = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(gains.mean() - 1) < 0.01 and float(gains.std()) == pytest.approx(0.02, rel=0.15)
    judge = dagan.Discriminator(16, 16, generator=seeded()).requires_grad_(False)
    assert float(judge.down[1][0].weight.std()) == pytest.approx(0.02, rel=0.05)


def test_discriminator_layers_are_the_published_ones():
    net, x = tiny("discriminator")
    # no norm in the first, no activation in the last
    assert [len(block) for block in net.down] == [2, 3, 3, 2]
    hidden = x
    for block in net.down:
        conv = block[0]
        hidden = F.conv2d(hidden, conv.weight, conv.bias, conv.stride, conv.padding)
        hidden = block[1](hidden) if isinstance(block[1], nn.BatchNorm2d) else hidden
        hidden = F.leaky_relu(hidden, 0.2) if block is not net.down[-1] else hidden
    assert hidden.shape[1:] == (16, 4, 4)
    first, second, third = net.residual
    inner = F.leaky_relu(second[1](second[0](F.leaky_relu(first[1](first[0](hidden)), 0.2))), 0.2)
    joined = F.leaky_relu(hidden + third[1](third[0](inner)), 0.2)
    assert torch.allclose(net(x), net.last(joined.flatten(1)))
    assert [block[0].kernel_size[0] for block in net.residual] == [1, 3, 3]
    assert dagan.Discriminator(256, 1).down[5][0].out_channels == 32


def test_pixel_and_frequency_losses_against_numpy():
    x_rec, x = random("a", 3, 1, 7, 9), random("b", 3, 1, 7, 9)
    ratios = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(x_rec.numpy(), x.numpy())]
    assert float(losses.nmse(x_rec, x)) == pytest.approx(np.mean(ratios))
    spectra = [np.abs(np.fft.fft2((v[:, 0].numpy() + 1) / 2)) for v in (x_rec, x)]
    assert float(losses.frequency_loss(x_rec, x)) == pytest.approx(
        np.mean((spectra[0] - spectra[1]) ** 2)
    )
    for loss in (losses.nmse, losses.frequency_loss):
        assert float(loss(x, x)) == 0
        leaf = x_rec.clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, (leaf, x), fast_mode=True)
    assert torch.isfinite(losses.frequency_loss(x_rec.bfloat16(), x.bfloat16()))
    assert losses.DAGAN_WEIGHTS == {"nmse": 15, "frequency": 0.1, "adversarial": 1}


def test_adversarial_loss_is_the_binary_cross_entropy():
    logits = 5 * random("logits", 9, 1)
    for real in (True, False):
        expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
        assert torch.allclose(losses.adversarial(logits, real), expected)
    assert torch.isfinite(losses.adversarial(torch.tensor([[-1e4]]), real=True))


def test_errors_name_the_cure():
    flat = torch.zeros(1, 1, 12, 18)
    with pytest.raises(ValueError, match="divisible by 4.*Pad or crop"):
        LimitedAngleUNet(2, 3)(flat)
    with pytest.raises(ValueError, match="divisible by 4.*Pad or crop"):
        FBPConvNet(2, 3)(flat)
    with pytest.raises(ValueError, match="fewer levels"):
        FBPConvNet(2, 3)(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"\(batch, 1, n, m\)"):
        LimitedAngleUNet(2, 2)(flat[0])
    with pytest.raises(ValueError, match="automap.encode"):
        AUTOMAP(5, 3, 4, 2)(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="ifftshift"):
        encode(torch.zeros(1, 1, 4, 4) + 0j, torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="complex y"):
        encode(torch.zeros(1, 1, 4, 4), lines(4))
    with pytest.raises(ValueError, match="build the network for that size"):
        dagan.Generator(8, 1)(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="at least 4"):
        symmetric_pad(torch.zeros(1, 1, 3, 9), 4)
    for build in (
        lambda: LimitedAngleUNet(0),
        lambda: LimitedAngleUNet(2, 2, dropout=1.0),
        lambda: FBPConvNet(2, 0),
        lambda: FBPConvNet(2, 2, init="xavier"),
        lambda: AUTOMAP(3, 1),
        lambda: AUTOMAP(4, 17, 5),
        lambda: dagan.Generator(24),
        lambda: dagan.Generator(2),
        lambda: dagan.Discriminator(4),
    ):
        with pytest.raises(ValueError, match="expects"):
            build()
