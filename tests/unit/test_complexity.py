import json
from pathlib import Path

import pytest

from resnext import CATALOG, complexity, compose, solve, spec, table2
from resnext.budget import replace_template
from resnext.complexity import hold
from resnext.errors import SpecError
from resnext.spec import Paths
from resnext.template import Template

GOLDEN = Path(__file__).parents[1] / "golden" / "complexity.json"

# Parameters and multiply-adds from an implementation independent of this one
# (peers' published integers where they exist: torchvision, pycls).
PUBLISHED = {
    "resnet50": (25_557_032, 4.089, 8.34),
    "resnext50_2x40d": (25_425_000, 4.125, 8.42),
    "resnext50_4x24d": (25_292_968, 4.160, 8.49),
    "resnext50_8x14d": (25_603_016, 4.267, 8.71),
    "resnext50_32x4d": (25_028_904, 4.230, 8.63),
    "resnet101": (44_549_160, 7.801, 15.92),
    "resnext101_2x40d": (44_456_296, 7.844, 16.01),
    "resnext101_4x24d": (44_363_432, 7.886, 16.09),
    "resnext101_8x14d": (45_104_328, 8.077, 16.48),
    "resnext101_32x4d": (44_177_704, 7.970, 16.26),
    "resnet101_1x100d": (85_611_336, 15.273, 31.17),
    "resnext101_2x64d": (84_198_184, 15.123, 30.86),
    "resnext101_64x4d": (83_455_272, 15.460, 31.55),
    "preact_resnet200": (64_666_152, 15.007, 30.63),
    "resnet200": (64_673_832, None, None),
    "resnet50_noshortcut": (22_780_456, 3.730, None),
    "resnext50_32x4d_noshortcut": (22_252_328, 3.871, None),
    "resnet50_5000classes": (33_753_032, None, None),
    "resnext50_32x4d_5000classes": (33_224_904, None, None),
    "resnet101_5000classes": (52_745_160, None, None),
    "resnext101_32x4d_5000classes": (52_373_704, None, None),
    "resnet29_1x64d": (4_914_250, 0.748, None),
    "resnext29_2x64d": (9_130_314, 1.411, None),
    "resnext29_4x64d": (17_562_442, 2.736, None),
    "resnext29_8x64d": (34_426_698, 5.387, None),
    "resnext29_8x64d_100classes": (34_518_948, None, None),
    "resnext29_16x64d": (68_155_210, 10.689, None),
    "resnext29_16x64d_100classes": (68_247_460, None, None),
    "resnet29_1x128d": (13_775_178, 2.091, None),
    "resnet29_1x192d": (27_280_970, 4.112, None),
    "resnet29_1x256d": (45_431_626, 6.813, None),
    "wrn28_10": (36_479_194, 5.243, None),
    "wrn28_10_100classes": (36_536_884, None, None),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_costs_are_the_published_ones(network: str):
    parameters, usual, at_320 = PUBLISHED[network]
    cost = complexity(spec(network))
    assert cost.parameters == parameters
    if usual is not None:
        assert round(cost.multiply_adds / 1e9, 3) == usual
    if at_320 is not None:
        assert round(complexity(spec(network), 320).multiply_adds / 1e9, 2) == at_320


@pytest.mark.parametrize(
    ("network", "multiply_adds"),
    # pycls, dev/model_complexity.json; it adds the thousand biases of the classifier.
    [
        ("resnet50", 4_089_185_256),
        ("resnext50_32x4d", 4_230_480_872),
        ("resnet101", 7_801_406_440),
        ("resnext101_32x4d", 7_969_997_800),
    ],
)
def test_multiply_adds_are_pycls_s_to_the_last_digit(network: str, multiply_adds: int):
    assert complexity(spec(network)).multiply_adds == multiply_adds - 1000


@pytest.mark.parametrize(
    ("network", "rpn", "fast_rcnn"),
    # Table 8: backbone to conv4 with a proposal network; to conv5 with the detector's two layers.
    [
        ("resnet50", 13_299_336, 24_337_877),
        ("resnext50_32x4d", 13_191_048, 23_809_749),
        ("resnet101", 32_291_464, 43_330_005),
        ("resnext101_32x4d", 32_339_848, 42_958_549),
    ],
)
def test_backbones_of_detectors_cost_what_is_published(network: str, rpn: int, fast_rcnn: int):
    stages = {stage.name: stage.parameters for stage in complexity(network).stages}
    to_conv4 = sum(stages[name] for name in ("conv1", "conv2", "conv3", "conv4"))
    anchors, classes = 12, 81
    proposals = (9 * 1024 + 1) * 512 + (512 + 1) * (2 + 4) * anchors
    assert to_conv4 + proposals == rpn
    assert to_conv4 + stages["conv5"] + (2048 + 1) * (1 + 4) * classes == fast_rcnn


def test_golden_file_covers_the_catalogue_and_has_not_moved():
    from golden.regenerate import golden_complexity

    assert json.loads(GOLDEN.read_text()) == json.loads(golden_complexity())


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.identifier)
def test_totals_are_sums_of_stages_and_layers(entry):
    cost = complexity(entry.spec)
    for unit in ("parameters", "multiply_adds", "activations"):
        assert sum(getattr(stage, unit) for stage in cost.stages) == getattr(cost, unit)
        assert sum(getattr(layer, unit) for layer in cost.layers) == getattr(cost, unit)


def test_stage_maps_are_table_1_s():
    stages = complexity(spec("resnext50_32x4d")).stages
    assert [(stage.name, stage.height, stage.width) for stage in stages] == [
        ("conv1", 112, 112),
        ("conv2", 56, 56),
        ("conv3", 28, 28),
        ("conv4", 14, 14),
        ("conv5", 7, 7),
        ("classifier", 1, 1),
    ]


def test_names_do_as_well_as_specifications():
    assert complexity("resnet50") == complexity(spec("resnet50"))
    assert solve(32, "resnet50") == solve(32, spec("resnet50"))
    with pytest.raises(SpecError, match=r"at least 1 pixel, found 224\.0 x 224\.0"):
        complexity("resnet50", 224.0)  # type: ignore[arg-type]


def test_images_need_not_be_square():
    network = spec("resnet50")
    assert complexity(network, (224, 224)) == complexity(network, 224)
    assert complexity(network, (224, 448)).multiply_adds > complexity(network).multiply_adds
    with pytest.raises(SpecError, match="at least 1 pixel, found 0 x 224"):
        complexity(network, (0, 224))


def test_memory_grows_with_the_batch_by_its_activations_alone():
    cost = complexity(spec("resnet50"))
    one, two = cost.training_memory(1), cost.training_memory(2)
    assert one.weights == one.gradients == one.optimizer == 4 * cost.parameters
    assert two.total > one.total
    assert two.activations > one.activations
    half = cost.training_memory(1, element_bytes=2)
    assert half.activations < one.activations


def test_memory_is_fullest_where_gradients_come_while_activations_go():
    cost = complexity(spec("resnet50"))
    for batch in (1, 32, 256):
        memory = cost.training_memory(batch)
        apart = memory.weights + memory.optimizer + memory.activations
        largest = max(layer.parameters for layer in cost.layers)
        assert apart < memory.total
        over = cost.training_memory(batch, accumulated=True).total
        assert memory.total < over
        assert over >= apart + memory.gradients
        assert over - (apart + memory.gradients) < 0.01 * apart + 2 * 4 * largest


def test_memory_of_a_chain_follows_from_that_of_its_parts():
    layers = complexity(spec("ResNeXt-29 (8x64d)")).layers
    for batch in (1, 32):
        whole = hold(layers, batch)
        for cut in range(len(layers) + 1):
            assert hold(layers[:cut], batch).then(hold(layers[cut:], batch)) == whole
    assert whole.gradients == 4 * sum(layer.parameters for layer in layers)


def test_table_2_is_the_paper_s():
    rows = table2(spec("resnet50"))
    assert [(row.template.cardinality, row.template.width) for row in rows] == [
        (1, 64), (2, 40), (4, 24), (8, 14), (32, 4),
    ]  # fmt: skip
    assert [row.template.group_width for row in rows] == [64, 80, 96, 112, 128]
    assert [row.cost for row in rows] == [69_632, 69_760, 69_888, 71_456, 70_144]
    in_multiply_adds = table2(spec("resnet50"), budget="multiply_adds")
    assert [row.cost for row in in_multiply_adds] == [row.cost * 56 * 56 for row in rows]


@pytest.mark.parametrize("budget", ["parameters", "multiply_adds"])
@pytest.mark.parametrize("reference", ["resnet50", "resnet29_1x64d", "preact_resnet50", "resnet18"])
def test_the_network_solved_for_is_the_nearest_one(budget: str, reference: str):
    like = spec(reference)
    found = solve(4, like, budget=budget, scope="network")  # type: ignore[arg-type]

    def distance(width: int) -> int:
        cost = complexity(replace_template(like, Template(4, width)))
        return abs(getattr(cost, budget) - found.reference_cost)

    width = found.template.width
    assert found.cost == getattr(complexity(replace_template(like, found.template)), budget)
    assert distance(width) <= min(distance(width + 1), distance(max(1, width - 1)))


def test_solving_refuses_what_has_no_answer():
    with pytest.raises(SpecError, match="width 1 already costs 533,504"):
        solve(1024, spec("resnet50"))
    with pytest.raises(SpecError, match="expected to keep parameters or multiply"):
        solve(2, "resnet50", budget="flops")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="found 'parameters' of a 'stage'"):
        solve(2, "resnet50", scope="stage")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="one template"):
        solve(2, compose((1,), [Paths.of("1x4d"), Paths.of("1x8d")]))
