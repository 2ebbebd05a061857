"""Run folders that are damaged, full, read-only, in use, or begun by something else."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from faults.conftest import EACH, TRAIN, contents, differing, tree
from faults.injector import NOT_HERE
from resnext.runs import RunFolder


def goes_on(injector, folder, undisturbed, notice=None):
    again = injector.run(folder, EACH)
    assert (again.status, again.err) == (0, "")
    assert (notice or "continuing behind step 1") in again.out
    assert differing(contents(folder / "run"), contents(undisturbed[0])) == []


def truncate(newest):
    file = newest / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def empty(newest):
    (newest / "training.safetensors").write_bytes(b"")


def flip(newest):
    file = newest / "training.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)


def no_sums(newest):
    (newest / "SHA256SUMS").unlink()


def no_weights(newest):
    (newest / "weights.safetensors").unlink()


def signed(newest, state):
    """Put other text into state.json, with its checksum."""
    (newest / "state.json").write_text(state)
    sums = (newest / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256(state.encode()).hexdigest()
    others = [line for line in sums if not line.endswith("state.json")]
    (newest / "SHA256SUMS").write_text("\n".join([*others, f"{digest}  state.json", ""]))


def future(newest):
    signed(newest, (newest / "state.json").read_text().replace('"format": 1', '"format": 7'))


def incomplete(newest):
    state = json.loads((newest / "state.json").read_text())
    signed(newest, json.dumps({"format": 1, "epoch": state["epoch"]}))


DAMAGE = {
    truncate: "weights.safetensors is damaged: its SHA-256 is ",
    empty: "training.safetensors is damaged: its SHA-256 is ",
    flip: "training.safetensors is damaged: its SHA-256 is ",
    no_sums: "SHA256SUMS: No such file or directory",
    no_weights: "weights.safetensors: No such file or directory",
    future: "of format 1, found 7: it was made by another version",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_passed_over_with_a_notice(injector, cut, undisturbed, damage):
    newest, before = RunFolder.open(cut / "run").checkpoints()
    assert (newest.name, before.name) == ("step-00000003", "step-00000002")
    damage(newest)
    again = injector.run(cut, EACH)
    assert (again.status, again.err) == (0, "")
    (notice,) = [line for line in again.out.splitlines() if "continuing from the check" in line]
    assert DAMAGE[damage] in notice
    assert newest.name in notice
    assert "continuing behind step 2 of 2 in epoch 1" in again.out
    assert differing(contents(cut / "run"), contents(undisturbed[0])) == []
    assert (cut / "run" / "checkpoints" / "step-00000003.damaged").is_dir()


@pytest.mark.parametrize("left", [True, False], ids=["empty", "no folder"])
def test_where_all_are_gone_it_stops_and_touches_nothing(injector, cut, left):
    """As after `rsync --exclude checkpoints`: what was trained is still there to be scored."""
    shutil.rmtree(cut / "run" / "checkpoints")
    if left:
        (cut / "run" / "checkpoints").mkdir()
    before = tree(cut / "run")
    again = injector.run(cut, EACH)
    assert again.status == 4
    assert "expected a checkpoint in run to continue behind epoch 1, found none; " in again.err
    assert again.err.count("\n") == 1
    assert [name for name in differing(before, tree(cut / "run")) if name != "lock"] == []


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_where_all_are_damaged_it_stops_and_touches_nothing(injector, cut, damage):
    for checkpoint in RunFolder.open(cut / "run").checkpoints():
        damage(checkpoint)
    before = tree(cut / "run")
    again = injector.run(cut, EACH)
    assert again.status == 4
    assert again.err.startswith("resnext: error: expected a whole checkpoint in run, found none: ")
    assert again.err.count("\n") == 1
    assert DAMAGE[damage] in again.err
    # the lock holds the number of the process that tried
    assert [name for name in differing(before, tree(cut / "run")) if name != "lock"] == []


def test_a_state_that_says_too_little_is_a_checkpoint_error(injector, cut):
    incomplete(RunFolder.open(cut / "run").checkpoints()[0])
    again = injector.run(cut, EACH)
    assert (again.status, again.err.count("\n")) == (4, 1)
    assert "expected the state of a training, found one without 'step'" in again.err


def test_a_file_that_outgrows_its_limit(injector, tmp_path, undisturbed):
    """What a quota does: the weights have 2.9 MB."""
    ended = injector.run(tmp_path, EACH, room=2_000_000)
    assert (ended.status, ended.err.count("\n")) == (5, 1)
    assert "step-00000001.tmp/weights.safetensors: File too large" in ended.err
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    again = injector.run(tmp_path, EACH)
    assert (again.status, again.err) == (0, "")
    assert differing(contents(tmp_path / "run"), contents(undisturbed[0])) == []


def test_a_read_only_folder(injector, cut, undisturbed):
    before = tree(cut / "run")
    ended = injector.run(cut, EACH, read_only=str(cut / "run"))
    if ended.status == NOT_HERE:
        pytest.skip("no mounts in a namespace of one's own here")
    assert (ended.status, ended.err.count("\n")) == (5, 1)
    assert ended.err.startswith("resnext: error: cannot write run/lock: Read-only file system")
    assert differing(before, tree(cut / "run")) == []
    goes_on(injector, cut, undisturbed)


SCRIPT = """
set -e
mount -t tmpfs -o size=$1k tmpfs "$2"
cd "$2"
shift 2
"$@" && status=0 || status=$?
ls run/checkpoints
mount -o remount,size=64m .
"$@"
cp -r run ../kept
exit $status
"""


@pytest.mark.slow
@pytest.mark.parametrize("kib", [2_000, 8_000, 14_000, 18_500])
def test_a_disk_that_is_really_full(undisturbed, tmp_path, kib):
    """18.5 MB hold two checkpoints of 5.8 MB and the best weights, but not a third beside them."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mounts in a namespace of one's own here")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, "-c", PROGRAM, *EACH]
    command = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(kib), str(disk), *program]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    found, expected = contents(tmp_path / "kept"), contents(undisturbed[0])
    assert differing(found, expected) == []


PROGRAM = """
import sys, torch
from faults.injector import prepare
from resnext.cli.main import run
torch.set_num_threads(1)
prepare({}, 0)
run(sys.argv[1:])
"""


def test_a_second_process_is_told_who_the_first_is(injector, tmp_path, undisturbed, monkeypatch):
    from faults.injector import sides
    from resnext.errors import UsageError
    from resnext.runs import planning, train_run

    (pid,) = injector.ask(tmp_path, EACH, slow=(4.0, 3))
    injector.wait_for("slow")
    monkeypatch.setattr(planning, "open_data", lambda _: sides())
    folder = RunFolder.open(tmp_path / "run")
    second = train_run(planning.plan_again(folder, device="cpu"), folder)
    with pytest.raises(UsageError) as raised:
        next(second)
    assert f"in use by process {pid} on {socket.gethostname()}" in str(raised.value)
    assert raised.value.exit_code == 2
    (ended,) = injector.answers()
    assert (ended.status, ended.err) == (0, "")
    assert differing(contents(tmp_path / "run"), contents(undisturbed[0])) == []


def test_the_lock_of_a_process_that_was_killed_is_no_obstacle(injector, tmp_path, undisturbed):
    (pid,) = injector.ask(tmp_path, EACH, slow=(20.0, 6))
    injector.wait_for("slow")
    os.kill(pid, signal.SIGKILL)
    assert injector.answers()[0].status == -9
    assert f"process {pid} on" in (tmp_path / "run" / "lock").read_text()
    goes_on(injector, tmp_path, undisturbed, "continuing behind step 2 of 2 in epoch 1")


RESUME = ("train", "--resume", "run", "--device", "cpu")


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        ((*TRAIN, "--epochs", "3"), "recipe.epochs 3 instead of 2"),
        ((*TRAIN, "--set", "weight_decay=1e-3"), "recipe.weight_decay 0.001 instead of 0.0005"),
        ((*TRAIN, "--seed", "4"), "seed 4 instead of 3"),
        ((*TRAIN, "--batch-size", "16"), "recipe.batch_size 16 instead of 32"),
        ((*TRAIN, "--network", "ResNeXt-11 (4x2d, CIFAR)"), "network ResNeXt-11 (4×2d"),
        ((*RESUME, "--epochs", "3"), "recipe.epochs 3 instead of 2"),
        ((*RESUME, "--recipe", "digits"), "recipe.name digits instead of small"),
        ((*RESUME, "--set", "momentum=0.5"), "recipe.momentum 0.5 instead of 0.9"),
        ((*RESUME, "--seed", "4"), "seed 4 instead of 3"),
        ((*RESUME, "--precision", "bf16"), "expected precision fp32 of run, found bf16"),
        ((*RESUME, "--out", "elsewhere"), "expected --out or --resume, found both"),
    ],
    ids=lambda value: " ".join((value[1], *value[-2:])) if isinstance(value, tuple) else "",
)
def test_another_run_in_its_folder_is_refused_with_the_difference(injector, cut, words, difference):
    before = tree(cut)
    ended = injector.run(cut, words)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert difference in ended.err
    assert differing(before, tree(cut)) == []


@pytest.mark.parametrize("words", [EACH, RESUME, (*RESUME, "--seed", "3")], ids=" ".join)
def test_images_that_changed_are_refused(injector, cut, words):
    before = tree(cut)
    ended = injector.run(cut, words, data={"seed": 5})
    assert (ended.status, ended.err.count("\n")) == (3, 1)
    assert "images " in ended.err
    assert differing(before, tree(cut)) == []


@pytest.mark.parametrize("words", [EACH, TRAIN, RESUME], ids=["same", "shorter", "resume"])
def test_a_finished_run_is_summed_up_again_and_left_alone(injector, finished, words):
    before = tree(finished)
    ended = injector.run(finished, words)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "next     resnext evaluate run"
    assert "best     " in ended.out
    assert differing(before, tree(finished)) == []


def test_a_run_that_was_moved_goes_on(injector, cut, undisturbed):
    shutil.move(cut / "run", cut / "elsewhere")
    ended = injector.run(cut, ("train", "--resume", "elsewhere", "--save-seconds", "0"))
    assert (ended.status, ended.err) == (0, "")
    assert differing(contents(cut / "elsewhere"), contents(undisturbed[0])) == []
