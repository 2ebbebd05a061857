"""What a file holds becomes the right pixels, or one line that names the file."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from resnext.data.decode import MAX_PIXELS, decode
from resnext.errors import DataError
from unit.data.pictures import encoded, picture


def check(decoded: Image.Image, expected: np.ndarray, mode: str) -> None:
    assert decoded.mode == mode
    np.testing.assert_array_equal(np.asarray(decoded), expected)


def test_colour_and_grey_stay_what_they_are() -> None:
    for mode in ("RGB", "L"):
        image = picture(0, mode=mode)
        check(decode(encoded(image), "x"), np.asarray(image), mode)


def test_a_file_and_its_bytes_give_the_same(tmp_path: Path) -> None:
    content = encoded(picture(0), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    expected = np.asarray(decode(content, "x"))
    check(decode(tmp_path / "a.jpg", "x"), expected, "RGB")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_the_content_decides_not_the_name(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.new("RGB", (5, 4), (200, 100, 50))  # one colour: GIF keeps it exactly
    path = tmp_path / "n02105855_2933.JPEG"
    path.write_bytes(encoded(image, kind, **options))
    check(decode(path, "x"), np.asarray(image), "RGB")


def test_cmyk_is_converted_as_the_reference_does() -> None:
    content = encoded(picture(0).convert("CMYK"), "JPEG", quality=100)
    decoded = decode(content, "x")
    with Image.open(io.BytesIO(content)) as reference:
        check(decoded, np.asarray(reference.convert("RGB")), "RGB")
    # Not inverted, the usual mistake: about the colours that went in, JPEG's losses apart.
    flat = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    found = np.asarray(decode(encoded(flat, "JPEG", quality=100), "x"), dtype=np.int64)
    assert np.abs(found - [200, 100, 50]).max() <= 3  # measured 1


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80\xff"])
def test_a_palette_becomes_its_colours(transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    expected = [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    check(decode(encoded(image, **options), "x"), np.array(expected, dtype=np.uint8), "RGB")


def test_transparency_is_dropped() -> None:
    for mode, plain in (("RGBA", "RGB"), ("LA", "L")):
        image = picture(0, mode=mode)
        expected = np.asarray(image)[..., : len(plain)].squeeze()
        check(decode(encoded(image), "x"), expected, plain)


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (4, 5), dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        check(decode(encoded(Image.fromarray(values), kind), "x"), (values >> 8).astype("u1"), "L")


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False, True]]))
    check(decode(encoded(image), "x"), np.array([[255, 0, 255]], dtype=np.uint8), "L")


def test_the_exif_orientation_is_ignored() -> None:
    image = picture(0, width=8, height=4)
    exif = Image.Exif()
    exif[0x0112] = 6
    check(decode(encoded(image, exif=exif), "x"), np.asarray(image), "RGB")


def test_of_an_animation_the_first_picture_counts() -> None:
    first, second = (Image.new("RGB", (4, 4), (grey, grey, grey)) for grey in (10, 200))
    for kind in ("GIF", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(first, kind, save_all=True, append_images=[second], **options)
        check(decode(content, "x").convert("RGB"), np.asarray(first), "RGB")


def refused(content: Path | bytes) -> str:
    with pytest.raises(DataError) as caught:
        decode(content, "cats/7.jpg")
    message = str(caught.value)
    assert message.startswith("cats/7.jpg: expected ")
    assert "\n" not in message
    return message


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "7.jpg"
    assert "found no such file" in refused(path)
    path.write_bytes(b"")
    assert "found an empty file" in refused(path)
    path.write_text("not an image, whatever its name says")
    assert "found none of JPEG, PNG" in refused(path)
    path.write_bytes(encoded(picture(0, width=200, height=200), "JPEG")[:-3000])
    assert "truncated" in refused(path)
    path.unlink()
    path.mkdir()
    refused(path)
    assert "found no bytes" in refused(b"")


def test_a_truncated_png_is_refused() -> None:
    whole = encoded(picture(0, width=200, height=200))
    assert "expected an image, found" in refused(whole[:-5000])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged EXIF and TIFF tags
def test_damaged_bytes_never_escape_as_another_error() -> None:
    rng = np.random.default_rng(0)
    refusals = 0
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"):
        original = encoded(picture(0), kind)
        for _ in range(150):
            content = bytearray(original[: rng.integers(1, len(original) + 1)])
            for place in rng.integers(0, len(content), 4):
                content[place] = rng.integers(256)
            try:
                decode(bytes(content), "x")
            except DataError:
                refusals += 1
    assert refusals > 300


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of that size, in colour, with these compressed pixels, however many."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + body + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly any pixels."""
    return png(width, height, zlib.compress(bytes(1000)))


@pytest.mark.parametrize("side", [7072, 10_000, 20_000, 65_500])
def test_a_bomb_is_refused_from_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert "50 million pixels" in refused(png_header(side, side))


def test_the_largest_image_is_not_a_bomb() -> None:
    # It is refused for its missing pixels, after its header was accepted.
    assert "million" not in refused(png_header(MAX_PIXELS // 1000, 1000))


def test_pixels_without_a_meaning_in_eight_bits_are_refused() -> None:
    values = Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4))
    assert "found Pillow's mode F" in refused(encoded(values, "TIFF"))


def test_readers_that_start_programs_are_out_of_reach(tmp_path: Path) -> None:
    path = tmp_path / "7.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with Image.open(path) as image:
        assert image.format == "EPS"  # Pillow itself would take it
    assert "found none of" in refused(path)
