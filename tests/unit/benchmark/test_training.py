import pytest
import torch
from torch import Tensor, nn

import resnext
from resnext.benchmark import steps
from resnext.benchmark.roofline import ASSUMED, step_floor
from resnext.benchmark.steps import Setting
from resnext.benchmark.training import Ready, Row, benchmark_training, overhead
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
    images, labels = steps.batch_of(small, 0)

    def trained(model: nn.Module, step: steps.Step) -> dict[str, Tensor]:
        for _ in range(3):
            step()
        return dict(model.state_dict())

    ours = resnext.build(small.network, seed=0)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    after = trained(ours, steps.our_step(small, "eager", ours, images, labels))
    peers = steps.peers(small.network)
    assert peers.keys() == {"torchvision", "timm"}
    for name, make in peers.items():
        model = make()
        model.load_state_dict(before)
        peer = steps.Peer(small, "eager", model)
        loop = steps.timm_step if name == "timm" else steps.torchvision_step
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


def test_another_network_is_measured_in_the_same_slices():
    other = resnext.spec("resnet18")
    found = benchmark_training(
        setting("resnext11_4x8d", backends=("framework", "merged")),
        modes=["channels-last"],
        beside=[other],
        slices=1,
        ceiling=ASSUMED,
    )
    rows = [one for one in found if isinstance(one, Row)]
    small, large = resnext.name(resnext.spec("resnext11_4x8d")), resnext.name(other)
    assert [(row.network, row.method) for row in rows] == [
        (small, "resnext"),
        (small, "resnext, merged"),
        (small, "resnext, normalised by 2"),
        (small, "resnext, micro-batches of 2"),
        (small, "torchvision's loop, our network"),
        (large, "resnext"),
        (large, "resnext, merged"),
        (large, "torchvision"),
        (large, "timm"),
    ]
    peers = [row for row in rows if not row.method.startswith("resnext")]
    for network in (small, large):  # each against its own
        assert 1 in [row.ratio for row in peers if row.network == network]
    best = {n: max(r.images_per_second for r in rows if r.network == n) for n in (small, large)}
    assert overhead(rows) == {large: best[large] / best[small]}
    assert all(row.floor is None for row in rows)  # neither is of bottlenecks behind a pool


def test_a_step_stands_beside_its_floor():
    found = benchmark_training(
        setting("resnext50_32x4d"), modes=["channels-last"], slices=1, ceiling=ASSUMED
    )
    rows = [one for one in found if isinstance(one, Row)]
    seconds = step_floor(resnext.spec("resnext50_32x4d"), 4, 32, ASSUMED, 4)
    for row in rows:
        assert row.floor == pytest.approx(1000 * seconds)
        assert row.over_floor == pytest.approx(4 / row.images_per_second / seconds)


# milliseconds of a step of 256 images of 224 pixels in half precision, counted kernel by kernel
# before this function was written
@pytest.mark.parametrize(
    ("network", "milliseconds"),
    [
        ("ResNet-50", 24.2),
        ("ResNeXt-50 (32x4d)", 29.7),
        ("ResNet-101", 38.5),
        ("ResNeXt-101 (32x4d)", 46.8),
        ("ResNeXt-101 (64x4d)", 75.9),
    ],
)
def test_floors_of_the_paper_s_networks(network, milliseconds):
    found = step_floor(resnext.spec(network), 256, 224, ASSUMED)
    assert 1000 * found == pytest.approx(milliseconds, abs=0.05)


@pytest.mark.parametrize("network", ["resnet18", "resnext29_8x64d", "preact_resnet200"])
def test_other_networks_have_no_floor_here(network):
    assert step_floor(resnext.spec(network), 2, 64, ASSUMED) is None


@pytest.mark.parametrize(
    ("changes", "modes", "message"),
    [
        ({}, ["cuda-graphs"], "expected a GPU for cuda-graphs, found cpu"),
        ({"backends": ("triton",)}, ["eager"], "a GPU and triton for backend triton, found cpu"),
    ],
)
def test_what_the_device_cannot_do_is_refused_before_anything_runs(changes, modes, message):
    with pytest.raises(UsageError, match=message):
        next(iter(benchmark_training(setting("resnet18", **changes), modes=modes)))
