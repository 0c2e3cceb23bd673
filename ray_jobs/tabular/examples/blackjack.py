"""Blackjack with an infinite deck as a table: the game that Gymnasium's Blackjack-v1 plays, without its table.

Source: Sutton & Barto 2018, example 5.1.
Differs: an ace and a ten in the first two cards are states of their own. `Blackjack-v1` observes 21 with an ace there, as for other
hands, though with `sab` they win more often.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ray_jobs.tabular.mdp import MDP, Array, Outcomes

CARDS = {card: 4 / 13 if card == 10 else 1 / 13 for card in range(1, 11)}
"""Probability of each value of a card; 1 is an ace."""
STICK, HIT = 0, 1
NATURAL = (21, True, True)
"""The hand of an ace and a ten in two cards."""
Hand = tuple[int, bool, bool]
"""The sum, whether an ace in it counts 11, and whether it is an ace and a ten in two cards."""
HANDS: list[Hand] = [
    *((total, False, False) for total in range(4, 22)),
    *((total, True, False) for total in range(12, 22)),
    NATURAL,
]


def blackjack(
    sab: bool = True, total: int = 0, ace: bool = False, dealer: int = 0, gamma: float = 1.0, seed: int = 0
) -> MDP:
    """The game: action 0 sticks and 1 hits; a game is won for 1, lost for -1, or drawn.

    Args:
        sab: whether an ace and a ten in two cards win against every other 21 of the dealer (Sutton & Barto's rules; Gymnasium's default).
        total, ace, dealer: the player's sum, whether an ace in it counts 11, and the dealer's card at the start of every game; without
            them two cards are dealt.
        seed: nothing is random here; every function that returns an MDP is given one.

    Raises:
        ValueError: there is no such hand.
    """
    table = [[_after(hand, shown, action, sab) for action in (STICK, HIT)] for hand, shown in _states()]
    most = max(len(found) for row in table for found in row)
    padded = [[found + [(0.0, len(table), 0.0)] * (most - len(found)) for found in row] for row in table]
    probability, after, reward = np.moveaxis(np.array(padded), -1, 0)
    transition = np.zeros((len(table), 2, len(table) + 1))
    s, a, _ = np.indices(after.shape)
    np.add.at(transition, (s, a, after.astype(int)), probability)
    outcomes = Outcomes(probability, after.astype(np.int64), reward)
    start = _from(total, ace, dealer) if total or dealer else _dealt()
    return MDP(transition[..., :-1].copy(), (probability * reward).sum(-1), start, gamma, outcomes)


def stick_on_20(mdp: MDP) -> Array:
    """The policy [S, A] that sticks on 20 and 21 only (Sutton & Barto 2018, example 5.1)."""
    sticks = np.array([hand[0] >= 20 for hand, _ in _states()])
    return np.stack([sticks, ~sticks], -1).astype(np.float64)


def picture(values: Array, policy: Array, title: str, path: Path) -> Path:
    """Values [S] as colours and the policy [S, A] as letters, over the dealer's card and the player's sum; one field for each kind of hand.

    Args:
        values, policy: what is shown; H is hit and S is stick, the more probable of the two.
        title: above the picture.
        path: the PNG file to write.
    """
    from ray_jobs.results.plots import INK, figure, save

    with figure(8.4, 4.4) as (fig, axes):
        axes.remove()
        for at, (ace, name) in enumerate(((False, "no ace counts 11"), (True, "an ace counts 11"))):
            own, cards = fig.add_subplot(1, 2, at + 1), list(CARDS)
            sums = range(21, 11, -1)
            numbers = np.array([[state_number((total, ace, False), card) for card in cards] for total in sums])
            image = own.imshow(values[numbers], cmap="Blues", alpha=0.85, vmin=-1, vmax=1.6)
            for (row, column), number in np.ndenumerate(numbers):
                letter = "SH"[int(policy[number].argmax())]
                own.text(column, row, letter, color=INK, ha="center", va="center", fontsize=8)
            own.set(xticks=range(10), xticklabels=["A", *cards[1:]], yticks=range(10), yticklabels=list(sums))
            own.set(xlabel="dealer shows", ylabel="sum" if not ace else "")
            own.set_title(f"{title}: {name}" if not ace else name, fontsize=10)
            own.grid(visible=False)
        fig.colorbar(image, ax=fig.axes, shrink=0.8, label="value").ax.set_ylim(-1, 1)
        return save(fig, path)


def _states() -> list[tuple[Hand, int]]:
    """The player's hand and the dealer's card, by their numbers."""
    return [(hand, shown) for hand in HANDS for shown in CARDS]


def state_number(hand: Hand, shown: int) -> int:
    """The number of the state in which the player has the hand and the dealer shows the card."""
    return HANDS.index(hand) * len(CARDS) + shown - 1


def _with(hand: Hand, card: int) -> Hand:
    """The hand with one more card."""
    total, ace, _ = hand
    if card == 1 and total + 11 <= 21:
        return total + 11, True, False
    return (total + card - 10, False, False) if ace and total + card > 21 else (total + card, ace, False)


def pair(first: int, second: int) -> Hand:
    """The hand of two cards."""
    total, ace, _ = _with((11, True, False) if first == 1 else (first, False, False), second)
    return total, ace, total == 21


def _dealt() -> Array:
    """Probabilities [S] of the first state."""
    start = np.zeros(len(_states()))
    for first, second, shown in np.ndindex(10, 10, 10):
        chance = CARDS[first + 1] * CARDS[second + 1] * CARDS[shown + 1]
        start[state_number(pair(first + 1, second + 1), shown + 1)] += chance
    return start


def _from(total: int, ace: bool, dealer: int) -> Array:
    hand = (total, ace, False)
    if hand not in HANDS or dealer not in CARDS:
        raise ValueError(
            f"A game cannot start with a sum of {total}, ace {ace}, dealer {dealer}: take sums from 4 to 21, "
            "from 12 on with an ace, and a dealer's card from 1 to 10."
        )
    start = np.zeros(len(_states()))
    start[state_number(hand, dealer)] = 1.0
    return start


def _after(hand: Hand, shown: int, action: int, sab: bool) -> list[tuple[float, int, float]]:
    """What may follow: probability, next state, reward."""
    end = len(HANDS) * len(CARDS)
    if action == HIT:
        hands = [(chance, _with(hand, card)) for card, chance in CARDS.items()]
        return [(p, end, -1.0) if new[0] > 21 else (p, state_number(new, shown), 0.0) for p, new in hands]
    won, drawn, lost = np.zeros(3)
    for dealer, chance in dealer_hands(shown).items():
        natural = sab and hand == NATURAL and dealer != NATURAL
        gain = 1 if natural or dealer[0] > 21 else np.sign(hand[0] - dealer[0])
        won, drawn, lost = won + chance * (gain > 0), drawn + chance * (gain == 0), lost + chance * (gain < 0)
    return [(float(lost), end, -1.0), (float(drawn), end, 0.0), (float(won), end, 1.0)]


def dealer_hands(shown: int) -> dict[Hand, float]:
    """The dealer's last hands and their probabilities: two cards, and more until the sum is 17 or above."""
    return _mixed((chance, _played(pair(shown, second))) for second, chance in CARDS.items())


@functools.cache
def _played(hand: Hand) -> dict[Hand, float]:
    """The last hands of a dealer who has this one."""
    return {hand: 1.0} if hand[0] >= 17 else _mixed((p, _played(_with(hand, card))) for card, p in CARDS.items())


def _mixed(parts: Iterable[tuple[float, dict[Hand, float]]]) -> dict[Hand, float]:
    found: dict[Hand, float] = {}
    for chance, hands in parts:
        for hand, p in hands.items():
            found[hand] = found.get(hand, 0.0) + chance * p
    return found
