"""Write the golden files anew and print what changed: ``uv run python tests/golden/regenerate.py``.

A change of a golden file is a reviewed act: it says that a published integer was wrong.
"""

import difflib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import resnext
from resnext import CATALOG, complexity
from resnext.spec import Spec

HERE = Path(__file__).parent


def cost_record(spec: Spec) -> dict[str, object]:
    """What the golden file keeps of one network: totals and stages."""
    cost = complexity(spec)
    return {
        "resolution": cost.resolution[0],
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activations": cost.activations,
        "training_bytes_batch_32": cost.training_memory(32).total,
        "stages": [asdict(stage) for stage in cost.stages],
    }


def golden_complexity() -> str:
    """The text of ``complexity.json``."""
    records = {entry.identifier: cost_record(entry.spec) for entry in CATALOG}
    return json.dumps(records, indent=1) + "\n"


def golden_losses(name: str) -> str:
    """The text of ``losses/<recipe>.txt``: 20 steps of the recipe, over 2 epochs of 10.

    The recipe is as it is named, but for its size: batches of 16 images of 8 x 8 pixels in parts of
    8, its rate by the linear rule. One thread, on the processor, in float64: in float32 the losses
    of two processors part within a few steps, and torch's random numbers do from the start.
    """
    import torch

    from resnext.model.network import build
    from resnext.training.loop import Step, fit
    from resnext.training.recipe import recipe
    from resnext.training.trainer import Trainer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small = recipe(name).with_batch_size(16).with_epochs(2)
    small = small.model_copy(update={"bn_batch": 8, "epoch_steps": None})
    spec = resnext.spec("ResNeXt-11 (2x2d, CIFAR)", classes=4, in_channels=1)
    model = build(spec, form="grouped", seed=1).double()
    for number, p in enumerate(model.parameters()):
        if p.ndim > 1:  # He et al., Eqn. 10, uniform
            bound = (6 / p[0].numel()) ** 0.5
            p.data = bound * (2 * torch.from_numpy(uniform(number, tuple(p.shape))) - 1)
    trainer = Trainer(model, small, seed=1)
    lines, summed = [], 0.0
    for record in fit(trainer, synthetic_batches, pulse=0):
        if isinstance(record, Step):
            if record.step == 1:
                summed = 0.0
            loss = (record.counts.loss_sum - summed) / 16
            summed = record.counts.loss_sum
            lines.append(f"{record.epoch} {record.step:2} {record.learning_rate:.6g} {loss:.12g}\n")
    torch.set_num_threads(threads)
    return "".join(lines)


@dataclass(frozen=True)
class Batch:
    """Images and labels."""

    images: Any
    labels: Any


class Batches(list[Batch]):
    """Ten batches of 16."""

    @property
    def totals(self) -> list[int]:
        """Images of each."""
        return [len(batch.labels) for batch in self]


def uniform(number: int, shape: tuple[int, ...]) -> Any:
    """Numbers in [0, 1) out of raw bits, which NumPy promises never to change."""
    import numpy as np

    bits = np.random.Philox(key=[7, number]).random_raw(int(np.prod(shape)))
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def synthetic_batches(epoch: int, step: int) -> Batches:
    """Noise with a bright side that the label names."""
    import numpy as np
    import torch

    batches = []
    for number in range(step, 10):
        images = uniform(1000 + 10 * epoch + number, (16, 1, 8, 8))
        labels = np.arange(16) % 4
        for image, label in zip(images, labels, strict=True):
            edge = (slice(2), slice(6, 8))[label % 2]
            image[0][edge if label < 2 else (slice(8), edge)] += 1
        batches.append(Batch(torch.from_numpy(images - 0.75), torch.from_numpy(labels)))
    return Batches(batches)


def texts() -> dict[Path, str]:
    """What every golden file should hold."""
    from resnext.training.recipe import RECIPES

    losses = {HERE / "losses" / f"{name}.txt": golden_losses(name) for name in RECIPES}
    return {HERE / "complexity.json": golden_complexity(), **losses}


def main() -> None:
    """Regenerate and show the difference."""
    files, changed = texts(), 0
    for path, after in files.items():
        before = path.read_text() if path.exists() else ""
        names = (f"before/{path.name}", f"after/{path.name}")
        sys.stdout.writelines(
            difflib.unified_diff(before.splitlines(True), after.splitlines(True), *names)
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(after)
        changed += before != after
    sys.stdout.write(f"{changed} of {len(files)} files changed\n")


if __name__ == "__main__":
    main()
