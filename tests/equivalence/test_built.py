"""The algebra's integers against the module that is built and what it executes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnext import CATALOG, build, complexity, compose, spec
from resnext.families import DEEP_STEM
from resnext.spec import Paths, Spec

UNNAMED = {
    "unlike paths": compose((2, 1), [Paths.of("2x8d"), Paths.of("1x16d", (1, 5, 3, 1))], classes=7),
    "unlike paths, pre-activation": compose(
        (2, 1), [Paths.of("2x8d"), Paths.of("1x4d", (3, 3))], preactivation=True
    ),
    "normalised paths": compose((2, 1), "3x8d", path_norm=True),
    "deep stem, one channel": compose((2, 1), "4x8d", stem=DEEP_STEM, in_channels=1),
    "shortcut A": compose((2, 2), "4x8d", shortcut="A"),
    "shortcut C": compose((2, 2), "4x8d", shortcut="C"),
    "long paths": compose((2, 1), "4x8d", kernels=(1, 3, 3, 1)),
    "long paths, pre-activation": compose(
        (2, 1), "4x8d", kernels=(1, 3, 5, 3, 1), preactivation=True
    ),
}
NETWORKS = [pytest.param(entry.spec, id=entry.identifier) for entry in CATALOG] + [
    pytest.param(network, id=identifier) for identifier, network in UNNAMED.items()
]


def meta_network(network: Spec) -> nn.Module:
    grouped = network.homogeneous and not network.path_norm
    return build(network, form="grouped" if grouped else "split", device="meta")


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_of_every_layer_are_the_module_s(network: Spec):
    model = meta_network(network)
    modules = dict(model.named_modules())
    cost = complexity(network)
    for layer in cost.layers:
        if layer.operation != "sum":
            built = sum(p.numel() for p in modules[layer.name].parameters())
            assert built == layer.parameters, layer
    assert cost.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_multiply_adds_are_what_torch_counts(network: Spec):
    model = meta_network(network).eval()
    for resolution in (network.resolution, 97):
        image = torch.empty(1, network.in_channels, resolution, resolution, device="meta")
        with FlopCounterMode(display=False) as counter:
            model(image)
        assert counter.get_total_flops() == 2 * complexity(network, resolution).multiply_adds


@pytest.mark.parametrize("network", NETWORKS)
def test_activations_are_what_convolutions_put_out(network: Spec):
    model = meta_network(network).eval()
    outputs: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, output: outputs.append(output.numel()))
    model(torch.empty(1, network.in_channels, 64, 64, device="meta"))
    assert sum(outputs) == complexity(network, 64).activations


def kept_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """Storage that autograd holds after a forward pass, weights and running statistics apart."""
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(images)
    assert output.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize(
    "network",
    [
        spec("resnext50_32x4d"),
        spec("resnet18"),
        spec("preact_resnet50"),
        spec("resnext29_4x8d"),
        spec("wrn16_2"),
        spec("resnet50_noshortcut"),
        UNNAMED["shortcut A"],
        UNNAMED["shortcut C"],
        UNNAMED["deep stem, one channel"],
        UNNAMED["long paths"],
        UNNAMED["long paths, pre-activation"],
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3])
def test_training_memory_is_what_autograd_holds(network: Spec, batch: int):
    images = torch.randn(batch, network.in_channels, 64, 64)
    memory = complexity(network, 64).training_memory(batch)
    assert memory.activations == kept_bytes(build(network, seed=0), images)
