"""A process that is killed, or a disk that is full, at any operation on a file costs nothing.

The injector counts the operations of a whole training; each test has one of them fail, starts the
same command again, and compares what there is in the end with an undisturbed run, bit by bit.
"""

from itertools import count

import pytest

from faults.conftest import EACH, contents, differing
from resnext.runs import RunFolder


def begun(ended):
    """Whether the command came as far as the fault."""
    return ended.status != 0


def continues_as_if_nothing_had_been(injector, folder, undisturbed, said):
    again = injector.run(folder, EACH)
    assert (again.status, again.err) == (0, ""), said
    assert differing(contents(folder / "run"), contents(undisturbed[0])) == [], said
    assert [path.name for path in folder.iterdir()] == ["run"], said


def killed(injector, tmp_path, undisturbed, numbers):
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = injector.run(folder, EACH, kind="kill", at=number)
        if not begun(ended):
            assert number > len(undisturbed[1])
            return number
        said = f"killed at operation {number}, {undisturbed[1][number - 1]}"
        assert ended.status == -9, said
        continues_as_if_nothing_had_been(injector, folder, undisturbed, said)
    return number


def full(injector, tmp_path, undisturbed, numbers, kind):
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = injector.run(folder, EACH, kind=kind, at=number)
        name = undisturbed[1][number - 1] if number <= len(undisturbed[1]) else None
        said = f"disk full at operation {number}, {name}: {ended.err}"
        if ended.err.startswith("resnext: no report was written: cannot "):
            # the training is whole, and its page is written by the same line
            assert (ended.status, ended.err.count("\n")) == (0, 1), said
            assert "No space left on device" in ended.err, said
            assert RunFolder.open(folder / "run").finished(), said
            continues_as_if_nothing_had_been(injector, folder, undisturbed, said)
            continue
        if not begun(ended):
            # what was to be deleted may stay; then a later operation has met the full disk
            assert name is None or name in ("unlink", "rmdir", "mkdir"), said
            if name == "mkdir":  # of a folder that is there already: pathlib then needs no answer
                assert differing(contents(folder / "run"), contents(undisturbed[0])) == [], said
            if name is None:
                return number
            continue
        assert ended.status == 5, said
        assert ended.err.startswith("resnext: error: cannot "), said
        assert ended.err.count("\n") == 1, said
        assert "No space left on device" in ended.err, said
        if (folder / "run" / "run.json").exists():
            RunFolder.open(folder / "run").newest()  # raises if no checkpoint is whole
        continues_as_if_nothing_had_been(injector, folder, undisturbed, said)
    return number


def test_the_fault_that_never_comes_changes_nothing(injector, tmp_path, undisturbed):
    ended = injector.run(tmp_path, EACH, kind="kill", at=10**6)
    assert ended.status == 0
    assert ended.done == undisturbed[1]
    assert {"mkdir", "open", "write", "fsync", "replace", "rename", "pwrite", "unlink"} <= set(
        ended.done
    )
    assert differing(contents(tmp_path / "run"), contents(undisturbed[0])) == []


def test_killed_at_operations_apart(injector, tmp_path, undisturbed):
    numbers = range(12, len(undisturbed[1]) + 1, 61)
    killed(injector, tmp_path, undisturbed, numbers)


def test_killed_while_the_folder_is_made(injector, tmp_path, undisturbed):
    killed(injector, tmp_path, undisturbed, range(1, 12, 4))


def test_disk_full_at_operations_apart(injector, tmp_path, undisturbed):
    numbers = range(12, len(undisturbed[1]) + 1, 83)
    full(injector, tmp_path, undisturbed, numbers, "full")


def test_disk_full_while_the_folder_is_made(injector, tmp_path, undisturbed):
    full(injector, tmp_path, undisturbed, range(2, 12, 4), "full")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_operation(injector, tmp_path, undisturbed):
    assert killed(injector, tmp_path, undisturbed, count(1)) == len(undisturbed[1]) + 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["full", "once"])
def test_disk_full_at_every_operation(injector, tmp_path, undisturbed, kind):
    reached = full(injector, tmp_path, undisturbed, count(1), kind)
    assert reached == len(undisturbed[1]) + 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_again_while_it_continues(injector, tmp_path, undisturbed):
    """The second process is killed too, at each of its operations in turn."""
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert injector.run(folder, EACH, kind="kill", at=60).status == -9
        ended = injector.run(folder, EACH, kind="kill", at=number)
        if not begun(ended):
            assert number > 40
            return
        said = f"killed again at operation {number}"
        continues_as_if_nothing_had_been(injector, folder, undisturbed, said)
