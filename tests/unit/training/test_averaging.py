import pytest
import torch
from torch import nn

from resnext.training.averaging import RunningMean

GOOD = torch.tensor(data=False)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def test_it_is_the_recurrence_of_its_definition():
    live = model()
    mean = RunningMean(live, 0.6)
    expected = {k: v.clone() for k, v in live.state_dict().items()}
    for updates in range(1, 20):
        for tensor in live.state_dict().values():
            if tensor.is_floating_point():
                tensor += torch.randn(tensor.shape, dtype=tensor.dtype)
        mean.update(updates, GOOD)
        keep = min(0.6, (1 + updates) / (10 + updates))
        for name, tensor in live.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = keep * expected[name] + (1 - keep) * tensor
    for name, tensor in mean.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-14)


def test_it_is_a_network_of_its_own_that_does_not_learn():
    live = model()
    mean = RunningMean(live, 0.5).module
    assert not mean.training
    assert live.training
    assert not any(p.requires_grad for p in mean.parameters())
    live[0].weight.data.fill_(9)
    assert (mean[0].weight != 9).all()


@pytest.mark.parametrize("skip", [False, True])
def test_what_is_skipped_stays_and_the_rest_is_the_same(skip):
    live, same = model(), model()
    one, other = RunningMean(live, 0.5), RunningMean(same, 0.5)
    for each in (live, same):
        each[0].weight.data += 1
    before = one.module[0].weight.clone()
    one.update(3, torch.tensor(skip))
    other.update(3, GOOD)
    expected = before if skip else other.module[0].weight
    assert one.module[0].weight.equal(expected)
