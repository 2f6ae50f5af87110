"""The published settings that train a model, apart from the model itself."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Recipe(BaseModel):
    """How to train: every field can be overridden on the command line.

    A model's ``recipes`` name at least ``quick`` (minutes on a laptop) and ``paper``
    (the published settings, as far as they carry over). ``<name>-<kind of domain>`` stands in
    for ``<name>`` on such data (``-codes`` on grids without order).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """Fused where torch has it."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate: after the warm-up, before the decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's two decay rates; the first is the momentum of sgd and rmsprop."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled for adamw, added to the gradient otherwise."""
    batch_size: int = Field(default=128, ge=1)
    """Items of a step."""
    steps: int = Field(default=2000, ge=1)
    """Steps of training when neither --steps, --epochs nor --minutes is given."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "linear", "cosine", "hold_linear", "steps"] = "constant"
    """What the learning rate does after the warm-up. linear, cosine and hold_linear (which stays before it falls) end
    at zero; steps goes down at once, now and then."""
    hold: float = Field(default=0.5, ge=0, lt=1)
    """Part of training over which hold_linear keeps the rate."""
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    """Parts of training after each of which steps multiplies the rate by drop_factor."""
    drop_factor: float = Field(default=0.1, gt=0, lt=1)
    """What steps multiplies the rate by."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm per player; None does not clip."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the running average of the weights that samples are drawn with; 0 for none."""
    ema_halflife: float = Field(default=0.0, ge=0)
    """The same by the items after which a weight counts half, so that it holds for any batch size; 0 for none."""
    precision: Literal["float32", "fast-float32", "bfloat16"] = "float32"
    """bfloat16 = autocast where the processor has it natively, float32 elsewhere;
    fast-float32 = the processor's fastest float32 matrix products."""
    settings: dict[str, Any] = {}
    """Model settings that go with the recipe (a smaller network, say); given ones win."""

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.ema and self.ema_halflife:
            raise ValueError("give one of ema and ema_halflife, not both")
        return self

    def average_decay(self, items: int) -> float:
        """Decay of the running average in a step of so many items; 0 for none."""
        return 0.5 ** (items / self.ema_halflife) if self.ema_halflife else self.ema
