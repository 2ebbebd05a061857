"""``resnext export``: a network with weights as something to give away."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.display import interruptible, loading
from resnext.cli.options import AsJson, Calibrate, ClassNames, OneWeights, ProfileOption
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from resnext.deploy import Artifact

ARTIFACT = "artifact"


def export(
    given: Annotated[
        str,
        typer.Argument(
            metavar="RUN|ARTIFACT|NAME", help="A network with weights; hub:OWNER/NAME too."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="A new folder for an artifact, or hub:OWNER/NAME; a new file for other formats."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="artifact: a folder for this program, the hub, timm and torchvision; torch, onnx "
            "or openvino: a file for others.",
        ),
    ] = ARTIFACT,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8, of a file.")] = "fp32",
    fold_bn: Annotated[
        bool,
        typer.Option("--fold-bn/--keep-bn", help="Make normalisation part of the convolutions."),
    ] = True,
    calibrate: Calibrate = None,
    weights: OneWeights = None,
    profile: ProfileOption = None,
    class_names: ClassNames = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(help="What resnext evaluate --json printed of these weights."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of the weights, as SPDX has it.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for the model card.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an older export of that name.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Whether all may see a repository made on the hub.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a network as an artifact, or as a file for others.

    The file is proven to compute the network.
    """
    with interruptible(lambda: "nothing was written"), loading(stderr=True) as doing:
        from resnext.data.class_list import read_names
        from resnext.deploy import artifact_of, with_classes, with_score
        from resnext.deploy.origin import with_words

        _check(kind, precision, calibrate)
        artifact = artifact_of(given, weights, profile_name=profile)
        names = None if class_names is None else read_names(class_names)
        artifact = with_classes(artifact, names)
        for file in scores or ():
            artifact = with_score(artifact, _read(file), str(file))
        artifact = with_words(artifact, licence=licence, description=description)
        if kind == ARTIFACT and str(out).startswith("hub:"):
            doing("uploading")
            print(_uploaded(artifact, str(out), public=public))
            return
        if kind == ARTIFACT:
            doing("writing")
            _artifact(artifact, out, replace=replace, as_json=as_json)
            return
        from resnext.deploy.export import Order, check_place
        from resnext.deploy.export import export as write
        from resnext.deploy.samples import samples

        Order(kind=kind, precision=precision, fold=fold_bn).check()
        check_place(out, kind, replacing=replace)
        doing("reading images")
        images = None if calibrate is None else samples(artifact, calibrate)
        order = Order(kind=kind, precision=precision, fold=fold_bn, given=images)
        doing("exporting and comparing")
        file, report = write(artifact, out, order, replacing=replace)
    if as_json:
        print(json.dumps({"file": str(file)} | report, indent=2, ensure_ascii=False))
    else:
        _print(file, report)


def _check(kind: str, precision: str, calibrate: str | None) -> None:
    """Refuse what an artifact has no use for."""
    if kind == ARTIFACT and (precision != "fp32" or calibrate is not None):
        raise UsageError(
            "expected a --format out of torch, onnx, openvino beside --precision or --calibrate, "
            "found none: an artifact holds the weights as they are"
        )


def _read(file: Path) -> Any:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"expected JSON of resnext evaluate in {file}, found: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"expected the scores of one network in {file}, found a list")
    return found


def _uploaded(artifact: "Artifact", text: str, *, public: bool) -> str:
    """The address of the artifact on the hub."""
    from tempfile import TemporaryDirectory

    from resnext.deploy import save
    from resnext.deploy.hub import parsed, upload

    repository, revision = parsed(text)
    if revision is not None:
        raise UsageError(f"expected hub:OWNER/NAME for --out, found {text!r} with a revision")
    with TemporaryDirectory() as folder:
        place = Path(folder) / "a"
        save(artifact, place)
        return upload(place, repository, public=public)


def _artifact(artifact: "Artifact", out: Path, *, replace: bool, as_json: bool) -> None:
    from resnext.deploy import save

    saved = save(artifact, out, replacing=replace)
    if as_json:
        print(json.dumps({"folder": str(out)} | saved.record.model_dump(mode="json"), indent=2))
        return
    rows = {
        "artifact": str(out),
        "network": f"{saved.network}, profile {saved.profile.name}",
        "classes": _classes(saved),
        "licence": saved.record.licence or "not stated; say --licence",
        "weights": f"SHA-256 {saved.record.weights}",
        "next": f"resnext predict {shlex.quote(str(out))} PICTURE",
    }
    for name, value in rows.items():
        print(f"{name:<9} {value}")


def _classes(saved: "Artifact") -> str:
    if saved.record.classes is None:
        return f"{saved.spec.classes}, without names; say --class-names"
    shown = ", ".join(saved.classes[:5]) + (" …" if saved.spec.classes > 5 else "")
    return f"{saved.spec.classes}: {shown}"


def _print(file: Path, report: dict[str, Any]) -> None:
    print(f"{'images':>6} {'side':>5} {'difference':>11} {'limit':>9} {'same class':>11}")
    for row in report["parity"]:
        limit = "–" if row["tolerance"] is None else f"{row['tolerance']:.1e}"
        print(
            f"{row['images']:>6} {row['side']:>5} {row['relative']:>11.1e} {limit:>9} "
            f"{100 * row['agreement']:>9.1f} %"
        )
    rows = {
        "file": f"{file}, {sum(f['bytes'] for f in report['files'].values()):,} bytes",
        "network": f"{report['network']}, {report['format']} {report['precision']}",
        "images": f"{report['images']}; differences are in units of the largest logit",
        **_accuracy(report["accuracy"]),
        "report": f"{file}.parity.json",
    }
    for name, value in rows.items():
        print(f"{name:<9} {value}")


def _accuracy(found: dict[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {}
    said = f"{100 * found['agreement']:.2f} % of {found['images']} images in the same class"
    if found["before"] is not None:
        said += f"; top-1 accuracy {found['after']:.2f} %, of float32 {found['before']:.2f} %"
    return {"accuracy": said}
