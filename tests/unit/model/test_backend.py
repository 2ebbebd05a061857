"""What computes the grouped convolutions changes neither the network nor its state."""

import copy
import socket

import pytest
import torch
from torch import nn

import networks
import resnext
from resnext.errors import SpecError
from resnext.kernels import KernelFallbackWarning, grouped_conv
from resnext.model import backend as backends
from resnext.model.backend import GroupedConv2d, use_backend
from resnext.training.batch_norm import GhostBatchNorm2d

SMALL = "ResNeXt-11 (8x4d, CIFAR)"


def grouped(model):
    return [module for module in model.modules() if isinstance(module, GroupedConv2d)]


def test_the_framework_s_network_is_made_of_the_framework_s_modules():
    model = resnext.build(SMALL, seed=0)
    assert model.backend == "framework"
    assert not grouped(model)


@pytest.mark.parametrize("backend", ["merged", "triton", "fused", "auto"])
def test_every_grouped_convolution_is_named_and_the_state_is_the_same(backend):
    model, plain = resnext.build(SMALL, seed=0, backend=backend), resnext.build(SMALL, seed=0)
    assert len(grouped(model)) == sum(
        isinstance(module, nn.Conv2d) and module.groups > 1 for module in plain.modules()
    )
    assert f"backend='{backend}'" in str(model)
    state, other = model.state_dict(), plain.state_dict()
    assert list(state) == list(other)
    assert all(state[key].equal(other[key]) for key in state)


def test_merged_groups_learn_the_same():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    found = []
    for backend in ("framework", "merged"):
        model = resnext.build(SMALL, seed=0, backend=backend, dtype=torch.float64).train()
        loss = model(images).square().sum()
        loss.backward()
        gradients = [p.grad.flatten() for p in model.parameters()]
        found.append(torch.cat([loss.detach()[None], *gradients]))
    # of sums in another order: measured 2e-14 of the largest value
    torch.testing.assert_close(*found, rtol=0, atol=2e-13 * float(found[0].abs().max()))


@pytest.mark.parametrize("form", ["concat", "split"])
def test_forms_without_groups_have_nothing_to_name(form):
    model = resnext.build("ResNeXt-11 (4x4d, CIFAR)", form=form, backend="merged")
    assert not grouped(model)


def test_conversion_keeps_the_backend():
    model = resnext.build(SMALL, seed=0, backend="merged")
    back = resnext.convert(resnext.convert(model, "split"), "grouped")
    assert back.backend == "merged"
    assert len(grouped(back)) == len(grouped(model))


def test_a_copy_and_a_network_without_values_keep_it():
    assert grouped(copy.deepcopy(resnext.build(SMALL, backend="merged")))
    assert grouped(resnext.build(SMALL, backend="merged", device="meta"))


def test_there_is_no_other_backend():
    with pytest.raises(SpecError, match="framework, merged, triton, fused, auto, found 'cudnn'"):
        resnext.build(SMALL, backend="cudnn")


def test_a_network_says_at_once_what_no_kernel_will_take(monkeypatch):
    monkeypatch.setattr(grouped_conv, "_SAID", set())
    with pytest.warns(KernelFallbackWarning, match="found 24 channels per group of 96"):
        resnext.build(resnext.compose((1,), "4x24d"), backend="triton", device="meta")


def test_parts_of_other_networks_can_be_named_too():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.Conv2d(8, 8, 1))
    weight = model[0].weight
    use_backend(model, "merged")
    assert model[0].weight is weight
    assert type(model[1]) is nn.Conv2d


@pytest.mark.parametrize("bn_batch", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_fused_blocks_learn_what_the_framework_does(interpret, bn_batch):
    """Weights, running statistics and counters behind a step, in parts of a batch or whole."""
    options = {"images": 8, "bn_batch": bn_batch, "steps": 1}
    ours, calls = interpret(networks.trained, "fused", **options)
    theirs, none = interpret(networks.trained, "framework", **options)
    assert calls == 3  # of three blocks
    assert none == 0
    for name, tensor in theirs.items():
        # rounding of float32, of which ReLUs turn over: measured 2e-6 of the largest value
        bound = 2e-5 * float(tensor.abs().max())
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=bound, msg=name)


def test_blocks_are_fused_in_training_only_and_over_equal_parts(monkeypatch):
    monkeypatch.setattr("resnext.model.backend.fusible", lambda *_: True)
    block = resnext.build(SMALL, seed=0, backend="fused").layer1[0]
    x = torch.zeros(8, 32, 4, 4)

    def fuses(images=8, before=None):
        return backends.fuses(block.conv2, before or block.bn1, block.bn2, x[:images])

    assert fuses()
    assert not fuses(before=nn.BatchNorm2d(32, affine=False))
    assert not fuses(before=nn.BatchNorm2d(32, track_running_stats=False))
    assert not fuses(before=nn.BatchNorm2d(32, momentum=None))
    assert not fuses(before=nn.SyncBatchNorm(32))
    assert not fuses(before=GhostBatchNorm2d(block.bn1, 4))  # the other takes all at once
    block.bn1, block.bn2 = GhostBatchNorm2d(block.bn1, 4), GhostBatchNorm2d(block.bn2, 4)
    assert fuses(8)
    assert fuses(4)
    assert not fuses(7)  # parts of 4 and 3
    block.eval()
    assert not fuses()
    other = resnext.build(SMALL, seed=0, backend="triton").layer1[0]
    assert not backends.fuses(other.conv2, other.bn1, other.bn2, x)


def test_kernels_learn_what_the_framework_does(interpret):
    """Two steps of a small network, kernels interpreted, beside the framework's."""
    ours, theirs = interpret(networks.losses, "triton"), interpret(networks.losses, "framework")
    assert ours[1] < ours[0]
    # float32 sums in another order: measured 1.2e-7
    torch.testing.assert_close(ours, theirs, rtol=1.2e-6, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["triton", "fused"])
def test_a_network_compiles_into_one_graph_under_autocast(interpret, backend):
    assert interpret(networks.compiled, backend) == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["triton", "fused"])
def test_a_network_with_kernels_is_exported_and_runs_under_ddp(interpret, backend):
    assert interpret(networks.exported, backend) == 3
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    assert interpret(networks.distributed, backend, port) == 0.0
