"""One sitting of training: steps until the end or a signal, and what is written on the way."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genus.errors import CheckpointError, SettingsError
from genus.runs.checkpoint import SaveError
from genus.runs.config import RunConfig
from genus.runs.records import Records
from genus.training.divergence import DivergenceError
from genus.training.progress import Display
from genus.training.session import Session
from genus.training.signals import Interrupted
from genus.training.watch import Watch

TRIES = 3  # to write a checkpoint


def run_steps(session: Session, folder: Path, shown: Display, asked_to_stop: Callable[[], str | None]) -> None:
    """Step to the end, logging, validating and saving on the way.

    Raises `Interrupted` after a signal, when the state is saved; `DivergenceError` for a NaN.
    """
    team = session.team
    shown.begin(session.step)
    with _board(session.config, folder, session.step) as board:
        recorder = Recorder(session, folder, shown, board) if team.leads else None
        try:
            while session.step < session.steps:
                session.take_step()
                if recorder:
                    recorder.log()
                name = asked_to_stop()
                stopping = team.any(name is not None) and session.step < session.steps
                if stopping or session.step == session.steps:
                    team.lead(lambda: recorder.save(last=True) if recorder else None)
                elif recorder and recorder.is_due:
                    recorder.save(last=False)
                if stopping:
                    raise Interrupted(name or "SIGTERM", session.step, session.steps, folder)
        except DivergenceError as error:
            if recorder:
                recorder.write({"step": session.step + 1, "diverged": str(error)})
            raise
        finally:
            session.close()


class Recorder:
    """What the leader writes while a session runs: records, checkpoints, times. A disk that
    refuses does not stop training before its end."""

    def __init__(self, session: Session, folder: Path, shown: Display, board: Callable[[str, float, int], None]):
        self.session, self.folder, self.shown, self.board = session, folder, shown, board
        self.records = Records(folder / "metrics.jsonl", session.step)
        self.watch = Watch(self.records.kept)
        self.saved = self.began = time.monotonic()
        self.first = session.step

    def log(self) -> None:
        """The record of the step just taken, where one is due."""
        session = self.session
        step, judging = session.step, session.step in session.validate_at
        if not (judging or step % session.log_every == 0 or step == session.steps):
            return
        record: dict[str, Any] = session.averages()
        self.shown.show(step, record, session.recipe.batch_size * session.turns)
        if judging:
            record |= session.judge(self.watch, record)
        for warning in record.get("warnings", []):
            self.shown.say(f"warning at step {step}: {warning['name']}: {warning['seen']} {warning['cure']}")
        for name, value in record.items():
            if isinstance(value, float):
                self.board(name, value, step)
        self.write({"step": step, **record})

    def write(self, record: dict[str, Any]) -> None:
        """Append to metrics.jsonl; where the disk refuses, later."""
        try:
            self.records.write(record)
        except OSError as error:
            self.shown.say(f"warning: {self.records.path} cannot be written now ({error.strerror}); training goes on.")

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self.saved >= self.session.config.checkpoint_seconds

    def save(self, last: bool) -> None:
        """Write a checkpoint, trying again for a while; only the ``last`` one must succeed."""
        session = self.session
        for attempt in range(TRIES):
            try:
                self.records.sync()  # a checkpoint must not be newer than the records
                session.save(self.folder / "checkpoints")
                break
            except (SaveError, OSError) as error:
                problem = error
                time.sleep(0.1 * 4**attempt)
        else:
            kept = (
                f"the checkpoint of step {session.saved_step} is whole" if session.saved_step else "there is none yet"
            )
            if last:
                raise CheckpointError(
                    f"step {session.step} could not be saved: {problem} Of the checkpoints, {kept}. "
                    "Make room and give the same command again."
                ) from None
            self.shown.say(f"warning: {problem} Training goes on and tries again later; {kept}.")
        self.saved = time.monotonic()
        self._note_time()

    def _note_time(self) -> None:
        """Speed is not part of metrics.jsonl, which is the same in every run."""
        session = self.session
        data = (session.step - self.first) * session.recipe.batch_size * session.turns
        line = {"step": session.step, "seconds": self.saved - self.began, "data": data}
        with suppress(OSError), (self.folder / "timing.jsonl").open("a") as timing:
            timing.write(json.dumps(line) + "\n")
        self.first, self.began = session.step, self.saved


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
