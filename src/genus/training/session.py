"""The state that the steps of training move: taken one by one, validated, saved, restored.

Each step: for each player, loss, backward, clip, step; then the running average. Batch,
augmentation, noise and dropout of a step are functions of ``(seed, step)``, so a run that
was killed continues in the same bits, and a checkpoint needs no sampler or random state.
Of these, each process (and each part, where gradients are accumulated) takes its slice.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genus import hardware
from genus.contract import Batch, GenerativeModel, Losses, Player, Split, batches
from genus.hardware import OutOfMemory, is_out_of_memory
from genus.prob import noise
from genus.runs import checkpoint
from genus.runs.config import RunConfig
from genus.training.divergence import (
    DivergenceError,
    check_parts,
    first_nonfinite,
    items,
    origin,
    smaller_parts,
)
from genus.training.ema import Average
from genus.training.loader import Ahead
from genus.training.optimizer import learning_rate, make_optimizer
from genus.training.parallel import Team
from genus.training.ranking import Ranking
from genus.training.watch import Watch

VALIDATIONS = 20  # per run, at equal distances
VALIDATION_ITEMS = 256, 1024  # of each: a hundred-and-fiftieth of what a run trains on, within these limits
WATCHED_ITEMS = 256


class View:
    """A split whose condition is hidden from models of the data alone."""

    def __init__(self, split: Split, conditional: bool):
        self.split, self.conditional = split, conditional

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The items ``index``; without their condition unless the model is conditional."""
        batch = self.split.batch(index, generator)
        return batch if self.conditional else batch._replace(condition=None)


class Session:
    """The model, its optimizers and its running average at one step of training."""

    def __init__(
        self,
        config: RunConfig,
        split: Split,
        validation: Split,
        model: GenerativeModel,
        steps: int,
        team: Team | None = None,
        ranking: Ranking | None = None,
    ):
        self.config, self.recipe, self.split, self.validation = config, config.recipe, split, validation
        self.team, self.ranking = team or Team(), ranking
        self.model, self.device, self.steps = model, model.device, steps
        self.share = self.team.slice(self.recipe.batch_size)
        check_parts(self.recipe.batch_size, self.team.size, config.accumulate)
        model.train().initialise(split)
        self.players = model.players()
        self.turns = max(player.turns for player in self.players)
        self.optimizers = [make_optimizer(self.recipe, p.parameters, p.betas) for p in self.players]
        decay = self.recipe.average_decay(self.recipe.batch_size * self.turns)
        self.average = Average(model, decay) if decay else None
        self.losses = [torch.compile(p.losses) if config.compile else p.losses for p in self.players]
        self.step, self.best, self.best_step, self.saved_step = 0, math.inf, 0, 0
        self.best_weights: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        self.counted = 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._ahead: Iterator[Batch] | None = None
        self.log_every = max(1, min(50, steps // 100))
        self.validate_at = validation_steps(steps)
        least, most = VALIDATION_ITEMS
        self.validated = min(max(least, steps * self.recipe.batch_size // 150), most)
        self.team.watch_buffers(model)

    # --- what a step needs, as a function of the step -----------------------------------

    def index(self, number: int) -> Tensor:
        """The item numbers of batch ``number`` in the endless stream of shuffled epochs."""
        size, count = self.recipe.batch_size, len(self.split)
        parts, position = [], number * size
        while size > 0:
            epoch, offset = divmod(position, count)
            if self._order[0] != epoch:
                self._order = (epoch, noise.permutation(count, noise.stream(self.config.seed, "order", epoch)))
            parts.append(self._order[1][offset : offset + size])
            size -= len(parts[-1])
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def batch(self, number: int) -> Batch:
        """This process' share of batch ``number``, augmented, on the CPU."""
        with noise.part_of(self.team.rank, self.team.size):
            return self.split.batch(self.index(number)[self.share], noise.stream(self.config.seed, "augment", number))

    def _next_batch(self) -> Batch:
        if self._ahead is None:
            numbers = range(self.step * self.turns, self.steps * self.turns)
            self._ahead = iter(Ahead(self.batch, numbers, self.config.workers))
        return next(self._ahead).to(self.device)

    def take_step(self) -> None:
        """One step: every player's turns, then the running average.

        Raises `DivergenceError` for a NaN, `OutOfMemory` with advice.
        """
        try:
            self._step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            advice = smaller_parts(self.recipe.batch_size, self.team.size, self.config.accumulate)
            raise OutOfMemory(
                f"step {self.step + 1}: out of memory with a batch of {self.recipe.batch_size}; {advice}."
            ) from None

    def close(self) -> None:
        """Stop the processes that prepare batches."""
        self._ahead = None

    def _step(self) -> None:
        seed, step = self.config.seed, self.step
        if not self.model.training:  # walking through all modules costs as much as a layer
            self.model.train()
        self.model.progress(step / self.steps)
        hardware.seed_globally(noise.stream(seed, "dropout", step, self.team.rank).initial_seed(), self.device)
        generator = noise.stream(seed, "noise", step)
        rate = learning_rate(self.recipe, step, self.steps)
        for turn in range(self.turns):
            batch = self._next_batch()
            for player, optimizer, losses in zip(self.players, self.optimizers, self.losses, strict=True):
                if turn < player.turns:
                    for group in optimizer.param_groups:
                        group["lr"] = rate * player.rate
                    means = self._descend(player, optimizer, losses, batch, generator)
                    if turn == player.turns - 1:
                        self._count(player, means)
        self.team.average_buffers(self.model)
        if self.average:
            self.average.update(step)
        self.step += 1
        self.counted += 1

    def _descend(
        self,
        player: Player,
        optimizer: torch.optim.Optimizer,
        losses: Callable[[Batch, torch.Generator | None], Losses],
        batch: Batch,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """One update of a player; returns the mean of each loss term over the global batch."""
        optimizer.zero_grad(set_to_none=True)
        parts = self.config.accumulate
        state = generator.get_state() if parts > 1 else None
        total: dict[str, float] = {}
        for number in range(parts):
            if state is not None:  # every part draws the noise of the whole batch and takes its slice
                generator.set_state(state)
            part = batch.part(number, parts)
            with (
                noise.part_of(self.team.rank * parts + number, self.team.size * parts),
                hardware.arithmetic(self.recipe.precision, self.device),
            ):
                terms = losses(part, generator)
                loss = terms["loss"].mean()
            means = self.team.mean(torch.stack([value.detach().float() for value in terms.values()]).mean(1)).tolist()
            for name, mean in zip(terms, means, strict=True):
                total[name] = total.get(name, 0.0) + mean / parts
            if not math.isfinite(total["loss"]):
                before = self.index(self.step * self.turns - 1) if self.step else None
                what = origin(self.model, part, terms, before)
                raise self._diverged(self.step + 1, f"the loss of {player.name} became {total['loss']}; {what}")
            # A player moves its own parameters only: others that its loss reaches get no gradient.
            (loss / parts if parts > 1 else loss).backward(inputs=player.parameters if len(self.players) > 1 else None)
        self.team.average_gradients(player.parameters)
        if self.recipe.clip_norm:
            norm = torch.nn.utils.clip_grad_norm_(player.parameters, self.recipe.clip_norm)
            if not math.isfinite(norm.item()):
                where = items(self.index(self.step * self.turns))
                raise self._diverged(self.step + 1, f"the gradient of {player.name} became {norm.item()} ({where})")
        optimizer.step()
        return total

    def _diverged(self, step: int, what: str) -> DivergenceError:
        kept = f"the checkpoint of step {self.saved_step} is kept" if self.saved_step else "there is no checkpoint yet"
        return DivergenceError(
            f"step {step}: {what}. Training stopped; {kept}. The same command would end here again: "
            "try a lower --learning-rate or a --clip-norm, with another --out."
        )

    def _count(self, player: Player, means: dict[str, float]) -> None:
        prefix = "train" if len(self.players) == 1 else f"train/{player.name}"
        for name, mean in means.items():
            self.sums[f"{prefix}/{name}"] = self.sums.get(f"{prefix}/{name}", 0.0) + mean

    # --- the plan, validation -----------------------------------------------------------

    def steps_within(self, seconds: float) -> int:
        """Steps that fit into ``seconds`` with their validations, by taking some. The leader's
        clock decides, so that all processes take as many."""
        times: list[float] = []
        deadline = time.monotonic() + min(5.0, 0.1 * seconds)
        while self.team.broadcast(len(times) < 3 or (time.monotonic() < deadline and len(times) < 200)):
            began = time.monotonic()
            self.take_step()
            times.append(time.monotonic() - began)
        began = time.monotonic()
        self.measure()
        validating = len(self.validate_at) * (time.monotonic() - began)
        settled = statistics.median(times[len(times) // 3 :])
        return self.team.broadcast(max(1, int((seconds - min(validating, 0.5 * seconds)) / settled)))

    @property
    def judged(self) -> GenerativeModel:
        """The model that validation judges: the running average where there is one."""
        return self.average.model if self.average else self.model

    @torch.no_grad()
    def validate(self) -> float | None:
        """The mean criterion over the first items of the validation split."""
        model = self.judged.eval()
        generator = noise.stream(self.config.seed, "validate")
        total, count = 0.0, 0
        for batch in batches(self.validation, 256, generator):
            with hardware.arithmetic(self.recipe.precision, self.device):
                value = model.criterion(batch.to(self.device), generator)
            if value is None:
                return None
            total += float(value.double().sum())
            count += len(value)
            if count >= self.validated:
                break
        return total / count if count else None

    def measure(self) -> dict[str, float]:
        """What validation finds, by its name in the records; the last number ranks checkpoints."""
        loss = self.validate()
        found = {} if loss is None else {"validation/loss": loss}
        return found | ({"validation/frechet": self.ranking(self.judged.eval())} if self.ranking else {})

    @torch.no_grad()
    def judge(self, watch: Watch, train: dict[str, float]) -> dict[str, Any]:
        """What validation adds to the record of this step; remembers the best weights."""
        measured = self.measure()
        value = next(reversed(measured.values()), None)
        if value is not None and value < self.best:
            self.best, self.best_step = value, self.step
            self.best_weights = {name: tensor.clone() for name, tensor in self.judged.state_dict().items()}
        generator = noise.stream(self.config.seed, "watch")
        first = next(batches(self.validation, WATCHED_ITEMS, generator), None) if len(self.validation) else None
        batch = first.to(self.device) if first else None
        loss = measured.get("validation/loss")
        seen = watch.look(self.step, self.steps, self.judged.eval(), batch, generator, loss, train)
        return measured | seen

    def averages(self) -> dict[str, float]:
        """Mean loss terms since the last call, and the learning rate."""
        means = {name: total / self.counted for name, total in self.sums.items()}
        self.sums, self.counted = {}, 0
        return means | {"learning_rate": learning_rate(self.recipe, self.step - 1, self.steps)}

    # --- to a checkpoint and back -------------------------------------------------------

    def save(self, checkpoints: Path) -> None:
        """Write the checkpoint of this step and keep the one before it too.

        Raises `DivergenceError` for weights that are not finite, `SaveError` where the disk refuses.
        """
        tensors = {"model": self.model.state_dict()}
        if self.average:
            tensors["average"] = self.average.model.state_dict()
        if self.best_weights:
            tensors["best"] = self.best_weights
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            tensors[f"optimizer-{player.name}"] = dict(checkpoint.optimizer_tensors(optimizer))
        for stem, named in tensors.items():
            broken = first_nonfinite(named)
            if broken:
                last = items(self.index(self.step * self.turns - 1))
                raise self._diverged(self.step, f"{broken} ({stem}) became NaN or infinite by this update ({last})")
        state = {
            "steps": self.steps,
            "best_step": self.best_step if self.best_weights else self.step,
            "best": self.best if self.best_weights else None,
            "finished": self.step == self.steps,
            "sums": self.sums,
            "counted": self.counted,
        }
        checkpoint.save(checkpoints, self.step, tensors, state)
        self.saved_step = self.step
        checkpoint.prune(checkpoints, set(checkpoint.steps(checkpoints)[-2:]))

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = checkpoint.load_state(path, required=("steps", "best_step", "best", "sums", "counted"))
        self.step, self.best_step = state["step"], state["best_step"]
        self.saved_step, self._ahead = self.step, None
        if state["best"] is not None:
            self.best, self.best_weights = state["best"], checkpoint.load_tensors(path, "best")
        self.sums, self.counted = state["sums"], state["counted"]
        checkpoint.copy_into(self.model, checkpoint.load_tensors(path, "model"), path)
        if self.average:
            checkpoint.copy_into(self.average.model, checkpoint.load_tensors(path, "average"), path)
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            checkpoint.restore_optimizer(optimizer, checkpoint.load_tensors(path, f"optimizer-{player.name}"))
        self.team.watch_buffers(self.model)


def validation_steps(steps: int) -> frozenset[int]:
    """After which steps to validate: twenty times at equal distances, and four times before the
    first of them, as small data sets are overfitted early."""
    early = [1 / (VALIDATIONS * 2**k) for k in range(1, 5)]
    equal = [k / VALIDATIONS for k in range(1, VALIDATIONS + 1)]
    return frozenset(max(1, math.ceil(steps * fraction)) for fraction in early + equal)
