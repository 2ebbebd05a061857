"""The two engines make the same batches; bad images are replaced, counted, limited."""

import io
import os
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnext.data import native, open_data, open_source, profile, train_batches
from resnext.data.loader import Batches, evaluation_batches
from resnext.data.making import Engine, Maker, NativeMaker, Raw, SimpleJpegMaker, maker
from resnext.errors import DataError, ResourceError, UsageError
from unit.data.pictures import encoded, write_parquet

needs_native = pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
ENGINES: list[Engine] = ["pillow", "simplejpeg", pytest.param("native", marks=needs_native)]  # type: ignore[list-item]


MAKERS = {"native": NativeMaker, "simplejpeg": SimpleJpegMaker, "pillow": Maker}


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours with some detail, as photos have."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def write_photos(root: Path, count: int = 12) -> Path:
    """Two classes of JPEG files of several sizes; one is a PNG under a wrong name, one is grey."""
    for number in range(count):
        image = photo(number, (90 + 7 * number, 70 + 3 * (number % 5)))
        folder = root / ("even", "odd")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        if number == 3:
            image.save(file, "PNG")
        elif number == 4:
            image.convert("L").save(file, "JPEG", quality=95)
        else:
            image.save(file, "JPEG", quality=95, subsampling=number % 3)
        (folder / f"{number:02}.JPEG").write_bytes(file.getvalue())
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def pixels(batches: Batches) -> tuple[np.ndarray, list[int]]:
    raws = list(batches.raw())
    return torch.cat([raw.images for raw in raws]).numpy(), torch.cat(
        [raw.indices for raw in raws]
    ).tolist()


@pytest.mark.parametrize("fast", [pytest.param("native", marks=needs_native), "simplejpeg"])
@pytest.mark.parametrize("name", ["pil-48", "torch7-antialias-48", "pil-48@48"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "evaluate"])
def test_engines_agree_to_two_grey_levels(photos: Path, name: str, fast: Engine, *, training: bool):
    source = open_source(photos)
    found = {}
    for engine in (fast, "pillow"):
        if training:
            batches = train_batches(
                source, profile(name), batch_size=5, seed=3, epoch=1, engine=engine
            )
        else:
            batches = evaluation_batches(source, profile(name), batch_size=5, engine=engine)
        assert type(batches.maker) is MAKERS[engine]
        found[engine] = pixels(batches)
    assert found[fast][1] == found["pillow"][1]
    difference = np.abs(found[fast][0].astype(int) - found["pillow"][0].astype(int))
    assert difference.max() <= 2
    assert difference.mean() <= 0.25


@needs_native
@pytest.mark.parametrize("name", ["torch7-48", "torch7-48@48", "torch7-300"])
def test_engines_make_torchs_bicubic_bit_for_bit(photos: Path, name: str):
    source, view = open_source(photos), profile(name)
    batches = [
        [
            *train_batches(source, view, batch_size=5, seed=3, epoch=1, engine=engine),
            *evaluation_batches(source, view, batch_size=5, engine=engine),
        ]
        for engine in ("native", "pillow")
    ]
    for ours, theirs in zip(*batches, strict=True):
        assert ours.indices.equal(theirs.indices)
        assert ours.images.equal(theirs.images)


@needs_native
def test_the_colours_drawn_do_not_depend_on_the_engine(photos: Path):
    source, view = open_source(photos), profile("torch7-antialias-32")
    batches = [
        next(iter(train_batches(source, view, batch_size=12, seed=1, epoch=2, engine=engine)))
        for engine in ("native", "pillow")
    ]
    # Two grey levels of 255, doubled by the strongest jitter, over the smallest deviation.
    torch.testing.assert_close(
        batches[0].images, batches[1].images, rtol=0, atol=2 * 2 / 255 / 0.224
    )
    assert not torch.equal(batches[0].images[0], batches[0].images[1])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_run_may_stop_and_go_on_anywhere(
    photos: Path, start: int, world: int, per_rank: int, data: st.DataObject
):
    engine = data.draw(st.sampled_from(["native", "pillow"] if not native.reason() else ["pillow"]))
    workers = data.draw(st.sampled_from([0, 1, 3] if engine == "native" else [0]))
    source, view = open_source(photos), profile("torch7-antialias-24")
    options = {"seed": 7, "epoch": 4, "engine": engine}
    whole = next(iter(train_batches(source, view, batch_size=12, **options)))  # type: ignore[arg-type]
    ranks = [
        list(
            train_batches(
                source, view, batch_size=per_rank * world, start=start, rank=rank, world=world,
                workers=workers, **options,  # type: ignore[arg-type]
            )
        )
        for rank in range(world)
    ]  # fmt: skip
    shares = [share for shares in zip(*ranks, strict=True) for share in shares]
    indices = [index for share in shares for index in share.indices.tolist()]
    assert indices == whole.indices[start:].tolist()
    if indices:
        found = torch.cat([share.images for share in shares])
        # Batches of another size sum the channel means in another order: measured 6e-7.
        torch.testing.assert_close(found, whole.images[start:], rtol=0, atol=6e-6)


def test_memory_is_used_again_only_where_that_is_allowed(photos: Path):
    source, view = open_source(photos), profile("torch7-antialias-24")
    options = {"batch_size": 4, "seed": 1, "epoch": 1}
    kept = list(train_batches(source, view, **options))  # type: ignore[arg-type]
    assert len({batch.images.data_ptr() for batch in kept}) == len(kept)
    again = train_batches(source, view, **options, reuse=True)  # type: ignore[arg-type]
    for batch, expected in zip(again, kept, strict=True):
        assert batch.images.equal(expected.images)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")
@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_make_the_same_photos(photos: Path, workers: int):
    source, view = open_source(photos), profile("torch7-24")
    for start in (0, 5):
        ours, theirs = (
            list(
                train_batches(
                    source, view, batch_size=4, seed=1, epoch=1, start=start, workers=count
                )
            )
            for count in (0, workers)
        )
        for one, other in zip(ours, theirs, strict=True):
            assert one.indices.equal(other.indices)
            assert one.images.equal(other.images)


def broken(root: Path, count: int = 60) -> Path:
    write_photos(root, count)
    whole = (root / "even" / "06.JPEG").read_bytes()
    (root / "even" / "06.JPEG").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_image_is_replaced_counted_and_named(tmp_path: Path, engine: Engine):
    source = open_source(broken(tmp_path))
    view = profile("pil-32")
    batches = train_batches(
        source, view, batch_size=16, seed=2, epoch=1, engine=engine, bad_limit=0.05
    )
    first = pixels(batches)
    (bad,) = batches.bad
    assert source.describe(bad.index).endswith("06.JPEG")
    assert "06.JPEG" in bad.reason
    assert bad.replacement != bad.index
    assert sorted(first[1]) == sorted([*(set(range(60)) - {bad.index}), bad.replacement])
    again = pixels(batches)
    np.testing.assert_array_equal(again[0], first[0])
    assert len(batches.bad) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_too_many_bad_images_stop_training(tmp_path: Path, engine: Engine):
    root = broken(tmp_path)
    for number in (8, 10, 12):
        (root / "even" / f"{number:02}.JPEG").write_bytes(b"no picture")
    batches = train_batches(
        open_source(root), profile("pil-32"), batch_size=16, seed=2, epoch=1, engine=engine,
        bad_limit=0.05,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"expected at most 3 images .*, found 4: .*\.JPEG"):
        list(batches)


@pytest.mark.parametrize("engine", ENGINES)
def test_evaluation_and_small_sets_are_strict(tmp_path: Path, engine: Engine):
    source = open_source(broken(tmp_path))
    with pytest.raises(DataError, match=r"06\.JPEG"):
        list(evaluation_batches(source, profile("pil-64"), batch_size=16, engine=engine))
    with pytest.raises(DataError, match=r"06\.JPEG"):  # a thousandth of 60 images is none
        list(train_batches(source, profile("pil-64"), batch_size=60, seed=2, epoch=1))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_that_would_become_too_large_is_named(tmp_path: Path, engine: Engine):
    root = write_photos(tmp_path, 4)
    file = root / "even" / "02.JPEG"
    photo(0, (1, 20000)).save(file, "JPEG")
    batches = evaluation_batches(open_source(root), profile("pil-224"), batch_size=4, engine=engine)
    with pytest.raises(DataError, match=r"02\.JPEG: expected at most 50 million pixels"):
        list(batches)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_vanishes_is_named(tmp_path: Path, engine: Engine):
    source = open_source(write_photos(tmp_path))
    (tmp_path / "odd" / "05.JPEG").unlink()
    with pytest.raises(DataError, match=r"05\.JPEG"):
        list(evaluation_batches(source, profile("pil-32"), batch_size=4, engine=engine))


@needs_native
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_files_are_not_left_open(photos: Path):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(3):
        list(evaluation_batches(open_source(photos), profile("pil-32"), batch_size=4))
    deadline = time.monotonic() + 5  # the threads that made them end on their own
    while count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before


def test_the_engine_follows_from_images_and_profile(photos: Path):
    def made(where: str | Path, name: str, engine: Engine) -> Maker:
        source = open_data(where).train if where == "digits" else open_source(where)
        return maker(
            source, profile(name), seed=0, epoch=1, replace=False, engine=engine, threads=1
        )

    assert type(made("digits", "digits", "auto")) is Maker
    with pytest.raises(UsageError, match="engine native can make, found: it does not make profile"):
        made("digits", "digits", "native")
    with pytest.raises(UsageError, match="engine simplejpeg can make, found: it does not make"):
        made(photos, "torch7-24", "simplejpeg")
    if native.reason() is None:
        assert type(made(photos, "torch7-24", "auto")) is NativeMaker
        assert type(made(photos, "pil-24", "auto")) is NativeMaker
        assert type(made(photos, "pil-24", "pillow")) is Maker
        assert type(made(photos, "pil-24", "simplejpeg")) is SimpleJpegMaker
    else:
        with pytest.raises(UsageError, match="expected images that engine native can make"):
            made(photos, "pil-24", "native")


def test_a_first_row_without_an_image_does_not_decide_on_the_engine(tmp_path: Path):
    content = encoded(photo(1, (40, 30)), "JPEG")
    for number, missing in enumerate((b"", None)):
        contents: list[bytes | None] = [missing, content, content]
        path = write_parquet(tmp_path / f"{number}.parquet", contents, [0, 1, 0])
        made = maker(
            open_source(path),
            profile("pil-24"),
            seed=0,
            epoch=1,
            replace=False,
            engine="simplejpeg",
            threads=1,
        )
        assert type(made) is SimpleJpegMaker


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pipe_among_the_files_is_named_and_nobody_waits_for_it(tmp_path: Path, engine: Engine):
    root = write_photos(tmp_path)
    source = open_source(root)
    (root / "odd" / "05.JPEG").unlink()
    os.mkfifo(root / "odd" / "05.JPEG")
    with pytest.raises(DataError, match=r"05\.JPEG: expected an image, found no regular file"):
        list(evaluation_batches(source, profile("pil-32"), batch_size=4, engine=engine))


@pytest.mark.parametrize("size", [(99, 98), (98, 99), (98, 98), (120, 98), (97, 150)])
def test_engines_agree_on_images_that_have_the_size_already(tmp_path: Path, size: tuple[int, int]):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        photo(1, size).save(tmp_path / name / "0.jpg", quality=95)
    source, view = open_source(tmp_path), profile("torch7-antialias-88@98")
    expected, _ = pixels(evaluation_batches(source, view, batch_size=2, engine="pillow"))
    engines: list[Engine] = ["simplejpeg"] if native.reason() else ["simplejpeg", "native"]
    for engine in engines:
        found, _ = pixels(evaluation_batches(source, view, batch_size=2, engine=engine))
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 2


def write_tar(path: Path, photos: Path, count: int = 12) -> Path:
    with tarfile.open(path, "w") as archive:
        for file in sorted(photos.glob("*/*.JPEG"))[:count]:
            archive.add(file, f"{file.parent.name}/{file.name}")
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_an_archive_that_vanishes_or_changes_is_an_error(
    photos: Path, tmp_path: Path, engine: Engine
):
    path = write_tar(tmp_path / "photos.tar", photos)
    source = open_source(path)
    view = profile("pil-32")
    assert len(list(evaluation_batches(source, view, batch_size=4, engine=engine))) == 3
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"JPEG"):
        list(evaluation_batches(source, view, batch_size=4, engine=engine))
    path.write_bytes(whole + bytes(10240))
    with pytest.raises(DataError, match="expected the indexed archive, found another"):
        list(evaluation_batches(source, view, batch_size=4, engine=engine))


@needs_native
def test_more_archives_than_files_may_be_open(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("resnext.data.making._OPEN_FILES", 2)
    for number, file in enumerate(sorted(photos.glob("*/*.JPEG"))):
        with tarfile.open(tmp_path / f"shard-{number:03}.tar", "w") as archive:
            archive.add(file, f"{file.parent.name}/{file.name}")
    source, view = open_source(tmp_path), profile("pil-32")
    found = pixels(evaluation_batches(source, view, batch_size=12, engine="native"))
    expected = pixels(evaluation_batches(open_source(photos), view, batch_size=12))
    np.testing.assert_array_equal(found[0], expected[0])


@needs_native
def test_a_disk_that_never_answers_is_an_error(photos: Path, monkeypatch: pytest.MonkeyPatch):
    source = open_source(photos)
    batches = evaluation_batches(source, profile("pil-32"), batch_size=4, engine="native")
    make = NativeMaker.batch
    answered = threading.Event()

    def stuck(self: NativeMaker, indices: np.ndarray, out: np.ndarray | None = None) -> Raw:
        if 4 in indices:
            answered.wait(30)
        return make(self, indices, out)

    monkeypatch.setattr(NativeMaker, "batch", stuck)
    begin = time.monotonic()
    with pytest.raises(
        ResourceError, match=r"found it stuck for 1 s in the batch from .*\.JPEG on"
    ):
        list(replace(batches, stall_seconds=1.0))
    assert time.monotonic() - begin < 10
    answered.set()


@needs_native
def test_batches_that_nobody_waits_for_are_not_made(photos: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []
    make = NativeMaker.batch

    def counted(self: NativeMaker, indices: np.ndarray, out: np.ndarray | None = None) -> Raw:
        made.append(int(indices[0]))
        return make(self, indices, out)

    monkeypatch.setattr(NativeMaker, "batch", counted)
    batches = evaluation_batches(open_source(photos), profile("pil-32"), batch_size=1)
    for _ in batches:
        break
    time.sleep(0.5)
    assert made == list(range(len(made)))
    assert len(made) <= 4
