"""An index of millions of images that exist in name only, and what a process needs to hold it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from resnext.data import index, store


def write_index(root: Path, images: int, classes: int) -> store.Table:
    """Class folders that are there, and an index of files that are not."""
    names = [f"n{number:08d}" for number in range(classes)]
    for name in names:
        (root / name).mkdir(parents=True)
    time.sleep(2.1)  # until the folders are old enough to be trusted
    counts = np.full(classes, images // classes)
    counts[: images - counts.sum()] += 1
    listings = [_listing(root, name, label, int(counts[label])) for label, name in enumerate(names)]
    return index.write(root, names, listings)


def _listing(root: Path, name: str, label: int, count: int) -> index.Listing:
    files = [f"{name}_{number:05d}.JPEG".encode() for number in range(count)]
    status = (root / name).stat()
    return index.Listing(
        folder=name,
        label=label,
        state=(status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
        names=b"".join(files),
        lengths=np.full(count, len(files[0])),
        sizes=np.arange(count),
    )


_OPENING = """
import json, pickle, resource, sys, time
from pathlib import Path
import numpy as np
from resnext.data import open_data

def memory():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    found = dict(line.split(":", 1) for line in lines)
    shared, private = (
        sum(int(found[f"{kind}_{state}"].split()[0]) for state in ("Clean", "Dirty"))
        for kind in ("Shared", "Private")
    )
    dirty = int(found["Private_Dirty"].split()[0])
    return {"rss": (shared + private) * 1024, "own": dirty * 1024}

before = memory()
begin = time.perf_counter()
data = open_data(sys.argv[1])
seconds = time.perf_counter() - begin
source = data.train.whole
opened = memory()
total = data.train.labels.sum()
pickle.dumps(data.train)
before_copies = memory()
copies = [pickle.loads(pickle.dumps(data.train)) for _ in range(4)]
for copy in copies:
    assert np.asarray(copy.labels).sum() == total
print(json.dumps({
    "seconds": seconds,
    "held_out": len(data.validation),
    "images": len(source),
    "rss": opened["rss"] - before["rss"],
    "own": opened["own"] - before["own"],
    "copies_own": memory()["own"] - before_copies["own"],
    "pickled": len(pickle.dumps(data.train)),
    "last": source.describe(len(source) - 1),
}))
"""


def opening(root: Path) -> dict[str, Any]:
    """Open the folder in a process of its own: seconds, and bytes that its memory grew by.

    `own` are bytes that only this process can use; the others are pages of the index file, which
    all processes on the machine share.
    """
    import json

    command = [sys.executable, "-c", _OPENING, str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
