import io

import numpy as np
import pytest
import torch
from PIL import Image

from resnext.deploy import artifact_of_model
from resnext.deploy.engines import open_engine
from resnext.deploy.explain import explain
from resnext.deploy.predict import Prediction, Unusable, pictures_of, predict
from resnext.errors import DataError, UsageError
from unit.deploy.networks import answers, settled


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noise(seed, side=32):
    pixels = np.random.default_rng(seed).integers(256, size=(side, side, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_predictions_are_the_network_s(artifact, batch_size):
    pictures = [noise(seed) for seed in range(5)]
    found = list(
        predict(
            artifact,
            open_engine(artifact, "torch"),
            [(f"p{i}", encoded(picture)) for i, picture in enumerate(pictures)],
            top=3,
            batch_size=batch_size,
        )
    )
    batch = torch.stack([artifact.profile.evaluate(picture) for picture in pictures])
    chances = answers(artifact.model(), batch).softmax(1)
    for row, prediction in zip(chances, found, strict=True):
        order = row.argsort(descending=True)[:3]
        assert [label for label, _ in prediction.classes] == [artifact.classes[i] for i in order]
        given = torch.tensor([chance for _, chance in prediction.classes])
        # folding rounds the weights anew: measured at most 4.5e-8 on probabilities
        torch.testing.assert_close(given, row[order], rtol=0, atol=4.5e-7)
    assert [prediction.name for prediction in found] == [f"p{i}" for i in range(5)]


def test_unusable_pictures_are_named_in_their_place(artifact):
    given = [
        ("good", encoded(noise(0))),
        ("text", b"no picture"),
        ("empty", b""),
        ("large", encoded(noise(0, 40))),
        ("again", encoded(noise(1))),
    ]
    found = list(predict(artifact, open_engine(artifact, "torch"), given, batch_size=2))
    assert [type(each) for each in found] == [Prediction, Unusable, Unusable, Unusable, Prediction]
    assert all(each.reason.startswith(each.name) for each in found if isinstance(each, Unusable))
    assert len(found[0].classes) == 4  # all there are


def test_nothing_given_is_nothing_found(artifact):
    engine = open_engine(artifact, "torch")
    assert list(predict(artifact, engine, [])) == []
    with pytest.raises(UsageError, match="at least 1 class and 1 picture"):
        list(predict(artifact, engine, [], top=0))
    with pytest.raises(UsageError, match="expected an engine out of"):
        open_engine(artifact, "abacus")


def test_folders_are_gone_through(tmp_path):
    for name in ("b.png", "a.JPG", "inner/c.webp", "notes.txt", "._b.png", ".thumbs/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in pictures_of([tmp_path])] == ["a.JPG", "b.png", "c.webp"]
    assert pictures_of([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # as it was asked for
    (tmp_path / "none").mkdir()
    for path in ("none", "nowhere"):
        with pytest.raises(DataError, match="expected"):
            pictures_of([tmp_path / path])


@pytest.mark.parametrize("network", ["ResNeXt-11 (2x4d, CIFAR, 4 classes)",
                                     "preact_resnet18_4classes"])  # fmt: skip
def test_the_mean_of_an_activation_map_is_the_logit(network):
    artifact = artifact_of_model(settled(network), classes=("ant", "bee", "cat", "dog"))
    picture = noise(3, artifact.spec.resolution)
    logits = answers(artifact.model(), artifact.profile.evaluate(picture)[None])[0]
    for number, label in enumerate(artifact.classes):
        found = explain(artifact, picture, label)
        # measured at most 6.4e-7 of the largest logit
        room = 6.4e-6 * float(logits.abs().max())
        assert abs(float(found.positions.mean()) - float(logits[number])) < room
        assert abs(found.logit - float(logits[number])) < room
    assert explain(artifact, picture).label == artifact.classes[int(logits.argmax())]
    with pytest.raises(UsageError, match="expected a class of"):
        explain(artifact, picture, "yak")


def test_of_two_classes_with_one_name_the_likely_one_is_explained():
    classes = ("crane", "bee", "cat", "crane")
    artifact = artifact_of_model(settled(), classes=classes)
    for seed in range(3):
        logits = answers(artifact.model(), artifact.profile.evaluate(noise(seed))[None])[0]
        found = explain(artifact, noise(seed), "crane")
        assert found.logit == pytest.approx(float(logits[[0, 3]].max()), abs=1e-5)


def test_the_map_lies_where_the_class_is_seen():
    """The class looks at a channel of the last map that is bright in one corner."""
    from resnext import build

    model = build("resnet18", classes=2, seed=0).eval()
    artifact = artifact_of_model(model, profile_name="pil-224", classes=("dark", "bright"))
    pixels = np.zeros((256, 256, 3), dtype=np.uint8)
    pixels[:128, :128] = np.random.default_rng(0).integers(256, size=(128, 128, 3))
    picture = Image.fromarray(pixels)
    *_, last = model.features(artifact.profile.evaluate(picture)[None]).values()
    contrast = last[0, :, :3, :3].mean((1, 2)) - last[0, :, 4:, 4:].mean((1, 2))
    weights = dict(artifact.weights)
    weights["fc.weight"].zero_()[1, int(contrast.argmax())] = 1
    heat = explain(artifact, picture, "bright").heat
    assert heat.shape == (224, 224)
    assert (heat.min() >= 0, heat.max()) == (True, 1)
    assert heat[:96, :96].mean() > 2 * heat[-96:, -96:].mean()


def test_a_map_is_drawn_over_what_was_seen(artifact, picture):
    drawn = Image.open(io.BytesIO(explain(artifact, picture).png()))
    assert drawn.size == (224, 224)
    assert drawn.format == "PNG"
