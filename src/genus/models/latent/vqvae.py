"""Vector-quantised autoencoder: an encoder whose outputs are replaced by the nearest of K codes.

A datum becomes a small grid of integers (a sequence of them for sound and tokens), each of which stands
for a patch. Equation 3 of the paper: the decoder learns by log p(x|codes), the encoder by the gradient
that passes the codes straight through, and by the commitment to the codes that it has chosen; the codes
follow by running means (appendix A.1) or by a loss of their own. `_codebook.py` has the details.

What differs from the paper: the decoder gives a distribution of the entries (a discretized logistic one for grey
values and sound) instead of squared errors, so that there is a bound on the likelihood; codes begin among
the encoder's outputs; dead codes are revived; the codebook's terms are means over its entries, weighed by
the number of entries of a datum, so that one commitment fits all sizes. Sound has the same convolutional
decoder as pictures, where the paper has a WaveNet.

It promises a bound on the likelihood under uniform codes (none with the ``mse`` and ``grey_bce`` decoders),
and latents that are codes. It takes no labels: the prior over the codes does (``vqvae+gated_pixelcnn``).
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.kinds import Domain, Grid, Tokens, Waveform
from genus.models.latent._codebook import Codebook, Learning, Quantised
from genus.models.latent._codes import CodeModel, Decoding, check_settings, domain_of_codes
from genus.models.latent._decoder import Scale, size_of
from genus.models.latent._vq_networks import Bottleneck, Decoder, Encoder, halved
from genus.recipe import Recipe


class VQVAE(CodeModel):
    """Vector-quantised autoencoder of grids (1-D, 2-D, 3-D; any size), of sound and of tokens.

    Args:
        codes: Number of codes in the codebook.
        code_features: Numbers that a code stands for.
        hidden: Channels of the convolutions.
        residual: Inner channels of each residual block of the encoder, and of the decoder.
        downsample: How many times each axis is halved: 2 makes 8x8 codes of 32x32 pixels.
        commitment: Weight of the encoder's commitment to its codes.
        codebook: How codes learn: ema by running means, gradient by a loss of their own.
        decay: Of the running means.
        revive: A code used less than this part of an even share is replaced; 0 replaces none.
        decoder: The distribution of an entry given the codes. auto takes bernoulli for two levels, categorical for
            symbols, discretized_logistic for grey values and sound. mse and grey_bce are historical losses without a
            likelihood.
        scale: Of a discretized_logistic distribution: an entry's own, or shared by all entries, so that large errors
            cost much wherever they are (of sound: codes go to what is loud).
    """

    paper = (
        "van den Oord, Vinyals, Kavukcuoglu (2017). Neural Discrete Representation Learning. "
        "https://arxiv.org/abs/1711.00937"
    )
    domains = (Grid, Tokens, Waveform)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=1e-3, schedule="cosine", batch_size=64, steps=3000, precision="bfloat16", clip_norm=1e5,
            settings={"hidden": 64, "codes": 256},
        ),
        # One code for four samples, and one scale for all: with eight of them, each of its own scale, a classifier
        # of spoken digits is right on half of the reconstructions, so on nine in ten.
        "quick-waveform": Recipe(
            learning_rate=1e-3, schedule="cosine", batch_size=16, steps=3000, precision="bfloat16",
            settings={"hidden": 64, "codes": 256, "scale": "shared"},
        ),
        # The paper's rate, batch and steps for 32x32 pictures; 512 codes of 64.
        "paper": Recipe(learning_rate=2e-4, batch_size=128, steps=250_000),
        # The authors' notebook: CIFAR-10's normalised squared error 0.056 and perplexity 326 at 10,000 steps.
        "mse": Recipe(learning_rate=3e-4, batch_size=32, steps=10_000, settings={"decoder": "mse"}),
    }  # fmt: skip
    domain: Grid | Tokens | Waveform

    def __init__(
        self,
        domain: Grid | Tokens | Waveform,
        condition: Domain | None = None,
        *,
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
            codes=codes, code_features=code_features, hidden=hidden, residual=residual, downsample=downsample
        )
        super().__init__(domain, condition, decoder, scale, commitment)
        size = size_of(domain)
        self.code_domain = domain_of_codes(halved(size, downsample), codes)
        self.encoder = Encoder(len(size), self.distribution.planes, hidden, residual, downsample)
        book = Codebook(codes, code_features, codebook, decay, revive)
        self.bottlenecks = nn.ModuleList([Bottleneck(len(size), hidden, book)])
        self.decoder = Decoder(
            len(size), code_features, self.writer.channels, hidden, residual, downsample, size
        ).quiet()

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        large = isinstance(domain, Grid | Tokens | Waveform) and min(size_of(domain)) > 2
        return cls(
            domain, condition, codes=16, code_features=4, hidden=8, residual=(4,), downsample=int(large),  # type: ignore[arg-type]
        )  # fmt: skip

    def quantise(self, x: Tensor, generator: torch.Generator | None = None) -> list[Quantised]:
        return [self.bottlenecks[0](self.encoder(self.read(x)), generator)]

    def parameters_of(self, vectors: list[Tensor]) -> Tensor:
        return self.writer(self.decoder(vectors[0]))

    def grids(self, codes: Tensor) -> list[Tensor]:
        return [codes.reshape(len(codes), *size_of(self.code_domain))]

    def join(self, grids: list[Tensor]) -> Tensor:
        return grids[0].reshape(len(grids[0]), *self.code_domain.shape)
