from dataclasses import replace

import pytest

import resnext
from resnext.errors import SpecError
from resnext.families import DEEP_STEM, cifar, compose, imagenet, wide_resnet
from resnext.spec import BASIC, Block, Conv, Paths, Spec, Stage, Stem, StemConv
from resnext.template import Template


def blocks_of(spec: Spec) -> list[Block]:
    return [block for _, _, block in spec.blocks()]


def test_rule_2_widths_double_where_the_map_is_halved():
    spec = imagenet(50, "32x4d")
    widths = [stage.paths[0].template.width for stage in spec.stages]
    assert widths == [4, 8, 16, 32]
    assert [stage.out_channels for stage in spec.stages] == [256, 512, 1024, 2048]
    assert [stage.stride for stage in spec.stages] == [1, 2, 2, 2]


def test_a_bottleneck_in_form_c_is_table_1_s():
    first, second = blocks_of(imagenet(50, "32x4d"))[3:5]
    assert first.convs() == (
        Conv(in_channels=256, out_channels=256, kernel=1),
        Conv(in_channels=256, out_channels=256, kernel=3, stride=2, groups=32),
        Conv(in_channels=256, out_channels=512, kernel=1),
    )
    assert first.projection() == Conv(in_channels=256, out_channels=512, kernel=1, stride=2)
    assert second.projection() is None
    assert second.shortcut == "identity"


def test_a_path_of_form_a_is_one_slice():
    block = blocks_of(imagenet(50, "32x4d"))[1]
    paths = list(block.path_convs())
    assert len(paths) == 32
    assert set(paths) == {
        (
            Conv(in_channels=256, out_channels=4, kernel=1),
            Conv(in_channels=4, out_channels=4, kernel=3),
            Conv(in_channels=4, out_channels=256, kernel=1),
        )
    }


def test_a_basic_block_of_many_paths_is_a_dense_one():
    # Fig. 4: depth 2 gives one wide block of width C·d, nothing grouped.
    many = blocks_of(compose((1,), "4x16d", kernels=BASIC))[0].convs()
    one = blocks_of(compose((1,), "1x64d", kernels=BASIC))[0].convs()
    assert many == one


@pytest.mark.parametrize(
    ("shortcut", "kinds"),
    [
        ("A", ["padding", "identity", "padding", "identity"]),
        ("B", ["projection", "identity", "projection", "identity"]),
        ("C", ["projection"] * 4),
        ("none", ["none"] * 4),
    ],
)
def test_shortcut_types(shortcut: str, kinds: list[str]):
    spec = compose((2, 2), "2x8d", shortcut=shortcut)  # type: ignore[arg-type]
    assert [block.shortcut for block in blocks_of(spec)] == kinds


def test_preactivation_shares_the_activation_where_the_shape_changes():
    activations = [block.activation for block in blocks_of(imagenet(50, preactivation=True))]
    assert activations[:5] == ["pre-opening", "pre", "pre", "pre-shared", "pre"]
    assert blocks_of(wide_resnet(28, 10))[0].activation == "pre-shared"  # its stem has no BN


def test_one_expression_makes_a_new_network():
    spec = compose(
        (2, 3, 1),
        [Paths.of("2x8d"), Paths.of("1x16d", (1, 5, 1))],
        stem=DEEP_STEM,
        out_channels=64,
        strides=(1, 2, 1),
        shortcut="C",
        classes=7,
        in_channels=1,
    )
    assert spec.out_channels == 256
    assert not spec.homogeneous
    with pytest.raises(SpecError, match="no grouped or concatenated form"):
        blocks_of(spec)[0].convs()


def test_equal_paths_are_one_entry_so_that_equal_networks_are_equal():
    apart = compose((1,), [Paths.of("1x4d")] * 32)
    assert apart == compose((1,), "32x4d")


@pytest.mark.parametrize("entry", resnext.CATALOG, ids=lambda entry: entry.identifier)
def test_dictionaries_give_the_specification_back(entry: resnext.catalog.Entry):
    import json

    record = json.loads(json.dumps(entry.spec.to_dict()))
    assert Spec.from_dict(record) == entry.spec


@pytest.mark.parametrize("change", [{"colour": 1}, {"classes": "ten"}, {"stem": 3}, {"stages": 1}])
def test_dictionaries_with_wrong_fields_are_refused(change: dict[str, object]):
    record = {**imagenet(50).to_dict(), **change}
    with pytest.raises(SpecError, match="expected"):
        Spec.from_dict(record)


@pytest.mark.parametrize("value", ["no", 1, None, []])
@pytest.mark.parametrize("field", ["preactivation", "path_norm", "norm", "pool"])
def test_only_true_and_false_are_read_as_such(field: str, value: object):
    record = imagenet(50).to_dict()
    (record["stem"] if field in record["stem"] else record)[field] = value
    with pytest.raises(SpecError, match=f"expected {field} as true or false, found "):
        Spec.from_dict(record)


def test_dictionaries_with_missing_fields_are_refused():
    record = imagenet(50).to_dict()
    del record["stem"]
    with pytest.raises(SpecError, match="stem"):
        Spec.from_dict(record)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: imagenet(51), r"expected an ImageNet depth \(18, 34, .*found 51"),
        (lambda: cifar(30), r"9n\+2.*found 30"),
        (lambda: cifar(2), r"9n\+2.*found 2"),
        (lambda: wide_resnet(27, 10), r"6n\+4.*found 27"),
        (lambda: wide_resnet(28, 0), "widening factor"),
        (lambda: compose((1,), ["1x4d"]), "expected a template or a list of Paths"),  # type: ignore[list-item]
        (lambda: imagenet(50, classes=0), "expected classes .* found 0"),
        (lambda: imagenet(50, in_channels=-3), "expected in_channels .* found -3"),
        (lambda: imagenet(50, shortcut="D"), "expected shortcut A, B, C or none, found 'D'"),  # type: ignore[arg-type]
        (lambda: compose((), "1x4d"), "expected at least one stage"),
        (lambda: compose((0,), "1x4d"), "expected blocks .* found 0"),
        (lambda: compose((1,), []), "expected at least one path"),
        (lambda: compose((1, 1), "1x4d", strides=(1,)), "expected one stride for each of 2 stages"),
        (lambda: compose((1,), "1x4d", kernels=(1,)), "at least two convolutions"),
        (lambda: compose((1,), "1x4d", kernels=(1, 2, 1)), "expected an odd kernel, found 2"),
        (lambda: compose((1,), "1x4d", out_channels=32, shortcut="A"), "64 -> 32"),
        (lambda: Stem(convs=()), "expected at least one convolution"),
        (lambda: compose((1,), "1x4d", stem=Stem(convs=(StemConv(out_channels=8, kernel=4),))),
         "odd kernel"),
        (lambda: imagenet(50, preactivation=True, path_norm=True), "expected path_norm only"),
        (lambda: Conv(in_channels=6, out_channels=8, kernel=3, groups=4),
         "expected in_channels to divide by 4 groups, found 6"),
        (lambda: Conv(in_channels=8, out_channels=6, kernel=3, groups=4),
         "expected out_channels to divide by 4 groups, found 6"),
        (lambda: Stage(blocks=1, out_channels=8, stride=0, paths=(Paths.of("1x1d"),)), "stride"),
    ],
)  # fmt: skip
def test_what_cannot_exist_is_refused(make, message: str):
    with pytest.raises(SpecError, match=message):
        make()


def test_resolution_follows_the_stem():
    assert imagenet(50).resolution == 224
    assert cifar(29).resolution == 32


def test_specs_are_values():
    assert imagenet(50) == imagenet(50)
    assert hash(imagenet(50)) == hash(imagenet(50, Template(1, 64)))
    assert replace(imagenet(50), classes=5) != imagenet(50)
