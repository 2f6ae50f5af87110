import pytest
import torch
import torch.nn.functional as F

from genus.nn.embedding import sinusoidal
from genus.nn.unet import UNet, conv, grown
from genus.prob import noise


def test_the_papers_network_for_cifar_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        network = UNet(3, 3, width=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(1,))
    assert sum(p.numel() for p in network.parameters()) == 35_746_307  # 35.7M, Ho et al. (2020), appendix B


@pytest.mark.parametrize("size", [(8,), (8, 8), (28, 28), (7, 5), (1, 1), (1, 9), (5, 4, 3)])
def test_any_size_and_number_of_axes(size: tuple[int, ...]) -> None:
    network = UNet(2, 3, width=8, multipliers=(1, 2, 1), blocks=1, attention=(0, 2), dims=len(size))
    out = network(torch.zeros(2, 2, *size), torch.tensor([0.1, 1.0]))
    assert out.shape == (2, 3, *size)
    assert not out.any()  # zero before training


@pytest.mark.parametrize("size", [(8,), (7,), (4, 6), (28, 28), (5, 4), (2, 4, 6), (3, 4, 4)])
def test_a_grown_map_is_a_stretched_one_with_fewer_products(size: tuple[int, ...]) -> None:
    layer = conv(len(size), 3, 2).double()
    half = tuple((n + 1) // 2 for n in size)
    h = noise.normal((2, 3, *half), noise.stream("map"), dtype=torch.float64)
    stretched = layer(F.interpolate(h, size=size, mode="nearest"))
    assert torch.allclose(grown(layer, h, size), stretched, rtol=0, atol=1e-14)


def test_hears_time_and_context_and_sees_everywhere() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, width=8, multipliers=(1, 1), blocks=1, dropout=0.0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1)
    x, t = noise.normal((1, 1, 9, 9), noise.stream(0)).requires_grad_(), torch.tensor([0.5])
    out = network(x, t)
    assert not torch.allclose(out, network(x, t / 2))
    assert not torch.allclose(out, network(x, t, torch.ones(1, network.embedding_features)))
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], x)
    assert (gradient != 0).all()


def test_wrong_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="attention"):
        UNet(1, 1, multipliers=(1, 2), attention=(2,))


def test_sinusoidal_codes_differ_and_have_any_width() -> None:
    for features in (1, 2, 7, 32):
        assert sinusoidal(torch.arange(10), features).shape == (10, features)
    code = sinusoidal(torch.arange(1001), 32)
    assert float(torch.cdist(code, code).add(10 * torch.eye(1001)).min()) > 0.1
