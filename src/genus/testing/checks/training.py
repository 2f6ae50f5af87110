"""What training relies on: losses, players, the criterion, symptoms; and the fit of models without gradients."""

import copy
import re

import torch
from torch import nn

from genus import settings
from genus.contract import Batch, FitsInClosedForm, GenerativeModel, Losses, Player, batches
from genus.prob import noise
from genus.prob.noise import stream
from genus.recipe import Recipe
from genus.testing.checks._common import SHAKES, STAGES, close, log_prob, mean_loss
from genus.testing.statistics import CheckError, require
from genus.testing.subjects import Subject


def check_losses(subject: Subject) -> None:
    """Each player's losses are finite, one number a datum, in training mode too; in evaluation mode they are a
    function of the generator."""
    model, batch = subject.make(), subject.batch()
    state = torch.get_rng_state()
    for player in model.players():
        losses, again = (player.losses(batch, stream("losses")) for _ in range(2))
        sound(player, losses, batch)
        for name, term in losses.items():
            same = torch.equal(term, again[name])
            require(same, f"player {player.name}, term {name!r}: the same generator gave another value.")
    require(torch.equal(state, torch.get_rng_state()), "losses drew from torch's global generator in eval mode.")
    with torch.random.fork_rng(devices=[]):  # dropout draws from it
        for player in model.train().players():
            sound(player, player.losses(batch, stream("losses")), batch)


def sound(player: Player, losses: Losses, batch: Batch) -> None:
    """Raise a `CheckError` unless there is a "loss", and each term is one finite number a datum."""
    require("loss" in losses, f"player {player.name}: no term is called 'loss'; got {', '.join(losses)}.")
    for name, term in losses.items():
        where = f"player {player.name}, term {name!r}"
        require(tuple(term.shape) == (len(batch.x),), f"{where}: expected shape (B,); got {tuple(term.shape)}.")
        require(bool(term.isfinite().all()), f"{where}: not finite.")


def check_parts(subject: Subject) -> None:
    """A batch worked off in two parts, as by two processes, has the losses that the whole has: in training mode too
    (without dropout, which every process draws for itself), unless the model says that it `reads_batch`."""
    model, batch = subject.make(), subject.batch(8)
    in_parts(model, batch)
    for player in model.train().players():
        player.losses(batch, stream("earlier"))  # what a model keeps of earlier steps (a pool of fakes) is there now
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    if not model.reads_batch:
        in_parts(model, batch)
        return
    try:
        in_parts(model, subject.batch(32))  # in a small batch it may not show
    except CheckError:
        return
    raise CheckError("reads_batch is declared, but two parts of a batch have the losses of the whole.")


def in_parts(model: GenerativeModel, batch: Batch) -> None:
    """Raise a `CheckError` unless the losses of both halves are those of the batch: of halves one after the other
    (accumulated), and of halves of a model each (processes). A pass in training mode may leave something behind."""
    for k in range(len(model.players())):
        whole = losses_of(copy.deepcopy(model), k, batch)
        same = copy.deepcopy(model)
        for how, (first, second) in {
            "one after the other": (same, same),
            "by two processes": (copy.deepcopy(model), copy.deepcopy(model)),
        }.items():
            with noise.part_of(0, 2):
                one = losses_of(first, k, batch.part(0, 2))
            with noise.part_of(1, 2):
                two = losses_of(second, k, batch.part(1, 2))
            for name, term in whole.items():
                where = (
                    f"player {model.players()[k].name}, term {name!r}, {'training' if model.training else 'evaluation'}"
                )
                close(term, torch.cat([one[name], two[name]]), f"{where} mode: two parts {how} differ from the whole")


def losses_of(model: GenerativeModel, player: int, batch: Batch) -> Losses:
    """The terms of a player's loss, without their graph."""
    terms = model.players()[player].losses(batch, stream("parts"))
    return {name: term.detach() for name, term in terms.items()}


def check_criterion(subject: Subject) -> None:
    """What ranks checkpoints is one finite number a datum, the same at every stage of training.

    A loss whose weights warm up would rank the first checkpoint best.
    """
    model, batch = subject.make(), subject.batch(8)
    found = []
    for fraction in (0.0, 0.5, 1.0):
        model.progress(fraction)
        with torch.no_grad():
            found.append(model.criterion(batch, stream("criterion")))
    early, _, late = found
    if early is None or late is None:
        require(all(value is None for value in found), "criterion is None at some stages of training only.")
        return
    require(tuple(late.shape) == (8,) and bool(late.isfinite().all()), f"expected 8 finite numbers; got {late}.")
    close(early, late, "the criterion depends on the stage of training")


def check_symptoms(subject: Subject) -> None:
    """Looking for symptoms changes nothing, draws from its generator only, takes a single datum too,
    and every cure names settings that there are."""
    known = settings.schema(subject.model_class).model_fields.keys() | Recipe.model_fields.keys()
    for shake in SHAKES:
        model, state = subject.make(shake=shake), torch.get_rng_state()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            found, again = (model.symptoms(subject.batch(32), stream("symptoms")) for _ in range(2))
            single = model.symptoms(subject.batch(1), stream("symptoms"))
        require(found == again, "the same generator state gave other symptoms.")
        require(torch.equal(state, torch.get_rng_state()), "symptoms drew from torch's global generator.")
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        require(not changed, f"looking for symptoms changed {', '.join(changed)}.")
        for symptom in (*found, *single):
            complete = all((symptom.name, symptom.seen, symptom.cure))
            require(complete, f"a symptom needs a name, what was seen and a cure; got {symptom!r}.")
            flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][a-z-]*[a-z])", symptom.cure)}
            require(flags <= known, f"{symptom.name}: the cure names {', '.join(sorted(flags - known))}, no setting.")


def check_gradients(subject: Subject) -> None:
    """Every parameter has a player; at the beginning, in the middle and at the end of training its gradient is finite,
    at some of these not zero. (A block that fades in has none at the beginning.)"""
    model, batch = subject.make().train(), subject.batch(64)
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    moved = {id(p) for player in model.players() for p in player.parameters}
    orphans = [name for key, name in names.items() if key not in moved]
    require(not orphans, f"no player moves {', '.join(orphans)}.")
    for player in model.players():
        moves = {names.get(id(p), "a parameter that the model does not hold"): p for p in player.parameters}
        idle = dict.fromkeys(moves, "gets no gradient")
        for number, fraction in enumerate(STAGES):
            model.zero_grad()
            model.progress(fraction)
            loss = mean_loss(player.losses(batch, stream("gradients", number)))
            if loss.requires_grad:
                loss.backward()
            for name, parameter in moves.items():
                if parameter.grad is None:
                    continue
                finite = bool(parameter.grad.isfinite().all())
                require(finite, f"player {player.name}: the gradient of {name} is not finite at {fraction:.0%}.")
                if name in idle and parameter.grad.any():
                    del idle[name]
                elif name in idle:
                    idle[name] = "has a gradient of zero everywhere"
        for name, why in idle.items():
            require(False, f"player {player.name}: {name} {why}, at the beginning, the middle and the end of training.")


def check_learning(subject: Subject) -> None:
    """Each player's loss falls on one batch with its noise held fixed."""
    batch = subject.batch(16)
    for k in range(len(subject.make().players())):
        model = subject.make()
        player = model.players()[k]
        optimizer = torch.optim.Adam(player.parameters, lr=3e-3)
        history = []
        for _ in range(25):
            loss = mean_loss(player.losses(batch, stream("learning")))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        require(min(history[-5:]) < history[0], f"player {player.name}: the loss went {history[0]} to {history[-1]}.")


def check_fit(subject: Subject) -> None:
    """The closed-form fit raises the likelihood of its data, and fitting twice is fitting once."""
    model, everything = subject.bare(), next(batches(subject.split, len(subject.split)))
    assert isinstance(model, FitsInClosedForm)
    before = log_prob(model, everything.x, everything.condition).mean()
    model.fit(subject.split)
    after = log_prob(model, everything.x, everything.condition)
    require(bool(after.mean() > before), f"the fit moved the mean log_prob from {before:.4f} to {after.mean():.4f}.")
    model.fit(subject.split)
    require(torch.equal(after, log_prob(model, everything.x, everything.condition)), "a second fit changed the model.")
