"""Start a model from the weights of other runs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

MODEL = "model"
"""The name of the model itself among the parts of `load_parts`."""


GENERATOR = "generator"
"""The part of an adversarial model's run that other models start from."""


def load_parts(model: nn.Module, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Load weights into parts of a model: all of them, or none where one does not fit.

    Args:
        parts: path of a submodule ('net', 'teacher', 'prior.net'; 'model' is the model itself) -> its state dict, usually the
            averaged weights of a finished run. Of an adversarial model's weights a part without such a name takes the generator's.

    Raises:
        ValueError: there is no such part, or its names or shapes are not those of the state dict.
    """
    found = {name: _part(model, name) for name in parts}
    parts = {name: _handed(found[name], weights) for name, weights in parts.items()}
    for name, weights in parts.items():
        _check(name, found[name], weights)
    for name, weights in parts.items():
        found[name].load_state_dict(dict(weights), strict=True)


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule("" if name == MODEL else name)
    except AttributeError:
        has = ", ".join([MODEL, *(child for child, _ in model.named_children())])
        raise ValueError(
            f"{type(model).__name__} has no part '{name}' to start from other weights; it has {has}."
        ) from None


def _handed(part: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights that a run hands on to a part: of an adversarial model those of its generator."""
    start = f"{GENERATOR}."
    if hasattr(part, GENERATOR) or not any(name.startswith(start) for name in weights):
        return weights
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def _check(name: str, part: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = {k: tuple(v.shape) for k, v in part.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in weights.items()}
    wrong = [f"'{k}' is missing" for k in own.keys() - given.keys()]
    wrong += [f"'{k}' is unknown" for k in given.keys() - own.keys()]
    wrong += [f"'{k}' has shape {given[k]}, not {v}" for k, v in own.items() if given.get(k, v) != v]
    if wrong:
        more = f", and {len(wrong) - 3} more differ" if len(wrong) > 3 else ""
        raise ValueError(f"The weights for '{name}' do not fit: {', '.join(sorted(wrong)[:3])}{more}.")
