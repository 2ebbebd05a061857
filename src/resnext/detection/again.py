"""The plan of a run that is begun, from what its folder says."""

from resnext.detection.detecting import data_of
from resnext.detection.folder import DetectionFolder
from resnext.detection.networks import Pixels
from resnext.detection.planning import DetectionPlan
from resnext.detection.schedule import Study
from resnext.detection.splits import Sets
from resnext.runs.planning import resolve_device
from resnext.runs.pretrained import Initial
from resnext.training.distributed import ALONE, World


def plan_again(
    folder: DetectionFolder,
    *,
    device: str | None = None,
    workers: int = 0,
    world: World = ALONE,
) -> DetectionPlan:
    """All that a run was begun with, on the machine of now.

    Raises:
        CheckpointError: its record is damaged.
        DataError: its pictures are gone or have changed.
    """
    record = folder.record
    train, evaluation = data_of(record.train), data_of(record.evaluation)
    return DetectionPlan(
        study=Study(method=record.method, schedules=record.schedules),
        spec=folder.spec(),
        sets=Sets(train=train, evaluation=evaluation),
        pixels=Pixels(record.mean, record.std),
        initial=None if record.initial_weights is None else Initial.parse(record.initial_weights),
        recalibrated=record.recalibrated,
        empty=record.empty,
        seed=record.seed,
        device=resolve_device(device, world.local_rank),
        workers=workers,
        precision=record.precision,
        processes=world.size,
    )
