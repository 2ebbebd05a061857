"""No mutated file makes the native loader read or write where it must not: sanitizers watch it.

The 100,000 files of the slow test: `pytest -m slow tests/faults/test_native_fuzz.py -n 0`.
"""

import os
import subprocess
from pathlib import Path

import pytest

from resnext.data.native import Status, build
from unit.data.jpegs import kinds, photo
from unit.data.pictures import encoded

SANITIZERS = (
    "-std=c11",
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-ffp-contract=off",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
FLAGS = ("", "-DRESNEXT_WITHOUT_AVX2", "-DRESNEXT_PORTABLE")


@pytest.fixture(scope="module", params=FLAGS, ids=["AVX2", "SSE2", "portable"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fuzz") / "native_fuzz"
    flags = (*SANITIZERS, f"-I{build.SOURCE.parent}", *filter(None, [request.param]))
    try:
        build.compile_program([Path(__file__).with_name("native_fuzz.c")], target, flags=flags)
    except build.BuildError as error:
        pytest.skip(f"no compiler with sanitizers here: {error}")
    return target


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small files of all kinds, so that a mutation is likely to hit something that matters."""
    contents = [
        *kinds(97, 83).values(),
        *kinds(33, 17).values(),
        encoded(photo(0, 40, 30, mode="CMYK"), "JPEG"),
        encoded(photo(1, 1, 1), "JPEG"),
        encoded(photo(2, 300, 8), "JPEG", progressive=True),
    ]
    folder = tmp_path_factory.mktemp("corpus")
    paths = [folder / f"{number}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def fuzz(program: Path, corpus: list[Path], count: int, seed: int) -> dict[Status, int]:
    done = subprocess.run(
        [program, str(count), str(seed), *corpus],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    tally = {
        Status(int(status)): int(number)
        for status, number in map(str.split, done.stdout.splitlines())
    }
    assert sum(tally.values()) == count
    return tally


def check(tally: dict[Status, int], count: int) -> None:
    # Neither too broken to get anywhere nor too whole to harm anything.
    assert tally[Status.OK] > 0.2 * count
    assert tally[Status.CORRUPT] > 0.02 * count
    reached = {status for status, number in tally.items() if number}
    assert reached >= {Status.NOT_JPEG, Status.COLOURS, Status.TOO_MANY_PIXELS, Status.BAD_CUT}


def test_two_thousand_mutated_files(program: Path, corpus: list[Path]) -> None:
    check(fuzz(program, corpus, 2000, seed=1), 2000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_mutated_files(program: Path, corpus: list[Path]) -> None:
    check(fuzz(program, corpus, 100_000, seed=2), 100_000)
