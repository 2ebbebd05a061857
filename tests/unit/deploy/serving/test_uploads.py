import random

import pytest

from resnext.deploy.serving.refusal import RefusalError
from resnext.deploy.serving.uploads import Upload, label, uploads_of
from servers import form_of


def test_a_body_is_a_picture_and_a_form_has_several():
    for kind in ("image/png", "", "application/octet-stream", "image/jpeg; q=1"):
        assert uploads_of(kind, b"bytes", files=1) == [Upload("body", b"bytes")]
    kind, body = form_of([("a.png", b"one"), ("b.png", b"two\r\n--")])
    assert uploads_of(kind, body, files=2) == [
        Upload("a.png", b"one"),
        Upload("b.png", b"two\r\n--"),
    ]


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (b"../../etc/passwd", "passwd"),
        (b"C:\\windows\\system32\\x.png", "x.png"),
        (b"/", "file 7"),
        (b"", "file 7"),
        (b"a" * 5000, "a" * 200),
        (b"\xff\xfe.png", "\N{REPLACEMENT CHARACTER}" * 2 + ".png"),
    ],
)
def test_names_are_labels(filename, expected):
    assert label(filename, 7) == expected


@pytest.mark.parametrize("filename", [b"a\0b", b"a\nb", b"\x1b[2Ja", "\u202egnp.exe".encode()])
def test_names_can_be_printed(filename):
    assert label(filename, 1).isprintable()


FIELD = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n1\r\n'
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        ("text/html", b"x", 415, "found text/html"),
        ("application/json", b"{}", 415, "found application/json"),
        ("image/png", b"", 422, "found an empty body"),
        ("multipart/form-data", FILE + END, 422, "a broken one"),
        ("multipart/form-data; boundary=" + "b" * 300, b"", 422, "exceeds maximum of 256"),
        ("multipart/form-data; boundary=b", b"", 422, "found a cut one"),
        ("multipart/form-data; boundary=b", FILE, 422, "found a cut one"),
        ("multipart/form-data; boundary=b", FIELD + END, 422, "with files, found none"),
        ("multipart/form-data; boundary=b", b"rubbish" * 100, 422, "a broken one"),
        ("multipart/form-data; boundary=b", FILE * 3 + END, 413, "at most 2 files"),
        ("multipart/form-data; boundary=b", FIELD * 17 + END, 413, "at most 16 fields"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\n1\r\n" + END,
            422,
            "a broken one",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n1\r\n" + END,
            422,
            "a broken one",
        ),
    ],
)
def test_other_bodies_are_refused(kind, body, status, message):
    with pytest.raises(RefusalError, match=message) as error:
        uploads_of(kind, body, files=2)
    assert error.value.status == status


def test_forms_with_errors_are_read_or_refused():
    kind, good = form_of([("a.png", b"\x00\xff" * 40), ("b", b"--b0undary"[:-1])])
    rng = random.Random(0)
    outcomes = set()
    for _ in range(2000):
        body = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(body))
            if rng.random() < 0.3:
                del body[place : place + rng.randrange(1, 30)]
            else:
                body[place] = rng.randrange(256)
        try:
            uploads_of(kind, bytes(body), files=2)
            outcomes.add("read")
        except RefusalError as error:
            outcomes.add(error.status)
    assert outcomes <= {"read", 413, 422}
    assert {"read", 422} <= outcomes
