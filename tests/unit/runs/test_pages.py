"""A run's page says what its records say; several runs stand beside each other."""

import json
from dataclasses import replace

import pytest

import resnext
from resnext.errors import UsageError
from resnext.report import Chart, Table
from resnext.runs import pages, plan, train_run
from resnext.runs.pages import run_report, write_run_report
from resnext.runs.provenance import machine
from resnext.runs.records import BadImage


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs of an epoch that differ in their seed, and one that was only begun."""
    place = tmp_path_factory.mktemp("runs")
    made = []
    for seed in (0, 1, 2):
        decided = plan("digits", "ResNeXt-11 (2x4d, CIFAR)", epochs=1, seed=seed, device="cpu")
        made.append(decided.create(place / str(seed)))
        if seed < 2:
            list(train_run(decided, made[-1]))
    return made


def part(report, name):
    return next(part for part in report.parts if part.name == name)


def with_seed(folder, seed):
    return folder.record.model_copy(update={"seed": seed})


def test_a_page_of_one_run(folders):
    folder = folders[0]
    (epoch,) = folder.epochs()
    report = run_report([folder])
    errors = part(report, "errors")
    assert dict(zip([c.title for c in errors.columns], errors.rows[0], strict=True)) == {
        "run": "0",
        "epochs": "1 of 1",
        "last, top-1 %": epoch.validation_error,
        "last, top-5 %": epoch.validation_top5_error,
        "best, top-1 %": epoch.validation_error,
        "training, top-1 %": epoch.train_error,
        "images/s": epoch.images_per_second,
        "training, s": epoch.seconds,
        "skipped updates": 0,
        "seed": 0,
    }
    validation, training = part(report, "error").lines
    assert (validation.y, training.y) == ((epoch.validation_error,), (epoch.train_error,))
    assert (validation.dashed, training.dashed) == (False, True)
    cost = part(report, "cost")
    assert cost.rows[0][1].endswith("8 × 8")  # the digits' size, not the network's usual one
    assert cost.rows[-1][2] == sum(row[2] for row in cost.rows[:-1])
    assert report.facts["seed"] == "0"


def test_files_of_a_run_lie_in_its_folder(folders):
    page = write_run_report(folders[1])
    assert page == folders[1].path / "report.html"
    beside = {file.name for file in (folders[1].path / "report").iterdir()}
    assert {"report.md", "errors.csv", "error.svg", "block.svg"} <= beside
    assert folders[1].finished()


def test_several_runs_share_charts_and_say_what_differs(folders):
    report = run_report(folders)
    assert [line.label for line in part(report, "error").lines] == [
        f"{seed}, {kind}" for seed in range(3) for kind in ("validation", "training")
    ]
    assert part(report, "differences").rows == (
        ("1", "seed 1 instead of 0"),
        ("2", "seed 2 instead of 0"),
    )
    errors = part(report, "errors")
    assert isinstance(errors, Table)
    assert errors.rows[2][:3] == ("2", "0 of 1", None)
    assert "no epoch of 1 is finished" in report.summary[2]
    assert all(isinstance(part(report, name), Chart) for name in ("error", "loss", "rate"))


def test_an_equal_run_among_others_is_said_to_be_equal(folders, tmp_path):
    copy = replace(folders[0], path=tmp_path)
    rows = part(run_report([folders[0], copy, folders[1]]), "differences").rows
    assert rows[0] == (tmp_path.name, "nothing")
    assert [text for _, text in rows] == ["nothing", "seed 1 instead of 0"]


def test_nothing_and_twice_are_refused(folders):
    with pytest.raises(UsageError, match="expected a run to report on, found none"):
        run_report([])
    with pytest.raises(UsageError, match=r"expected different runs, found .*0 twice"):
        run_report([folders[0], folders[0]])


def test_damage_is_not_reported_over(folders, tmp_path):
    lines = (folders[0].path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": "one"}) + "\n" + lines)
    with pytest.raises(Exception, match=r"metrics.jsonl"):
        run_report([replace(folders[0], path=tmp_path)])


def test_a_page_names_images_that_could_not_be_used(folders):
    folder = folders[1]
    for epoch in (1, 2):
        folder.note(BadImage(epoch=epoch, image="a/b.jpg", reason="cut off", replacement="a/c.jpg"))
    (sentence,) = run_report([folder]).summary
    assert sentence.endswith(
        "1 image could not be used and another stood in for it: a/b.jpg (cut off)."
    )


def test_a_page_names_the_machine(folders):
    assert run_report([folders[0]]).facts["machine"] == machine()


def test_a_page_of_several_runs_has_the_provenance_of_all(folders):
    one = run_report(folders[:1]).facts
    facts = run_report(folders[:2]).facts
    assert facts.keys() == one.keys()
    assert (facts["commit"], facts["versions"]) == (one["commit"], one["versions"])
    assert facts["seed"] == "0; 1"
    many = [
        replace(folders[0], path=folders[0].path / str(n), record=with_seed(folders[0], n))
        for n in range(5)
    ]
    assert pages._facts_of_all(many)["seed"] == "0 … (5 different)"


def test_a_difference_that_the_name_of_the_network_says_is_said_once(folders):
    record = folders[1].record
    deeper = resnext.spec("ResNeXt-20 (2x2d, CIFAR)", classes=10, in_channels=1)
    spec = json.loads(json.dumps(deeper.to_dict()))
    named = record.model_copy(update={"network": resnext.name(deeper), "spec": spec, "seed": 0})
    rows = part(run_report([folders[0], replace(folders[1], record=named)]), "differences").rows
    assert [text.partition(" ")[0] for _, text in rows] == ["network"]
