"""What lies in the folders: seen for what it is, and refused if it is something else."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest

from resnext.data import DataSet
from resnext.data.subset import Subset
from resnext.errors import DataError, PreemptedError, UsageError
from resnext.evaluation.scores import Part, evaluate
from resnext.experiments.findings import Spread, findings
from resnext.experiments.planning import CPU_RATE, planned, training_cost
from resnext.experiments.registry import chosen, experiment
from resnext.experiments.sharing import Begun, Ended, Left, carry_out
from resnext.experiments.study import claim_file, state
from resnext.experiments.writing import report
from resnext.runs import EpochRecord, Stop
from resnext.runs.locking import locked

ONE = chosen(experiment("residual"), ["resnet50_noshortcut"])


@pytest.fixture(scope="module")
def of_1000_classes(few_digits):
    """The same images; nine hundred and ninety of the classes have none."""
    names, numbers = tuple(f"class {k}" for k in range(1000)), np.arange(10)
    train, validation = (
        Subset(part, np.arange(len(part)), names, numbers)
        for part in (few_digits.train, few_digits.validation)
    )
    return replace(few_digits, name="of 1000", train=train, validation=validation)


@pytest.fixture
def done(study):
    """A finished study of one run."""
    made = study(ONE)
    list(carry_out(made))
    return made


def edit(study, **fields):
    file = study.out / "residual" / "resnet50_noshortcut-seed0" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_run_of_another_commit_is_refused_or_named(done, study):
    edit(done, commit="0123456789abcdef0123456789abcdef01234567")
    with pytest.raises(
        UsageError, match=r"seed0 to be of this commit, .*, found 0123456789ab; --any"
    ):
        findings(done)
    with pytest.raises(UsageError, match="0123456789ab"):
        list(carry_out(done))
    table = report(findings(study(ONE, any_commit=True))).parts[0]
    assert "0123456789ab" in [row[-1] for row in table.rows]


def test_a_run_of_another_recipe_is_refused(done, study):
    with pytest.raises(UsageError, match=r"hold the run of .* recipe.epochs 1 instead of 2"):
        findings(study(ONE, epochs=2))


def test_clashing_seeds_are_refused(done, study):
    first = done.out / "residual" / "resnet50_noshortcut-seed0"
    shutil.copytree(first, first.with_name("resnet50_noshortcut-seed1"))
    with pytest.raises(UsageError, match=r"seed1 to hold .* with seed 1, .* seed 0 instead of 1"):
        findings(study(ONE, seeds=2))


def test_a_run_of_other_images_is_refused(done, study, few_digits):
    other = replace(few_digits, train=Subset(few_digits.train, np.arange(63)))
    assert isinstance(other, DataSet)
    with pytest.raises(DataError, match="images "):
        findings(study(ONE, data=(other,)))


def test_a_half_finished_run_is_no_number(done):
    job = next(iter(done.jobs()))
    (job.path / "metrics.jsonl").write_text("")
    assert state(job).kind == "half"
    assert findings(done).missing() == 1
    assert findings(done).finished(ONE.rows[0]) == []


def test_a_run_in_other_hands_is_left_to_them(study):
    asked = study(ONE)
    job = next(iter(asked.jobs()))
    job.path.parent.mkdir()
    with locked(claim_file(job), "nobody"):
        assert state(job).kind == "running"
        (event,) = carry_out(asked)
    assert isinstance(event, Left)
    assert event.why.startswith("process ")
    assert any(isinstance(event, Begun) for event in carry_out(asked))


def interrupt(asked, at, stop):
    """Ask to end when the first event of that kind comes behind an epoch; what had begun."""
    seen = []
    try:
        for event in carry_out(asked, stop):
            seen.append(event)
            trained = any(isinstance(one, EpochRecord) for one in seen)
            if trained and isinstance(event, at):
                stop.signal = signal.SIGINT
    except PreemptedError as error:
        return str(error), [event.job for event in seen if isinstance(event, Begun)]
    raise AssertionError("nobody looked at the wish to end")


@pytest.mark.parametrize("at", [EpochRecord, Part], ids=["before it", "in it"])
def test_a_wish_to_end_ends_a_further_test_which_begins_anew(study, monkeypatch, at):
    monkeypatch.setitem(evaluate.__kwdefaults__, "pulse", 0.0)  # a `Part` of every batch
    asked, stop = study(experiment("multiscale")), Stop()
    said, (job,) = interrupt(asked, at, stop)
    assert said == f"the test dense of {job.name} begins anew"
    assert not stop.last_resort()  # training is over: there is nothing to save
    assert state(job).kind == "half"
    assert not any(isinstance(event, EpochRecord) for event in carry_out(asked))
    assert state(job).kind == "done"


def test_behind_a_wish_to_end_no_further_run_is_begun(study):
    asked, stop = study(experiment("residual")), Stop()
    said, (job,) = interrupt(asked, Ended, stop)
    first, second, *_ = asked.jobs()
    assert (job.name, said) == (first.name, f"{second.name} comes next")
    list(carry_out(asked))
    assert all(isinstance(event, Ended) for event in carry_out(asked, stop))  # nothing was left


def test_missing_data_is_named(study):
    with pytest.raises(
        DataError, match=r"expected --data with ImageNet-1K .* residual, found none"
    ):
        list(study(ONE, data=()).jobs())


def test_data_of_other_classes_is_named_at_the_paper_s_scale(study):
    asked = study(ONE, scale="paper", epochs=None)
    with pytest.raises(DataError, match="found digits of 10 classes"):
        list(asked.jobs())


def test_forms_take_the_data_of_their_network(study, few_digits, of_1000_classes):
    forms = experiment("forms")
    with pytest.raises(DataError, match=r"ImageNet.* for forms, found digits of 10 classes"):
        list(study(forms, scale="short").jobs())
    asked = study(forms, scale="short", data=(few_digits, of_1000_classes))
    assert {job.data.name for job in asked.jobs()} == {"of 1000"}


def test_forms_take_no_epochs_at_the_paper_s_scale(study, of_1000_classes):
    asked = study(experiment("forms"), scale="paper", epochs=1, data=(of_1000_classes,))
    with pytest.raises(UsageError, match="expected no --epochs at the scale paper, found 1"):
        list(asked.jobs())


def test_the_plan_counts_what_is_left(study, done):
    plan = planned(study(ONE))
    (row, total) = plan.rows
    assert (row[0], row[2], row[3], row[4]) == ("resnet50_noshortcut", "1", "1 done", "–")
    assert total[0] == "total"
    assert "as measured" in plan.notes[0]


def test_the_cost_of_a_run_is_three_passes_over_its_images(study):
    job = next(iter(study(ONE).jobs()))
    import resnext

    adds = resnext.complexity(job.plan.spec, 8).multiply_adds
    assert training_cost(job.plan) == adds * (3 * 64 + 60)
    assert f"{CPU_RATE:.1e}" == "2.5e+10"


def test_the_interval_is_student_s():
    spread = Spread.of([3.6, 3.7, 3.9])
    # by hand: mean 3.7333, s 0.15275, s/sqrt(3) 0.088192, t(0.975, 2) 4.302653
    assert spread.mean == pytest.approx(3.73333, abs=1e-5)
    assert spread.error == pytest.approx(0.088192, abs=1e-6)
    assert spread.half == pytest.approx(0.379459, abs=1e-6)
    assert Spread.of([3.6]).interval is None
    assert Spread.of([]).mean is None
