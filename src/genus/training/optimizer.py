"""Optimizers and the learning rate as a function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from genus.recipe import Recipe


def make_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], betas: tuple[float, float] | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer over one player's parameters, fused where torch has it. betas: the player's own."""
    betas = betas or recipe.betas
    rate, decay, momentum = recipe.learning_rate, recipe.weight_decay, betas[0]
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, betas, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(parameters, rate, momentum, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, weight_decay=decay, momentum=momentum)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step: a linear warm-up times the schedule's decay over all steps."""
    warmup = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    fraction = step / steps
    match recipe.schedule:
        case "constant":
            decay = 1.0
        case "linear":
            decay = 1.0 - fraction
        case "cosine":
            decay = 0.5 * (1.0 + math.cos(math.pi * fraction))
        case "hold_linear":
            decay = min(1.0, (1.0 - fraction) / (1.0 - recipe.hold))
        case "steps":
            decay = recipe.drop_factor ** sum(fraction >= drop for drop in recipe.drops)
    return recipe.learning_rate * warmup * decay
