import pytest
import torch
from torch import Tensor, nn

import resnext
from resnext.benchmark import training
from resnext.benchmark.training import Ready, Row, Setting, benchmark_training
from resnext.errors import UsageError


@pytest.fixture(autouse=True)
def same_threads():
    """The benchmark sets the process's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def setting(network: str, batch: int = 4, resolution: int = 32, **changes) -> Setting:
    return Setting(
        network=resnext.spec(network),
        batch=batch,
        resolution=resolution,
        device=torch.device("cpu"),
        **changes,
    )


def test_a_network_of_torchvision_s_and_timm_s_is_measured_beside_both():
    found = list(benchmark_training(setting("resnet18"), modes=["channels-last"], slices=3))
    ready = [one for one in found if isinstance(one, Ready)]
    rows = [one for one in found if isinstance(one, Row)]
    assert [row.method for row in rows] == [
        "resnext",
        "resnext, normalised by 2",
        "resnext, micro-batches of 2",
        "torchvision",
        "timm",
    ]
    assert [(one.mode, one.method) for one in ready] == [(row.mode, row.method) for row in rows]
    for row in rows:
        assert 0 < row.least <= row.images_per_second <= row.most
        assert row.slices == 3
    assert 1 in [row.ratio for row in rows if row.method in ("torchvision", "timm")]


def test_a_network_that_only_we_have_is_measured_in_torchvision_s_loop():
    found = benchmark_training(setting("resnext11_4x8d"), modes=["eager"], slices=1)
    rows = [one for one in found if isinstance(one, Row)]
    assert [row.method for row in rows] == ["resnext", "torchvision's loop, our network"]


def test_all_methods_train_the_same_network_alike():
    small = setting("resnet18", resolution=64)
    images, labels = training._batch(small, 0)

    def trained(model: nn.Module, step: training.Step) -> dict[str, Tensor]:
        for _ in range(3):
            step()
        return dict(model.state_dict())

    ours = resnext.build(small.network, seed=0)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    after = trained(ours, training._our_step(small, "eager", ours, images, labels, None, None))
    peers = training._peers(small.network)
    assert peers.keys() == {"torchvision", "timm"}
    for name, make in peers.items():
        model = make()
        model.load_state_dict(before)
        peer = training._Peer(small, "eager", model)
        loop = training._timm_step if name == "timm" else training._torchvision_step
        # they sum losses and gradients in another order: rounding alone may differ
        torch.testing.assert_close(
            trained(model, loop(peer, images, labels)), after, rtol=1e-5, atol=1e-5
        )
    moved = (after["fc.weight"] - before["fc.weight"]).abs().max()
    assert moved > 1e-4


def test_parts_fit_into_the_batch():
    with pytest.raises(UsageError, match="parts of 1 to 4 images, found 5"):
        list(benchmark_training(setting("resnet18"), parts=5))


def test_bf16_is_measured_too():
    found = benchmark_training(
        setting("resnext11_4x8d", precision="bf16"), modes=["eager"], slices=1
    )
    assert all(row.images_per_second > 0 for row in found if isinstance(row, Row))
