"""Games by the names that settings have for them."""

from __future__ import annotations

import importlib
from typing import Any

from ray_jobs.self_play.games.game import Game
from ray_jobs.self_play.games.go import Go, by_name
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE

GAMES: dict[str, Game[Any]] = {game.name: game for game in (TIC_TAC_TOE, CONNECT_4, Go(5, 24.5, 2), Go(9), Go(19))}
"""Of Go there are more: see `go.by_name`."""


def named(name: str) -> Game[Any]:
    """The game of a name, of Go with any lines and komi (go7-9.5), or the one that 'package.module:function' returns.

    Raises:
        ValueError: there is none; one sentence.
    """
    if name in GAMES:
        return GAMES[name]
    if go := by_name(name):
        return go
    allowed = f"take {', '.join(GAMES)}, or 'package.module:function' that returns a game"
    if not name:
        raise ValueError(f"Self-play needs a game, --env: {allowed}.")
    module, _, function = name.partition(":")
    if not function:
        raise ValueError(f"There is no game {name}: {allowed}.")
    try:
        found = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"There is no game {name} ({error}): {allowed}.") from None
    if missing := [part for part in ("moves", "planes", "symmetries", "begin", "outcome") if not hasattr(found, part)]:
        raise ValueError(
            f"What {name} returns is no game, it has no '{missing[0]}': see ray_jobs/self_play/games/game.py."
        )
    return found
