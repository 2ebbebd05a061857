"""What tests ask of the operation where kernels are interpreted; see `interpreted`."""

import torch

from interpreted import drawn
from resnext.kernels import grouped_conv2d, reference


def _given():
    x = drawn((2, 32, 5, 5)).to(memory_format=torch.channels_last).requires_grad_()
    return x, drawn((32, 4, 3, 3), scale=0.2, seed=1).requires_grad_()


def of_no_images():
    """Size of the result, and the largest gradient of the weights."""
    _, weight = _given()
    y = grouped_conv2d(torch.empty(0, 32, 5, 5).requires_grad_(), weight)
    y.sum().backward()
    return tuple(y.shape), float(weight.grad.abs().max())


def not_numbers(where):
    """How many values of the fused operation should be no numbers, and how many of them are some.

    One operand's value is none: of the map, or of the weights, which only the second norm sees.
    """
    from resnext.kernels.batch_norm import between_norms

    given = [tensor.detach() for tensor in _normed()]
    given[where][1, 1, 1, 1] = torch.nan
    found = between_norms(*given, 1, 1e-5, 1e-5, 2)[0]
    lost = reference.between_norms(*given).isnan()
    return int(lost.sum()), int((lost & ~found.isnan()).sum())


def variance_of_constants():
    """The least variance of a second norm that sees constants, and how many results are none."""
    from resnext.kernels.batch_norm import between_norms

    ones, zeros = torch.ones(32), torch.zeros(32)
    weight = drawn((32, 4, 3, 3), seed=1)
    given = (drawn((7, 32, 1, 1)), zeros, 30 * ones, weight, ones, zeros)
    z, _, _, _, _, variance = between_norms(*given, 1, 1e-5, 1e-5, 7)
    return float(variance.min()), int(z.isnan().sum())


def of_a_network_in_half_precision():
    """Types of what a fused network gives, and of the statistics that it keeps."""
    import resnext

    network = resnext.build("ResNeXt-11 (8x4d, CIFAR)", seed=0, backend="fused").half()
    result = network(drawn((4, 3, 8, 8), torch.float16))
    kept = {buffer.dtype for buffer in network.buffers() if buffer.is_floating_point()}
    return result.dtype, kept


def under_autocast():
    """Types: of the result, of both gradients."""
    x, weight = _given()
    with torch.autocast("cpu", torch.bfloat16):
        y = grouped_conv2d(x, weight)
    y.float().sum().backward()
    return y.dtype, x.grad.dtype, weight.grad.dtype


def compiled():
    """The largest difference to eager, over result and gradients; names of ours in the graphs."""
    return _compared(lambda x, w: torch.relu(grouped_conv2d(torch.relu(x), w)).sum(), _given)


def compiled_norms():
    """The same of the fused operation."""
    from resnext.kernels.batch_norm import between_norms

    return _compared(lambda *given: between_norms(*given, 1, 1e-5, 1e-5, 4)[0].sum(), _normed)


def _normed():
    x, weight = _given()
    ones = [torch.ones(32).requires_grad_() for _ in range(2)]
    zeros = [torch.zeros(32).requires_grad_() for _ in range(2)]
    return x, ones[0], zeros[0], weight, ones[1], zeros[1]


def checked_norms():
    """What torch says of the fused operation."""
    import warnings

    from resnext.kernels.batch_norm import between_norms

    given = (*_normed(), 2, 1e-5, 1e-5, 4)
    with warnings.catch_warnings(action="ignore"):
        found = torch.library.opcheck(between_norms, given)
    return set(found.values())


def _compared(function, make):
    from torch._functorch.aot_autograd import aot_module_simplified

    names = set()

    def note(graph, inputs):
        names.update(
            node.target.name().split("::")[1]
            for node in graph.graph.nodes
            if "resnext" in str(node.target)
        )
        return graph.forward

    def compiler(graph, inputs):
        return aot_module_simplified(graph, inputs, fw_compiler=note, bw_compiler=note)

    found = []
    for call in (function, torch.compile(function, fullgraph=True, backend=compiler)):
        given = make()
        loss = call(*given)
        loss.backward()
        found.append((loss.detach()[None], *(tensor.grad.flatten() for tensor in given)))
    eager, other = (torch.cat(values) for values in found)
    return float((eager - other).abs().max() / eager.abs().max()), names


def launches():
    """Kernels of one step, in order."""
    from unittest.mock import patch

    from resnext.kernels import launching

    names = []

    class Noted:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            names.append(self.kernel.fn.__name__)
            return self.kernel[grid]

    x, weight = _given()
    kernels = ("forward", "weight_gradient")
    with (
        patch.object(launching, kernels[0], Noted(launching.forward)),
        patch.object(launching, kernels[1], Noted(launching.weight_gradient)),
    ):
        grouped_conv2d(x, weight).sum().backward()
    return names


def wrong_tap():
    """The error where one of the nine taps is read in another's place."""
    x, weight = _given()
    wrong = weight.detach().clone()
    wrong[:, :, 0, 0] = weight.detach()[:, :, 0, 1]
    return reference.error(grouped_conv2d(x.detach(), wrong), reference.conv(x, weight))
