import subprocess
import sys

import torch

import resnext
from resnext.training.optimizer import sgd
from resnext.training.recipe import recipe


def names(model, group):
    found = {id(p): name for name, p in model.named_parameters()}
    return {found[id(p)] for p in group["params"]}


def made(name):
    model = resnext.build("ResNeXt-11 (2x2d, CIFAR)", form="grouped")
    return model, sgd(model, recipe(name)).param_groups


def test_the_paper_decays_everything_at_one_rate():
    model, (group,) = made("imagenet-100")
    assert names(model, group) == {name for name, _ in model.named_parameters()}
    assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (1e-4, 0.9, True)
    assert (group["factor"], group["dampening"]) == (1.0, 0)


def test_the_modern_recipe_decays_kernels_and_matrices_alone():
    model, groups = made("modern")
    decays = {group["weight_decay"]: names(model, group) for group in groups}
    assert decays.keys() == {2e-5, 0.0}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert decays[2e-5] == matrices
    assert "fc.weight" in matrices
    assert all("bn" in n or "downsample.1" in n or n == "fc.bias" for n in decays[0.0])
    assert len(groups) == 2


def test_the_new_head_learns_ten_times_as_fast():
    model, groups = made("finetune")
    factors = {group["factor"]: names(model, group) for group in groups}
    assert factors.keys() == {1.0, 10.0}
    assert factors[10.0] == {"fc.weight", "fc.bias"}


def test_the_head_is_the_last_linear_layer():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    groups = sgd(model, recipe("finetune")).param_groups
    factors = {group["factor"]: names(model, group) for group in groups}
    assert factors == {1.0: {"0.weight", "0.bias"}, 10.0: {"1.weight", "1.bias"}}


def test_momentum_begins_at_zero_which_is_what_torch_makes_of_it():
    def stepped(begun):
        torch.manual_seed(0)
        p = torch.nn.Linear(3, 2)
        plan = recipe("cifar")
        ours = sgd(p, plan)
        torchs = torch.optim.SGD(
            p.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        optimizer = ours if begun else torchs
        for _ in range(3):
            optimizer.zero_grad()
            p(torch.ones(1, 3)).sum().backward()
            optimizer.step()
        return p.weight.detach()

    assert stepped(begun=True).equal(stepped(begun=False))


def test_an_update_does_not_import_the_compiler():
    program = (
        "import sys, torch; from resnext.training.optimizer import PromptSGD\n"
        "p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)\n"
        "PromptSGD([p], lr=1.0, momentum=0.9).step(); print(p.tolist())\n"
        "print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[0.0, 0.0]\nFalse\n"
