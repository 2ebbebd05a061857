"""Table 8: detectors that are trained, continued, collected and never mixed up."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

import resnext
from resnext.cli.main import run
from resnext.detection.cost import detection_cost, training_cost, usual_size
from resnext.detection.folder import DetectionFolder
from resnext.detection.planning import plan_detection
from resnext.detection.running import train_detector
from resnext.errors import DataError, PreemptedError, UsageError
from resnext.experiments import detection
from resnext.experiments.findings import findings
from resnext.experiments.planning import planned
from resnext.experiments.registry import experiment
from resnext.experiments.sharing import Begun, Ended, Left, carry_out
from resnext.experiments.study import short, state
from resnext.experiments.writing import report
from resnext.runs import Stop
from resnext.runs.provenance import source_commit
from unit.detection.scenes import write_scenes


@pytest.fixture
def table8():
    return experiment("table8")


@pytest.fixture
def one(table8):
    """The cheapest detector alone."""
    return replace(table8, measures=table8.measures[:1])


def test_a_trained_detector_has_its_figures_and_page(one, study, tmp_path):
    asked = study(one)
    list(carry_out(asked))
    folder = tmp_path / "table8" / "detect-resnet50-seed0"
    assert DetectionFolder.open(folder).finished()
    assert (folder / "detection.html").exists()
    (result,) = findings(asked).results(detection.DETECTORS[0])
    scored, learned = result["values"]["scored"], result["values"]["scored_on_training"]
    assert (scored["data"], scored["images"]) == ("val2017", 3)
    assert (learned["data"], learned["images"]) == ("train2017", 6)
    assert result["values"]["begins_with"] is None
    table = report(findings(asked)).parts[0]
    first = dict(zip([c.title for c in table.columns], table.rows[0], strict=True))
    assert first["paper: AP@0.5, %"] == 47.6
    assert first["ours: AP@0.5, %"] == 100 * scored["ap50"]
    assert first["ours: AP on the training pictures, %"] == 100 * learned["ap"]
    assert first["seeds"] == 1


def test_an_interrupted_detector_is_half_and_continues(one, study, tmp_path):
    asked, stop = study(one, epochs=4), Stop()
    events = carry_out(asked, stop)
    next(event for event in events if getattr(event, "text", "").startswith("fast"))
    stop.signal = 15
    with pytest.raises(PreemptedError, match="is saved"):
        list(events)
    (job,) = asked.jobs()
    assert state(job).kind == "half"
    assert "1 half" in str(planned(asked).rows)
    list(carry_out(asked))
    assert state(job).kind == "done"
    phases = [line.phase for line in DetectionFolder.open(job.path).lines()]
    assert phases == ["rpn", "fast"]


def test_other_pictures_or_schedules_are_refused(one, study, tmp_path):
    list(carry_out(study(one)))
    with pytest.raises(UsageError, match="measured with schedules"):
        list(study_states(study(one, epochs=2)))
    write_scenes(tmp_path / "other", "train2017", 5)
    write_scenes(tmp_path / "other", "val2017", 3, first=41)
    with pytest.raises(UsageError, match="measured with images"):
        list(study_states(study(one, objects=detection.open_objects(tmp_path / "other", "demo"))))


def test_a_detector_begun_by_other_code_is_refused_or_named(one, study, monkeypatch):
    asked, stop = study(one, epochs=4), Stop()
    events = carry_out(asked, stop)
    next(event for event in events if getattr(event, "text", "").startswith("fast"))
    stop.signal = 15
    with pytest.raises(PreemptedError, match="is saved"):
        list(events)
    for module in ("study", "sharing"):
        monkeypatch.setattr(f"resnext.experiments.{module}.source_commit", lambda: "a" * 40)
    with pytest.raises(UsageError, match="to be of this commit, aaaaaaaaaaaa, found"):
        list(carry_out(asked))
    lenient = study(one, epochs=4, any_commit=True)
    list(carry_out(lenient))
    table = report(findings(lenient)).parts[0]
    first = dict(zip([c.title for c in table.columns], table.rows[0], strict=True))
    trained, scored = short(source_commit()), "a" * 12
    assert set(first["commit"].split(", ")) == {trained, scored}


def test_other_epochs_than_the_papers_are_refused(one, study):
    asked = study(replace(one, rows=()), scale="paper", epochs=1)
    with pytest.raises(UsageError, match="no --epochs at the scale paper"):
        list(asked.jobs())


def study_states(asked):
    return [state(job, any_commit=True) for job in asked.jobs()]


def test_at_the_papers_scale_a_detector_waits_for_its_backbone(one, study):
    asked = study(replace(one, rows=()), scale="short")
    (event,) = list(carry_out(asked))
    assert isinstance(event, Left)
    assert event.why == "waits for table3/resnet50-seed0"
    assert "difference in AP" in [c.title for c in report(findings(asked)).parts[0].columns]


def test_without_pictures_nothing_begins(one, study):
    with pytest.raises(DataError, match="expected --data with a folder laid out as COCO is"):
        list(study(one, objects=None).jobs())
    with pytest.raises(DataError, match="expected --data with COCO, and ImageNet-1K"):
        list(study(one, objects=None, scale="short").jobs())


def test_given_weights_take_the_place_of_training(table8, study, tmp_path, monkeypatch):
    """At the scale `short`, with the small networks of the demo in place of the paper's."""
    spec = detection.backbone(detection.R50, "demo")
    monkeypatch.setattr(detection, "backbone", lambda *_: spec)
    monkeypatch.setattr(detection, "schedules", small_schedules)
    save_file(resnext.build(spec, seed=3).state_dict(), tmp_path / "given.safetensors")
    only = replace(table8, rows=(detection.R50,), measures=table8.measures[:1])
    asked = study(
        only, scale="short", weights={"resnet50": tmp_path / "given.safetensors"}, epochs=1
    )
    events = [e for e in carry_out(asked) if isinstance(e, Begun | Ended | Left)]
    assert [type(event) for event in events] == [Begun, Ended]
    (result,) = findings(asked).results(detection.DETECTORS[0])
    assert "given.safetensors" in result["values"]["begins_with"]
    assert "scored_on_training" not in result["values"]
    save_file(resnext.build(spec, seed=4).state_dict(), tmp_path / "given.safetensors")
    with pytest.raises(UsageError, match="to be measured with weights"):
        study_states(asked)


def small_schedules(name, steps=None, settings=None):
    from resnext.detection.schedule import study

    return study(name, settings=detection.DEMO)


def test_a_detector_trained_by_the_other_command_is_collected(one, study, few_scenes):
    """Such as on eight GPUs, which `resnext launch` takes."""
    asked = study(one)
    (job,) = asked.jobs()
    plan = plan_detection(
        few_scenes,
        detection.backbone(detection.R50, "demo"),
        detection.method(asked),
        device="cpu",
    )
    list(train_detector(plan, plan.create(job.path)))
    ticks = [e for e in carry_out(asked) if hasattr(e, "text")]
    assert {t.text for t in ticks} == {"scoring val2017", "scoring train2017"}
    assert state(job).kind == "done"


def test_cost_is_three_passes_of_what_each_step_looks_at():
    spec, wanted = resnext.spec("ResNet-50"), detection.schedules("paper")
    cost = detection_cost(spec, wanted.method, 80, usual_size(wanted.method))
    trunk = cost.features / 2
    rpn = 180_000 * 16 * (trunk + cost.proposing)
    fast = 180_000 * 8 * (trunk + wanted.method.rois * cost.region)
    assert training_cost(spec, wanted, 80) == pytest.approx(3 * (rpn + fast), rel=1e-12)


def test_backbones_of_the_demo_cost_about_the_same():
    for base, ours in ((detection.R50, detection.X50), (detection.R101, detection.X101)):
        a, b = (
            resnext.complexity(detection.backbone(row, "demo")).parameters for row in (base, ours)
        )
        assert abs(a - b) / a < 0.05


def exit_code(*words):
    with pytest.raises(SystemExit) as ended:
        run(words)
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table3", "--weights", "resnet50=x"], "which table3 does not take at this scale"),
        (["table8", "--scale", "short", "--weights", "resnet18=x"], "one of resnet50, resnext50"),
        (["table8", "--scale", "short", "--weights", "resnet50=nowhere"], "found no file nowhere"),
    ],
)
def test_weights_of_nothing_are_refused(words, message, capsys, few_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code("reproduce", *words, "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_a_few_pictures_are_no_coco_at_the_papers_scale(few_scenes, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = few_scenes.evaluation.images.parent
    assert exit_code("reproduce", "table8", "--scale", "paper", "--data", str(root)) == 3
    assert "expected 118,287 images in trainval35k, found 6" in capsys.readouterr().err
