import pytest

from resnext.data import profile
from resnext.errors import UsageError
from resnext.evaluation.protocols import MULTISCALE, SINGLE_VIEW, Protocol

WRITTEN = [
    SINGLE_VIEW,
    f"{SINGLE_VIEW},flip",
    "center-224",
    "center-320@366,convolutional",
    "center-224@256,convolutional,flip,probabilities",
    "ten-crop-224",
    "ten-crop-224@256,probabilities",
    "dense-256",
    "dense-224+480,no-flip",
    "dense-multiscale,probabilities",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_what_is_written_is_read(text):
    assert str(Protocol.parse(text)) == text


def test_the_paper_s_scales_have_a_name():
    assert Protocol.parse("dense-224+256+384+480+640") == Protocol.parse("dense-multiscale")
    assert Protocol.parse("dense-multiscale").shorter == MULTISCALE == (224, 256, 384, 480, 640)


@pytest.mark.parametrize(
    "text",
    ["", "centre-224", "center", "center-0", "center-224@", "dense", "dense-224+", "dense-256,flip",
     "center-224,no-flip", "ten-crop-224,flip", "single view,convolutional", "center-224,",
     "center-224, flip", "dense-256,convolutional", "dense-224+256+224", "center-224,flip,flip"],
)  # fmt: skip
def test_what_means_nothing_is_refused_with_what_does(text):
    with pytest.raises(UsageError, match="expected a protocol: 'single view', center-R"):
        Protocol.parse(text)


@pytest.mark.parametrize(
    ("text", "seen", "prepared"),
    [
        ("center-224", "pil-64", "pil-224"),
        ("center-224", "pil-bicubic-224@235", "pil-bicubic-224@235"),  # made for that crop
        ("center-224", "pil-bicubic-half-299@341", "pil-bicubic-half-224"),
        ("center-299", "torch7-224", "torch7-299"),
        ("center-320", "torch7-224", "torch7-320@320"),
        ("center-320@366", "torch7-224", "torch7-320"),
        ("ten-crop-224", "pil-299@341", "pil-224"),
        ("dense-multiscale", "pil-224", "pil-224"),
        (SINGLE_VIEW, "cifar10", "cifar10"),
    ],
)
def test_a_profile_keeps_its_family_and_gets_the_protocol_s_sizes(text, seen, prepared):
    assert Protocol.parse(text).prepared(profile(seen)).name == prepared


def test_sizes_are_those_of_the_definitions():
    for text, sizes in (("center-224", (256,)), ("center-299", (342,)), ("center-320", (320,))):
        protocol = Protocol.parse(text)
        assert protocol.sizes(protocol.prepared(profile("pil-64"))) == sizes


@pytest.mark.parametrize(
    ("text", "seen", "message"),
    [
        ("center-224", "digits", "expected the protocol 'single view' under profile digits"),
        ("dense-256", "cifar10", "expected the protocol 'single view' under profile cifar10"),
        ("center-224@200", "pil-224", "expected a resize of at least 224 in a profile"),
    ],
)
def test_sizes_that_cannot_be_are_refused(text, seen, message):
    with pytest.raises(UsageError, match=message):
        Protocol.parse(text).prepared(profile(seen))
