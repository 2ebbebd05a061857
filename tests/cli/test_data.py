"""`resnext data`: what its commands print, and with which code they end."""

import json
from pathlib import Path

import pytest
import typer

from resnext.cli import main
from resnext.cli.data import data_app
from unit.data.pictures import encoded, picture, write_folder, write_parquet
from unit.data.test_tar import hostile, write_tar


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the command line has it already."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.add_typer(data_app, name="data")
    monkeypatch.setattr(main, "app", app)


def outcome(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.run(["data", *map(str, words)])
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


def test_check_of_clean_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "val", {"cat": 1, "dog": 1}, seed=40)
    status, out, err = outcome(capsys, "check", tmp_path)
    assert (status, err) == (0, "")
    assert "train       5 images in 2 classes of 2 (dog) to 3 (cat)\n" in out
    assert "validation  2 images in 2 classes" in out
    assert "found       nothing odd\n" in out


def test_check_names_every_file_and_ends_with_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = write_folder(tmp_path, {"cat": 3, "dog": 2})
    (root / "cat" / "0.png").write_bytes(b"")
    (root / "dog" / "1.png").write_bytes(encoded(picture(9), "JPEG"))
    status, out, err = outcome(capsys, "check", root)
    assert status == 3
    assert f"unreadable  {root}/cat/0.png: expected an image, found no bytes\n" in out
    assert f"misnamed    {root}/dog/1.png: a JPEG file named .png\n" in out
    assert "found       1 misnamed, 1 unreadable\n" in out
    assert err.startswith(f"resnext: error: {root}: expected images that can be read, found 1")
    assert err.count("\n") == 1


def test_check_of_a_single_class(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", {"cat": 3})
    status, out, err = outcome(capsys, "check", root)
    assert (status, out) == (3, "")
    assert err == f"resnext: error: {root}: expected at least 2 classes, found only 'cat'\n"


def test_check_counts_what_it_ignores(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", {"cat": 3, "dog": 2})
    (root / "cat" / "x.gif").write_bytes(b"GIF")
    (root / "cat" / "y").write_bytes(b"")
    status, out, err = outcome(capsys, "check", root)
    assert (status, err) == (0, "")
    assert f"ignored     {root}: 2 files such as cat/x.gif, not taken for images" in out
    assert "found       2 ignored\n" in out


def test_check_in_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 3, "dog": 2})
    (root / "cat" / "0.png").write_bytes((root / "dog" / "0.png").read_bytes())
    status, out, _ = outcome(capsys, "check", root, "--json", "--threads", 1)
    record = json.loads(out)
    assert status == 0
    assert record["bad"] == 0
    assert record["counts"] == {"duplicate": 1}
    assert record["parts"] == {"all": {"images": 5, "classes": {"cat": 3, "dog": 2}}}
    assert record["findings"][0]["where"] == f"{root}/dog/0.png"


@pytest.mark.parametrize("command", ["check", "index"])
def test_hostile_archives_are_listed(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hostile(tmp_path / "x.tar")
    status, out, err = outcome(capsys, command, tmp_path / "x.tar")
    assert status == 3
    assert len(out.splitlines()) == 9
    assert out.startswith("refused     x.tar: ../../x: a path that leaves the archive\n")
    assert "found 9 entries to refuse, the first: x.tar: ../../x" in err


@pytest.mark.parametrize("command", ["check", "index"])
def test_nothing_there(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = outcome(capsys, command, tmp_path / "missing")
    assert (status, out) == (3, "")
    assert f"found nothing at {tmp_path}/missing" in err


def test_index(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_folder(tmp_path / "f" / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "f" / "val", {"cat": 1, "dog": 1})
    status, out, _ = outcome(capsys, "index", tmp_path / "f", "--json")
    records = json.loads(out)
    assert status == 0
    assert [(r["images"], r["classes"]) for r in records] == [(5, 2), (2, 2)]
    assert all(Path(r["index"]).is_file() for r in records)
    write_tar(tmp_path / "x.tar", {"a/0.png": encoded(picture(0)), "b/0.png": encoded(picture(1))})
    status, out, _ = outcome(capsys, "index", tmp_path / "x.tar", "--rescan")
    assert status == 0
    assert out.startswith(f"{tmp_path}/x.tar: 2 images in ")
    (tmp_path / "x.txt").write_text("text")
    status, _, err = outcome(capsys, "index", tmp_path / "x.txt")
    assert status == 3
    assert "expected a folder or a .tar file, found another kind of file" in err


def test_index_of_what_needs_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    contents = [encoded(picture(number)) for number in range(4)]
    path = write_parquet(tmp_path / "x" / "x.parquet", contents, [0, 1, 0, 1])
    for location in (path, path.parent):
        status, out, err = outcome(capsys, "index", location)
        assert (status, err) == (0, "")
        assert "found parquet, which needs no index\n" in out


def test_index_of_compressed_shards(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "0.tar.gz").write_bytes(b"\x1f\x8b")
    status, out, err = outcome(capsys, "index", tmp_path)
    assert (status, out) == (3, "")
    assert "expected plain .tar files, found 1 compressed ones such as 0.tar.gz; unpack" in err


def test_subset_5k(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_folder(tmp_path / "22k", {"n0": 2, "n1": 5, "n2": 4, "n01440764": 3})
    (tmp_path / "1k.txt").write_text("n01440764 tench, Tinca tinca\n")
    words = ["subset-5k", tmp_path / "22k", "--imagenet1k", tmp_path / "1k.txt"]
    words += ["--out", tmp_path / "5k.json"]
    status, _, err = outcome(capsys, *words)
    assert status == 3
    assert "expected the 1000 classes of ImageNet-1K, found 1" in err
    status, out, _ = outcome(capsys, *words, "--classes", 3)
    assert status == 0
    assert "3 classes, 12 images\n" in out
    assert "others  2 classes of 4 to 5\n" in out
    classes = json.loads((tmp_path / "5k.json").read_text())["classes"]
    assert list(classes) == ["n01440764", "n1", "n2"]
    status, _, err = outcome(capsys, *words, "--classes", 3)
    assert status == 2
    assert "expected the name of a new file" in err
    (tmp_path / "given.txt").write_text("n0\n")
    words[-1] = tmp_path / "given.json"
    status, out, _ = outcome(capsys, *words, "--classes", 2, "--list", tmp_path / "given.txt")
    assert status == 0
    classes = json.loads((tmp_path / "given.json").read_text())["classes"]
    assert list(classes) == ["n01440764", "n0"]
    words[-1] = tmp_path / "x.txt"
    assert outcome(capsys, *words, "--classes", 2)[0] == 2
