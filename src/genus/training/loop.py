"""The one training loop, for every family.

Each step: for each player, loss, backward, clip, step; then the running average. Batch,
augmentation, noise and dropout of a step are functions of ``(seed, step)``, so a run that
was killed continues in the same bits, and a checkpoint needs no sampler or random state.
"""

import json
import math
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor

from genus.contract import Batch, FitsInClosedForm, GenerativeModel, Losses, Player, Split, batches
from genus.data import Source, open_source
from genus.errors import CheckpointError, GenusError, SettingsError
from genus.prob import noise
from genus.training import checkpoint, hardware
from genus.training.config import RunConfig, read_config
from genus.training.ema import Average
from genus.training.optimizer import learning_rate, make_optimizer
from genus.training.progress import Display, display
from genus.training.run import Run, build, read_jsonl

VALIDATIONS = 20  # per run
VALIDATION_ITEMS = 1024


class DivergenceError(GenusError, ArithmeticError):
    """A loss became NaN or infinite; training stopped and the last checkpoint is kept."""


class Interrupted(GenusError):
    """A signal asked training to stop; the state was saved and the same command resumes."""


def train(config: RunConfig, out: str | Path | None = None, *, quiet: bool = False) -> Run:
    """Train a configuration in the run folder ``out``, or continue where it was stopped.

    The default folder is ``runs/<model>-<data>-<hash of the configuration>``, so the same
    command finds its own run again. Raises `CheckpointError` where the folder holds
    another configuration or is in use, `DivergenceError` for a NaN, `Interrupted` after a
    signal.
    """
    folder = Path(out) if out is not None else default_folder(config)
    source = open_source(config.data, config.data_options)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0), torch.random.fork_rng():
            hardware.keep_large_blocks()
            _claim(folder, config, source)
            _fit_or_descend(config, source, folder, quiet)
    except filelock.Timeout:
        raise CheckpointError(f"{folder}: another process is training in this run folder.") from None
    return Run(folder)


def default_folder(config: RunConfig) -> Path:
    """Where a run goes when no folder is named."""
    return Path("runs") / f"{config.model}-{Path(config.data).stem or 'data'}-{config.short_hash()}"


def _claim(folder: Path, config: RunConfig, source: Source) -> None:
    """Write the configuration, or check that the folder already holds this very one."""
    file = folder / "config.json"
    described = {
        "name": source.name,
        "domain": source.domain.to_json(),
        "condition": source.condition.to_json() if source.condition else None,
        "fingerprint": source.fingerprint,
    }
    if config.conditional and source.condition is None:
        raise SettingsError(f"{source.name} has no labels, so nothing can be modelled given them.")
    if not file.exists():
        if any(path.name != ".lock" for path in folder.iterdir()):
            raise CheckpointError(f"{folder}: not empty and not a run folder; give another --out.")
        write_json(folder / "data.json", described)
        write_json(file, config.model_dump(mode="json"))
        return
    difference = read_config(file).difference(config)
    if difference:
        raise CheckpointError(
            f"{folder} holds another run ({'; '.join(difference)}). Give another --out, or the same settings to resume."
        )
    if json.loads((folder / "data.json").read_text())["fingerprint"] != source.fingerprint:
        raise CheckpointError(f"{folder}: the data of {source.name} changed since this run began; give another --out.")


def _fit_or_descend(config: RunConfig, source: Source, folder: Path, quiet: bool) -> None:
    condition = source.condition if config.conditional else None
    train_split, validation = (_View(split, config.conditional) for split in (source.train, source.validation))

    def make(steps: int) -> _Session:
        model = build(config, source.domain, condition).to(hardware.best_device())
        return _Session(config, train_split, validation, model, steps)

    model = build(config, source.domain, condition)
    if isinstance(model, FitsInClosedForm):
        if not checkpoint.steps(folder / "checkpoints"):
            _fit(model, train_split, folder)
        return
    steps = _planned_steps(config, folder, make)
    with display(steps, quiet=quiet) as shown, _signals() as asked_to_stop:
        session = make(steps)
        session.resume(folder / "checkpoints", shown)
        session.run(folder, shown, asked_to_stop)


def _planned_steps(config: RunConfig, folder: Path, make: Callable[[int], "_Session"]) -> int:
    """How many steps the budget buys. Minutes are turned into steps once, by timing
    throw-away steps, and the number is kept: so a resumed run is still exact."""
    if config.minutes is not None:
        file = folder / "plan.json"
        if not file.exists():
            write_json(file, {"minutes": config.minutes, "steps": make(10**9).steps_within(config.minutes * 60)})
        return int(json.loads(file.read_text())["steps"])
    if config.epochs is not None:
        trial = make(1)
        return math.ceil(config.epochs * len(trial.split) / (config.recipe.batch_size * trial.turns))
    return config.steps or config.recipe.steps


def _fit(model: GenerativeModel, split: Split, folder: Path) -> None:
    assert isinstance(model, FitsInClosedForm)
    began = time.monotonic()
    model.fit(split)
    with (folder / "timing.jsonl").open("a") as timing:
        timing.write(json.dumps({"step": 1, "seconds": time.monotonic() - began, "data": len(split)}) + "\n")
    state: dict[str, Any] = {"steps": 1, "best_step": 1, "best": None, "finished": True, "sums": {}, "counted": 0}
    checkpoint.save(folder / "checkpoints", 1, {"model": model.state_dict()}, state)


class _View:
    """A split whose condition is hidden from models of the data alone."""

    def __init__(self, split: Split, conditional: bool):
        self.split, self.conditional = split, conditional

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        batch = self.split.batch(index, generator)
        return batch if self.conditional else batch._replace(condition=None)


class _Session:
    """One sitting of training: the state that the steps move, and how it is saved."""

    def __init__(self, config: RunConfig, split: _View, validation: _View, model: GenerativeModel, steps: int):
        self.config, self.recipe, self.split, self.validation = config, config.recipe, split, validation
        self.model, self.device, self.steps = model, model.device, steps
        model.train().initialise(split)
        self.players = model.players()
        self.turns = max(player.turns for player in self.players)
        self.optimizers = [make_optimizer(self.recipe, player.parameters) for player in self.players]
        self.average = Average(model, self.recipe.ema) if self.recipe.ema else None
        self.losses = [torch.compile(p.losses) if config.compile else p.losses for p in self.players]
        self.step, self.best, self.best_step = 0, math.inf, 0
        self.best_weights: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        self.counted = 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self.log_every = max(1, min(50, steps // 100))
        self.validate_at = validation_steps(steps)

    # --- what a step needs, as a function of the step -----------------------------------

    def batch(self, number: int) -> Batch:
        """Batch ``number`` of the endless stream of shuffled epochs."""
        size, count = self.recipe.batch_size, len(self.split)
        parts, position = [], number * size
        while size > 0:
            epoch, offset = divmod(position, count)
            if self._order[0] != epoch:
                self._order = (epoch, noise.permutation(count, noise.stream(self.config.seed, "order", epoch)))
            parts.append(self._order[1][offset : offset + size])
            size -= len(parts[-1])
            position += len(parts[-1])
        index = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.split.batch(index, noise.stream(self.config.seed, "augment", number)).to(self.device)

    def take_step(self) -> None:
        """One step: every player's turns, then the running average."""
        seed, step = self.config.seed, self.step
        if not self.model.training:  # walking through all modules costs as much as a layer
            self.model.train()
        self.model.progress(step / self.steps)
        hardware.seed_globally(noise.stream(seed, "dropout", step).initial_seed(), self.device)
        generator = noise.stream(seed, "noise", step)
        rate = learning_rate(self.recipe, step, self.steps)
        for turn in range(self.turns):
            batch = self.batch(step * self.turns + turn)
            for player, optimizer, losses in zip(self.players, self.optimizers, self.losses, strict=True):
                if turn < player.turns:
                    for group in optimizer.param_groups:
                        group["lr"] = rate * player.rate
                    terms = self._descend(player, optimizer, losses, batch, generator)
                    if turn == player.turns - 1:
                        self._count(player, terms)
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
    ) -> Losses:
        optimizer.zero_grad(set_to_none=True)
        with hardware.arithmetic(self.recipe.precision, self.device):
            terms = losses(batch, generator)
            loss = terms["loss"].mean()
        if not math.isfinite(loss.item()):
            raise DivergenceError(
                f"step {self.step}: the loss of {player.name} became {loss.item()}; training stopped and the last "
                f"checkpoint is kept. Try a lower --learning-rate or a --clip-norm."
            )
        # A player moves its own parameters only: others that its loss reaches get no gradient.
        loss.backward(inputs=player.parameters if len(self.players) > 1 else None)
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(player.parameters, self.recipe.clip_norm)
        optimizer.step()
        return terms

    def _count(self, player: Player, terms: Losses) -> None:
        prefix = "train" if len(self.players) == 1 else f"train/{player.name}"
        means = torch.stack([value.detach() for value in terms.values()]).mean(1).tolist()
        for name, mean in zip(terms, means, strict=True):
            self.sums[f"{prefix}/{name}"] = self.sums.get(f"{prefix}/{name}", 0.0) + mean

    # --- the plan, validation, saving ---------------------------------------------------

    def steps_within(self, seconds: float) -> int:
        """Steps that fit into ``seconds`` with their validations, by taking some."""
        times: list[float] = []
        deadline = time.monotonic() + min(5.0, 0.1 * seconds)
        while len(times) < 3 or (time.monotonic() < deadline and len(times) < 200):
            began = time.monotonic()
            self.take_step()
            times.append(time.monotonic() - began)
        began = time.monotonic()
        self.validate()
        validating = VALIDATIONS * (time.monotonic() - began)
        settled = statistics.median(times[len(times) // 3 :])
        return max(1, int((seconds - min(validating, 0.5 * seconds)) / settled))

    @torch.no_grad()
    def validate(self) -> float | None:
        """The mean criterion over (the first 1,024 items of) the validation split."""
        model = self.average.model if self.average else self.model
        model.eval()
        generator = noise.stream(self.config.seed, "validate")
        total, count = 0.0, 0
        for batch in batches(self.validation, min(256, VALIDATION_ITEMS), generator):
            with hardware.arithmetic(self.recipe.precision, self.device):
                value = model.criterion(batch.to(self.device), generator)
            if value is None:
                return None
            total += float(value.double().sum())
            count += len(value)
            if count >= VALIDATION_ITEMS:
                break
        return total / count if count else None

    def resume(self, checkpoints: Path, shown: Display) -> None:
        """Continue from the newest good checkpoint, if there is one."""
        found = checkpoint.latest(checkpoints, warn=shown.say)
        if found:
            self._restore(found)
            shown.say(f"resuming at step {self.step} of {self.steps}")
        checkpoint.prune(checkpoints, set(checkpoint.steps(checkpoints)))

    def run(self, folder: Path, shown: Display, asked_to_stop: Callable[[], str | None]) -> None:
        """Step to the end, logging, validating and saving on the way."""
        _truncate(folder / "metrics.jsonl", self.step)
        shown.begin(self.step)
        began = saved = time.monotonic()
        first = self.step
        with (folder / "metrics.jsonl").open("a") as metrics, _board(self.config, folder, first) as board:
            while self.step < self.steps:
                self.take_step()
                record: dict[str, Any] = {}
                if self.step % self.log_every == 0 or self.step == self.steps:
                    record |= self._averages()
                    shown.show(self.step, record, self.recipe.batch_size * self.turns)
                if self.step in self.validate_at:
                    record |= self._judge()
                if record:
                    metrics.write(json.dumps({"step": self.step, **record}) + "\n")
                    metrics.flush()
                    for name, value in record.items():
                        board(name, value, self.step)
                signal_name = asked_to_stop()
                due = time.monotonic() - saved >= self.config.checkpoint_seconds
                if due or signal_name or self.step == self.steps:
                    self._save(folder / "checkpoints")
                    saved = time.monotonic()
                    self._note_time(folder, first, saved - began)
                    first, began = self.step, saved
                if signal_name and self.step < self.steps:
                    raise Interrupted(
                        f"{signal_name} at step {self.step} of {self.steps}; saved in {folder}. "
                        "The same command resumes."
                    )

    def _averages(self) -> dict[str, float]:
        means = {name: total / self.counted for name, total in self.sums.items()}
        self.sums, self.counted = {}, 0
        return means | {"learning_rate": learning_rate(self.recipe, self.step - 1, self.steps)}

    def _judge(self) -> dict[str, float]:
        value = self.validate()
        if value is None:
            return {}
        if value < self.best:
            self.best, self.best_step = value, self.step
            model = self.average.model if self.average else self.model
            self.best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return {"validation/loss": value}

    def _save(self, checkpoints: Path) -> None:
        tensors = {"model": self.model.state_dict()}
        if self.average:
            tensors["average"] = self.average.model.state_dict()
        if self.best_weights:
            tensors["best"] = self.best_weights
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            tensors[f"optimizer-{player.name}"] = dict(checkpoint.optimizer_tensors(optimizer))
        state = {
            "steps": self.steps,
            "best_step": self.best_step if self.best_weights else self.step,
            "best": self.best if self.best_weights else None,
            "finished": self.step == self.steps,
            "sums": self.sums,
            "counted": self.counted,
        }
        checkpoint.save(checkpoints, self.step, tensors, state)
        checkpoint.prune(checkpoints, set(checkpoint.steps(checkpoints)[-2:]))

    def _restore(self, path: Path) -> None:
        state = checkpoint.load_state(path)
        self.step, self.best_step = state["step"], state["best_step"]
        if state["best"] is not None:
            self.best, self.best_weights = state["best"], checkpoint.load_tensors(path, "best")
        self.sums, self.counted = state["sums"], state["counted"]
        checkpoint.copy_into(self.model, checkpoint.load_tensors(path, "model"), path)
        if self.average:
            checkpoint.copy_into(self.average.model, checkpoint.load_tensors(path, "average"), path)
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            checkpoint.restore_optimizer(optimizer, checkpoint.load_tensors(path, f"optimizer-{player.name}"))

    def _note_time(self, folder: Path, first: int, seconds: float) -> None:
        """Speed is not part of metrics.jsonl, which is the same in every run."""
        data = (self.step - first) * self.recipe.batch_size * self.turns
        with (folder / "timing.jsonl").open("a") as timing:
            timing.write(json.dumps({"step": self.step, "seconds": seconds, "data": data}) + "\n")


def validation_steps(steps: int) -> frozenset[int]:
    """After which steps to validate: twenty times at equal distances, and four times before the
    first of them, as small data sets are overfitted early."""
    early = [1 / (VALIDATIONS * 2**k) for k in range(1, 5)]
    equal = [k / VALIDATIONS for k in range(1, VALIDATIONS + 1)]
    return frozenset(max(1, math.ceil(steps * fraction)) for fraction in early + equal)


@contextmanager
def _board(config: RunConfig, folder: Path, step: int) -> Iterator[Callable[[str, float, int], None]]:
    """Where scalars go besides metrics.jsonl: TensorBoard if asked for, else nowhere."""
    if not config.tensorboard:
        yield lambda name, value, step: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingsError("--tensorboard needs the extra: pip install 'genus[tensorboard]'.") from None
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
    try:
        yield writer.add_scalar
    finally:
        writer.close()


def _truncate(metrics: Path, step: int) -> None:
    """Drop records after ``step``: they belong to steps that will be taken again."""
    records = read_jsonl(metrics)
    kept = [record for record in records if record["step"] <= step]
    temporary = metrics.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
    temporary.replace(metrics)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)


@contextmanager
def _signals() -> Iterator[Callable[[], str | None]]:
    """Turn SIGINT and SIGTERM into a question asked after every step; a second one kills."""
    caught: list[str] = []

    def note(number: int, _frame: Any) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(signal.Signals(number).name)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
