"""Two machines, as far as the network can tell: namespaces with a cable between them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HOSTS = {"resnext-a": "10.77.0.1", "resnext-b": "10.77.0.2"}


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture
def cable():
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs ip and root, to make network namespaces")
    try:
        for name in HOSTS:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        first, second = HOSTS
        ip("link", "add", "rnx-a", "netns", first, "type", "veth", "peer", "rnx-b", "netns", second)
        for name, link in zip(HOSTS, ("rnx-a", "rnx-b"), strict=True):
            ip("-n", name, "addr", "add", f"{HOSTS[name]}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in HOSTS:
            ip("netns", "del", name)


def start(host, out: Path, links):
    """The line that a user gives on each machine."""
    words = ["ip", "netns", "exec", host, sys.executable, "-m", "resnext", "launch"]
    words += ["--processes", "1", "--nodes", "2", "--rendezvous", f"{HOSTS['resnext-a']}:29511"]
    words += ["--address", HOSTS[host], "train", "--epochs", "1", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": links[host]}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def losses(out: Path):
    (line,) = (out / "metrics.jsonl").read_text().splitlines()
    return {name: value for name, value in json.loads(line).items() if name.endswith("loss")}


@pytest.mark.usefixtures("cable")
def test_two_hosts_train_what_one_process_trains(tmp_path):
    links = dict(zip(HOSTS, ("rnx-a", "rnx-b"), strict=True))
    processes = [start(host, tmp_path / "two", links) for host in HOSTS]
    outputs = [process.communicate(timeout=250)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "over 2 processes" in "".join(outputs)

    words = [sys.executable, "-m", "resnext", "train", "--epochs", "1", "--out"]
    subprocess.run(
        [*words, str(tmp_path / "one")], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True
    )
    two, one = losses(tmp_path / "two"), losses(tmp_path / "one")
    # One thread in each process sums gradients in the same order: training does not differ at all.
    # Running statistics are averaged in another order, in float32: measured 6e-7.
    assert two["train_loss"] == one["train_loss"]
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=6e-6)
