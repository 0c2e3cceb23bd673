"""A card: one recipe's or run's result, as the reports show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray_jobs.recipe.declare import Claim, Headline
from ray_jobs.results import store as results
from ray_jobs.results.store import Result


@dataclass(frozen=True)
class Card:
    """One recipe, or one run of it, as the page and the Markdown table show it."""

    result: Result
    title: str = ""
    system: str = ""
    data: str = ""
    family: str = ""
    """The folder of recipes that it is in."""
    headline: Headline | None = None
    picture: Path | None = None
    """A PNG of samples."""
    more: Mapping[str, Path] = field(default_factory=dict)
    """PNGs of other pictures, by what they show."""
    measured: str = ""
    """What the claim's metric was measured on, in words."""
    note: str = ""
    """A remark on how the result was measured."""
    single: bool = False
    """Whether this is one run, not a reproduction."""
    fresh: Result | None = None
    """The same recipe on seeds that were not seen when its claim was set."""

    @property
    def verdict(self) -> str:
        """The verdict in words; one run reaches or misses a claim and shows no more."""
        if not self.single:
            return self.result.verdict
        if self.result.failures or (self.result.claim and self.result.mean is None):
            return "not finished"
        if self.result.claim is None:
            return "no claim"
        return "reached" if self.result.holds else "missed"


def published(headline: Headline | None) -> str:
    """'Schulman et al. 2017: episode_return 500 (table 3)', as far as it is known."""
    if headline is None:
        return ""
    number = " ".join([headline.metric, results.short(headline.value)]) if headline.value is not None else ""
    text = f"{headline.paper}: {number}" if number else headline.paper
    return f"{text} ({headline.where})" if headline.where else text


def passed(fresh: Result | None, claim: Claim | None) -> str:
    """'9 of 10': how many fresh seeds keep a claim by themselves, of those that were run; '' without fresh seeds or a claim."""
    if fresh is None or claim is None:
        return ""
    return f"{sum(map(claim.holds, fresh.values))} of {len(fresh.values) + len(fresh.failures)}"


def on_fresh_seeds(fresh: Result | None, claim: Claim | None) -> str:
    """What fresh seeds say of a claim, in one sentence; '' without fresh seeds or a claim."""
    from ray_jobs.results.statistics import next_seed

    if fresh is None or claim is None:
        return ""
    tried = sorted([*fresh.seeds, *map(int, fresh.failures)])
    above = claim.at_least is not None
    bound = next_seed(fresh.values, above=above)
    text = (
        f"seeds {tried[0]} to {tried[-1]}: {results.describe(fresh)}; {passed(fresh, claim)} keep {claim} by themselves"
    )
    side = "above" if above else "below"
    return text if bound is None else f"{text}; a new one stays {side} {results.short(bound)} with 95%"


def tally(cards: Sequence[Card]) -> str:
    """How many claims hold, in one sentence."""
    if all(card.single for card in cards):
        reached = sum(card.verdict == "reached" for card in cards)
        return f"{reached} of {len(cards)} runs {'reaches its' if reached == 1 else 'reach their'} claim."
    claims = [card.result for card in cards if not card.single]
    held, clear = sum(r.holds for r in claims), sum(r.verdict == "clearly holds" for r in claims)
    how = f", {clear} of them clearly: the whole interval is on the right side" if clear else ""
    return f"{held} of {len(claims)} claims hold{how}."
