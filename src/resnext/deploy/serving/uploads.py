"""What a stranger sends, read within limits: a body of one picture, or a form of several."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from resnext.data.index import printable
from resnext.deploy.serving.gate import Gate
from resnext.deploy.serving.refusal import RefusalError

MIB = 2**20
_LONGEST_NAME = 200
_FIELDS = 16
"""Parts of a form that are no files; they mean nothing here and are passed over."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it came; the name is a label, never a path."""

    name: str
    content: bytes


@contextmanager
def within(gate: Gate) -> Iterator["Body"]:
    """A body whose bytes are held until the context ends."""
    body = Body(gate)
    try:
        yield body
    finally:
        gate.release(body.held)


class Body:
    """Reads a request's body, and counts what it holds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.held = 0

    async def read(self, request: Request, *, most: int, seconds: float) -> bytes:
        """All of it, if that is at most ``most`` bytes and comes in time.

        Raises:
            RefusalError: 400, 408, 413 or 503.
        """
        _check_length(request, most)
        found = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for chunk in _chunks(request):
                    if len(found) + len(chunk) > most:
                        raise _too_large(most, "more")
                    self._gate.hold(len(chunk))
                    self.held += len(chunk)
                    found += chunk
        except TimeoutError:
            raise RefusalError(
                408, f"expected the whole body within {seconds:g} s, found {len(found)} bytes of it"
            ) from None
        except ClientDisconnect:
            raise RefusalError(
                400, "expected the whole body, found the connection closed"
            ) from None
        return bytes(found)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


def _check_length(request: Request, most: int) -> None:
    said = request.headers.get("content-length")
    if said is not None and said.isdecimal() and int(said) > most:
        raise _too_large(most, said)


def _too_large(most: int, found: str) -> RefusalError:
    return RefusalError(413, f"expected at most {most} bytes ({most // MIB} MiB), found {found}")


def uploads_of(content_type: str, body: bytes, *, files: int) -> list[Upload]:
    """The pictures of a body: of a form its files, otherwise the body itself.

    Raises:
        RefusalError: 413, too many files; 415, another kind of body; 422, none, or a broken form.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        return _of_form(options.get(b"boundary", b""), body, files)
    if kind.startswith(b"image/") or kind in (b"", b"application/octet-stream"):
        if not body:
            raise RefusalError(422, "expected a picture, found an empty body")
        return [Upload("body", body)]
    raise RefusalError(
        415,
        "expected image/..., application/octet-stream or multipart/form-data, found "
        f"{printable(kind.decode('latin-1'))[:80]}",
    )


@dataclass(slots=True)
class _Form:
    """What the parser tells, part by part."""

    files: int
    uploads: list[Upload] = field(default_factory=list)
    fields: int = 0
    ended: bool = False
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _data: bytearray | None = None
    _label: str = ""

    def begin(self) -> None:
        self._disposition = b""
        self._data = None

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            self.fields += 1
            if self.fields > _FIELDS:
                raise RefusalError(
                    413, f"expected at most {_FIELDS} fields beside files, found more"
                )
            return
        if len(self.uploads) >= self.files:
            raise RefusalError(413, f"expected at most {self.files} files in a request, found more")
        self._label = label(options[b"filename"], len(self.uploads) + 1)
        self._data = bytearray()

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def part_end(self) -> None:
        if self._data is not None:
            self.uploads.append(Upload(self._label, bytes(self._data)))
        self._data = None

    def end(self) -> None:
        self.ended = True


def label(filename: bytes, number: int) -> str:
    """What a file is called in answers: the last part of its name, printable and short."""
    last = re.split(r"[/\\]", filename.decode("utf-8", "replace"))[-1]
    return printable(last)[:_LONGEST_NAME] or f"file {number}"


def _of_form(boundary: bytes, body: bytes, files: int) -> list[Upload]:
    form = _Form(files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_end,
                "on_part_data": form.part_data,
                "on_part_end": form.part_end,
                "on_end": form.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RefusalError(422, f"expected a form of files, found a broken one: {error}") from error
    if not form.ended:
        raise RefusalError(422, "expected a form that ends with its boundary, found a cut one")
    if not form.uploads:
        raise RefusalError(422, "expected a form with files, found none")
    return form.uploads
