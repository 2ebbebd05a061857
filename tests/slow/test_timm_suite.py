"""timm's own tests of its models, run on ours."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("timm")

import resnext
from resnext.catalog import identifier, spec
from resnext.model.timm_adapter import PREFIX
from slow.timm_plugin import NETWORKS

# What timm 1.0.31 asks of every model that is known from outside, and its batch size.
CASES = {
    "forward": 1,
    "backward": 2,
    "default_cfgs": 1,
    "forward_features": 1,
    "forward_fx": 1,
    "backward_fx": 2,
    "forward_torchscript": 1,
    "forward_fx_torchscript": 1,
}


def pip() -> list[str]:
    """The command line of some pip; an environment made by uv has none of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip"):
        return [found]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    pytest.skip("expected pip or uv to fetch timm's tests with, found neither")


def timm_tests(folder: Path) -> Path:
    """timm's tests and their settings; they come with its source distribution only."""
    version = importlib.metadata.version("timm")
    options = ["--no-deps", "--no-binary", "timm", "--dest", str(folder), "--retries", "1"]
    fetched = subprocess.run(
        [*pip(), "download", *options, f"timm=={version}"], capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"cannot fetch the sources of timm {version}: {fetched.stderr.strip()[-300:]}")
    root = f"timm-{version}"
    with tarfile.open(folder / f"{root}.tar.gz") as archive:
        wanted = [
            member
            for member in archive.getmembers()
            if member.name == f"{root}/pyproject.toml" or member.name.startswith(f"{root}/tests/")
        ]
        archive.extractall(folder, wanted, filter="data")
    return folder / root


def environment() -> dict[str, str]:
    """Finds our package and plugin; without what would change how timm's tests are run."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GITHUB_ACTIONS", "PYTEST_ADDOPTS")}
    paths = (Path(__file__).parents[1], Path(resnext.__file__).parents[1])
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def passed(report: Path) -> set[str]:
    cases = ElementTree.parse(report).iter("testcase")
    return {case.attrib["name"] for case in cases if len(case) == 0}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_timm_tests_pass_on_our_networks(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    plugins = ["-p", "slow.timm_plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
    selection = ["tests/test_models.py", "-k", PREFIX, "--junitxml", str(report), "-q"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *selection],
        cwd=timm_tests(tmp_path),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]
    assert passed(report) >= {
        f"test_model_{case}[{batch}-{PREFIX}{identifier(spec(network))}]"
        for network in NETWORKS
        for case, batch in CASES.items()
    }
