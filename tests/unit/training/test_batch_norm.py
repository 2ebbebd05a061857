import numpy as np
import pytest
import torch
from torch import nn

from resnext.training.batch_norm import (
    GhostBatchNorm2d,
    batch_norms,
    part_sizes,
    shared_momenta,
    use_parts,
)


def norm(channels=3):
    made = nn.BatchNorm2d(channels).double()
    g = torch.Generator().manual_seed(5)
    made.weight.data = torch.randn(channels, generator=g, dtype=torch.float64)
    made.bias.data = torch.randn(channels, generator=g, dtype=torch.float64)
    made.running_mean = torch.randn(channels, generator=g, dtype=torch.float64)
    made.running_var = torch.rand(channels, generator=g, dtype=torch.float64) + 0.5
    return made


def images(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, 3, 4, 5, generator=g, dtype=torch.float64) + 1


def oracle(x, made, sizes, momentum=0.1):
    """Each part by itself, and the statistics of all, in NumPy and out of the definitions."""
    weight, bias = (p.detach().numpy()[None, :, None, None] for p in (made.weight, made.bias))
    outputs, means, variances = [], [], []
    for part in np.split(x.numpy(), np.cumsum(sizes)[:-1]):
        mean, biased = part.mean((0, 2, 3)), part.var((0, 2, 3))
        values = part.size // part.shape[1]
        scaled = (part - mean[None, :, None, None]) / np.sqrt(biased + 1e-5)[None, :, None, None]
        outputs.append(weight * scaled + bias)
        means.append(mean)
        variances.append(biased * values / (values - 1))
    share = np.array(sizes)[:, None] / sum(sizes)
    running = [
        (1 - momentum) * before.numpy() + momentum * (share * np.array(found)).sum(0)
        for before, found in ((made.running_mean, means), (made.running_var, variances))
    ]
    return np.concatenate(outputs), *running


@pytest.mark.parametrize(
    ("count", "part", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (13, 4, [4, 4, 5]),
        (14, 4, [4, 4, 4, 2]),
        (3, 4, [3]),
        (4, 4, [4]),
        (5, 4, [5]),
        (6, 4, [4, 2]),
        (2, 1, [1, 1]),
    ],
)
def test_every_part_is_normalised_alone_and_all_are_one_update(count, part, sizes):
    assert part_sizes(count, part) == sizes
    plain = norm()
    x = images(count)
    expected = oracle(x, plain, sizes)
    ghost = GhostBatchNorm2d(plain, part)
    found = (ghost(x).detach(), ghost.running_mean, ghost.running_var)
    for ours, theirs in zip(found, expected, strict=True):
        # float64, values up to 20: measured 7e-15
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=7e-14)
    assert ghost.num_batches_tracked == 1


def test_gradients_are_those_of_parts_cut_by_hand():
    x, by_hand = images(11), norm()
    ghost = GhostBatchNorm2d(norm(), 4)
    g = torch.Generator().manual_seed(9)
    towards = torch.randn(x.shape, generator=g, dtype=torch.float64)
    one, other = (x.clone().requires_grad_() for _ in range(2))
    ghost(one).backward(towards)
    torch.cat([by_hand(piece) for piece in (other[:4], other[4:8], other[8:])]).backward(towards)
    for found, expected in (
        (one.grad, other.grad),
        (ghost.weight.grad, by_hand.weight.grad),
        (ghost.bias.grad, by_hand.bias.grad),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_gradients_are_those_of_finite_differences():
    ghost = GhostBatchNorm2d(norm(), 2)
    ghost.track_running_stats, ghost.running_mean, ghost.running_var = False, None, None
    assert torch.autograd.gradcheck(ghost, (images(5).requires_grad_(),))


def test_micro_batches_end_with_the_statistics_of_parts():
    x = images(12)
    parts = GhostBatchNorm2d(norm(), 4)
    parts(x)
    pieces = norm()
    for piece, momentum in zip(x.split(4), shared_momenta(0.1, [4, 4, 4]), strict=True):
        pieces.momentum = momentum
        pieces(piece)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(parts, name), getattr(pieces, name), rtol=0, atol=1e-14)


@pytest.mark.parametrize("sizes", [[1], [2, 2], [4, 4, 5], [1, 7], [3, 1, 2, 9]], ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.9])
def test_momenta_in_a_row_are_one_update_of_the_mean(sizes, momentum):
    rng = np.random.default_rng(0)
    found, statistics = 2.0, rng.normal(size=len(sizes))
    for a, s in zip(shared_momenta(momentum, sizes), statistics, strict=True):
        found = (1 - a) * found + a * s
    mean = np.average(statistics, weights=sizes)
    assert found == pytest.approx((1 - momentum) * 2.0 + momentum * mean, rel=1e-14)


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("part", [1, 2, 3, 8])
def test_parts_are_all_images_and_none_is_small(count, part):
    sizes = part_sizes(count, part)
    assert sum(sizes) == count
    assert all(2 * size >= part or size == count for size in sizes)
    assert all(2 * size < 3 * part or size == part + 1 for size in sizes)
    assert 1 not in sizes or part == 1 or count == 1
    assert sizes[:-1] == [part] * (len(sizes) - 1)


def test_a_network_keeps_its_names_and_its_evaluation():
    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.BatchNorm2d(3))).double()

    plain, ghost = made(), made()
    use_parts(ghost, 4)
    assert [type(module) for module in batch_norms(ghost)] == [GhostBatchNorm2d]
    assert list(ghost.state_dict()) == list(plain.state_dict())
    ghost.load_state_dict(plain.state_dict())
    plain.eval(), ghost.eval()
    torch.testing.assert_close(ghost(images(9)), plain(images(9)), rtol=0, atol=0)
    assert batch_norms(ghost)[0].num_batches_tracked == 0
    assert "part=4" in repr(ghost)


def test_parts_of_a_network_in_evaluation_stay_so():
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    use_parts(model, 4)
    assert not model[0].training
