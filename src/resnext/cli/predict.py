"""``resnext predict``: what is in a picture."""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resnext.cli.display import interruptible, loading, progress_bar
from resnext.cli.options import (
    AsJson,
    Calibrate,
    ClassNames,
    EngineOption,
    EnginePrecision,
    OneWeights,
    ProfileOption,
    require_beside,
)
from resnext.cli.places import check_new_folder, free_name
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resnext.deploy import Artifact
    from resnext.deploy.engines import Engine
    from resnext.deploy.predict import Content, Prediction, Unusable

STDIN = "-"


def predict(
    given: Annotated[
        str,
        typer.Argument(metavar="RUN|ARTIFACT|NAME", help="A network with weights."),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE|FOLDER|-", help="Pictures; - reads one from standard input."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes of each picture.")] = 5,
    engine: EngineOption = "torch",
    precision: EnginePrecision = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 16,
    explain: Annotated[
        Path | None,
        typer.Option(help="Draw what speaks for the first class into this new folder, as PNG."),
    ] = None,
    weights: OneWeights = None,
    profile: ProfileOption = None,
    class_names: ClassNames = None,
    calibrate: Calibrate = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Say what is in pictures: classes and their probabilities."""
    if as_json and as_csv:
        raise UsageError("expected --json or --csv, found both")
    check_new_folder(explain, "--explain")
    with interruptible(lambda: "what was written is whole"):
        with loading(stderr=True) as doing:
            from resnext.data.class_list import read_names
            from resnext.deploy import artifact_of, with_classes

            check_calibrate(calibrate, engine, precision)
            found = artifact_of(given, weights, profile_name=profile)
            names = None if class_names is None else read_names(class_names)
            artifact = with_classes(found, names)
            files = _files(pictures)
            doing("preparing the engine")
            ready = opened(artifact, engine, precision, calibrate, min(batch, len(files)))
        show = _Json() if as_json else _Csv() if as_csv else _Table(files)
        answers = _answers(artifact, ready, files, top, batch, explain)
        bad = _shown(answers, len(files), show, artifact, ready)
    refuse_unusable(bad, len(files))


def check_calibrate(calibrate: str | None, engine: str, precision: str) -> None:
    """Refuse images that nobody would look at.

    Raises:
        UsageError: there are some.
    """
    partner = "--precision int8 or --engine auto"
    require_beside("--calibrate", calibrate, partner, _takes_images(engine, precision))


def _takes_images(engine: str, precision: str) -> bool:
    """Whether int8 learns from images, or the engines that `auto` tries are compared on them."""
    from resnext.deploy.engines import AUTO

    return precision == "int8" or engine == AUTO


def opened(
    artifact: "Artifact", name: str, precision: str, calibrate: str | None, batch: int
) -> "Engine":
    """The engine; what `auto` chose, and among what, is said on stderr."""
    from resnext.deploy.engines import AUTO, choose, open_engine
    from resnext.deploy.samples import samples

    images = None
    if calibrate is not None and _takes_images(name, precision):
        images = samples(artifact, calibrate, scored=0).calibration
    if name != AUTO:
        return open_engine(artifact, name, precision, calibration=images)
    chosen = choose(artifact, precision, calibration=images, batch_size=batch)
    print(f"engine: {chosen}", file=sys.stderr)
    return chosen.engine


def say_unusable(found: "Unusable") -> None:
    """Name a picture of no use on stderr, and go on."""
    print(f"unusable: {found.reason}", file=sys.stderr)


def refuse_unusable(bad: int, count: int) -> None:
    """What a command ends with if there were pictures of no use.

    Raises:
        DataError: there were.
    """
    if bad:
        raise DataError(
            f"expected pictures, found {bad} of {count} that cannot be used, named above"
        )


def _answers(
    artifact: "Artifact",
    engine: "Engine",
    files: "list[tuple[str, Content]]",
    top: int,
    batch: int,
    explain: Path | None,
) -> "Iterator[Prediction | Unusable]":
    from resnext.deploy.predict import Prediction
    from resnext.deploy.predict import predict as predictions

    draw = None if explain is None else _drawer(artifact, explain)
    contents = dict(enumerate(files))
    answers = predictions(artifact, engine, files, top=top, batch_size=batch)
    for number, answer in enumerate(answers):
        if draw is not None and isinstance(answer, Prediction):
            draw(*contents[number], answer.classes[0][0])
        yield answer


def _drawer(artifact: "Artifact", folder: Path) -> "Callable[[str, Content, str], None]":
    """A function that draws the map of a class on a picture into the folder."""
    from resnext.deploy.explain import explain
    from resnext.deploy.predict import decode_picture
    from resnext.files import ensure_folder, write_bytes

    model, taken = artifact.model(), set[str]()
    ensure_folder(folder)

    def draw(name: str, content: "Content", label: str) -> None:
        stem = content.stem if isinstance(content, Path) else "stdin"
        found = explain(artifact, decode_picture(content, name), label, model=model, name=name)
        write_bytes(folder / f"{free_name(stem, taken)}.png", found.png())

    return draw


def _shown(
    answers: "Iterable[Prediction | Unusable]",
    count: int,
    show: "_Table | _Json | _Csv",
    artifact: "Artifact",
    engine: "Engine",
) -> int:
    """Print all answers; how many pictures were of no use."""
    from resnext.deploy.predict import Unusable

    bad: list[Unusable] = []
    live = not (isinstance(show, _Table) and sys.stdout.isatty())
    with progress_bar(Console(stderr=True), shown=live) as bar:
        task = bar.add_task("", total=count, texts=("predicting",))
        for answer in answers:
            if isinstance(answer, Unusable):
                bad.append(answer)
                say_unusable(answer)
            else:
                show.answer(answer)
            bar.advance(task)
    show.end(artifact, engine, bad)
    return len(bad)


class _Table:
    """A few lines for each picture."""

    def __init__(self, files: "list[tuple[str, Content]]") -> None:
        self._width = min(48, max(len(name) for name, _ in files))
        self._count, self._seconds = 0, 0.0

    def answer(self, found: "Prediction") -> None:
        """Print one."""
        self._count += 1
        self._seconds += found.seconds
        for row, (label, probability) in enumerate(found.classes):
            name = found.name if row == 0 else ""
            print(f"{name:<{self._width}}  {100 * probability:6.2f} %  {label}", flush=True)

    def end(self, artifact: "Artifact", engine: "Engine", bad: "list[Unusable]") -> None:
        """What all of it was found with."""
        unusable = f", {len(bad)} unusable" if bad else ""
        each = f", {1000 * self._seconds / self._count:.1f} ms each" if self._count else ""
        pictures = "1 picture" if self._count == 1 else f"{self._count} pictures"
        print(
            f"{pictures}{unusable}: {artifact.network}, profile {artifact.profile.name}, "
            f"{engine.name} {engine.precision}{each}"
        )


class _Json:
    """One object."""

    def __init__(self) -> None:
        self._pictures: list[dict[str, Any]] = []

    def answer(self, found: "Prediction") -> None:
        """Keep one."""
        self._pictures.append(found.to_dict())

    def end(self, artifact: "Artifact", engine: "Engine", bad: "list[Unusable]") -> None:
        """Print all."""
        from dataclasses import asdict

        record = {
            "network": artifact.network,
            "weights": artifact.record.weights,
            "profile": artifact.profile.name,
            "engine": engine.name,
            "precision": engine.precision,
            "pictures": self._pictures,
            "unusable": [asdict(each) for each in bad],
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))


class _Csv:
    """One line for each class of each picture."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(("picture", "rank", "class", "probability"))

    def answer(self, found: "Prediction") -> None:
        """Print one."""
        for rank, (label, probability) in enumerate(found.classes, 1):
            self._writer.writerow((found.name, rank, label, f"{probability:.6g}"))

    def end(self, artifact: "Artifact", engine: "Engine", bad: "list[Unusable]") -> None:
        """Nothing more: the lines are all there is."""


def _files(pictures: list[Path]) -> "list[tuple[str, Content]]":
    from resnext.data.decode import MAX_BYTES
    from resnext.deploy.predict import named, pictures_of

    asked = [str(path) for path in pictures].count(STDIN)
    if asked > 1:
        raise UsageError("expected - once, found it twice: it reads one picture")
    if not asked:
        return [*named(pictures_of(pictures))]
    others = [path for path in pictures if str(path) != STDIN]
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    return [("standard input", content), *named(pictures_of(others))]
