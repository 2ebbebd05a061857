"""``resnext benchmark tables``: published numbers are written by the program that measured them."""

from pathlib import Path
from typing import Annotated

import typer


def benchmark_tables(
    pages: Annotated[list[Path], typer.Argument(help="Markdown pages of a repository.")],
    root: Annotated[
        Path, typer.Option(help="The folder that pages name their results from.")
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a page is out of step.")
    ] = False,
) -> None:
    """Make the tables in pages anew from measurements.

    A page says <!-- results: FILE -->; what stands from there to <!-- end --> is replaced.
    """
    from resnext.benchmark.published import files, with_results
    from resnext.errors import DataError, UsageError

    for page in pages:
        text = _read(page)
        if not files(text):
            raise UsageError(f"expected <!-- results: FILE --> in {page}, found none")
        new = with_results(text, root)
        if check and new != text:
            raise DataError(
                f"expected in {page} what its results say, found another table; "
                f"resnext benchmark tables {page} writes it"
            )
        if new != text:
            _write(page, new)
        count = len(files(text))
        state = "as they were" if new == text else "made anew"
        print(f"{page}: {count} table{'' if count == 1 else 's'} {state}")


def _read(page: Path) -> str:
    from resnext.errors import UsageError

    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"expected a page of text, found {page} that is none") from error


def _write(page: Path, text: str) -> None:
    from resnext.errors import ResourceError

    new = page.with_name(page.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(page)
    except OSError as error:
        raise ResourceError(f"cannot write {page}: {error.strerror or error}") from error
