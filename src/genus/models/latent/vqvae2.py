"""Hierarchical vector-quantised autoencoder: codes of several resolutions, coarse ones for the whole
picture, fine ones for what they leave open.

The paper's algorithm 1: a bottom encoder reads the picture, a top encoder its output; the top is quantised
and decoded, and joins the bottom encoder's output before that is quantised in turn; the decoder sees both.

What differs from the paper: any number of ``scales``; the decoded coarser codes that help to choose the
finer ones are also what the decoder sees of them; a distribution of the pixels instead of squared errors, codes that
begin among the encoder's outputs and are revived, as in the `vqvae`. A PixelSNAIL prior is not part of it.

It promises what the `vqvae` promises; its latents are a pyramid of codes, the coarsest first.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.kinds import Domain, Grid, Pyramid
from genus.models.latent._codebook import Codebook, Learning, Quantised
from genus.models.latent._codes import CodeModel, Decoding, check_settings
from genus.models.latent._decoder import Scale
from genus.models.latent._vq_networks import Bottleneck, Decoder, Encoder, halved
from genus.recipe import Recipe


class VQVAE2(CodeModel):
    """Hierarchical vector-quantised autoencoder of pictures (2-D grids of any size).

    Args:
        scales: Grids of codes, each half as fine as the next.
        codes: Number of codes in each codebook.
        code_features: Numbers that a code stands for.
        hidden: Channels of the convolutions.
        residual: Inner channels of each residual block of each encoder and decoder.
        downsample: How many times each axis is halved down to the finest codes.
        commitment: Weight of the encoders' commitment to their codes.
        codebook: How codes learn: ema by running means, gradient by a loss of their own.
        decay: Of the running means.
        revive: A code used less than this part of an even share is replaced; 0 replaces none.
        decoder: The distribution of an entry given the codes. auto takes bernoulli for two levels,
            discretized_logistic for grey values, categorical for symbols. mse and grey_bce are historical losses
            without a likelihood.
        scale: Of a discretized_logistic distribution: an entry's own, or shared by all entries.
    """

    paper = (
        "Razavi, van den Oord, Vinyals (2019). Generating Diverse High-Fidelity Images with VQ-VAE-2. "
        "https://arxiv.org/abs/1906.00446"
    )
    domains = (Grid,)
    recipes: ClassVar[dict[str, Recipe]] = {
        # One scale for all entries: with one each, the colours of letters are given up as noise.
        "quick": Recipe(
            learning_rate=1e-3, schedule="cosine", batch_size=32, steps=3000, precision="bfloat16", clip_norm=1e5,
            settings={"hidden": 64, "codes": 256, "scale": "shared"},
        ),
        "paper": Recipe(learning_rate=3e-4, batch_size=128, steps=2_207_444),  # of 256x256 pictures, table 3
    }  # fmt: skip
    domain: Grid
    code_domain: Pyramid

    def __init__(
        self,
        domain: Grid,
        condition: Domain | None = None,
        *,
        scales: int = 2,
        codes: int = 512,
        code_features: int = 64,
        hidden: int = 128,
        residual: tuple[int, ...] = (32, 32),
        downsample: int = 2,
        commitment: float = 0.25,
        codebook: Learning = "ema",
        decay: float = 0.99,
        revive: float = 0.03,
        decoder: Decoding = "auto",
        scale: Scale = "entry",
    ):
        check_settings(
            scales=scales, codes=codes, code_features=code_features, hidden=hidden, residual=residual,
            downsample=downsample,
        )  # fmt: skip
        super().__init__(domain, condition, decoder, scale, commitment)
        self.code_domain = Pyramid(halved(domain.size, downsample), scales, codes)
        sizes = self.code_domain.sizes
        # Encoders from the picture to the coarsest scale; the rest from the coarsest scale to the picture.
        first = Encoder(2, self.distribution.planes, hidden, residual, downsample)
        self.encoders = nn.ModuleList([first, *(Encoder(2, hidden, hidden, residual, 1) for _ in range(scales - 1))])
        self.bottlenecks = nn.ModuleList()
        self.widen = nn.ModuleList()  # what coarser codes say, at the size of the next finer ones
        for k in range(scales):
            book = Codebook(codes, code_features, codebook, decay, revive)
            self.bottlenecks.append(Bottleneck(2, hidden + code_features * (k > 0), book))
            if k:
                told = code_features * min(k, 2)
                self.widen.append(Decoder(2, told, code_features, hidden, residual, 1, sizes[k]))
        told = code_features * min(scales, 2)
        self.decoder = Decoder(2, told, self.writer.channels, hidden, residual, downsample, domain.size).quiet()

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) != 2:
            return f"vqvae2 models pictures (2-D grids); got {domain}. vqvae takes 1-D and 3-D grids too."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        large = isinstance(domain, Grid) and min(domain.size) > 2
        return cls(
            domain, condition, codes=16, code_features=4, hidden=8, residual=(4,), downsample=int(large),  # type: ignore[arg-type]
        )  # fmt: skip

    def quantise(self, x: Tensor, generator: torch.Generator | None = None) -> list[Quantised]:
        h = self.read(x)
        read = []
        for encoder in self.encoders:
            h = encoder(h)
            read.append(h)
        found = [self.bottlenecks[0](read.pop(), generator)]
        told = found[0].vectors
        for widen, neck in zip(self.widen, self.bottlenecks[1:], strict=True):
            wide = widen(told)
            found.append(neck(torch.cat([read.pop(), wide], 1), generator))
            told = torch.cat([wide, found[-1].vectors], 1)
        return found

    def parameters_of(self, vectors: list[Tensor]) -> Tensor:
        told = vectors[0]
        for widen, fine in zip(self.widen, vectors[1:], strict=True):
            told = torch.cat([widen(told), fine], 1)
        return self.writer(self.decoder(told))

    def grids(self, codes: Tensor) -> list[Tensor]:
        return self.code_domain.grids(codes)

    def join(self, grids: list[Tensor]) -> Tensor:
        return self.code_domain.join(grids)
