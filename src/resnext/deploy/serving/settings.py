"""How a server is set up: read once, checked once, and kept in a file where the user wants it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import resnext
from resnext.errors import ResNextError, ResourceError, UsageError
from resnext.files import write_bytes

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


_OF_A_NETWORK = ("weights", "profile", "class_names", "calibrate")
"""Settings that mean nothing to another network."""


class Settings(BaseModel):
    """What is served, where, and within which limits.

    Attributes:
        given: an artifact, a run or a name, as `resnext predict` takes it.
        weights: the file for a network by name.
        profile: preprocessing instead of the network's own.
        class_names: a file with names of the outputs.
        calibrate: images that int8 learns its ranges from.
        engine: what runs the network.
        precision: of the arithmetic.
        host: the address to listen on.
        port: 0 takes a free one.
        batch: most pictures that the engine is given at once.
        wait_ms: how long a picture waits for others to come.
        queue: pictures admitted and not answered yet; more are refused with 503.
        workers: threads that decode.
        files: pictures of one request.
        upload_mib: bytes of one request.
        held_mib: bytes of all uploads that are in memory.
        megapixels: of a picture.
        header_seconds: for the head of a request to come.
        receive_seconds: for its body.
        request_seconds: for all of a request.
        connections: open at once.
        grace_seconds: for what runs when the server is asked to end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    given: str
    weights: str | None = None
    profile: str | None = None
    class_names: str | None = None
    calibrate: str | None = None
    engine: str = "auto"
    precision: str = "fp32"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    wait_ms: Annotated[float, Field(ge=0, le=10_000)] = 5.0
    queue: Annotated[int, Field(ge=1, le=100_000)] = 256
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    files: Annotated[int, Field(ge=1, le=1000)] = 16
    upload_mib: Annotated[int, Field(ge=1, le=1024)] = 32
    held_mib: Annotated[int, Field(ge=1)] = 512
    megapixels: Annotated[float, Field(gt=0, le=50)] = 25.0
    header_seconds: Seconds = 10.0
    receive_seconds: Seconds = 30.0
    request_seconds: Seconds = 60.0
    connections: Count = 1000
    grace_seconds: Seconds = 30.0


def settings_of(words: dict[str, Any], file: Path | None) -> Settings:
    """What the command line says over what the file has; what neither says is as usual.

    Of a file for another network than the command line names, what belongs to that one is left out.

    Raises:
        UsageError: a value is out of range, or nothing says what to serve.
        ResourceError: the file cannot be read.
    """
    kept = {} if file is None else _read(file)
    said = {name: value for name, value in words.items() if value is not None}
    if not _same_network(kept.get("given"), said.get("given")):
        kept = {name: value for name, value in kept.items() if name not in _OF_A_NETWORK}
    merged = kept | said
    if "given" not in merged:
        where = "" if file is None else f", and {file} names none"
        raise UsageError(f"expected a network to serve, found none{where}")
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise UsageError(_first(error, kept, said, file)) from error


def _same_network(kept: Any, said: str | None) -> bool:
    """Whether the file's network is served; names and folders may be written in several ways."""
    if said is None or not isinstance(kept, str):
        return True
    with suppress(ResNextError):
        return resnext.spec(kept) == resnext.spec(said)
    return Path(kept).expanduser().absolute() == Path(said).expanduser().absolute()


def keep(settings: Settings, file: Path) -> None:
    """Write what was accepted; the file is the old one or the new one, whatever happens.

    Raises:
        ResourceError: it cannot be written; the old one is still there.
    """
    write_bytes(file, (settings.model_dump_json(indent=1) + "\n").encode())


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(f"cannot read {file}: {error}") from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"expected settings as JSON in {file}, found none: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"expected an object of settings in {file}, found {type(found).__name__}")
    return found


def _first(
    error: ValidationError, kept: dict[str, Any], said: dict[str, Any], file: Path | None
) -> str:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"expected settings that there are in {file}, found {name!r}"
    place = f"--{name.replace('_', '-')}" if name in said else f"{name} in {file}"
    value = (kept | said)[name]
    expected = problem["msg"].replace("Input should be", "expected").lower()
    return f"{expected} for {place}, found {value!r}"
