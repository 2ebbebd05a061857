import numpy as np
import pytest
import torch
from torch import nn

from resnext import build
from resnext.data import open_source, profile
from resnext.data.whole import WholeBatch, whole_batches
from resnext.errors import DataError
from resnext.evaluation.protocols import Protocol
from resnext.evaluation.views import Averaged, averaged, scorer, ten_crops
from unit.data.pictures import encoded, picture

TOLERANCE = 4e-5  # as in test_dense.py


class Corner(nn.Module):
    """Says the first pixel and the last one."""

    def forward(self, images):
        return torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], dim=1)


def numbered(height, width):
    return torch.arange(height * width, dtype=torch.float32).view(1, height, width)


def test_ten_crops_are_those_of_the_authors_in_their_order():
    crops = ten_crops(numbered(5, 7), 2, "torch7")
    # An odd margin is larger at top and left, in the mirrored image as well.
    assert [int(crop[0, 0, 0]) for crop in crops[:5]] == [2 * 7 + 3, 0, 5, 21, 26]
    assert [int(crop[0, 0, 0]) for crop in crops[5:]] == [2 * 7 + 3, 6, 1, 27, 22]
    assert all(crop.shape == (1, 2, 2) for crop in crops)


def test_ten_crops_are_torchvision_s_but_for_the_order():
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = torch.randn(3, 6, 9)
    centre, mirrored = ten_crops(image, 4, "torchvision")[::5]
    theirs = functional.ten_crop(image, 4)
    torch.testing.assert_close(centre, theirs[4])
    torch.testing.assert_close(mirrored, theirs[9])


def test_the_score_of_ten_crops_is_the_mean_of_their_logits():
    images = (numbered(4, 6), numbered(5, 4))
    batch = WholeBatch(images=(images,), labels=torch.zeros(2), indices=torch.arange(2))
    protocol = Protocol(kind="ten-crop", side=2)
    found = scorer(protocol, Corner())(batch)
    for row, image in enumerate(images):
        views = torch.cat([Corner()(crop[None]) for crop in ten_crops(image, 2, "torchvision")])
        torch.testing.assert_close(found.logits[row], views.mean(0))
        torch.testing.assert_close(found.probabilities[row], views.softmax(1).mean(0))


def test_views_weigh_the_same_however_many_positions_they_have():
    one, many = torch.tensor([[[[0.0]], [[1.0]]]]), torch.randn(1, 2, 3, 4)
    found = averaged([one, many])
    torch.testing.assert_close(found.logits, (one.mean((2, 3)) + many.mean((2, 3))) / 2)
    chances = (one.softmax(1).mean((2, 3)) + many.softmax(1).mean((2, 3))) / 2
    torch.testing.assert_close(found.probabilities, chances)


def test_scores_of_averaged_probabilities_are_their_logarithms():
    found = Averaged(torch.zeros(1, 2), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(found.scores("probabilities").softmax(1), found.probabilities)
    assert found.scores("logits") is found.logits
    assert Averaged(torch.zeros(1, 2)).probabilities is None


@pytest.fixture
def photos(tmp_path):
    for name, sizes in (("a", [(80, 64), (64, 90)]), ("b", [(80, 64)])):
        (tmp_path / name).mkdir()
        for number, (width, height) in enumerate(sizes):
            image = picture(number, width=width, height=height)
            (tmp_path / name / f"{number}.png").write_bytes(encoded(image))
    return open_source(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_whole_photos_are_the_profile_s_before_its_crop(photos, threads):
    seen = profile("pil-64@64")
    batches = whole_batches(photos, seen, (64, 96), batch_size=2, threads=threads)
    found = list(batches)
    assert [batch.indices.tolist() for batch in found] == [[0, 1], [2]]
    assert len(batches) == 2
    assert [tuple(image.shape) for image in found[0].images[0]] == [(3, 64, 80), (3, 90, 64)]
    assert found[1].images[1][0].shape == (3, 96, 120)
    for index in range(3):
        image = found[index // 2].images[0][index % 2]
        left, top = (round((length - 64) / 2) for length in (image.shape[2], image.shape[1]))
        expected = seen.evaluate(photos.read(index))
        np.testing.assert_array_equal(image[:, top : top + 64, left : left + 64], expected)


def test_a_photo_that_is_none_is_named(photos, tmp_path):
    (tmp_path / "b" / "0.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"b/0\.png"):
        list(whole_batches(open_source(tmp_path), profile("pil-64"), (64,), batch_size=3))


def test_dense_testing_is_the_mean_over_positions_flips_and_scales(photos):
    """Against loops: each photo alone, each scale, its mirror image, each window."""
    model = build("resnet18", classes=5, seed=0).eval()
    protocol, seen = Protocol.parse("dense-64+96"), profile("pil-64")
    (batch,) = whole_batches(photos, seen, protocol.sizes(seen), batch_size=3)
    with torch.inference_mode():
        found = scorer(protocol, model, side=64)(batch)
        for row in range(3):
            logits, chances = [], []
            for scale in (0, 1):
                views = []
                for image in (batch.images[scale][row], batch.images[scale][row].flip(-1)):
                    *_, maps = model.features(image[None]).values()
                    rows, columns = maps.shape[2] - 1, maps.shape[3] - 1
                    views += [
                        model.fc(maps[:, :, y : y + 2, x : x + 2].mean((2, 3)))[0]
                        for y in range(rows)
                        for x in range(columns)
                    ]
                logits.append(torch.stack(views).mean(0))
                chances.append(torch.stack(views).softmax(1).mean(0))
            mean, chance = torch.stack(logits).mean(0), torch.stack(chances).mean(0)
            torch.testing.assert_close(found.logits[row], mean, rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(found.probabilities[row], chance, rtol=0, atol=TOLERANCE)


def test_a_flip_is_one_more_view():
    class Images:
        images = torch.randn(2, 1, 3, 3)

    found = scorer(Protocol.parse("center-10,flip"), Corner())(Images)
    both = (Corner()(Images.images) + Corner()(Images.images.flip(-1))) / 2
    torch.testing.assert_close(found.logits, both)
