import json
import subprocess
import sys
from dataclasses import replace

import pytest

import resnext
from resnext.deploy.explore import Setting, record
from resnext.errors import NotationError, SpecError


def test_importing_it_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'PIL', 'matplotlib', 'pydantic'}"
    code = f"import sys, resnext.deploy.explore; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("entry", resnext.CATALOG, ids=lambda entry: entry.identifier)
def test_a_setting_is_the_network_that_it_was_made_of(entry):
    setting = Setting.of(entry.identifier)
    assert setting.spec == entry.spec
    assert setting.notation.identifier() == entry.identifier


def test_a_record_says_what_describe_says():
    found = record(Setting.of("ResNeXt-50 (32x4d)", 160), batch=8)
    cost = resnext.complexity("resnext50_32x4d", 160)
    assert found["name"] == "ResNeXt-50 (32×4d)"
    assert found["python"] == 'model = resnext.build("resnext50_32x4d")'
    assert found["parameters"] == 25_028_904
    assert found["multiply_adds"] == cost.multiply_adds
    assert found["memory"] == {"batch": 8, "total": cost.training_memory(8).total}
    conv2 = found["stages"][1]
    assert conv2["output"] == "40×40"
    assert conv2["before"] == ["3×3 max pool, stride 2"]
    assert conv2["layers"] == ["1×1, 128", "3×3, 128, C=32", "1×1, 256"]
    assert (conv2["blocks"], conv2["template"]) == (3, "32×4d")
    assert [stage["parameters"] for stage in found["stages"]] == [
        stage.parameters for stage in cost.stages
    ]
    assert found["stages"][-1]["before"] == ["average pool, 1000-d fc"]
    assert "160×160" in found["network"]
    assert "total 32" in found["block"]["split"]["svg"]
    assert json.loads(json.dumps(found)) == found


def test_neighbours_are_table_2_s():
    rows = record(Setting.of("ResNet-50"))["neighbours"]
    assert {row["cardinality"]: row["width"] for row in rows} == {
        1: 64, 2: 40, 4: 24, 8: 14, 16: 8, 32: 4, 64: 2,
    }  # fmt: skip
    assert rows[-1]["difference"] == -2.6


def test_neighbours_that_cost_too_much_and_those_of_wide_networks_are_left_out():
    rows = record(Setting.of("resnet50_1x4d"))["neighbours"]
    assert [row["cardinality"] for row in rows] == [1, 2, 4, 8]
    with pytest.raises(SpecError, match="no width keeps"):
        resnext.solve(16, "resnet50_1x4d")
    assert record(Setting.of("WRN-28-10"))["neighbours"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cardinality": 5000}, "expected cardinality from 1 to 4096, found 5000"),
        ({"resolution": 0}, "expected resolution from 1 to 4096, found 0"),
        ({"classes": 10**7}, "expected classes from 1 to 1000000, found 10000000"),
        ({"depth": 99}, "expected an ImageNet depth"),
        ({"family": "cifar", "depth": 10_001}, "expected depth from 1 to 1910"),
        ({"family": "wide", "depth": 28, "width": 17}, "cardinality 1 and a width of 16k"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        record(replace(Setting.of("ResNeXt-50 (32x4d)"), **change))


def test_a_network_of_grey_pictures_is_refused():
    with pytest.raises(SpecError, match="of 3 channels here, found 1"):
        Setting.of("ResNet-50 (1 channel)")


def test_a_text_that_names_no_network_is_refused():
    with pytest.raises(NotationError, match="32q4d"):
        Setting.of("ResNeXt-50 (32q4d)")
