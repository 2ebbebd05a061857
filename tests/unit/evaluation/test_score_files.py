import pytest
import torch

from resnext.errors import CheckpointError, DataError, UsageError
from resnext.evaluation.readings import read, ways
from resnext.evaluation.score_files import (
    About,
    Scored,
    ensemble,
    is_scores,
    load_scores,
    save_scores,
    shares,
)
from resnext.training.checkpoint import save_weights


def about(**changes):
    fields = {
        "network": "ResNeXt-50 (32×4d)", "weights": "ab", "data": "/data", "fingerprint": "f00d",
        "classes": ("a", "b", "c"), "protocol": "center-224", "profile": "pil-224",
        "average": "logits",
    }  # fmt: skip
    return About(**fields | changes)


def scored(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 0])
    return Scored(torch.randn(4, 3, generator=generator), labels, about(**changes))


@pytest.mark.parametrize("width", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path, width):
    path = tmp_path / "scores.safetensors"
    save_scores(path, scored(), width)
    found = load_scores(path)
    assert found.about == about()
    expected = scored().scores.to(getattr(torch, width)).float()
    torch.testing.assert_close(found.scores, expected, rtol=0, atol=0)
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert is_scores(path)
    assert path.with_name("scores.safetensors.sha256").exists()


def test_a_flipped_bit_is_seen(tmp_path):
    path = tmp_path / "scores.safetensors"
    save_scores(path, scored())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        load_scores(path)


def test_weights_are_no_scores(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"scores": torch.zeros(2, 3)})
    assert not is_scores(path)
    with pytest.raises(CheckpointError, match="as 'resnext scores 1', found None"):
        load_scores(path)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_without_a_class_are_refused(tmp_path, label):
    path = tmp_path / "scores.safetensors"
    save_scores(path, Scored(torch.zeros(2, 3), torch.tensor([0, label]), about()))
    with pytest.raises(DataError, match=f"expected labels 0 to 2, found {label}"):
        load_scores(path)


def test_an_ensemble_is_the_average_made_by_hand():
    one, two = scored(1), scored(2, network="other")
    chances = 0.75 * one.scores.softmax(1) + 0.25 * two.scores.softmax(1)
    found = ensemble([one, two], [3, 1])
    torch.testing.assert_close(found.scores.softmax(1), chances)
    assert found.about.network == "ensemble of 0.75 ResNeXt-50 (32×4d) + 0.25 other"
    mean = ensemble([one, two], average="logits")
    torch.testing.assert_close(mean.scores, (one.scores + two.scores) / 2)
    assert (mean.about.average, mean.about.protocol) == ("logits", "center-224")
    alone = ensemble([one, two], [1, 0])
    torch.testing.assert_close(alone.scores.softmax(1), one.scores.softmax(1))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (scored(fingerprint="beef"), "on the images f00d of /data, found beef"),
        (scored(classes=("b", "a", "c")), "the order of the classes differs"),
        (Scored(torch.zeros(4, 3), torch.tensor([0, 1, 2, 1]), about()), "the order of the"),
        (Scored(torch.zeros(4, 5), scored().labels, about()), "expected 3 classes .* found 5"),
    ],
)
def test_scores_that_do_not_belong_together_are_refused(other, message):
    with pytest.raises(DataError, match=message):
        ensemble([scored(), other])


@pytest.mark.parametrize("weights", [[1], [1, -1], [1, float("nan")], [0, 0]])
def test_weights_that_make_no_mean_are_refused(weights):
    with pytest.raises(UsageError, match="weight"):
        ensemble([scored(), scored()], weights)


def test_1k_of_5k_is_the_softmax_over_the_first_1000():
    assert ways(5000, None) == (5000, 1000)
    assert ways(5000, "1k") == (1000, 5000)
    assert ways(1000, "1k") == ways(1000, None) == (1000,)
    scores = torch.zeros(2, 5000)
    scores[:, 4000], scores[0, 7], scores[1, 8] = 9.0, 3.0, 2.0
    labels = torch.tensor([7, 7])
    five = read(scores, labels, classes=5000, average="logits")
    one = read(scores, labels, classes=1000, average="logits")
    assert (five.counts.top1_error, five.counts.top5_error) == (100, 50)
    assert (one.counts.top1_error, one.counts.top5_error) == (50, 50)
    chance = scores[0, :1000].softmax(0)[7]
    torch.testing.assert_close(one.outcomes.confidence[0], chance)


@pytest.mark.parametrize(("outputs", "asked"), [(1000, "5k"), (64, "1k"), (5000, "2k")])
def test_classes_that_a_network_has_not_are_refused(outputs, asked):
    with pytest.raises(UsageError, match="expected"):
        ways(outputs, asked)


@pytest.mark.parametrize("label", [1000, -1])
def test_a_label_that_is_none_of_the_1k_is_refused(label):
    with pytest.raises(DataError, match=f"1000 classes: expected labels 0 to 999, found {label}"):
        read(torch.zeros(1, 5000), torch.tensor([label]), classes=1000, average="logits")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_spoil_no_ensemble(tmp_path, number):
    bad = scored(network="broken")
    bad.scores[1, 2] = number
    with pytest.raises(DataError, match=r"broken: expected .* numbers, found others for 1 of 4"):
        ensemble([scored(), bad])
    save_scores(tmp_path / "bad.safetensors", bad)
    with pytest.raises(DataError, match=r"bad.safetensors: expected scores that are numbers"):
        load_scores(tmp_path / "bad.safetensors")


def test_a_reading_is_plain_values():
    reading = read(scored().scores, scored().labels, classes=3, average="logits")
    record = reading.to_dict(("a", "b", "c"))
    assert record["top"] == 3
    assert record["top5_error"] == 0
    assert record["top1_interval"][0] <= record["top1_error"] <= record["top1_interval"][1]
    assert record["class_errors"].keys() == {"a", "b", "c"}
    wrong = sum(cell[2] for cell in record["confusion"])
    assert record["top1_error"] == 25 * wrong


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1e308, 1e308)])
def test_shares_have_a_sum_to_divide_by(weights):
    with pytest.raises(UsageError, match="expected weights whose sum is a number above 0"):
        shares(2, weights)
