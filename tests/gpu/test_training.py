"""Training steps on a GPU: they do not wait, and every speed learns the same."""

import pytest
import torch

import resnext
from resnext.training.recipe import recipe
from resnext.training.speed import Speed
from resnext.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

NETWORK = "ResNeXt-29 (4x16d, CIFAR)"
SMALL = recipe("cifar").model_copy(
    update={"batch_size": 32, "bn_batch": 16, "learning_rate": 0.001}
)


class Batch:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels


class Batches:
    """The same images again and again."""

    def __init__(self, steps, device="cuda"):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(32, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (32,), generator=generator)
        self._batch = Batch(images.to(device), labels.to(device))
        self._steps = steps

    @property
    def totals(self):
        return [32] * self._steps

    def __len__(self):
        return self._steps

    def __iter__(self):
        return iter([self._batch] * self._steps)


def trainer(device="cuda", recipe=SMALL, **speed):
    model = resnext.build(NETWORK, seed=0, device=device)
    return Trainer(model, recipe, device=device, speed=Speed(**speed))


def losses(made, steps=5, device="cuda"):
    """The loss of every step; of one batch it falls."""
    before, found = 0.0, []
    for _ in made.train_epoch(Batches(steps, device)):
        total = made.counts().loss_sum
        found.append((total - before) / 32)
        before = total
    return found


@pytest.fixture(scope="module")
def expected():
    return losses(trainer("cpu"), device="cpu")


# Measured on the CPU between 1 and 2 threads: 1e-6 in the first step, growing tenfold a step or so.
# bf16 keeps 8 bits, fp16 11.
TOLERANCE = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.05}


@pytest.mark.parametrize("compilation", [None, "default", "cuda-graphs"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_speed_learns_what_the_cpu_learns(expected, precision, compilation):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    found = losses(trainer(precision=precision, compilation=compilation))
    assert found == pytest.approx(expected, rel=TOLERANCE[precision])
    assert found[-1] < found[0]


@pytest.mark.parametrize("micro_batch", [None, 16])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_device(precision, micro_batch):
    made = trainer(precision=precision, micro_batch=micro_batch)
    losses(made, steps=2)  # whatever is set up once
    batches = Batches(3)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in made.train_epoch(batches):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.counts().samples == 32 * 5


def test_a_step_that_is_not_finite_is_held_back_on_the_device():
    made = trainer()
    losses(made, steps=2)
    before = {name: tensor.clone() for name, tensor in made.state().weights.items()}
    batches = Batches(1)
    next(iter(batches)).images[0, 0, 0, 0] = float("inf")
    list(made.train_epoch(batches))
    assert made.bad_steps() == (1, 3)
    for name, parameter in made.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_a_state_continues_to_the_bit(tmp_path):
    torch.backends.cudnn.deterministic = True
    try:
        whole = trainer()
        losses(whole, steps=4)
        half = trainer()
        losses(half, steps=2)
        again = trainer()
        again.load(half.state())
        losses(again, steps=2)
    finally:
        torch.backends.cudnn.deterministic = False
    for name, tensor in whole.state().weights.items():
        torch.testing.assert_close(again.state().weights[name], tensor, rtol=0, atol=0)
