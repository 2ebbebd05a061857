"""README and docs: their Python runs, their commands print what they say."""

import itertools
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import resnext
from resnext.benchmark.published import files, with_results
from resnext.cli.main import app
from resnext.training.recipe import RECIPES, Recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

COMMAND = re.compile(r"^\s*(?:\$ |do |srun |uv run )*resnext (?=\w)")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every block in that language."""
    return [
        (page.name, text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text())
        if kind == language
    ]


def shown_commands() -> list[tuple[str, str, str]]:
    """(page, command, output) of every block that shows what a command prints."""
    found = []
    for page, text in blocks("console"):
        if text.startswith("$ "):
            command, _, output = text.partition("\n")
            found.append((page, command.removeprefix("$ "), output))
    return found


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_runs(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(("page", "command", "output"), shown_commands())
def test_commands_print_what_is_shown(page: str, command: str, output: str):
    program, *words = shlex.split(command)
    assert program == "resnext"
    done = subprocess.run(
        [sys.executable, "-m", "resnext", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout == output


def typed_lines() -> list[tuple[str, str]]:
    """(page, line) of every line of a shell that begins with our program's name."""
    return [
        (page, line)
        for language in ("console", "bash")
        for page, text in blocks(language)
        for line in re.split(r"\n|; ", text.replace("\\\n", " "))
        if COMMAND.match(line)
    ]


def mentioned() -> list[tuple[str, str]]:
    """(page, command) of every one between words, where values may be left out."""
    return [
        (page.name, line)
        for page in PAGES
        for line in re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text()).replace("\n", " "))
        if COMMAND.match(line)
    ]


def words_of(line: str) -> list[str]:
    words = shlex.split(COMMAND.sub("", line).partition(" | ")[0], comments=True)
    return [word for word in words if word not in ("...", "…")]


@cache
def whole() -> Any:
    return get_command(app)


def command_of(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command that is named, and what is said to it."""
    command = whole()
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("--"):
        command = command.commands[rest.pop(0)]
    return command, rest


def parse(words: Sequence[str]) -> None:
    """Read a command line as when it is typed, and do nothing; an error is raised as it comes."""
    command, rest = command_of(words)
    read = command.make_context("resnext", rest).params
    if command.name == "launch":
        parse(read["words"])


@pytest.mark.parametrize(("page", "line"), typed_lines())
def test_lines_to_type_can_be_read(page: str, line: str):
    parse(words_of(line))


@pytest.mark.parametrize("line", ["train --nonsense 3", "launch --processes 2 train --nonsense"])
def test_a_line_that_cannot_be_read_is_noticed(line: str):
    with pytest.raises(Exception, match="--nonsense"):
        parse(line.split())


@pytest.mark.parametrize(("page", "line"), mentioned())
def test_commands_have_the_options_that_are_mentioned(page: str, line: str):
    command, rest = command_of(words_of(line))
    known = {"--help"} | {name for one in command.params for name in one.opts + one.secondary_opts}
    if command.name != "launch":
        assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize(
    "name", re.findall(r"`(resnext\.[\w.]+)`", (ROOT / "docs" / "design.md").read_text())
)
def test_what_the_map_names_is_there(name: str):
    assert callable(pkgutil.resolve_name(name))


def test_there_is_something_to_check():
    assert len(blocks("python")) >= 3
    assert len(shown_commands()) >= 3
    assert len(typed_lines()) >= 60
    assert len(mentioned()) >= 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def recipe_row(recipe: Recipe) -> str:
    """The part of a row of the recipe table that the code decides."""
    rate = f"{recipe.learning_rate:g}"
    if recipe.decay == "cosine":
        rate += ", cosine" + (", warm-up" if recipe.warmup_epochs else "")
    else:
        *others, last = (f"{milestone:g}" for milestone in recipe.milestones)
        rate += f", a tenth at {', '.join(others)} and {last}"
    return f"| {recipe.epochs} | {recipe.batch_size} | {rate} | {recipe.weight_decay:g} |"


def launched() -> list[tuple[str, list[str]]]:
    """(page, words) of every line in the docs that starts a training in several processes."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ").replace('"$SLURM_NNODES"', "4")
        lines = re.findall(r"resnext launch (?:--[^`\n|#]* )?train (?:--[^`\n|#]*)", text)
        found += [(page.name, shlex.split(line)) for line in lines]
    return found


@pytest.mark.parametrize(("page", "words"), launched())
def test_no_more_processes_are_launched_than_a_batch_has_parts(page: str, words: list[str]):
    """On machines of eight GPUs, where no number of processes is given."""
    given = dict(itertools.pairwise(words))
    recipe = RECIPES[given["--recipe"] if "--data" in given else "digits"]()
    batch = int(given.get("--batch-size", recipe.batch_size))
    processes = int(given.get("--nodes", 1)) * int(given.get("--processes", 8))
    assert recipe.bn_batch is not None
    assert processes <= batch // recipe.bn_batch


def test_the_table_of_recipes_is_the_code_s():
    lines = (ROOT / "docs" / "runs.md").read_text().splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert rows.keys() == RECIPES.keys()
    for name, row in rows.items():
        assert row.endswith(recipe_row(RECIPES[name]()))


def test_the_table_of_input_rates_is_the_stored_one():
    stored = ROOT / "benchmarks" / "results" / "xeon-2-cores" / "input.jsonl"
    records = [json.loads(line) for line in stored.read_text().splitlines()]
    rows = [
        f"| {r['group']} | {r['method']} | {r['images_per_second']:.0f} | {r['ratio']:.2f} |"
        for r in records
    ]
    page = (ROOT / "docs" / "data.md").read_text()
    assert "\n".join(rows) in page
    assert all(record["commit"][:7] in page for record in records)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_published_tables_are_what_was_measured(page: Path):
    text = page.read_text()
    assert with_results(text, ROOT) == text


def test_every_public_name_is_explained():
    page = (ROOT / "docs" / "python.md").read_text()
    explained = re.findall(r"auto\w+:: resnext\.(\w+)$", page, re.MULTILINE)
    assert sorted(explained) == sorted(resnext.__all__)


def test_pages_with_published_tables_are_found():
    assert {page.name for page in PAGES if files(page.read_text())} >= {
        "README.md",
        "kernels.md",
        "speed.md",
        "deploy.md",
        "serve.md",
    }
