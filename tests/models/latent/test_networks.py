import pytest
import torch

from genus.models.latent._networks import ConvEncoder, Residual, conv_decoder, halvings
from genus.prob import noise
from genus.prob.noise import stream


@pytest.mark.parametrize("size", [(1,), (7,), (5, 8), (1, 1), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_decoder_mirrors_the_encoder(size: tuple[int, ...], blocks: int) -> None:
    encoder = ConvEncoder(2, size, 3, (4, 6, 8), blocks, (5,), 7)
    decoder = conv_decoder(9, size, (4, 6, 8), blocks, (5,), 11)
    flat = 2 * torch.tensor(size).prod() + 3
    assert encoder(noise.normal((2, int(flat)), stream("u"))).shape == (2, 7)
    assert decoder(noise.normal((2, 9), stream("z"))).shape == (2, 11, *size)


def test_sizes_round_up() -> None:
    assert halvings((28, 5, 1), 3) == [(28, 5, 1), (14, 3, 1), (7, 2, 1), (4, 1, 1)]


def test_a_residual_block_starts_as_nothing() -> None:
    block, x = Residual(3, 2), noise.uniform((2, 3, 4, 4), stream("x"))
    torch.testing.assert_close(block(x), x)


def test_the_label_reaches_the_code() -> None:
    encoder = ConvEncoder(1, (4, 4), 2, (3,), 0, (), 2)
    u = noise.normal((1, 18), stream("u")).repeat(2, 1)
    u[:, 16:] = torch.eye(2)
    one, other = encoder(u)
    assert not torch.allclose(one, other)
