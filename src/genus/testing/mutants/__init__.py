"""Broken models, each with the check that must catch it: the checks, checked.

Healthy toys (an autoregressive model, a flow, a latent switch, discretized bins, counts) pass every
check; each mutant is one of them with one promise broken, the way it is broken in practice.
A new check comes with a mutant here, in the file of its role.
"""

from genus.contract import GenerativeModel
from genus.testing.mutants import chain_rule, conditions, editing, item_codes, latents, likelihood, model, training
from genus.testing.mutants._mutant import Mutant
from genus.testing.mutants._toys import BINARY, Affine, Bins, Blend, Chain, Counted, FadesIn, Guided, Placed, Switch

__all__ = ["BINARY", "HEALTHY", "MUTANTS", "Affine", "Chain", "Mutant"]

HEALTHY: tuple[type[GenerativeModel], ...] = (Chain, FadesIn, Guided, Affine, Switch, Bins, Counted, Blend, Placed)

MUTANTS: tuple[Mutant, ...] = (
    *model.MUTANTS,
    *training.MUTANTS,
    *conditions.MUTANTS,
    *likelihood.MUTANTS,
    *latents.MUTANTS,
    *editing.MUTANTS,
    *item_codes.MUTANTS,
    *chain_rule.MUTANTS,
)
