"""Artifacts on Hugging Face's hub, by its own library and conventions (extra `hub`).

The folder is a repository of its own: README.md is its card, model.safetensors its weights,
config.json is timm's. Only the artifact's files travel, in either direction, so nothing that could
run code is fetched; what was fetched is verified like any other artifact.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from resnext.deploy.artifact import Artifact, check_place, load
from resnext.errors import ResNextError, ResourceError, UsageError
from resnext.runs.artifacts import FILES
from resnext.training.checkpoint import write_folder

PREFIX = "hub:"
"""Of a text that stands for an artifact on the hub: ``hub:OWNER/NAME`` or ``…@REVISION``."""


def upload(
    folder: str | Path,
    repository: str,
    *,
    public: bool = False,
    message: str = "Upload a ResNeXt artifact",
    endpoint: str | None = None,
) -> str:
    """Put an artifact into a repository, which is made if there is none.

    Args:
        folder: a saved artifact; it is verified first.
        repository: ``OWNER/NAME``.
        public: whether a repository that is made now may be seen by everybody.
        message: of the commit.
        endpoint: another hub than the usual one.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: no whole artifact is there.
        UsageError: the extra `hub` is missing, or the hub knows no such repository or user.
        ResourceError: the hub cannot be reached.
    """
    load(folder)
    with _asking(repository) as library:
        api = library.HfApi(endpoint=endpoint)
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            allow_patterns=list(FILES),
            commit_message=message,
        )
    return str(done.commit_url)


def download(
    repository: str,
    folder: str | Path,
    *,
    revision: str | None = None,
    replacing: bool = False,
    endpoint: str | None = None,
) -> Artifact:
    """Fetch an artifact into a folder, which appears whole and verified or not at all.

    Args:
        repository: ``OWNER/NAME``.
        folder: a new one.
        revision: a branch, tag or commit; the newest state if left out.
        replacing: whether an older artifact may lie there, which goes.
        endpoint: another hub than the usual one.

    Raises:
        CheckpointError: what is there is no whole artifact.
        UsageError: as `upload`; or something lies in the folder.
        ResourceError: the hub cannot be reached.
    """
    path = Path(folder).expanduser()
    check_place(path, replacing=replacing)
    with tempfile.TemporaryDirectory() as place:
        found = fetched(repository, revision, into=Path(place) / "a", endpoint=endpoint)
        load(found)
        contents = {name: (found / name).read_bytes() for name in FILES if (found / name).exists()}
    write_folder(path, contents, replacing=path.exists())
    return load(path)


def fetched(
    repository: str,
    revision: str | None = None,
    *,
    into: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of a repository's files of an artifact, in the library's own cache by default."""
    with _asking(repository) as library:
        found = library.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(FILES),
            local_dir=into,
            endpoint=endpoint,
        )
    return Path(found)


def parsed(text: str) -> tuple[str, str | None]:
    """``hub:OWNER/NAME@REVISION`` -> the repository and the revision.

    Raises:
        UsageError: it has another shape.
    """
    name, at, revision = text.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or (at and not revision):
        raise UsageError(f"expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION, found {text!r}")
    return name, revision or None


@contextmanager
def _asking(repository: str) -> Iterator[Any]:
    """The library; what it raises becomes one line."""
    try:
        import huggingface_hub as library
        from huggingface_hub import errors
    except ImportError as error:
        raise UsageError(f"expected resnext[hub] to be installed, found: {error}") from error
    try:
        yield library
    except ResNextError:
        raise
    except (errors.HFValidationError, errors.RepositoryNotFoundError) as error:
        raise UsageError(
            f"expected a repository of the hub that you may use, found {repository!r}: "
            f"{_line(error)}"
        ) from error
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        _unanswered(library),
        OSError,
    ) as error:
        raise ResourceError(f"cannot reach {repository} on the hub: {_line(error)}") from error


def _unanswered(library: Any) -> type[Exception]:
    """What the library's client raises where nobody answers; versions differ in their client."""
    client = type(library.utils.get_session()).__module__.partition(".")[0]
    found: type[Exception] = import_module(client).TransportError
    return found


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:159] + "…"
