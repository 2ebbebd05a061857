"""Training a detector with its folder: phases, checkpoints, proposals between the two steps."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

from resnext.detection.batches import Parts, Steps, load_image, step_batches
from resnext.detection.coco import Coco
from resnext.detection.folder import DetectionFolder, StepLine
from resnext.detection.networks import Detector, TwoStep
from resnext.detection.planning import DetectionPlan, begin_detector
from resnext.detection.schedule import Schedule
from resnext.detection.stored import Stored, key_of, weights_digest
from resnext.detection.trainer import DetectionTrainer
from resnext.errors import CheckpointError, PreemptedError
from resnext.runs.running import SAVE_SECONDS, Notice
from resnext.runs.signals import Stop
from resnext.training.checkpoint import Checkpoint
from resnext.training.distributed import ALONE, World

LOG_STEPS = 20
"""Between two lines of `steps.jsonl`."""


_FIRST_SAVES = 5.0
"""Seconds that other processes give the first one to save before they end too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionStep:
    """One finished step: losses of it, seconds of this process in the phase."""

    phase: str
    step: int
    steps: int
    updates: int
    learning_rate: float
    losses: dict[str, float]
    seconds: float
    waited: float
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How many of some images something was done with."""

    what: str
    done: int
    total: int


Progress = DetectionStep | Done | Notice


def train_detector(
    plan: DetectionPlan,
    folder: DetectionFolder,
    *,
    world: World = ALONE,
    stop: Stop | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Iterator[Progress]:
    """Train all phases to their end, from the folder's newest whole checkpoint if there is one.

    Nothing happens until the result is pulled.

    Raises:
        UsageError: another process writes to the folder.
        CheckpointError: its checkpoints are all damaged, or belong to another detector.
        DataError: a picture cannot be used.
        NotFiniteError: training ran away.
        PreemptedError: `stop` asked for it; all is saved.
    """
    with folder.locked() if world.first else nullcontext():
        run = _Run(plan, folder, world, stop or Stop(), save_seconds)
        yield from run.resumed()
        yield from run.trained()
    run.stop.last_resort = lambda: False  # nothing of this run is left to be saved


class _Run:
    """What one training has in hand while it goes on."""

    def __init__(
        self,
        plan: DetectionPlan,
        folder: DetectionFolder,
        world: World,
        stop: Stop,
        save_seconds: float,
    ) -> None:
        self.plan, self.folder, self.world, self.stop = plan, folder, world, stop
        self._save_seconds, self._saved_at = save_seconds, time.monotonic()
        self._saving = threading.Lock()
        begun = world.from_first(folder.checkpoints)
        # weights that are loaded next need not be made first
        fresh = replace(plan, initial=None, recalibrated=0) if begun else plan
        self.detector: Detector = begin_detector(fresh)
        self._phase = 0
        self.trainer = self._trainer()
        self._seconds = self._waited = 0.0

    def _trainer(self) -> DetectionTrainer:
        schedules = self.plan.study.schedules
        return DetectionTrainer(
            self.detector,
            schedules[self._phase],
            device=self.plan.device,
            seed=self.plan.seed,
            before=sum(s.steps for s in schedules[: self._phase]),
            precision=self.plan.precision,
            world=self.world,
        )

    def resumed(self) -> Iterator[Progress]:
        """Load the newest state, if there is one."""
        checkpoint, problems = self.world.from_first(self.folder.newest)
        for problem in problems:
            yield Notice(text=f"{problem}; continuing from the checkpoint before")
        if checkpoint is not None:
            self._load(checkpoint)
            yield Notice(
                text=f"continuing behind step {self.trainer.done} of "
                f"{self.trainer.schedule.steps} ({self.trainer.schedule.phase})"
            )
        if self.world.first:
            self.folder.rewind(self._updates())
        self.stop.last_resort = self._last_resort

    def _load(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        try:
            self._phase, done = int(state["phase"]), int(state["step"])
            self._seconds, self._waited = float(state["seconds"]), float(state["waited"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"expected the state of a detector, found one without {error}"
            ) from error
        self.trainer = self._trainer()
        self.trainer.load(checkpoint.weights, checkpoint.training, done)

    def _updates(self) -> int:
        return self.trainer.before + self.trainer.done

    def trained(self) -> Iterator[Progress]:
        """From here to the end of the last phase."""
        while True:
            yield from self._phase_to_its_end()
            if self._phase + 1 == len(self.plan.study.schedules):
                break
            self._phase += 1
            self.trainer = self._trainer()
            self._seconds = self._waited = 0.0
        self.world.from_first(lambda: self.folder.keep(self.detector.state_dict()))

    def _phase_to_its_end(self) -> Iterator[Progress]:
        schedule = self.trainer.schedule
        if self.trainer.done == schedule.steps:
            return
        stored = None
        if schedule.phase == "fast" and self.plan.study.method.proposals == "stored":
            stored = yield from self._proposals()
        assert self.plan.sets.train is not None
        steps = Steps(
            self.plan.sets.train,
            self.plan.study.method,
            schedule,
            self.plan.seed,
            rank=self.world.rank,
            world=self.world.size,
            stored=stored,
            empty=self.plan.empty,
        )
        batches = _Timed(
            step_batches(steps, range(self.trainer.done, schedule.steps), self.plan.workers)
        )
        yield from self._steps(schedule, batches)
        self._save()

    def _steps(self, schedule: Schedule, batches: "_Timed") -> Iterator[Progress]:
        begun, seconds, waited = time.perf_counter(), self._seconds, self._waited
        for _, losses in self.trainer.steps(batches):
            self._seconds = seconds + time.perf_counter() - begun
            self._waited = waited + batches.waited
            step = DetectionStep(
                phase=schedule.phase,
                step=self.trainer.done,
                steps=schedule.steps,
                updates=self._updates(),
                learning_rate=schedule.rate(self.trainer.done - 1),
                losses=losses,
                seconds=self._seconds,
                waited=self._waited,
                images=self.trainer.done * schedule.images,
            )
            yield step
            self._after(step)

    def _after(self, step: DetectionStep) -> None:
        """Whatever is due behind a step; all processes agree on it."""
        due = time.monotonic() - self._saved_at > self._save_seconds
        wishes = [due and self.world.first, self.stop.signal is not None]
        any_due, any_stop = self.world.totals(wishes)
        if self.world.first and (step.step % LOG_STEPS == 0 or step.step == step.steps):
            self.folder.log(_line(step))
        if any_due or any_stop:
            self._save()
        if any_stop:
            raise PreemptedError(f"all up to step {step.step} ({step.phase}) is saved")

    def _save(self) -> None:
        self.world.from_first(self._write)
        self._saved_at = time.monotonic()

    def _write(self) -> None:
        with self._saving:
            self.folder.save(self._updates(), self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            weights=self.detector.state_dict(),
            training=self.trainer.tensors(),
            state={
                "phase": self._phase,
                "step": self.trainer.done,
                "seconds": self._seconds,
                "waited": self._waited,
            },
        )

    def _last_resort(self) -> bool:
        """Save from another thread while the main one is busy with a step."""
        if not self.world.first:
            time.sleep(_FIRST_SAVES)
            return True
        with self.trainer.committing:
            self._write()
        return True

    def _proposals(self) -> Generator[Progress, None, Stored]:
        assert isinstance(self.detector, TwoStep)
        assert self.plan.sets.train is not None
        return store_proposals(
            self.detector, self.plan.sets.train, self.folder, self.world, self.stop
        )


def store_proposals(
    detector: TwoStep, data: Coco, folder: DetectionFolder, world: World, stop: Stop
) -> Generator[Progress, None, Stored]:
    """Proposals of all training images; those of earlier parts are taken as they are.

    Returns:
        What holds them (as the value of the generator).

    Raises:
        PreemptedError: `stop` asked for it; whole shards are kept.
    """
    stored = Stored(
        folder.proposals,
        key_of(
            tuple(data.ids.tolist()),
            weights_digest(detector.proposing.state_dict()),
            detector.method.model_dump(mode="json"),
        ),
        tuple(data.ids.tolist()),
    )
    index = {int(number): i for i, number in enumerate(data.ids)}
    device = next(detector.parameters()).device
    todo = world.from_first(stored.missing)
    total = sum(len(ids) for _, ids in todo)
    done = 0
    detector.proposing.train()  # as many as are trained on
    for place, (shard, ids) in enumerate(todo):
        if place % world.size != world.rank:
            continue
        found = []
        for image_id in ids:
            image = load_image(data, index[image_id]).to(device)
            found += detector.proposing.proposals([image])
            done += 1
            yield Done(what="proposals", done=done, total=total)
            if stop.signal is not None and world.size == 1:
                raise PreemptedError(f"proposals of {shard} parts of the images are saved")
        stored.write(shard, found)
    world.totals([0])  # wait for the others
    return stored


def _line(step: DetectionStep) -> StepLine:
    return StepLine(
        phase=step.phase,
        step=step.step,
        updates=step.updates,
        learning_rate=step.learning_rate,
        losses=step.losses,
        seconds=step.seconds,
        data_wait=step.waited / step.seconds if step.seconds else 0.0,
    )


class _Timed:
    """Batches that know how long they were waited for."""

    def __init__(self, batches: Iterator[Parts]) -> None:
        self._batches = batches
        self.waited = 0.0

    def __iter__(self) -> Iterator[Parts]:
        return self

    def __next__(self) -> Parts:
        asked = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - asked
