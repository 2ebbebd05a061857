import pytest

from resnext.deploy.serving.gate import Gate
from resnext.deploy.serving.refusal import RefusalError


def test_what_is_inside_counts_and_leaves_again():
    gate = Gate(pictures=3, held=100)
    with gate.admitted(2):
        assert gate.pictures == 2
        with pytest.raises(RefusalError, match="at most 3 pictures at once, found 4") as error:
            gate.admitted(2).__enter__()
        assert error.value.status == 503
        gate.check()
        with gate.admitted(1), pytest.raises(RefusalError):
            gate.check()
    assert gate.pictures == 0
    gate.check()


def test_more_than_ever_fits_is_no_matter_of_time():
    with pytest.raises(RefusalError, match="at most 3 pictures, found 4") as error:
        Gate(pictures=3, held=1).admitted(4).__enter__()
    assert (error.value.status, error.value.retry_after) == (413, None)


def test_bytes_are_held_and_released():
    gate = Gate(pictures=1, held=10)
    gate.hold(6)
    with pytest.raises(RefusalError, match="10 bytes of uploads at once, found 11"):
        gate.hold(5)
    assert gate.held == 6
    gate.release(6)
    gate.hold(10)


def test_a_long_queue_asks_for_a_long_wait():
    gate = Gate(pictures=100, held=1)
    for _ in range(50):
        gate.took(2, 0.4)
    waits = []
    for inside in (100, 10, 1):
        small = Gate(pictures=inside, held=1)
        small.took(1, 0.2)
        for _ in range(50):
            small.took(2, 0.4)
        with small.admitted(inside), pytest.raises(RefusalError) as error:
            small.check()
        waits.append(error.value.retry_after)
    assert waits == [20, 2, 1]
