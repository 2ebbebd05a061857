"""Whatever is looked up in the tables is what the record says."""

import random
from dataclasses import replace

import pytest

from resnext.deploy.explore.grid import kinds, presets
from resnext.deploy.explore.record import record
from resnext.deploy.explore.tables import tables

SMALL = [
    replace(
        kind,
        depths=kind.depths[:3],
        templates=kind.templates[:: max(1, len(kind.templates) // 5)],
        resolutions=kind.resolutions[:2],
        classes=kind.classes[:2],
    )
    for kind in kinds()
]


def random_setting(rng, kind):
    chosen = (kind.depths, kind.templates, kind.shortcuts, kind.resolutions, kind.classes)
    return kind.setting(*map(rng.choice, chosen))


def looked_up(found, number, kind, setting):
    """As the page's script does it."""

    def at(part):
        values = {
            "depth": kind.depths,
            "template": kind.templates,
            "shortcut": kind.shortcuts,
            "resolution": kind.resolutions,
            "classes": kind.classes,
        }
        now = {
            "depth": setting.depth,
            "template": (setting.cardinality, setting.width),
            "shortcut": setting.shortcut,
            "resolution": setting.resolution,
            "classes": setting.classes,
        }
        place = 0
        for axis in found["kinds"][number]["axes"][part]:
            place = place * len(values[axis]) + values[axis].index(now[axis])
        return found["kinds"][number][part][place]

    pool = found["pool"]
    stages = [pool[place] for place in at("stages")] + [pool[at("classifier")]]
    drawn = pool[at("network")]
    for place, stage in enumerate(s for s in stages if s["template"]):
        drawn = drawn.replace(f"{{{place}}}", stage["template"])
    return {
        **pool[at("names")],
        "memory": {"batch": found["batch"], "total": at("memory")},
        "stages": stages,
        "network": drawn,
        "block": pool[at("block")],
        "neighbours": pool[at("neighbours")],
    }


def assert_equal_at_random(known, count):
    found = tables(known)
    rng = random.Random(0)
    for _ in range(count):
        number = rng.randrange(len(known))
        setting = random_setting(rng, known[number])
        expected = record(setting)
        got = looked_up(found, number, known[number], setting)
        assert got == {key: expected[key] for key in got}
        for unit in ("parameters", "multiply_adds", "activations"):
            assert sum(stage[unit] for stage in got["stages"]) == expected[unit]


def test_tables_of_a_small_grid_say_what_records_say():
    assert_equal_at_random(SMALL, 150)


@pytest.mark.slow
def test_tables_of_the_whole_grid_say_what_records_say():
    assert_equal_at_random(kinds(), 1500)


def test_presets_and_their_neighbours_lie_on_the_grid():
    places = {(kind.family, kind.preactivation): kind for kind in kinds()}
    for preset in presets():
        setting = preset.setting
        kind = places[setting.family, setting.preactivation]
        assert setting.depth in kind.depths, preset
        assert setting.resolution in kind.resolutions, preset
        assert setting.classes in kind.classes, preset
        assert (setting.cardinality, setting.width) in kind.templates, preset
        around = record(setting)["neighbours"] if kind.family == "cifar" else []
        for row in around:
            assert (row["cardinality"], row["width"]) in kind.templates, (preset, row)
