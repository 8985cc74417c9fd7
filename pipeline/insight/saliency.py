"""Where a network looks: saliency maps."""

import torch
from torch import Tensor, nn

from tinsmith.pipeline.training.heads import heads_of

STEPS, SPREAD = 16, 0.1


def saliency(network: nn.Module, x: Tensor, y: Tensor, seed: int, task: int = 0) -> Tensor:
    """Maps [N, H, W] of images [N, C, H, W]: |mean gradient * x|, summed over the channels, each
    brought to the maximum 1.

    The gradient is that of the logit of class y, of the task at this place, averaged over STEPS
    copies of the image under noise of the standard deviation SPREAD times the image's range
    (SmoothGrad, Smilkov et al. 2017; times the input as in Shrikumar et al. 2016).
    """
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    reach = (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)) * SPREAD
    total = torch.zeros_like(x)
    for _ in range(STEPS):
        noisy = x + reach * torch.randn(x.shape, generator=generator)
        noisy.requires_grad_(True)
        logit = heads_of(network(noisy))[task].gather(1, y[:, None]).sum()
        total += torch.autograd.grad(logit, noisy)[0]
    maps = (total / STEPS * x).abs().sum(1)
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)
