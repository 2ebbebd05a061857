import pytest

from resnext.cli import launch


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A process of the second try of a launch."""
    monkeypatch.setenv("RESNEXT_STATUS", str(tmp_path))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    return tmp_path


def test_what_ended_a_former_try_for_good_ends_this_one(started):
    (started / "0.status").write_text("2")
    assert launch.settled() == 2


@pytest.mark.parametrize(("attempt", "code"), [(0, 5), (0, 1), (1, 2), (2, 2)])
def test_what_may_go_better_or_ended_this_try_settles_nothing(started, attempt, code):
    # a process that starts late finds what the others of its own try have left
    (started / f"{attempt}.status").write_text(str(code))
    assert launch.settled() is None


def test_one_process_of_a_try_speaks_and_the_first_code_stays(started):
    assert launch.first_to_say()
    assert not launch.first_to_say()
    assert (launch.left_with(3), launch.left_with(5)) == (0, 5)
    assert (started / "1.status").read_text() == "3"


def test_a_process_that_nobody_launched_speaks_and_ends_as_it_does(monkeypatch):
    monkeypatch.delenv("RESNEXT_STATUS", raising=False)
    assert launch.settled() is None
    assert launch.first_to_say()
    assert launch.left_with(3) == 3
