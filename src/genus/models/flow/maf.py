"""MAF (Papamakarios, Pavlakou, Murray 2017): masked autoregressive affine flows over tables of numbers.

z_i = x_i exp(s_i) + t_i, where a masked network reads s_i and t_i from x_1 .. x_{i-1}; one step is an
autoregressive chain of Gaussians, and each of several steps models the noise of the one before. Density
of a row: one pass. Samples: column by column, but every hidden unit is worked out once, so all columns
together cost one pass too.

Against the paper: columns are shuffled at every other step, not only reversed; s_i is held within
± pi / 2 by an arc tangent; no batch normalisation between the steps, which would make a row's density depend
on its batch (the data are standardised and every step starts as the identity instead); and the base is a
standard normal, not a mixture. Columns are continuous numbers: values that repeat make any density's
likelihood infinite.

Promises: log p(x), exact; latents, invertible; conditions of any kind.
"""

from typing import Self

from genus.kinds import Domain
from genus.models.flow._autoregressive import Autoregressive
from genus.models.flow._tabular import Affine, FlowSteps, TableFlow
from genus.recipe import Recipe


class MAF(TableFlow):
    """Masked autoregressive flow of affine steps over vectors.

    Args:
        layers: autoregressive steps.
        hidden: units of each hidden layer of a step's network.
        depth: hidden layers of a step's network.
    """

    paper = (
        "Papamakarios, Pavlakou, Murray (2017). Masked autoregressive flow for density estimation. "
        "https://arxiv.org/abs/1705.07057"
    )
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=3e-3,
            batch_size=256,
            steps=3000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=5,
            ema=0.99,
        ),
        "paper": Recipe(
            learning_rate=1e-4,
            weight_decay=1e-6,
            batch_size=100,
            steps=500_000,
            settings={"layers": 10, "hidden": 512},
        ),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        layers: int = 6,
        hidden: int = 64,
        depth: int = 2,
    ):
        super().__init__(domain, condition)
        if min(layers, hidden, depth) < 1:
            raise ValueError(f"expected layers, hidden and depth of at least 1; got {layers}, {hidden}, {depth}.")
        steps = [
            Autoregressive(domain.num_dims, Affine(), hidden=hidden, depth=depth, context=self.context)
            for _ in range(layers)
        ]
        self.flow = FlowSteps(domain.num_dims, steps)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, layers=3, hidden=8)
