"""MDPs in files of arrays, and checks that arrays are an MDP."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ray_jobs.tabular.mdp import CERTAIN, MDP, Array, Outcomes


def read(path: str, gamma: float) -> MDP:
    """The MDP in a file of numpy's arrays (`np.savez`), for S states and A actions.

    transition [S, A, S]: probabilities of the next state; each row sums to 1.
    reward [S, A], or [S, A, S] with a reward for each next state.
    start [S]: probabilities of the first state; without it all states that are not terminal have the same.
    terminal [S]: where an episode ends on arrival; what these states have in the other arrays is ignored. Without it no episode ends.

    Raises:
        ValueError: the file cannot be read, or its arrays are no MDP.
    """
    arrays = _arrays(path)
    if lacking := [name for name in ("transition", "reward") if name not in arrays]:
        raise ValueError(f"{path} needs the arrays transition and reward; it lacks {' and '.join(lacking)}.")
    whole, reward, shape = arrays["transition"], arrays["reward"], arrays["transition"].shape
    if len(shape) != 3 or shape[0] != shape[2] or reward.shape not in (shape, shape[:2]):
        raise ValueError(
            f"{path} must have a transition [S, A, S] and a reward [S, A] or [S, A, S], "
            f"not {list(shape)} and {list(reward.shape)}."
        )
    ends = arrays.get("terminal", np.zeros(shape[0])).astype(bool)
    start = arrays.get("start", ~ends / max((~ends).sum(), 1))
    if ends.shape != shape[:1] or start.shape != shape[:1] or start[ends].any():
        raise ValueError(
            f"{path}: start and terminal must have {shape[0]} states each, and start must be 0 where terminal is true."
        )
    _check_rows(np.where(ends[:, None, None], np.eye(shape[0])[:, None], whole), path)
    return checked(_ending(whole, reward, ends, start, gamma), path)


def _arrays(path: str) -> dict[str, Array]:
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            return {name: np.asarray(file[name], np.float64) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"The arrays {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _ending(whole: Array, reward: Array, ends: Array, start: Array, gamma: float) -> MDP:
    """The MDP of whole transitions [S, A, S] and rewards [S, A] or [S, A, S]; its episodes end on arrival in the states `ends` [S]."""
    of_each = np.where(ends[:, None, None], 0.0, reward if reward.ndim == 3 else reward[..., None])
    probability = np.where(ends[:, None, None], np.eye(len(ends))[:, None], whole)
    after = np.where(ends, len(ends), np.arange(len(ends)))
    outcomes = Outcomes(probability, *map(np.copy, np.broadcast_arrays(after, of_each, probability)[:2]))
    return MDP(np.where(ends, 0.0, probability), (probability * outcomes.reward).sum(-1), start, gamma, outcomes)


def checked(mdp: MDP, name: str) -> MDP:
    """The MDP, if it is one.

    Raises:
        ValueError: probabilities are negative or sum to more than 1, those of the start not to 1, or rewards are not finite.
    """
    if not np.isfinite(mdp.reward).all():
        raise ValueError(f"{name}: every reward must be a finite number.")
    if (mdp.start < 0).any() or not abs(mdp.start.sum() - 1) <= CERTAIN:
        raise ValueError(
            f"{name}: the probabilities of the start sum to {mdp.start.sum():.6g}; they must be at least 0 and sum to 1."
        )
    _check_rows(mdp.transition, name, ending=True)
    return mdp


def _check_rows(transition: Array, name: str, *, ending: bool = False) -> None:
    """Refuse transitions [S, A, S] with a negative entry, or with a row that does not sum to 1; if `ending`, to 1 or less."""
    total = transition.sum(-1)
    far = ~((transition >= 0).all(-1) & (total <= 1 + CERTAIN) & (ending | (total >= 1 - CERTAIN)))
    if far.any():
        s, a = np.argwhere(far)[0]
        allowed = "1 or less, where the rest ends the episode" if ending else "1"
        raise ValueError(
            f"{name}: the probabilities of state {s}, action {a} sum to {total[s, a]:.6g}; "
            f"they must be at least 0 and sum to {allowed}."
        )
