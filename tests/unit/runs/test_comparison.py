import json

import numpy as np
import pytest
import torch

from resnext import build
from resnext.data import DataSet
from resnext.data.arrays import ArraySource
from resnext.errors import DataError, UsageError
from resnext.evaluation.protocols import Protocol
from resnext.evaluation.score_files import save_scores
from resnext.runs import Mix, Settings, compare
from resnext.runs.candidates import Candidate
from resnext.runs.scoring import evaluate_candidate
from resnext.training.checkpoint import save_weights
from resnext.training.speed import Speed

NETWORK = "ResNeXt-11 (2x2d, CIFAR)"


def pictures(count=20, classes=("a", "b", "c"), seed=0, side=32):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(256, size=(count, side, side, 3)).astype(np.uint8)
    labels = np.arange(count) % len(classes)
    source = ArraySource(title="p", pixels=pixels, labels=labels, classes=tuple(classes))
    return DataSet(name="p", location="p", train=source, validation=source)


@pytest.fixture
def files(tmp_path):
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"{seed}.safetensors")
        save_weights(paths[-1], build(NETWORK, classes=3, seed=seed).state_dict())
    return [str(path) for path in paths]


def results(*given, data=None, settings=None, **options):
    data = pictures() if data is None else data
    records = compare(given, data, settings or Settings(), device="cpu", **options)
    return [record for record in records if hasattr(record, "to_dict")]


def test_each_is_scored_and_plain_values_come_out(files):
    found = results(*files)
    assert [result.network for result in found] == ["ResNeXt-11 (2×2d, CIFAR, 3 classes)"] * 2
    record = found[0].to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["own_data"] is None
    assert (record["samples"], record["profile"], record["top"]) == (20, "cifar10", 3)
    assert record["images_per_second"] > 0
    assert found[0].scored is None


def test_an_ensemble_is_made_from_models_or_from_files_of_scores_alike(files, tmp_path):
    kept = results(*files, settings=Settings(keep=True))
    for number, result in enumerate(kept):
        save_scores(tmp_path / f"s{number}.safetensors", result.scored)
    stored = [str(tmp_path / f"s{number}.safetensors") for number in range(2)]
    for mix in (Mix(), Mix(weights=(3, 1)), Mix(average="logits")):
        *_, models = results(*files, mix=mix)
        *_, scores = results(*stored, data=None, mix=mix)
        torch.testing.assert_close(models.scored.scores, scores.scored.scores, rtol=0, atol=0)
        assert models.about == scores.about
        assert models.to_dict()["top1_error"] == scores.to_dict()["top1_error"]
        rows = [result.scored.scores for result in kept]
        weights = np.array(mix.weights or (1, 1)) / sum(mix.weights or (1, 1))
        if mix.average == "probabilities":
            rows = [row.softmax(1) for row in rows]
        expected = sum(float(w) * row for w, row in zip(weights, rows, strict=True)).argmax(1)
        wrong = int((expected != kept[0].scored.labels).sum())
        assert models.readings[0].counts.top1_wrong == wrong


def test_scores_of_other_images_are_refused(files, tmp_path):
    for number in range(2):
        (result,) = results(files[0], data=pictures(seed=number), settings=Settings(keep=True))
        save_scores(tmp_path / f"s{number}.safetensors", result.scored)
    stored = [str(tmp_path / f"s{number}.safetensors") for number in range(2)]
    with pytest.raises(DataError, match=r"expected scores on the images .* of p, found"):
        results(*stored, mix=Mix())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pictures(classes=("a", "b")), "expected the 3 classes of .*, found 2 in p; where these"),
        (pictures(classes=("a", "b", "c", "d")), "found 4 in p"),
        (pictures(count=0), "p: expected images to score on, found none"),
    ],
)
def test_images_that_do_not_fit_are_refused(files, data, message):
    with pytest.raises(DataError, match=message):
        results(files[0], data=data)


def test_names_of_the_outputs_put_labels_where_they_belong(files):
    names = ("c", "a", "x")
    data = pictures(classes=("a", "c"))
    (found,) = results(files[0], data=data, settings=Settings(class_names=names, keep=True))
    assert found.scored.labels.tolist() == [1, 0] * 10
    with pytest.raises(DataError, match="found 'b', which is none of them"):
        results(files[0], settings=Settings(class_names=names))
    with pytest.raises(DataError, match=r"expected names of the 3 classes of .*, found 2"):
        results(files[0], settings=Settings(class_names=("a", "b")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": Settings(ways="1k")}, "expected a network of 1000 classes for 1k, found 3"),
        ({"settings": Settings(batch_size=0)}, "expected a batch of at least 1 image, found 0"),
        ({"settings": Settings(protocol=Protocol.parse("center-224"))}, "the protocol 'single"),
        ({"settings": Settings(speed=Speed(precision="fp16"))}, "expected a GPU for fp16"),
        ({"weights": ["x"]}, "expected --weights for the 0 networks by name, found 1"),
        ({"mix": Mix(weights=(1, 2))}, "expected 1 weights of at least 0, found"),
    ],
)  # fmt: skip
def test_requests_that_do_not_fit_are_refused_before_anything_is_scored(files, options, message):
    with pytest.raises(UsageError, match=message):
        results(files[0], **options)


def test_a_network_without_a_run_needs_images(files):
    with pytest.raises(UsageError, match=r"expected --data to score .*, found none"):
        list(compare([files[0]], device="cpu"))


class FiveThousand(torch.nn.Module):
    """Says of an image: its first pixel at class 4999, its last at class 0."""

    def forward(self, images):
        scores = images.new_zeros(len(images), 5000)
        scores[:, 4999], scores[:, 0] = images[:, 0, 0, 0], images[:, 0, -1, -1]
        return scores


def test_5k_and_1k_come_from_one_pass():
    from resnext.data import profile

    data = pictures(classes=tuple(f"n{number:04}" for number in range(1000)), count=30)
    names = (*data.classes, *(f"x{number}" for number in range(4000)))
    found = Candidate(
        given="five", network="five", model=FiveThousand(), outputs=5000, side=32, channels=3,
        profile=profile("cifar10"), classes=names,
    )  # fmt: skip
    for asked, order in ((None, [5000, 1000]), ("1k", [1000, 5000])):
        *_, result = evaluate_candidate(found, data, Settings(ways=asked))
        assert [reading.classes for reading in result.readings] == order
        record = result.to_dict()
        assert [record["classes"], *(other["classes"] for other in record["others"])] == order
    one, five = result.readings
    scores = FiveThousand()(
        torch.stack([profile("cifar10").evaluate(data.validation.read(i)) for i in range(30)])
    )
    labels = torch.from_numpy(data.validation.labels)
    assert five.counts.top1_wrong == int((scores.argmax(1) != labels).sum())
    assert one.counts.top1_wrong == int((scores[:, :1000].argmax(1) != labels).sum())
    wrong_order = pictures(classes=data.classes[::-1], count=30)
    with pytest.raises(DataError, match="class 0 is 'n0999' instead of 'n0000'"):
        list(evaluate_candidate(found, wrong_order))


# Parts of the largest logit. Measured on a CPU, on ResNeXt-11, ResNet-18 and ResNeXt-50 with random
# weights: 6e-3 in bf16, 9e-7 compiled; ten times that is allowed.
TOLERANCES = {"bf16": 6e-2, "compiled": 1e-5}


@pytest.mark.parametrize(
    ("speed", "kind"),
    [
        (Speed(precision="bf16"), "bf16"),
        pytest.param(Speed(compilation="default"), "compiled", marks=pytest.mark.slow),
    ],
)
def test_other_arithmetic_stays_near(files, speed, kind):
    (exact,) = results(files[0], settings=Settings(keep=True))
    (found,) = results(files[0], settings=Settings(keep=True, speed=speed))
    assert found.about.precision == speed.precision
    scores = exact.scored.scores
    near = TOLERANCES[kind] * float(scores.abs().max())
    torch.testing.assert_close(found.scored.scores, scores, rtol=0, atol=near)
    assert float((found.scored.scores - scores).abs().max()) > 0


def test_a_compiled_network_sees_one_size(files):
    dense = Settings(protocol=Protocol.parse("dense-256"), speed=Speed(compilation="default"))
    with pytest.raises(UsageError, match="one image size for a compiled network, found dense-256"):
        results(files[0], settings=dense)
