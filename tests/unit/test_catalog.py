import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnext import CATALOG, compose, identifier, name, spec
from resnext.catalog import Notation
from resnext.errors import NotationError, ResNextError, SpecError
from resnext.families import IMAGENET_BLOCKS, cifar, imagenet, wide_resnet
from resnext.template import Template

EQUIVALENT = {
    imagenet(50, "32x4d"): [
        "ResNeXt-50 (32x4d)",
        "ResNeXt-50 (32×4d)",
        "resnext50_32x4d",
        "RESNEXT50-32X4D",
        "resnext-50_32x4d",
        "ResNeXt 50 (32x4d)",
        " ResNeXt-50(32x4d) ",
        "resnext50_32x4d_imagenet",
        "resnext50_32x4d_1000classes",
        "ResNeXt-50 (32x4d, ImageNet, shortcut B)",
    ],
    imagenet(101): [
        "ResNet-101",
        "resnet101",
        "resnet_101",
        "ResNet-101 (1x64d)",
        "resnet101_1x64d",
    ],
    imagenet(101, "1x100d"): ["ResNet-101 (1x100d)", "resnet101_1x100d"],
    cifar(29, "8x64d"): [
        "ResNeXt-29 (8x64d, CIFAR)",
        "ResNeXt-29 (8×64d)",
        "resnext29_8x64d",
        "resnext29_8x64d_cifar",
        "ResNeXt-29 (CIFAR, 8x64d)",
        "ResNeXt-29, 8×64d",
        "ResNeXt-29 8×64d",
        "ResNeXt-29, 8x64d, CIFAR",
    ],
    cifar(29, "16x64d", classes=100): [
        "ResNeXt-29 (16x64d, CIFAR, 100 classes)",
        "resnext29_16x64d_100classes",
    ],
    imagenet(200, preactivation=True): [
        "preact-resnet200",
        "PreAct-ResNet-200",
        "preact_resnet200",
        "pre-activation ResNet-200",
        "preresnet200",
        "preactresnet200",
    ],
    wide_resnet(28, 10): [
        "wrn28_10",
        "WRN-28-10",
        "wrn_28_10",
        "Wide ResNet 28-10",
        "wide_resnet28_10",
    ],
    imagenet(50, "1x128d"): ["wide_resnet50_2", "WRN-50-2", "resnet50_1x128d"],
    cifar(29): ["ResNet-29", "resnet29", "resnet29_1x64d"],
    cifar(1001, "1x16d", preactivation=True): ["preact-resnet1001 (1x16d, CIFAR)"],
    imagenet(50, shortcut="none"): [
        "ResNet-50 (no shortcut)",
        "resnet50_noshortcut",
        "ResNet-50 (shortcut none)",
    ],
    cifar(29, "2x8d", shortcut="A", in_channels=1): [
        "ResNeXt-29 (2x8d, CIFAR, shortcut A, 1 channel)",
        "resnext29_2x8d_shortcuta_1channel",
    ],
    imagenet(18): ["resnet18", "ResNet-18"],
    cifar(101, "8x64d"): ["ResNeXt-101 (8x64d, CIFAR)", "resnext101_8x64d_cifar"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [(text, network) for network, texts in EQUIVALENT.items() for text in texts],
)
def test_every_notation_is_read(text: str, expected):
    assert spec(text) == expected


@pytest.mark.parametrize(
    ("text", "printed", "code"),
    [
        ("resnext50_32x4d", "ResNeXt-50 (32×4d)", "resnext50_32x4d"),
        ("resnet50_1x64d", "ResNet-50", "resnet50"),
        ("resnext29_8x64d", "ResNeXt-29 (8×64d, CIFAR)", "resnext29_8x64d"),
        ("resnet29_1x64d", "ResNet-29 (1×64d, CIFAR)", "resnet29_1x64d"),
        ("resnext101_8x64d_cifar", "ResNeXt-101 (8×64d, CIFAR)", "resnext101_8x64d_cifar"),
        ("preresnet200", "PreAct-ResNet-200", "preact_resnet200"),
        ("wide-resnet-28-10", "WRN-28-10", "wrn28_10"),
        (
            "resnet50 (no shortcuts, 5 classes)",
            "ResNet-50 (no shortcut, 5 classes)",
            "resnet50_noshortcut_5classes",
        ),
    ],
)
def test_names_are_printed_in_one_way(text: str, printed: str, code: str):
    assert name(spec(text)) == printed
    assert identifier(spec(text)) == code


templates = st.builds(Template, st.integers(1, 64), st.integers(1, 128))
options = {
    "shortcut": st.sampled_from(["A", "B", "C", "none"]),
    "classes": st.integers(1, 30_000),
    "in_channels": st.integers(1, 16),
}
plain = {"template": templates, "preactivation": st.booleans(), **options}
imagenet_depths = st.sampled_from(sorted(IMAGENET_BLOCKS))
cifar_depths = st.integers(1, 30).map(lambda n: 9 * n + 2)
notations = (
    st.builds(Notation, family=st.just("imagenet"), depth=imagenet_depths, **plain)
    | st.builds(Notation, family=st.just("cifar"), depth=cifar_depths, **plain)
    | st.builds(
        Notation,
        family=st.just("wide"),
        depth=st.integers(1, 10).map(lambda n: 6 * n + 4),
        template=st.integers(1, 20).map(lambda k: Template(1, 16 * k)),
        preactivation=st.just(True),
        **options,
    )
)


@given(notations)
def test_round_trips_are_exact(notation: Notation):
    assert Notation.parse(notation.paper()) == notation
    assert Notation.parse(notation.identifier()) == notation
    network = notation.spec()
    assert spec(name(network)) == network
    assert spec(identifier(network)) == network


@given(st.text(max_size=40) | st.from_regex(r"(?i)(preact-)?resnex?t-?\d{1,3}[ (_]?.{0,20}"))
def test_any_text_is_read_or_refused_in_one_line(text: str):
    try:
        network = spec(text)
    except ResNextError as error:
        refusal = str(error)
    else:
        refusal = "expected"
        assert spec(name(network)) == network
    assert "expected" in refusal
    assert len(refusal) < 400
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", NotationError, "expected a network such as"),
        ("densenet121", NotationError, "found 'densenet121'$"),
        ("resnxt50_32x4d", NotationError, "did you mean 'resnext50_32x4d'"),
        ("ResNeXt-50", NotationError, r"expected a template, as in 'ResNeXt-50 \(32x4d\)'"),
        ("ResNeXt-50 (32x4)", NotationError, "found '32x4'"),
        ("ResNeXt-50 (32x4d", NotationError, "one pair of parentheses"),
        ("ResNeXt-50 32x4d)", NotationError, "one pair of parentheses"),
        ("ResNeXt-50 ()", NotationError, "one pair of parentheses"),
        ("resnet110", NotationError, r"expected a template, as in 'resnet110 \(1x16d, CIFAR\)'"),
        ("ResNet-1001", NotationError, r"as in 'ResNet-1001 \(1x16d, CIFAR\)', found none in"),
        ("preact-resnet1001", NotationError, "expected a template, as in 'preact-resnet1001 "),
        ("preact-resnet164", NotationError, "expected a template, as in 'preact-resnet164 "),
        ("preact-resnet29", NotationError, "expected a template, as in 'preact-resnet29 "),
        ("resnet101_cifar", NotationError, r"expected a template, as in 'resnet101 \(1x16d, C"),
        ("resnet50_cifar", SpecError, "expected a CIFAR depth of 9n"),
        ("resnet٥٠", NotationError, "expected a network such as"),
        ("resnet99999", NotationError, "expected a network such as"),
        ("wrn28_0", SpecError, "widening factor from 1 to 999, found 0"),
        ("ResNeXt-50 (32x4d, 2x4d)", NotationError, "only one template, found '32x4d' and '2x4d'"),
        ("resnext50_32x4d_se", NotationError, "found 'se'"),
        ("resnet50_", NotationError, "found ''"),
        ("wrn28_10 (32x4d)", NotationError, "no template behind a Wide ResNet"),
        ("wrn28_10_cifar", NotationError, "no family behind a Wide ResNet"),
        ("wide_resnet50_2 (32x4d)", NotationError, "no template behind a Wide ResNet"),
        ("wide_resnet50_2_32x4d", NotationError, "found 'wide_resnet50_2_32x4d'"),
        ("resnext51_32x4d", SpecError, "found 51"),
        ("resnext30_32x4d_cifar", SpecError, "found 30"),
        ("wrn27_10", SpecError, "found 27"),
        ("resnext50_0x4d", NotationError, "found '0x4d'"),
        ("x" * 10_240, NotationError, r"found 'x+\.\.\.'"),
    ],
)
def test_malformed_names_say_what_was_expected_and_found(text: str, error: type, message: str):
    with pytest.raises(error, match=message):
        spec(text)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.identifier)
def test_the_catalogue_is_named_canonically(entry):
    assert identifier(entry.spec) == entry.identifier


def test_classes_and_channels_can_be_replaced():
    assert spec("resnet50", classes=7, in_channels=1) == imagenet(50, classes=7, in_channels=1)
    assert spec(imagenet(50), classes=7) == imagenet(50, classes=7)


def test_a_network_without_a_notation_is_called_custom():
    one, other = compose((1, 2), "2x4d"), compose((2, 1), "2x4d")
    assert identifier(one).startswith("custom-")
    assert identifier(one) != identifier(other)
    assert name(one).startswith("custom network ")
