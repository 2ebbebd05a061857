"""Groups of runs, what differs, and Welch's test of it; scipy's own test is the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnext.errors import CheckpointError, UsageError
from resnext.runs import RunFolder, plan
from resnext.runs.contrast import contrast, welch
from stand_ins import epoch_record


@pytest.fixture(scope="module")
def usual():
    decided = plan("digits", "ResNeXt-11 (2x4d, CIFAR)", epochs=2, device="cpu")
    return decided.record().model_copy(update={"commit": "c" * 40})


@pytest.fixture
def made(tmp_path, usual):
    """A folder of a run with these errors by epoch."""

    def make(name, *errors, **values):
        folder = RunFolder.create(tmp_path / name, name, usual.model_copy(update=values))
        lines = [epoch_record(number, error) for number, error in enumerate(errors, 1)]
        text = "".join(line.model_dump_json() + "\n" for line in lines)
        (folder.path / "metrics.jsonl").write_text(text)
        return folder

    return make


def other_recipe(usual, **values):
    return usual.recipe.model_copy(update=values)


def test_runs_that_differ_in_their_seed_are_one_group(made):
    folders = [made(str(seed), 9.0, 4.0 + seed, seed=seed) for seed in range(3)]
    (group,), none = contrast(folders)
    assert none == ()
    assert (group.label, group.errors, group.mean, group.deviation) == ("A", (4, 5, 6), 5, 1)
    assert list(group.notes()) == []


def test_groups_are_told_apart_by_the_last_epoch(made, usual):
    ours = [made(f"a{seed}", 1.0, error, seed=seed) for seed, error in enumerate((5.0, 5.2, 5.4))]
    recipe = other_recipe(usual, weight_decay=0.5)
    theirs = [
        made(f"b{seed}", 0.0, error, seed=seed, recipe=recipe)
        for seed, error in enumerate((8.0, 8.4, 8.5))
    ]
    (first, second), (found,) = contrast([ours[0], theirs[0], *ours[1:], *theirs[1:]])
    assert [len(group.members) for group in (first, second)] == [3, 3]
    (difference,) = found.differences
    assert (difference.kind, difference.field) == ("recipe", "recipe.weight_decay")
    assert (difference.first, difference.second) == (usual.recipe.weight_decay, 0.5)
    oracle = stats.ttest_ind(second.errors, first.errors, equal_var=False)
    assert found.difference == pytest.approx(3.1)
    assert found.test.p == pytest.approx(oracle.pvalue)
    assert found.verdict == "higher error, by more than seeds alone explain"
    _, (turned,) = contrast([*theirs, *ours])
    assert turned.difference == pytest.approx(-3.1)
    assert turned.verdict.startswith("lower error")


def test_what_seeds_explain_is_not_told_apart(made, usual):
    ours = [made(f"a{seed}", 1.0, error, seed=seed) for seed, error in enumerate((5.0, 6.0))]
    theirs = [
        made(f"b{seed}", 1.0, error, seed=seed, precision="bf16")
        for seed, error in enumerate((5.6, 6.6))
    ]
    _, (found,) = contrast([*ours, *theirs])
    assert found.test.low < 0 < found.test.high
    assert found.verdict == "not told apart: seeds alone explain such a difference"
    assert [d.kind for d in found.differences] == ["way"]


_ERRORS = st.lists(st.floats(0.1, 99.9).map(lambda v: round(v, 2)), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(_ERRORS.filter(lambda v: max(v) - min(v) > 0.05), _ERRORS)
def test_welch_is_scipys(first, second):
    ours = welch(first, [*second, second[0] + 1])
    oracle = stats.ttest_ind([*second, second[0] + 1], first, equal_var=False)
    interval = oracle.confidence_interval(0.95)
    expected = (oracle.pvalue, oracle.df, interval.low, interval.high)
    assert (ours.p, ours.freedom, ours.low, ours.high) == pytest.approx(expected, rel=1e-7)


def test_one_seed_a_side_decides_nothing(made, usual):
    one = made("a", 9.0, 5.0)
    other = made("b", 9.0, 50.0, recipe=other_recipe(usual, momentum=0.5))
    _, (found,) = contrast([one, other])
    assert (found.difference, found.test) == (45, None)
    assert found.verdict.startswith("undecided: A has one seed")


def test_no_spread_at_all_decides_nothing(made):
    ours = [made(f"a{seed}", 9.0, 5.0, seed=seed) for seed in range(2)]
    theirs = [made(f"b{seed}", 9.0, 6.0, seed=seed, precision="bf16") for seed in range(2)]
    _, (found,) = contrast([*ours, *theirs])
    assert found.test is None
    assert "chance cannot be estimated" in found.verdict


def test_other_images_are_not_compared(made, usual):
    data = usual.data.model_copy(update={"fingerprint": "other"})
    ours = [made(f"a{seed}", 9.0, 5.0 + seed, seed=seed) for seed in range(2)]
    theirs = [made(f"b{seed}", 9.0, 8.0 + seed, seed=seed, data=data) for seed in range(2)]
    _, (found,) = contrast([*ours, *theirs])
    assert found.test is None
    assert found.verdict == "not comparable: they were scored on different data sets"


def test_unfinished_runs_and_seeds_again_are_shown_and_not_counted(made):
    folders = [
        made("whole", 9.0, 5.0, seed=0),
        made("again", 9.0, 1.0, seed=0),
        made("half", 90.0, seed=1),
        made("begun", seed=2),
    ]
    (group,), _ = contrast(folders)
    assert group.errors == (5.0,)
    assert [member.left_out for member in group.members] == [
        None,
        f"the same seed as {folders[0].path}",
        "unfinished: 1 of 2 epochs",
        "unfinished: 0 of 2 epochs",
    ]


def test_a_half_run_does_not_take_the_place_of_a_whole_one_of_its_seed(made):
    (group,), _ = contrast([made("half", 90.0), made("whole", 9.0, 5.0)])
    assert group.errors == (5.0,)


def test_nothing_finished_is_no_result(made):
    _, (found,) = contrast([made("a"), made("b", 9.0, 5.0, precision="bf16")])
    assert found.difference is None
    assert found.verdict == "no result: A has no finished run"


def test_another_commit_is_another_group_and_another_machine_is_said(made, usual):
    versions = usual.versions | {"platform": "another"}
    one = made("a", 9.0, 5.0, seed=0)
    near = made("b", 9.0, 5.0, seed=1, threads=77, versions=versions)
    code = made("c", 9.0, 5.0, seed=2, commit="d" * 40 + "-dirty")
    (first, second), (found,) = contrast([one, near, code])
    assert [member.path for member in first.members] == [one.path, near.path]
    assert list(first.notes()) == ["A: its runs differ in threads, versions.platform"]
    assert [(d.kind, d.field) for d in found.differences] == [("code", "commit")]
    (note,) = second.notes()
    assert "a commit that was changed" in note


WEIGHTS = {"a": "a" * 64, "b": "b" * 64}


def record_of(
    usual, *, bn_batch=8, micro_batch=None, name="images", fingerprint="f", weights=None, **others
):
    data = {"name": name, "location": f"/data/{name}", "fingerprint": fingerprint}
    return {
        "recipe": other_recipe(usual, bn_batch=bn_batch),
        "micro_batch": micro_batch,
        "data": usual.data.model_copy(update=data),
        "initial_weights": weights,
        **others,
    }


@pytest.mark.parametrize(
    ("first", "second", "notes"),
    [
        ({"name": "here"}, {"name": "there"}, ["data.location", "data.name"]),
        ({}, {"micro_batch": 16}, ["micro_batch"]),
        ({"micro_batch": 8}, {"micro_batch": 16}, ["micro_batch"]),
        ({}, {"nan_limit": 3, "bad_limit": 0.5}, ["bad_limit", "nan_limit"]),
        (
            {"weights": f"/here/w.pth sha256:{WEIGHTS['a']}"},
            {"weights": f"/there/my w.pth sha256:{WEIGHTS['a']}"},
            ["initial_weights.path"],
        ),
    ],
    ids=[
        "another name",
        "parts put together",
        "other parts put together",
        "other limits",
        "weights elsewhere",
    ],
)
def test_runs_that_differ_in_places_micro_batches_and_limits_are_one_group(
    first, second, notes, made, usual
):
    folders = [
        made(str(seed), 9.0, 5.0, seed=seed, **record_of(usual, **fields))
        for seed, fields in enumerate((first, second))
    ]
    (group,), _ = contrast(folders)
    assert len(group.errors) == 2
    assert list(group.notes()) == [f"A: its runs differ in {', '.join(notes)}"]


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ({}, {"fingerprint": "g"}, ("data", "data.fingerprint")),
        (
            {"weights": f"/w.pth sha256:{WEIGHTS['a']}"},
            {"weights": f"/w.pth sha256:{WEIGHTS['b']}"},
            ("way", "initial_weights.sha256"),
        ),
        ({}, {"weights": f"/w.pth sha256:{WEIGHTS['a']}"}, ("way", "initial_weights.sha256")),
        (
            {"bn_batch": None, "micro_batch": 8},
            {"bn_batch": None, "micro_batch": 16},
            ("way", "micro_batch"),
        ),
    ],
    ids=["other images", "other weights", "any weights", "normalised by micro-batches"],
)
def test_runs_of_other_images_weights_and_normalisation_are_two_groups(
    first, second, difference, made, usual
):
    folders = [
        made(str(seed), 9.0, 5.0, seed=seed, **record_of(usual, **fields))
        for seed, fields in enumerate((first, second))
    ]
    groups, (found,) = contrast(folders)
    assert [len(group.members) for group in groups] == [1, 1]
    assert [(d.kind, d.field) for d in found.differences if d.kind != "machine"] == [difference]


def test_specifications_differ_field_by_field(made):
    wider = plan("digits", "ResNeXt-11 (4x4d, CIFAR)", epochs=2, device="cpu").record()
    one = made("a", 9.0, 5.0)
    other = made("b", 9.0, 5.0, network=wider.network, spec=wider.spec)
    _, (found,) = contrast([one, other])
    assert [(d.field, d.first, d.second) for d in found.differences[1:]] == [
        (f"spec.stages.{stage}.paths.0.template", f"2x{width}d", f"4x{width}d")
        for stage, width in enumerate((4, 8, 16))
    ]
    assert {d.kind for d in found.differences} == {"network"}


def test_too_few_twice_and_damaged_are_refused(made):
    run = made("a", 9.0, 5.0)
    with pytest.raises(UsageError, match="expected at least two runs to compare, found 1"):
        contrast([run])
    with pytest.raises(UsageError, match=r"expected different runs, found .*a twice"):
        contrast([run, made("b", 9.0), run])
    (run.path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
        contrast([run, made("c", 9.0)])
