"""The folder of a detector: what makes two of them different ones."""

from resnext.detection.folder import differences
from resnext.detection.planning import plan_detection
from resnext.detection.splits import open_sets
from unit.detection.scenes import write_scenes


def test_the_same_pictures_at_another_place_are_the_same(tmp_path):
    records = []
    for place, count in (("a", 6), ("b", 6), ("c", 5)):
        write_scenes(tmp_path / place, "train2017", count)
        write_scenes(tmp_path / place, "val2017", 3, first=31)
        records.append(plan_detection(open_sets(tmp_path / place), device="cpu").record())
    first, moved, other = records
    assert list(differences(first, moved)) == []
    fields = [text.partition(" ")[0] for text in differences(first, other)]
    assert set(fields) == {
        f"train.{name}" for name in ("annotations", "count", "fingerprint", "images")
    }
