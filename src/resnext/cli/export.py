"""``resnext export``: a network with weights as something to give away."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.display import interruptible, loading
from resnext.cli.options import (
    AsJson,
    Calibrate,
    ClassNames,
    OneWeights,
    ProfileOption,
    require_beside,
)
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from resnext.deploy import Artifact

ARTIFACT = "artifact"
HUB = "hub:"


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
        bool | None,
        typer.Option(
            "--fold-bn/--keep-bn",
            help="Make normalisation part of the convolutions of a file [fold-bn].",
        ),
    ] = None,
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

        _check_artifact(kind, precision, calibrate, fold_bn)
        _check_file(kind, out, description)
        _check_place(out, replace=replace, public=public)
        artifact = artifact_of(given, weights, profile_name=profile)
        names = None if class_names is None else read_names(class_names)
        artifact = with_classes(artifact, names)
        for file in scores or ():
            artifact = with_score(artifact, _read(file), str(file))
        artifact = with_words(artifact, licence=licence, description=description)
        if str(out).startswith(HUB):
            doing("uploading")
            _uploaded(artifact, str(out), public=public, as_json=as_json)
            return
        if kind == ARTIFACT:
            doing("writing")
            _artifact(artifact, out, replace=replace, as_json=as_json)
            return
        from resnext.deploy.export import Order, check_place
        from resnext.deploy.export import export as write
        from resnext.deploy.samples import samples

        fold = fold_bn is not False
        Order(kind=kind, precision=precision, fold=fold).check()
        check_place(out, kind, replacing=replace)
        doing("reading images")
        images = None if calibrate is None else samples(artifact, calibrate)
        order = Order(kind=kind, precision=precision, fold=fold, given=images)
        doing("exporting and comparing")
        file, report = write(artifact, out, order, replacing=replace)
    if as_json:
        print(json.dumps({"file": str(file)} | report, indent=2, ensure_ascii=False))
    else:
        _print(file, report)


def _check_artifact(kind: str, precision: str, calibrate: str | None, fold_bn: bool | None) -> None:
    """Refuse what an artifact has no use for."""
    given = precision != "fp32" or calibrate is not None or fold_bn is not None
    if kind == ARTIFACT and given:
        raise UsageError(
            "expected a --format out of torch, onnx, openvino beside --precision, --calibrate, "
            "--fold-bn or --keep-bn, found none: an artifact holds the weights as they are"
        )


def _check_file(kind: str, out: Path, description: str | None) -> None:
    """Refuse what only an artifact has a use for."""
    if kind == ARTIFACT:
        return
    if description is not None:
        raise UsageError(
            f"expected --format artifact beside --description, found --format {kind}: only the "
            "card of an artifact holds it"
        )
    if str(out).startswith(HUB):
        raise UsageError(
            f"expected a file for --format {kind}, found --out {out}: only an artifact goes to "
            "the hub"
        )


def _check_place(out: Path, *, replace: bool, public: bool) -> None:
    """Refuse what says nothing about the hub, or about this machine."""
    on_hub = str(out).startswith(HUB)
    require_beside("--public", public, "--out hub:OWNER/NAME", on_hub)
    if replace and on_hub:
        raise UsageError(
            f"expected a folder or file beside --replace, found --out {out}: what the hub has "
            "stays in its history"
        )


def _read(file: Path) -> Any:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"expected JSON of resnext evaluate in {file}, found: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"expected the scores of one network in {file}, found a list")
    return found


def _uploaded(artifact: "Artifact", text: str, *, public: bool, as_json: bool) -> None:
    """Put the artifact on the hub, and print its address there."""
    from tempfile import TemporaryDirectory

    from resnext.deploy import save
    from resnext.deploy.hub import parsed, upload

    repository, revision = parsed(text)
    if revision is not None:
        raise UsageError(f"expected hub:OWNER/NAME for --out, found {text!r} with a revision")
    with TemporaryDirectory() as folder:
        place = Path(folder) / "a"
        saved = save(artifact, place)
        address = upload(place, repository, public=public)
    print(_json({"address": address}, saved) if as_json else address)


def _artifact(artifact: "Artifact", out: Path, *, replace: bool, as_json: bool) -> None:
    from resnext.deploy import save

    saved = save(artifact, out, replacing=replace)
    if as_json:
        print(_json({"folder": str(out)}, saved))
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


def _json(place: dict[str, str], saved: "Artifact") -> str:
    return json.dumps(place | saved.record.model_dump(mode="json"), indent=2)


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
