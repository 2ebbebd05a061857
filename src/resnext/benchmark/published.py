"""Tables of measured numbers in the pages of a repository, made from the lines that hold them.

A page says `<!-- results: FILE -->`, or `<!-- summary: FILE FILE -->` for a row of each; a line
`<!-- end -->` ends what is written below it. Nothing between the two is typed by hand.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnext.benchmark.summary import summary
from resnext.errors import DataError

Record = Mapping[str, Any]
_TABLE = re.compile(r"(<!-- (results|summary): (\S+(?: \S+)*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def with_results(page: str, root: Path) -> str:
    """The page with every table made anew; files are looked for under `root`.

    Raises:
        DataError: a file is not there, or holds nothing that a table is known for.
    """

    def made(m: re.Match[str]) -> str:
        names = m[3].split(" ")
        if m[2] == "results":
            return f"{m[1]}\n{results(root / names[0], names[0])}\n{m[5]}"
        tables = [_records(root / name, name) for name in names]
        return f"{m[1]}\n{_summary(tables)}\n{m[5]}"

    return _TABLE.sub(made, page)


def files(page: str) -> list[str]:
    """What a page has tables of."""
    return [name for match in _TABLE.finditer(page) for name in match[3].split(" ")]


def results(path: Path, name: str) -> str:
    """What stands between the two marks: where it is from, and the table."""
    records = _records(path, name)
    for told_by, table in _TABLES.items():
        if records and all(told_by in record for record in records):
            return table(records, name)
    raise DataError(f"expected results of a benchmark in {name}, found something else")


def _records(path: Path, name: str) -> list[Record]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"expected lines of JSON in {name}, found none to read") from error


def _summary(tables: Sequence[Sequence[Record]]) -> str:
    titles = ["measured", "beside", "ours"]
    machines = dict.fromkeys(r.get("gpu", r["machine"]) for records in tables for r in records)
    return f"{_markdown(titles, summary(tables))}\nOn {'; '.join(machines)}.\n"


def _about(records: Sequence[Record], name: str) -> str:
    """Machine, commits and file."""
    places = list(dict.fromkeys(record.get("gpu", record["machine"]) for record in records))
    commits = list(dict.fromkeys(str(record["commit"])[:7] for record in records))
    word = "commit" if len(commits) == 1 else "commits"
    return f"({'; '.join(places)}; {word} {', '.join(commits)}; `{name}`)"


def _setting(record: Record) -> str:
    threads = record["threads"]
    where = "" if "gpu" in record else f", {threads} thread{'' if threads == 1 else 's'}"
    pixels = f"{record['batch']} images of {record['resolution']} pixels"
    return f"{pixels}, {record['precision']}{where}"


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines).replace(" --- ", "---")


def _training(records: Sequence[Record], name: str) -> str:
    first = records[0]
    several = len({record["network"] for record in records}) > 1
    floors = any(record.get("over_floor") for record in records)
    what = "" if several else f"{first['network']}, "
    clock = "processor time" if "gpu" not in first and first["threads"] == 1 else "time"
    titles = ["mode", "step", "images/s", "from, to", "to the best peer"]
    rows = []
    for record in records:
        row = [
            record["mode"],
            record["method"],
            f"{record['images_per_second']:.2f}",
            f"{record['least']:.2f} to {record['most']:.2f}",
            f"{record['ratio']:.2f}",
        ]
        if floors:
            row += [
                f"{1000 * record['batch'] / record['images_per_second']:.1f}",
                f"{record['over_floor']:.2f}" if record.get("over_floor") else "",
            ]
        rows.append([record["network"], *row] if several else row)
    titles = ["network"] * several + titles + ["ms a step", "over the floor"] * floors
    about = (
        f"{what}{_setting(first)} {_about(records, name)}; median of {first['slices']} by {clock}:"
    )
    return f"{about}\n\n{_markdown(titles, rows)}"


def _kernels(records: Sequence[Record], name: str) -> str:
    """Of our kernels the fastest launch of each shape and direction."""
    best: dict[tuple[str, str], Record] = {}
    for record in records:
        key = (record["shape"], record["method"])
        held = best.get(key)
        timed = record["median"] is not None
        if timed and (held is None or record["median"] < held["median"]):
            best[key] = record
    rows = [
        [
            record["shape"],
            record["method"],
            f"{record['median']:.1f}",
            f"{record['floor']:.1f}",
            f"{record['ratio']:.2f}",
        ]
        for record in best.values()
    ]
    titles = ["direction, shape", "method", "µs", "floor, µs", "over the floor"]
    about = f"Images: {records[0]['images']}, {records[0]['precision']} {_about(records, name)}:"
    return f"{about}\n\n{_markdown(titles, rows)}"


def _profile(records: Sequence[Record], name: str) -> str:
    """Half a percent and more, and every fallback."""
    rows = [
        [
            record["precision"],
            record["level"],
            f"`{record['name']}`" + (" (fallback)" if record["fallback"] else ""),
            str(record["calls"]),
            f"{record['share']:.1f}",
        ]
        for record in records
        if record["share"] >= 1 or record["fallback"]
    ]
    first = records[0]
    titles = ["precision", "level", "name", "calls", "% of its level"]
    pixels = f"{first['batch']} images of {first['resolution']} pixels"
    threads = f"{first['threads']} thread{'' if first['threads'] == 1 else 's'}"
    about = f"{first['network']}, {pixels}, {threads} {_about(records, name)}:"
    return f"{about}\n\n{_markdown(titles, rows)}"


def _conditions(records: Sequence[Record], name: str) -> str:
    """Network, threads and what else the machine did."""
    first = records[0]
    threads = f"{first['threads']} thread{'' if first['threads'] == 1 else 's'}"
    loads = sorted({record["load"] for record in records})
    load = f"{loads[0]:g}" if len(loads) == 1 else f"{loads[0]:g} to {loads[-1]:g}"
    return f"{first['network']}, {threads}, load {load} {_about(records, name)}"


def _inference(records: Sequence[Record], name: str) -> str:
    rows = [
        [
            str(record["batch"]),
            f"{record['method']} {record['precision']}",
            f"{record['images_per_second']:.2f}",
            f"{record['least']:.2f} to {record['most']:.2f}",
            f"{record['ratio']:.2f}",
            f"{record['difference']:.1e}",
        ]
        for record in records
    ]
    titles = ["at once", "engine", "images/s", "from, to", "ratio", "difference from float64"]
    about = f"{_conditions(records, name)}; median of {records[0]['slices']}:"
    return f"{about}\n\n{_markdown(titles, rows)}"


def _exports(records: Sequence[Record], name: str) -> str:
    batches = list(next(record["seconds"] for record in records if record["seconds"]))
    rows = []
    for record in records:
        file = f"{record['kind']} {record['precision']}"
        if record["seconds"] is None:
            rows.append([file, record["refused"], *[""] * (len(batches) + 3)])
            continue
        rows.append(
            [
                file,
                f"{record['bytes'] / 1000:,.0f}",
                *(f"{1000 * record['seconds'][batch]:.2f}" for batch in batches),
                f"{record['difference']:.1e}",
                f"{100 * record['agreement']:.2f}",
                "" if record["accuracy"] is None else f"{record['accuracy']:.2f}",
            ]
        )
    titles = ["file", "kB", *(f"ms for {batch}" for batch in batches)]
    titles += ["difference from float64", "same class, %", "accuracy, %"]
    return f"{_conditions(records, name)}:\n\n{_markdown(titles, rows)}"


def _serving(records: Sequence[Record], name: str) -> str:
    rows = []
    for record in records:
        seen = ["", "", ""]
        if record["answers"]:
            bad = f"{record['wrong']} wrong, {record['lost']} lost"
            seen = [f"{record['answers']:,}: {bad}", *(f"{record[p]:.0f}" for p in _LATENCIES)]
        rate = f"{record['images_per_second']:.2f}"
        spread = f"{record['least']:.2f} to {record['most']:.2f}"
        rows.append([record["method"], rate, spread, f"{record['ratio']:.2f}", *seen])
    first = records[0]
    titles = ["", "pictures/s", "from, to", "ratio", "answers", "median, ms", "99 % within, ms"]
    about = (
        f"{_conditions(records, name)}; batches of {first['batch']}, {first['clients']} clients, "
        f"median of {first['slices']} slices of {first['seconds']:g} s:"
    )
    return f"{about}\n\n{_markdown(titles, rows)}"


_LATENCIES = ("p50_ms", "p99_ms")
_TABLES: dict[str, Callable[[Sequence[Record], str], str]] = {
    "kind": _exports,
    "answers": _serving,
    "agreement": _inference,
    "direction": _kernels,
    "level": _profile,
    "mode": _training,
}
"""By a field that only its lines have."""
