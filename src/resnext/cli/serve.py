"""``resnext serve``: a network behind HTTP, with a page for people."""

from collections import deque
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.display import loading
from resnext.cli.options import Calibrate, ClassNames, OneWeights, ProfileOption
from resnext.cli.predict import check_calibrate, opened
from resnext.errors import UsageError

if TYPE_CHECKING:
    from resnext.deploy.serving.service import Service
    from resnext.deploy.serving.settings import Settings


def serve(
    given: Annotated[
        str | None, typer.Argument(metavar="[ARTIFACT|RUN|NAME]", help="A network with weights.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A file that keeps what is said here, and that a later start reads."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on [8000]; 0 takes a free one.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="What runs the network [auto].")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the arithmetic [fp32].")] = None,
    batch: Annotated[int | None, typer.Option(help="Most pictures at once [16].")] = None,
    wait_ms: Annotated[
        float | None, typer.Option(help="How long a picture waits for others [5].")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(help="Pictures admitted at once; others get 503 [256].")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode [2].")] = None,
    files: Annotated[int | None, typer.Option(help="Pictures of a request [16].")] = None,
    upload_mib: Annotated[int | None, typer.Option(help="MiB of a request [32].")] = None,
    held_mib: Annotated[
        int | None, typer.Option(help="MiB of all uploads in memory [512].")
    ] = None,
    megapixels: Annotated[
        float | None, typer.Option(help="Million pixels of a picture [25].")
    ] = None,
    header_seconds: Annotated[
        float | None, typer.Option(help="For the head of a request [10].")
    ] = None,
    receive_seconds: Annotated[
        float | None, typer.Option(help="For the body of a request [30].")
    ] = None,
    request_seconds: Annotated[
        float | None, typer.Option(help="For a request and its answer [60].")
    ] = None,
    connections: Annotated[int | None, typer.Option(help="Open at once [1000].")] = None,
    grace_seconds: Annotated[
        float | None, typer.Option(help="For what runs when the server ends [30].")
    ] = None,
    weights: OneWeights = None,
    profile: ProfileOption = None,
    class_names: ClassNames = None,
    calibrate: Calibrate = None,
) -> None:
    """Answer pictures over HTTP, with pages for people.

    Classes, activation maps, health and metrics.

    `--config FILE` keeps the settings: a later start with that file alone is the same server, and
    options beside it change it. SIGTERM and Ctrl-C let it finish what it has begun.
    """
    words: dict[str, Any] = {
        "given": given,
        "weights": None if weights is None else str(weights),
        "profile": profile,
        "class_names": None if class_names is None else str(class_names),
        "calibrate": calibrate,
        "engine": engine,
        "precision": precision,
        "host": host,
        "port": port,
        "batch": batch,
        "wait_ms": wait_ms,
        "queue": queue,
        "workers": workers,
        "files": files,
        "upload_mib": upload_mib,
        "held_mib": held_mib,
        "megapixels": megapixels,
        "header_seconds": header_seconds,
        "receive_seconds": receive_seconds,
        "request_seconds": request_seconds,
        "connections": connections,
        "grace_seconds": grace_seconds,
    }
    with ExitStack() as held:
        with loading(stderr=True) as doing:
            settings = _settings(words, config)
            from resnext.deploy.serving.server import listen, serving
            from resnext.deploy.serving.settings import keep

            listening = held.enter_context(listen(settings))
            doing("preparing the engine")
            service = _service(settings)
            if config is not None:
                keep(settings, config)
            running = serving(service, listening)
            address = next(running)
        about = service.about()
        print(
            f"serving  {about['network']}, {about['engine']} {about['precision']}, at {address} "
            "(Ctrl-C ends it)",
            flush=True,
        )
        deque(running, maxlen=0)


def _settings(words: dict[str, Any], config: Path | None) -> "Settings":
    from resnext.deploy.serving.settings import settings_of

    _require_packages()
    settings = settings_of(words, config)
    check_calibrate(words["calibrate"], settings.engine, settings.precision)
    return settings


def _require_packages() -> None:
    for name in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
        try:
            import_module(name)
        except ImportError as error:
            raise UsageError(f"expected resnext[serve] to be installed, found: {error}") from error


def _service(settings: "Settings") -> "Service":
    from resnext.data.class_list import read_names
    from resnext.deploy import artifact_of, with_classes
    from resnext.deploy.serving.service import Service

    weights = None if settings.weights is None else Path(settings.weights)
    found = artifact_of(settings.given, weights, profile_name=settings.profile)
    names = None if settings.class_names is None else read_names(Path(settings.class_names))
    artifact = with_classes(found, names)
    if artifact.spec.in_channels not in (1, 3):
        raise UsageError(
            f"expected a network of pictures, found one of {artifact.spec.in_channels} channels"
        )
    engine = opened(
        artifact, settings.engine, settings.precision, settings.calibrate, settings.batch
    )
    return Service(artifact, engine, settings)
