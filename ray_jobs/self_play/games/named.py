"""Games by the names that settings have for them."""

from __future__ import annotations

import importlib
from typing import Any

from ray_jobs.self_play.games.game import Game
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE

GAMES: dict[str, Game[Any]] = {game.name: game for game in (TIC_TAC_TOE, CONNECT_4)}


def named(name: str) -> Game[Any]:
    """The game of a name, or the one that 'package.module:function' returns.

    Raises:
        ValueError: there is none; one sentence.
    """
    if name in GAMES:
        return GAMES[name]
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
