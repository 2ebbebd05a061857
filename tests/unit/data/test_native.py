"""The native loader gives Pillow's pixels, whatever the file, the box and the number of threads."""

import ctypes
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resnext.data.decode import MAX_BYTES, MAX_PIXELS, decode
from resnext.data.draws import Cut, Rule, central_cut, resized, train_cut
from resnext.data.native import (
    CUT,
    Central,
    Drawn,
    FilePart,
    Given,
    NativeLoader,
    Status,
    build,
    library,
    reason,
)
from resnext.data.order import Key
from resnext.data.photos import Photo, offset
from resnext.errors import ResourceError, UsageError
from unit.data.jpegs import claiming, frame, kinds, photo
from unit.data.pictures import encoded

compiled = pytest.mark.skipif(reason() is not None, reason=f"native loader: {reason()}")
DATA = os.environ.get("RESNEXT_DATA", "")
# The largest mean and single difference from Pillow, in grey levels. Measured on these files and on
# photos: 0.213 and 1.
MEAN, MOST = 0.25, 2
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def loader() -> Iterator[NativeLoader]:
    made = NativeLoader(threads=2)
    yield made
    made.close()


def boxes(*cuts: Cut) -> Given:
    rows = [(c.x, c.y, c.width, c.height, c.mirrored, c.beyond) for c in cuts]
    return Given(cuts=np.array(rows, dtype=CUT))


def whole(width: int, height: int) -> Cut:
    return Cut(0, 0, width, height, mirrored=False, beyond=False)


def by_pillow(content: bytes | Path, cut: np.void, side: int) -> NDArray[np.uint8]:
    source = content if isinstance(content, Path) else io.BytesIO(content)
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    x, y, w, h = (float(cut[name]) for name in ("x", "y", "width", "height"))
    if cut["beyond"]:
        # Resizing a box and seeing around it is resizing first and cropping then.
        x1, y1 = min(x + w, image.width), min(y + h, image.height)
        resized = image.resize((side, side), BILINEAR, box=(x, y, x1, y1))
    else:
        cropped = image.crop((int(x), int(y), int(x + w), int(y + h)))
        resized = cropped.resize((side, side), BILINEAR)
    pixels = np.asarray(resized)
    return pixels[:, ::-1] if cut["mirrored"] else pixels


def difference(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> tuple[float, int]:
    distance = np.abs(found.astype(np.int64) - expected)
    return float(distance.mean()), int(distance.max())


def all_ok(outcomes: NDArray[np.void]) -> bool:
    return bool((outcomes["status"] == Status.OK).all() and (outcomes["warnings"] == 0).all())


# ---- The draws


@compiled
@given(
    rule=st.sampled_from(["torchvision", "torch7"]),
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    side=st.integers(1, 512),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**63 - 1),
)
@settings(max_examples=2000, deadline=None)
def test_the_draws_are_pythons_bit_for_bit(
    rule: Rule,
    width: int,
    height: int,
    side: int,
    seed: int,
    epoch: int,
    index: int,
) -> None:
    expected = train_cut(rule, width, height, side=side, seed=seed, epoch=epoch, index=index)
    request = library._request(side, "bilinear")
    request.rule, request.seed, request.epoch = library._TRAIN[rule], seed, epoch
    assert cut_in_c(request, index, width, height) == expected


@compiled
def test_forty_thousand_draws_of_usual_sizes_agree() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(30, 1200, (20_000, 2)).tolist()
    for rule in ("torchvision", "torch7"):
        request = library._request(224, "bilinear")
        request.rule, request.seed, request.epoch = library._TRAIN[rule], 7, 11
        for index, (width, height) in enumerate(sizes):
            expected = train_cut(rule, width, height, side=224, seed=7, epoch=11, index=index)
            assert cut_in_c(request, index, width, height) == expected


@compiled
@given(
    rule=st.sampled_from(["torchvision", "torch7"]),
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    side=st.integers(1, 400),
    larger=st.integers(0, 200),
)
@settings(max_examples=2000, deadline=None)
def test_the_central_cuts_are_pythons_bit_for_bit(
    rule: Rule, width: int, height: int, side: int, larger: int
) -> None:
    expected = central_cut(rule, width, height, resize=side + larger, side=side)
    request = library._request(side, "bilinear")
    request.rule, request.resize = library._CENTRAL[rule], side + larger
    assert cut_in_c(request, 0, width, height) == expected


def cut_in_c(request: object, index: int, width: int, height: int) -> Cut:
    cuts = np.zeros(1, dtype=CUT)
    functions = library._library()
    assert not isinstance(functions, str)
    functions.resnext_cut(ctypes.byref(request), index, width, height, cuts.ctypes.data)
    x, y, w, h, mirrored, beyond = cuts[0].item()
    return Cut(x, y, w, h, bool(mirrored), bool(beyond))


# ---- The pixels


@compiled
@pytest.mark.parametrize("size", [(500, 375), (333, 251), (64, 48), (17, 23), (231, 640)])
def test_training_crops_are_pillows(loader: NativeLoader, size: tuple[int, int]) -> None:
    files = kinds(*size)
    names = [name for name in files for _ in range(6)]
    contents = [files[name] for name in names]
    drawn = Drawn(rule="torchvision", seed=0, epoch=0, indices=np.arange(len(names)))
    loaded = loader.load(contents, drawn, side=112)
    assert all_ok(loaded.outcomes)
    for name, content, pixels, cut in zip(names, contents, loaded.pixels, loaded.cuts, strict=True):
        mean, most = difference(pixels, by_pillow(content, cut, 112))
        assert mean <= MEAN, (name, cut)
        assert most <= MOST, (name, cut)


@compiled
def test_central_crops_are_pillows(loader: NativeLoader) -> None:
    contents = [content for size in ((500, 375), (333, 651)) for content in kinds(*size).values()]
    for resize, side in ((256, 224), (320, 320), (64, 56)):
        cutting = Central(rule="torchvision", resize=resize)
        loaded = loader.load(contents, cutting, side=side)
        assert all_ok(loaded.outcomes)
        for content, pixels, cut in zip(contents, loaded.pixels, loaded.cuts, strict=True):
            mean, most = difference(pixels, by_pillow(content, cut, side))
            assert mean <= MEAN, cut
            assert most <= MOST, cut


@compiled
@pytest.mark.parametrize("name", list(kinds(8, 8)))
def test_any_window_of_any_file_is_decoded_exactly(loader: NativeLoader, name: str) -> None:
    # Output of the size of the box: what comes out are decoded pixels. libjpeg-turbo's partial
    # decoding has gone wrong at particular rows and columns, so all of them are tried.
    content = kinds(85, 75)[name]
    with Image.open(io.BytesIO(content)) as opened:
        full = np.asarray(opened.convert("RGB"))
    side = 20
    cuts = [Cut(x, 13, side, side, mirrored=False, beyond=False) for x in range(85 - side + 1)]
    cuts += [Cut(31, y, side, side, mirrored=False, beyond=False) for y in range(75 - side + 1)]
    loaded = loader.load([content] * len(cuts), boxes(*cuts), side=side)
    assert all_ok(loaded.outcomes)
    for cut, pixels in zip(cuts, loaded.pixels, strict=True):
        x, y = int(cut.x), int(cut.y)
        expected = full[y : y + side, x : x + side]
        # Pillow brings another libjpeg-turbo; its arithmetic is the same.
        np.testing.assert_array_equal(pixels, expected, err_msg=f"{name} {cut}")


@compiled
def test_torchs_bicubic_is_that_of_an_independent_implementation(loader: NativeLoader) -> None:
    contents = [content for size in ((300, 200), (90, 131)) for content in kinds(*size).values()]
    for cutting in (
        Drawn(rule="torch7", seed=1, epoch=1, indices=np.arange(len(contents))),
        Central(rule="torch7", resize=128),
    ):
        loaded = loader.load(contents, cutting, side=112, resample="torch7")
        assert loaded.pixels.dtype == np.float32
        assert all_ok(loaded.outcomes)
        for content, pixels, cut in zip(contents, loaded.pixels, loaded.cuts, strict=True):
            # Positions up to 300 are rounded to floats; measured 7.5e-6, for values up to 1.04.
            expected = by_torch7(content, cut, 112, resize=128)
            np.testing.assert_allclose(pixels, expected, rtol=0, atol=7.5e-5)


def by_torch7(content: bytes, cut: np.void, side: int, *, resize: int) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(content)) as opened:
        image = np.asarray(opened.convert("RGB"), dtype=np.float64) / 255
    x, y, w, h = (int(cut[name]) for name in ("x", "y", "width", "height"))
    new_width = new_height = side
    if cut["beyond"]:
        new_width, new_height = resized("torch7", image.shape[1], image.shape[0], resize)
    else:
        image = image[y : y + h, x : x + w]
    rows = np.einsum("iy,yxc->ixc", torch7_matrix(image.shape[0], new_height), image)
    result = np.einsum("jx,ixc->ijc", torch7_matrix(image.shape[1], new_width), rows)
    top, left = (offset("torch7", length, side) for length in (new_height, new_width))
    pixels = result[top : top + side, left : left + side]
    return pixels[:, ::-1] if cut["mirrored"] else pixels


def torch7_matrix(length: int, outputs: int) -> NDArray[np.float64]:
    """Cubic Hermite interpolation, slopes by central differences; lines go on at the ends."""
    matrix = np.zeros((outputs, length))
    padded = np.zeros((length + 2, length))  # pixels -1 to length
    padded[1:-1] = np.eye(length)
    if length > 1:
        padded[0, :2], padded[-1, -2:] = (2, -1), (-1, 2)
    for output in range(outputs):
        position = output * (length - 1) / (outputs - 1)
        at = min(int(position), length - 2) if length > 1 else 0
        t = position - at
        if length == 1:
            matrix[output, 0] = 1
            continue
        before, here, after, beyond = padded[at : at + 4]
        slope_here, slope_after = (after - before) / 2, (beyond - here) / 2
        matrix[output] = (
            (1 + 2 * t) * (1 - t) ** 2 * here
            + t * (1 - t) ** 2 * slope_here
            + t * t * (3 - 2 * t) * after
            + t * t * (t - 1) * slope_after
        )
    return matrix


SIZES = [(300, 200), (90, 131), (16, 500), (1, 1), (1, 40), (40, 1), (2, 3), (33, 33), (224, 224)]


@compiled
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 2, 33, 112])
def test_torchs_bicubic_is_numpys_bit_for_bit(
    loader: NativeLoader, size: tuple[int, int], side: int
) -> None:
    check_torch7(loader, [*kinds(*size).values()] * 3, side=side, resize=side + 5)


@compiled
@pytest.mark.skipif(not DATA, reason="RESNEXT_DATA names no folder with real pictures")
@pytest.mark.parametrize(("side", "resize"), [(224, 256), (320, 320)])
def test_torchs_bicubic_on_real_pictures_is_numpys_bit_for_bit(
    loader: NativeLoader, side: int, resize: int
) -> None:
    check_torch7(loader, real_pictures(), side=side, resize=resize)


def check_torch7(
    loader: NativeLoader, contents: Sequence[bytes | Path], *, side: int, resize: int
) -> None:
    view = Photo(rule="torch7", filter="torch7", side=side, resize=resize, jitter=True)
    images = [decode(content, "a picture") for content in contents]
    drawn = Drawn(rule="torch7", seed=6, epoch=2, indices=np.arange(len(contents)))
    loaded = loader.load(contents, drawn, side=side, resample="torch7")
    assert all_ok(loaded.outcomes)
    for index, image in enumerate(images):
        expected = view.train(image, Key(seed=6, epoch=2, index=index))
        np.testing.assert_array_equal(loaded.pixels[index], expected)
    central = Central(rule="torch7", resize=resize)
    found = loader.load(contents, central, side=side, resample="torch7").pixels
    for index, image in enumerate(images):
        np.testing.assert_array_equal(found[index], view.evaluate(image))


def real_pictures() -> list[Path]:
    paths = sorted(Path(DATA).glob("imagenet-samples/val/*/*.JPEG"))
    if not paths:
        pytest.skip("no imagenet-samples below RESNEXT_DATA")
    return paths


@compiled
def test_mirrored_is_mirrored(loader: NativeLoader) -> None:
    content = kinds(120, 90)["4:2:0"]
    plain = Cut(10, 20, 70, 60, mirrored=False, beyond=False)
    mirrored = Cut(10, 20, 70, 60, mirrored=True, beyond=False)
    pixels = loader.load([content, content], boxes(plain, mirrored), side=33).pixels
    np.testing.assert_array_equal(pixels[0], pixels[1, :, ::-1])


@compiled
@pytest.mark.parametrize("flag", ["-DRESNEXT_PORTABLE", "-DRESNEXT_WITHOUT_AVX2"])
def test_the_code_without_vectors_makes_the_same_pixels(
    flag: str, loader: NativeLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = list(kinds(230, 170).values())
    cutting = Drawn(rule="torchvision", seed=4, epoch=0, indices=np.arange(len(contents)))
    monkeypatch.setenv("CFLAGS", flag)
    try:
        portable = ctypes.CDLL(str(build.build(tmp_path / "portable.so")))
    except build.BuildError as error:
        pytest.skip(f"no compiler here: {error}")
    other = NativeLoader(threads=1)
    other.close()
    other._functions = library._declared(portable)
    for side in (9, 64, 224):
        expected = loader.load(contents, cutting, side=side)
        found = other.load(contents, cutting, side=side)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
    authors = Central(rule="torch7", resize=90)
    floats = loader.load(contents, authors, side=77, resample="torch7").pixels
    found = other.load(contents, authors, side=77, resample="torch7")
    np.testing.assert_array_equal(found.pixels, floats)
    maps = np.random.default_rng(0).normal(0, 0.01, (len(contents), 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        other.colours(expected.pixels, maps), loader.colours(expected.pixels, maps)
    )
    np.testing.assert_array_equal(other.means(expected.pixels), loader.means(expected.pixels))
    other.close()


@compiled
@pytest.mark.skipif(not DATA, reason="RESNEXT_DATA names no folder with real pictures")
def test_real_pictures_are_pillows(loader: NativeLoader) -> None:
    paths = real_pictures()
    for cutting in (
        Drawn(rule="torchvision", seed=1, epoch=2, indices=np.arange(len(paths))),
        Central(rule="torchvision", resize=256),
    ):
        loaded = loader.load(paths, cutting, side=224)
        assert all_ok(loaded.outcomes)
        for path, pixels, cut in zip(paths, loaded.pixels, loaded.cuts, strict=True):
            mean, most = difference(pixels, by_pillow(path, cut, 224))
            assert mean <= MEAN, path
            assert most <= MOST, path


# ---- Threads, sources, buffers


@compiled
def test_threads_order_and_place_change_nothing(loader: NativeLoader, tmp_path: Path) -> None:
    contents = [content for size in ((90, 70), (41, 133)) for content in kinds(*size).values()]
    indices = np.arange(len(contents))
    cutting = Drawn(rule="torchvision", seed=9, epoch=4, indices=indices)
    expected = loader.load(contents, cutting, side=48).pixels

    one = NativeLoader(threads=1)
    np.testing.assert_array_equal(one.load(contents, cutting, side=48).pixels, expected)
    five = NativeLoader(threads=5)
    order = np.random.default_rng(0).permutation(len(contents))
    shuffled = Drawn(rule="torchvision", seed=9, epoch=4, indices=indices[order])
    found = five.load([contents[at] for at in order], shuffled, side=48).pixels
    np.testing.assert_array_equal(found, expected[order])

    archive = tmp_path / "archive"
    archive.write_bytes(b"head" + b"".join(contents))
    starts = 4 + np.cumsum([0, *(len(content) for content in contents)])
    with archive.open("rb") as file:
        parts = [
            FilePart(file.fileno(), int(start), len(content))
            for start, content in zip(starts, contents, strict=False)
        ]
        np.testing.assert_array_equal(five.load(parts, cutting, side=48).pixels, expected)
    paths = [tmp_path / f"{at}.jpg" for at in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    np.testing.assert_array_equal(five.load(paths, cutting, side=48).pixels, expected)


@compiled
def test_it_writes_where_it_is_told_and_nowhere_else(loader: NativeLoader) -> None:
    content = kinds(50, 40)["4:2:0"]
    memory = np.full(2 * 3 * 20 * 20 * 3, 77, dtype=np.uint8)
    out = memory[100 : 100 + 3 * 1200].reshape(3, 20, 20, 3)
    loaded = loader.load([content] * 3, Central(rule="torchvision", resize=24), side=20, out=out)
    assert np.shares_memory(loaded.pixels, memory)
    assert (memory[:100] == 77).all()
    assert (memory[100 + 3 * 1200 :] == 77).all()


@compiled
@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 20, 20, 3), dtype=np.float32),
        np.zeros((1, 20, 20, 3), dtype=np.uint8),
        np.zeros((2, 3, 20, 20), dtype=np.uint8).transpose(0, 2, 3, 1),
    ],
)
def test_it_refuses_another_kind_of_array(loader: NativeLoader, out: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="array to write to"):
        loader.load([b"", b""], Central(rule="torch7", resize=20), side=20, out=out)


@compiled
def test_arguments_that_do_not_fit_are_refused(loader: NativeLoader) -> None:
    with pytest.raises(UsageError, match="expected a side"):
        loader.load([b""], Central(rule="torch7", resize=19), side=20)
    with pytest.raises(UsageError, match="expected a side"):
        loader.load([b""], Central(rule="torch7", resize=20), side=0)
    with pytest.raises(UsageError, match="Torch7's filter under its own rule"):
        loader.load([b""], boxes(whole(1, 1)), side=20, resample="torch7")
    with pytest.raises(UsageError, match="expected 1 cuts or indices"):
        loader.load([b""], Drawn(rule="torch7", seed=0, epoch=0, indices=np.arange(2)), side=20)
    with pytest.raises(UsageError, match="threads"):
        NativeLoader(threads=0)


@compiled
def test_an_empty_batch_is_an_empty_array(loader: NativeLoader) -> None:
    assert loader.load([], Central(rule="torch7", resize=20), side=20).pixels.shape == (
        0,
        20,
        20,
        3,
    )


@compiled
def test_many_callers_take_turns(loader: NativeLoader) -> None:
    contents = list(kinds(90, 70).values())
    cutting = Central(rule="torchvision", resize=40)
    expected = loader.load(contents, cutting, side=32).pixels
    wrong: list[int] = []

    def call(number: int) -> None:
        results = [loader.load(contents, cutting, side=32).pixels for _ in range(20)]
        wrong.extend(number for pixels in results if (pixels != expected).any())

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@compiled
def test_it_works_again_after_closing_and_in_the_child_of_a_fork() -> None:
    # In a process of its own, since Python warns of forks in processes with threads.
    program = """
import os, sys
import numpy as np
from resnext.data.native import Central, NativeLoader
from unit.data.jpegs import kinds
contents = list(kinds(90, 70).values())
loader = NativeLoader(threads=3)
def load():
    return loader.load(contents, Central(rule="torchvision", resize=40), side=32).pixels
expected = load()
child = os.fork()
if child == 0:
    same = all((load() == expected).all() for _ in range(5))
    loader.close()
    os._exit(0 if same and (load() == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
loader.close()
loader.close()
assert (load() == expected).all()
print("fine")
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr


# ---- What is refused


def corpus(tmp_path: Path) -> dict[str, tuple[bytes | Path | FilePart, Status]]:
    good = kinds(64, 48)["4:2:0"]
    image = photo(1, 64, 48)
    (tmp_path / "folder").mkdir()
    (tmp_path / "short").write_bytes(good)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    descriptor = os.open(tmp_path / "short", os.O_RDONLY)
    precision = bytearray(good)
    precision[frame(good) + 4] = 12
    return {
        "good": (good, Status.OK),
        "no bytes": (b"", Status.EMPTY),
        "an empty file": (tmp_path / "empty", Status.EMPTY),
        "one byte": (b"\xff", Status.NOT_JPEG),
        "garbage": (bytes(range(256)) * 8, Status.NOT_JPEG),
        "PNG": (encoded(image, "PNG"), Status.NOT_JPEG),
        "GIF": (encoded(image, "GIF"), Status.NOT_JPEG),
        "WebP": (encoded(image, "WEBP"), Status.NOT_JPEG),
        "BMP": (encoded(image, "BMP"), Status.NOT_JPEG),
        "TIFF": (encoded(image, "TIFF"), Status.NOT_JPEG),
        "only a start": (good[:3], Status.NOT_JPEG),
        "a start and noise": (good[:3] + bytes(500), Status.CORRUPT),
        "a cut header": (good[:100], Status.CORRUPT),
        "CMYK": (encoded(image.convert("CMYK"), "JPEG"), Status.COLOURS),
        "12 bits": (bytes(precision), Status.COLOURS),
        "a huge claim": (claiming(good, 65500, 65500), Status.TOO_MANY_PIXELS),
        "a bomb": (claiming(good, 20000, 20000), Status.TOO_MANY_PIXELS),
        "just too large": (
            claiming(good, MAX_PIXELS // 10_000 + 1, 10_000),
            Status.TOO_MANY_PIXELS,
        ),
        "no width": (claiming(good, 0, 48), Status.CORRUPT),
        "a large file": (tmp_path / "large", Status.TOO_MANY_BYTES),
        "no file": (tmp_path / "missing", Status.UNREADABLE),
        "a folder": (tmp_path / "folder", Status.UNREADABLE),
        "a pipe": (tmp_path / "pipe", Status.UNREADABLE),
        "a part beyond the end": (FilePart(descriptor, len(good) - 10, 100), Status.UNREADABLE),
        "no descriptor": (FilePart(-1, 0, 100), Status.UNREADABLE),
        "a part without bytes": (FilePart(descriptor, 0, 0), Status.EMPTY),
        "a negative offset": (FilePart(descriptor, -5, 100), Status.UNREADABLE),
        "good again": (good, Status.OK),
    }


@compiled
def test_bad_images_have_a_status_and_harm_no_others(loader: NativeLoader, tmp_path: Path) -> None:
    cases = corpus(tmp_path)
    sources = [source for source, _ in cases.values()]
    out = np.full((len(sources), 32, 32, 3), 99, dtype=np.uint8)
    loaded = loader.load(sources, Central(rule="torchvision", resize=40), side=32, out=out)
    found = dict(zip(cases, map(Status, loaded.outcomes["status"].tolist()), strict=True))
    assert found == {name: status for name, (_, status) in cases.items()}
    alone = loader.load([cases["good"][0]], Central(rule="torchvision", resize=40), side=32)
    for pixels, status in zip(loaded.pixels, found.values(), strict=True):
        if status is Status.OK:
            np.testing.assert_array_equal(pixels, alone.pixels[0])
        else:
            assert (pixels == 0).all()


@compiled
@pytest.mark.parametrize("rule", ["torchvision", "torch7"])
def test_images_that_would_become_too_large_are_left_to_pillow(
    loader: NativeLoader, rule: Rule
) -> None:
    sizes = [(1, 20000), (763, 1), (762, 1), (1, 762)]
    contents = [encoded(photo(0, *size), "JPEG") for size in sizes]
    loaded = loader.load(contents, Central(rule=rule, resize=256), side=224)
    large, ok = Status.TOO_MANY_PIXELS, Status.OK
    assert loaded.outcomes["status"].tolist() == [large, large, ok, ok]
    drawn = Drawn(rule=rule, seed=0, epoch=0, indices=np.array([0]))
    # torchvision's last resort is a box of the image's own pixels.
    expected = large if rule == "torch7" else ok
    assert loader.load(contents[:1], drawn, side=224).outcomes["status"].tolist() == [expected]


@compiled
def test_damage_is_counted(loader: NativeLoader) -> None:
    good = kinds(200, 160)["4:4:4"]
    truncated = good[: len(good) * 2 // 3]
    damaged = good[: len(good) // 2] + b"\xff\xd9" + good[len(good) // 2 :]
    full = boxes(whole(200, 160), whole(200, 160), whole(200, 160))
    loaded = loader.load([good, truncated, damaged], full, side=32)
    assert (loaded.outcomes["status"] == Status.OK).all()
    assert loaded.outcomes["warnings"][0] == 0
    assert (loaded.outcomes["warnings"][1:] > 0).all()
    # Where nothing is missing the pixels are right.
    np.testing.assert_array_equal(loaded.pixels[1, :18], loaded.pixels[0, :18])


@compiled
def test_progressive_files_with_too_many_scans_are_refused(loader: NativeLoader) -> None:
    content = encoded(photo(1, 64, 48), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")  # its last scan, over and over: valid, and ever slower
    many = content[:-2] + content[last:-2] * 200 + content[-2:]
    loaded = loader.load([content, many], Central(rule="torch7", resize=32), side=32)
    assert loaded.outcomes["status"].tolist() == [Status.OK, Status.TOO_MANY_SCANS]


@compiled
@pytest.mark.parametrize(
    "box",
    [
        (-1, 0, 10, 10),
        (0, 0, 65, 10),
        (0, 0, 10, 49),
        (64, 0, 1, 1),
        (0, 0, 0, 10),
        (0, 0, float("nan"), 10),
        (float("nan"), 0, 5, 10),
        (0, 0, float("inf"), 10),
        (1e300, 0, 1e300, 10),
    ],
)
def test_boxes_outside_the_image_are_refused(
    loader: NativeLoader, box: tuple[float, float, float, float]
) -> None:
    good = kinds(64, 48)["4:2:0"]
    for beyond in (False, True):
        loaded = loader.load([good], boxes(Cut(*box, mirrored=False, beyond=beyond)), side=8)
        assert loaded.outcomes["status"][0] == Status.BAD_CUT


@compiled
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (2, 3), (7, 5)])
def test_tiny_images_and_boxes_work(loader: NativeLoader, size: tuple[int, int]) -> None:
    content = encoded(photo(2, *size), "JPEG", quality=95)
    for side in (1, 2, 31):
        for cutting in (
            boxes(whole(*size)),
            boxes(Cut(0.25, 0.5, 0.125, 0.25, mirrored=True, beyond=True)),
            Central(rule="torchvision", resize=side),
            Central(rule="torch7", resize=side),
            Drawn(rule="torch7", seed=0, epoch=0, indices=np.arange(1)),
        ):
            loaded = loader.load([content], cutting, side=side)
            assert all_ok(loaded.outcomes)
    loaded = loader.load([content], boxes(whole(*size)), side=16)
    expected = by_pillow(content, boxes(whole(*size)).cuts[0], 16)
    assert difference(loaded.pixels[0], expected)[1] <= 2


# ---- Colours


@compiled
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (1, 5), (4, 4), (13, 17), (224, 224)])
def test_colours_and_means_are_those_of_numpy(loader: NativeLoader, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, *shape, 3), dtype=np.uint8)
    maps = rng.normal(0, 0.01, (5, 3, 4)).astype(np.float32)
    expected = np.einsum("ncd,nhwd->nchw", maps[:, :, :3].astype(np.float64), pixels)
    expected += maps[:, :, 3, None, None]
    memory = np.full(expected.size + 20, 7, dtype=np.float32)
    out = memory[10:-10].reshape(expected.shape)
    assert loader.colours(pixels, maps, out=out) is out
    # Measured: 1.2e-6, for values up to 10.
    np.testing.assert_allclose(out, expected, rtol=0, atol=1.2e-5)
    assert (memory[:10] == 7).all()
    assert (memory[-10:] == 7).all()
    np.testing.assert_array_equal(loader.colours(pixels, maps), out)
    means = pixels.mean((1, 2), dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(loader.means(pixels), means)


@compiled
def test_means_of_white_do_not_overflow(loader: NativeLoader) -> None:
    white = np.full((1, 2000, 3000, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(loader.means(white), np.full((1, 3), 255, dtype=np.float32))


@compiled
def test_colours_refuse_what_does_not_fit(loader: NativeLoader) -> None:
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    maps = np.zeros((2, 3, 4), dtype=np.float32)
    for wrong in (pixels[:, ::2], pixels[..., :2], pixels.astype(np.int8), pixels[0]):
        with pytest.raises(UsageError, match="expected N x H x W x 3 uint8"):
            loader.colours(wrong, maps)
        with pytest.raises(UsageError, match="expected N x H x W x 3 uint8"):
            loader.means(wrong)
    with pytest.raises(UsageError, match="expected 2 x 3 x 4 maps"):
        loader.colours(pixels, maps[:1])
    with pytest.raises(UsageError, match="float32 in C order"):
        loader.colours(pixels, maps, out=np.zeros((2, 3, 4, 4), dtype=np.float64))


# ---- With and without a compiler


def test_without_a_compiler_building_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(build.BuildError, match="found no C compiler"):
        build.build(tmp_path / "x.so")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(build.BuildError, match="expected to run no-such-compiler"):
        build.build(tmp_path / "x.so")
    assert not list(tmp_path.iterdir())


def test_without_headers_building_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "cc"
    fake.write_text(
        "#!/bin/sh\necho 'loader.c:36:10: fatal error: jpeglib.h: No such file' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    with pytest.raises(build.BuildError, match=r"libjpeg62-turbo-dev.*jpeglib\.h: No such file"):
        build.build(tmp_path / "x.so")


def test_without_the_library_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, expected in ((None, "was not compiled"), (b"no library", "cannot be loaded")):
        missing = tmp_path / "loader.so"
        if content is not None:
            missing.write_bytes(content)
        monkeypatch.setattr(library, "LIBRARY", missing)
        library._library.cache_clear()
        try:
            assert expected in (library.reason() or "")
            assert library.describe().startswith("not available: ")
            with pytest.raises(ResourceError, match=expected):
                NativeLoader(threads=1)
        finally:
            monkeypatch.undo()
            library._library.cache_clear()


@compiled
def test_the_library_tells_its_version() -> None:
    assert "libjpeg-turbo" in library.describe()
