"""Recorded calls: within an update, networks and losses whose backward pass is written by hand stay out of autograd's graph.

The result of a recorded call is a leaf, from which autograd's graph starts. `backward` runs autograd down to the leaves, and then each
call's own backward pass, the last call first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Variable

from ray_jobs.rl.fast.vmapped import is_batched

Pull = Callable[[Tensor], None]
"""A backward pass: it gets the gradient by a call's result, and adds to the gradients by what the result was computed from."""


class Call(NamedTuple):
    """A recorded call."""

    out: Tensor
    """The result: a leaf with a gradient."""
    pull: Pull


class Recording(threading.local):
    """What one thread records; learners of one process may be threads."""

    calls: list[Call] | None = None
    """Within `recorded_calls`: the calls whose backward pass is still to come, in order; else None."""


_recording = Recording()


class recorded_calls:
    """Record calls of networks (`layers.fused`), and losses with a backward pass of their own (`networks.regression`).

    A recorded network has parameters with a gradient, as an optimiser's have, and an input without; other networks stay in the graph.
    Within it, losses must be differentiated by `backward`, each result once.

    Gain: an update of DQN (256 units, batch 64) takes a quarter less time, of PPO (64 units, batch 512) a tenth, on a busy machine.
    """

    def __enter__(self) -> None:
        _recording.calls = []

    def __exit__(self, *error: object) -> None:
        _recording.calls = None


def is_recording() -> bool:
    """Whether this thread is within `recorded_calls`."""
    return _recording.calls is not None


def record(out: Tensor, pull: Pull) -> Tensor:
    """Record a call with this result, which is returned as a leaf."""
    assert _recording.calls is not None
    _recording.calls.append(Call(out.requires_grad_(), pull))
    return out


def run_backward(loss: Tensor) -> None:
    """loss.backward() without the Python around autograd's engine (`torch.autograd.backward`).

    Gain: 30 us for each gradient step, of the 900 us of an update of DQN (256 units, batch 64). Seen: torch 2.13;
    test_recorded.py fails when the engine's interface changes.
    """
    one = torch.ones_like(loss)
    Variable._execution_engine.run_backward(
        (loss,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def backward(loss: Tensor) -> None:
    """Add the gradient of a scalar loss to its parameters', through recorded calls too."""
    if loss.is_leaf and loss.requires_grad:  # a recorded call's result itself: there is no graph
        loss.grad = torch.ones_like(loss)
    else:
        run_backward(loss)
    if not (calls := _recording.calls):
        return
    with torch.no_grad():
        for call in reversed(calls):
            if call.out.grad is not None:
                call.pull(call.out.grad)
    calls[:] = [call for call in calls if call.out.grad is None]


def starts_graph(x: Tensor) -> bool:
    """Whether x is the result of a recorded call of one network, not of several seeds': what is computed from it may be recorded too."""
    return _recording.calls is not None and x.is_leaf and x.requires_grad and not is_batched(x)
