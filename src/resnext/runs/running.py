"""Training with a run folder: the loop, the evaluation and the folder put together."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from torch import nn

from resnext.data import evaluation_batches, train_batches
from resnext.data.loader import Batches
from resnext.errors import CheckpointError, DataError, NotFiniteError, PreemptedError
from resnext.evaluation.scores import Part, Scores, evaluate
from resnext.metrics import Counts
from resnext.model.network import build
from resnext.runs.bad_images import BadImages
from resnext.runs.epochs import EpochBatches
from resnext.runs.fitting import enough_memory
from resnext.runs.folder import NOT_FINITE, RunFolder
from resnext.runs.planning import Plan
from resnext.runs.pretrained import load_pretrained
from resnext.runs.records import BadImage, EpochRecord, NotFinite, StepRecord, ended_early, finite
from resnext.runs.signals import Stop
from resnext.training.checkpoint import Checkpoint
from resnext.training.class_weights import class_weights
from resnext.training.distributed import ALONE, World
from resnext.training.loop import Epoch, Step, fit
from resnext.training.state import Position, State
from resnext.training.trainer import Trainer

SAVE_SECONDS = 600.0
"""Between two checkpoints inside an epoch: so much work is lost at most."""

LOG_UPDATES = 100
"""Between two lines of `steps.jsonl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to say about the run itself: where it continues, what was found damaged."""

    text: str


Progress = Step | Part | BadImage | Notice | StepRecord | EpochRecord


def train_run(
    plan: Plan,
    folder: RunFolder,
    *,
    world: World = ALONE,
    stop: Stop | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Iterator[Progress]:
    """Train to the end of the recipe, from the folder's newest whole checkpoint if there is one.

    Nothing happens until the result is pulled. Yields every `Step`, a `Part` of the evaluation from
    time to time, a `BadImage` for each image that another one stood in for, a `StepRecord` every
    `LOG_UPDATES`, a `Notice` where there is something to say, and an `EpochRecord` for every epoch,
    saved before it is yielded. Stopping in between loses what came after the last checkpoint:
    `save_seconds` at most, or an epoch.

    Raises:
        UsageError: another process writes to the folder.
        CheckpointError: its checkpoints are all damaged, or belong to another network.
        DataError: too many images cannot be used.
        NotFiniteError: training ran away.
        ResourceError: memory or disk is full; or another process is lost.
        PreemptedError: `stop` asked for it; all is saved.
    """
    enough = enough_memory(
        plan.speed, plan.spec, plan.profile.resolution, plan.recipe, plan.device, world
    )
    with folder.locked() if world.first else nullcontext(), enough:
        run = _Run(plan, folder, world, stop or Stop(), save_seconds)
        yield from run.resumed()
        yield from run.trained()
    run.stop.last_resort = lambda: False  # nothing of this run is left to be saved


class _Run:
    """What one training has in hand while it goes on."""

    def __init__(
        self, plan: Plan, folder: RunFolder, world: World, stop: Stop, save_seconds: float
    ) -> None:
        self.plan, self.folder, self.world, self.stop = plan, folder, world, stop
        self._save_seconds = save_seconds
        # Always the grouped form: it is the fastest one, and what checkpoints hold.
        model = build(
            plan.spec,
            form="grouped",
            backend=plan.speed.backend or "framework",
            seed=plan.seed,
            device=plan.device,
        )
        self._head_taken: bool | None = None
        begun = world.from_first(folder.checkpoints)
        if plan.initial is not None and not begun:
            self._head_taken = load_pretrained(model, plan.initial, new_head=plan.new_head)
        self.trainer = Trainer(
            model,
            plan.recipe,
            device=plan.device,
            seed=plan.seed,
            world=world,
            speed=plan.speed,
            skip_bad=plan.on_nan == "skip",
            class_weights=class_weights(
                plan.recipe, plan.data.train.labels, len(plan.data.classes)
            ),
        )
        self._epochs = EpochBatches(len(plan.data.train), plan.recipe)
        self._seconds = self._waited = 0.0  # of the running epoch, up to the last save
        self._bad_images = BadImages(plan.data.train, folder, world, plan.bad_limit)
        self._recent: deque[tuple[int, Any]] = deque(maxlen=4096)
        self._saved_at = time.monotonic()
        self._saving = threading.Lock()
        self._skipped = 0

    def resumed(self) -> Iterator[Progress]:
        """Load the newest state, if there is one."""
        yield from self._load()
        self.stop.last_resort = self._last_resort

    def _load(self) -> Iterator[Progress]:
        checkpoint, problems = self.world.from_first(self._newest)
        for problem in problems:
            yield Notice(text=f"{problem}; continuing from the checkpoint before")
        if checkpoint is None:
            if self._head_taken is not None:
                head = "taken over" if self._head_taken else "new"
                yield Notice(text=f"begins with {self.plan.initial}; classifier {head}")
            if self.world.first:
                self.folder.rewind(epochs=0, updates=0, bad_images=0)
            return
        state = checkpoint.state
        self.trainer.load(_state_of(checkpoint))
        self._seconds, self._waited = state["seconds"], state["waited"]
        self._bad_images.in_epoch = state["bad_epoch"]
        self._bad_images.logged = state["bad_logged"]
        position = self.trainer.position
        done = position.epoch if self._at_end() else position.epoch - 1
        if self.world.first:
            self.folder.rewind(done, position.updates, self._bad_images.logged)
        yield Notice(
            text=f"continuing behind step {position.step} of {self._epochs.steps} in "
            f"epoch {position.epoch}"
        )

    def _newest(self) -> tuple[Checkpoint | None, list[str]]:
        """What to continue from; an epoch is recorded behind its checkpoint only.

        Raises:
            CheckpointError: there were checkpoints, and none is left.
        """
        checkpoint, problems = self.folder.newest()
        if checkpoint is None and (done := len(self.folder.epochs())):
            raise CheckpointError(
                f"expected a checkpoint in {self.folder.path} to continue behind epoch {done}, "
                "found none; the run can be scored, or trained anew with another --out"
            )
        return checkpoint, problems

    def trained(self) -> Iterator[Progress]:
        """From here to the end of the recipe, or of patience."""
        recorded = self.world.from_first(self.folder.epochs)
        if ended_early(recorded, self.plan.recipe.patience):
            return
        if self._at_end() and len(recorded) >= self.trainer.position.epoch:
            self.trainer.next_epoch()
            self._begin_epoch()
        try:
            for progress in fit(
                self.trainer, self._remaining, seconds=self._seconds, waited=self._waited
            ):
                if isinstance(progress, Step):
                    yield progress
                    yield from self._after(progress)
                    continue
                yield from self._end_epoch(progress)
                recorded = self.world.from_first(self.folder.epochs)
                if ended_early(recorded, self.plan.recipe.patience):
                    patience = self.plan.recipe.patience
                    yield Notice(text=f"ended early: no lower error in {patience} epochs")
                    return
        except DataError:
            self._bad_images.log_last(self.trainer.position.epoch)
            raise

    def _end_epoch(self, epoch: Epoch) -> Iterator[Progress]:
        """Save, score and record; what was trained is safe before anything else can fail."""
        self._save(epoch)
        model = self.trainer.evaluated()
        scores = yield from self._validate(model)
        record = EpochRecord.of(epoch, scores, skipped=self.trainer.bad_steps()[0])
        self.world.from_first(lambda: self.folder.keep(model.state_dict(), record))
        self._begin_epoch()
        yield record

    def _begin_epoch(self) -> None:
        self._seconds = self._waited = 0.0
        self._bad_images.in_epoch = 0

    def _at_end(self) -> bool:
        position = self.trainer.position
        return position.step > 0 and position.step >= self._epochs.steps

    def _remaining(self, epoch: int, step: int) -> Any:
        """The batches of an epoch behind so many steps."""
        return self._epochs.batches(epoch, step, self._pass)

    def _pass(self, number: int, start: int) -> Batches:
        plan = self.plan
        batches = train_batches(
            plan.data.train,
            plan.profile,
            batch_size=plan.recipe.batch_size,
            seed=plan.seed,
            epoch=number,
            start=start,
            workers=plan.workers,
            rank=self.world.rank,
            world=self.world.size,
            part=plan.recipe.bn_batch or 1,
            device=plan.device,
            engine=plan.engine,
            bad_limit=plan.bad_limit,
            reuse=True,
        )
        self._bad_images.follow(batches)
        return batches

    def _after(self, step: Step) -> Iterator[Progress]:
        """Whatever is due behind a step; all processes agree on it."""
        self._recent.append((self.trainer.position.updates, step.batch.indices))
        bad = self._bad_images.new()
        runaway = step.counts is not None and self._ran_away()
        due = time.monotonic() - self._saved_at > self._save_seconds
        wishes = [len(bad), runaway, due and self.world.first, self.stop.signal is not None]
        new_bad, any_runaway, any_due, any_stop = self.world.totals(wishes)
        self._seconds, self._waited = step.seconds, step.waited
        if step.counts is not None:
            yield from self._tell_of_skipped()
        if new_bad:
            yield from self._bad_images.log(step.epoch, bad)
        if any_runaway:
            self._raise_not_finite(step)
        if self.trainer.position.updates % LOG_UPDATES == 0:
            yield self._log(step)
        if any_due or any_stop:
            self._save(step)
        if any_stop:
            raise PreemptedError(f"all up to step {step.step} of epoch {step.epoch} is saved")

    def _tell_of_skipped(self) -> Iterator[Notice]:
        skipped, _ = self.trainer.bad_steps()
        if skipped > self._skipped:
            yield Notice(text=f"{skipped} updates left out so far: no finite gradient")
        self._skipped = skipped

    def _ran_away(self) -> bool:
        """Whether training must end because its numbers are no longer finite."""
        bad, _ = self.trainer.bad_steps()
        if not bad and not self.trainer.scale_lost():
            self._recent.clear()
            return False
        return self.plan.on_nan == "stop" or bad > self.plan.nan_limit or self.trainer.scale_lost()

    def _raise_not_finite(self, at: Step | Epoch) -> NoReturn:
        """Say which update it was, of which images, and what there is to go back to."""
        bad, update = self.trainer.bad_steps()
        lost = self.trainer.scale_lost()
        if lost:
            update = self.trainer.position.updates
        mine: list[int] = []
        for updates, indices in self._recent:
            if updates == update:
                mine = indices.tolist()
        images = [index for part in self.world.gather(mine) for index in part]
        names = [self.plan.data.train.describe(index) for index in images]
        found = NotFinite(update=update, epoch=at.epoch, numbers=images, images=names)
        self.world.from_first(lambda: self.folder.keep_not_finite(found))
        saved = self.world.from_first(self.folder.checkpoints)
        kept = f"the last good checkpoint is {saved[0]}" if saved else "no checkpoint was saved yet"
        place = f"update {update} (epoch {at.epoch}, learning rate {at.learning_rate:.3g})"
        what = f"the gradient of {place} is not finite, {bad} such"
        advice = "or --on-nan skip" if self.plan.on_nan == "stop" else ""
        if lost:
            what = f"gradients of fp16 overflow however little they are scaled, last in {place}"
            advice = "or --precision bf16"
        raise NotFiniteError(
            f"training stopped: {what}; {NOT_FINITE} names its {len(images)} images: "
            f"{', '.join(names[:3])} …; {kept}; a lower rate or a look at the images may help"
            f"{advice and ', ' + advice}"
        )

    def _log(self, step: Step) -> StepRecord:
        counts = self.trainer.counts()
        record = StepRecord(
            epoch=step.epoch,
            step=step.step,
            updates=self.trainer.position.updates,
            learning_rate=step.learning_rate,
            loss=finite(counts.loss),
            error=counts.top1_error,
            top5_error=counts.top5_error,
            seconds=step.seconds,
            data_wait=step.waited / step.seconds,
        )
        if self.world.first:
            self.folder.log(record)
        return record

    def _save(self, at: Step | Epoch) -> None:
        """Save the state, unless it is past saving; every process learns how that went."""
        if self._ran_away():
            self._raise_not_finite(at)
        self._seconds, self._waited = at.seconds, at.waited
        state = self.trainer.state()
        self.world.from_first(lambda: self._write(state))
        self._saved_at = time.monotonic()

    def _write(self, state: State) -> None:
        with self._saving:
            self.folder.save(state.position.updates, self._checkpoint(state))

    def _checkpoint(self, state: State) -> Checkpoint:
        return Checkpoint(
            weights=state.weights,
            training=state.tensors,
            state={
                "epoch": state.position.epoch,
                "step": state.position.step,
                "updates": state.position.updates,
                "counts": asdict(state.counts),
                "bad_steps": list(state.bad_steps),
                "scaler": dict(state.scaler),
                "seconds": self._seconds,
                "waited": self._waited,
                "bad_epoch": self._bad_images.in_epoch,
                "bad_logged": self._bad_images.logged,
            },
        )

    def _last_resort(self) -> bool:
        """Save from another thread while the main one is busy: with a step, or with scoring.

        Returns whether there is a checkpoint of where training stands. A sharded network cannot be
        put together here: that takes all processes, and their main threads.
        """
        if not self.world.first:
            time.sleep(_FIRST_SAVES)
            return True
        if self.plan.speed.sharded:
            return False
        with self.trainer.committing:
            if self.plan.on_nan == "stop" and self.trainer.bad_steps()[0]:
                return False
            self._write(self.trainer.state())
        return True

    def _validate(self, model: nn.Module) -> Generator[Part, None, Scores]:
        plan, images = self.plan, self.plan.data.validation
        batches = evaluation_batches(
            images,
            plan.profile,
            batch_size=plan.recipe.batch_size,
            workers=plan.workers,
            rank=self.world.rank,
            world=self.world.size,
            device=plan.device,
            engine=plan.engine,
        )
        for progress in evaluate(
            model,
            batches,
            samples=len(images),
            profile=plan.profile.name,
            leading=plan.recipe.leading,
            device=plan.device,
            world=self.world,
        ):
            if isinstance(progress, Scores):
                return progress
            if self.stop.signal is not None and self.world.size == 1:
                raise PreemptedError("all of the epoch's training is saved")
            yield progress
        raise AssertionError("an evaluation ends with its scores")


_FIRST_SAVES = 5.0
"""Seconds that other processes give the first one to save before they end too."""


def _state_of(checkpoint: Checkpoint) -> State:
    """A checkpoint's contents as the trainer takes them.

    Raises:
        CheckpointError: it holds something else.
    """
    state = checkpoint.state
    try:
        return State(
            weights=checkpoint.weights,
            tensors=checkpoint.training,
            position=Position(epoch=state["epoch"], step=state["step"], updates=state["updates"]),
            counts=Counts(**state["counts"]),
            bad_steps=tuple(state["bad_steps"]),
            scaler=state["scaler"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"expected the state of a training, found one without {error}"
        ) from error
