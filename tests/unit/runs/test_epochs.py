from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from resnext.runs.epochs import EpochBatches
from resnext.training.recipe import recipe


@dataclass
class Pass:
    """Batches of one pass that say which images they are made of."""

    groups: list
    totals: list
    bad: list = field(default_factory=list)

    def __iter__(self):
        return iter(self.groups)


def one_pass(count, batch, number, start):
    """The batches of a pass, as (pass, first image, end); one image left joins the last batch."""
    ends = [*range(start + batch, count, batch), count]
    if len(ends) > 1 and count - ends[-2] == 1 < batch:
        del ends[-2]
    pairs = list(zip([start, *ends[:-1]], ends, strict=True))
    return Pass([(number, a, b) for a, b in pairs], [b - a for a, b in pairs])


def epochs_of(count, batch, epoch_steps):
    values = {"batch_size": batch, "bn_batch": None, "epoch_steps": epoch_steps}
    return EpochBatches(count, recipe("cifar").model_copy(update=values))


sizes = st.tuples(st.integers(2, 60), st.integers(1, 20), st.none() | st.integers(1, 30))


@given(sizes, st.integers(1, 6), st.data())
def test_epochs_are_cut_from_the_row_of_all_passes(size, epoch, data):
    count, batch, epoch_steps = size
    epochs = epochs_of(count, batch, epoch_steps)
    row = [b for n in range(1, 200) for b in one_pass(count, batch, n, 0).groups]
    step = data.draw(st.integers(0, epochs.steps))
    first = (epoch - 1) * epochs.steps
    expected = row[first + step : first + epochs.steps]
    opened = []

    def opening(number, start):
        opened.append((number, start))
        return one_pass(count, batch, number, start)

    found = epochs.batches(epoch, step, opening)
    assert opened == []
    assert len(found) == len(expected) == len(found.totals)
    assert list(found) == expected
    assert list(found.totals) == [end - start for _, start, end in expected]
    assert len(opened) == len({number for number, _, _ in expected})


def test_without_a_number_of_steps_an_epoch_is_a_pass():
    assert epochs_of(50_000, 128, None).steps == 391
    assert epochs_of(1_281_167, 256, None).steps == 5005
    assert epochs_of(6_800_000, 256, 5005).steps == 5005
