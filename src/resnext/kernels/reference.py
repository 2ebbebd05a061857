"""What every operation means, in plain torch and float64: the truth that kernels are held against.

Maps are N x C x H x W, weights C x G x 3 x 3 with G channels per group; padding is 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_CHANNEL = (0, 2, 3)


def conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """The grouped 3x3."""
    x, weight = x.double(), weight.double()
    return F.conv2d(x, weight, stride=stride, padding=1, groups=len(weight) // weight.shape[1])


def gradients(x: Tensor, weight: Tensor, dy: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Of x and of the weights, for a gradient of the output."""
    x, weight = (t.detach().double().requires_grad_() for t in (x, weight))
    with torch.enable_grad():
        y = conv(x, weight, stride)
    dx, dw = torch.autograd.grad(y, (x, weight), dy.double())
    return dx, dw


def normalise(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, part: int) -> Tensor:
    """Batch normalisation over `part` images at a time, with the statistics of the batch."""
    parts = [
        F.batch_norm(piece, None, None, gamma, beta, training=True, eps=eps)
        for piece in torch.split(x, part)
    ]
    return torch.cat(parts)


def between_norms(
    x: Tensor,
    gamma1: Tensor,
    beta1: Tensor,
    weight: Tensor,
    gamma2: Tensor,
    beta2: Tensor,
    *,
    stride: int = 1,
    eps: float = 1e-5,
    part: int | None = None,
) -> Tensor:
    """relu(norm2(conv(relu(norm1(x))))), with gradients by autograd; dtype of the arguments."""
    part = part or len(x)
    z = F.relu(normalise(x, gamma1, beta1, eps, part))
    groups = len(weight) // weight.shape[1]
    y = F.conv2d(z, weight, stride=stride, padding=1, groups=groups)
    return F.relu(normalise(y, gamma2, beta2, eps, part))


def error(found: Tensor, true: Tensor) -> float:
    """||found - true|| / ||true||."""
    found, true = found.detach().double(), true.detach().double()
    return float((found - true).norm() / true.norm())


BOUNDS = {torch.bfloat16: 4e-3, torch.float16: 4e-4, torch.float32: 1e-6}
"""Of `error`, where operands are exact and sums are float32: the rounding of the result."""
