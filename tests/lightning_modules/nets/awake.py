"""Networks as they are after a few steps."""

import torch


def awake(net):
    """The net with its zeroed weights made small numbers, as they are after a few steps."""
    for p in net.parameters():
        if (p == 0).all():
            torch.nn.init.normal_(p, std=0.1)
    return net
