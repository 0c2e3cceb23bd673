"""Which claims are luck, by the bound that a new seed keeps."""

from benchmarks.claims import kept, lucky
from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.loading import recipe
from ray_jobs.results.store import Result

VALUES = [0.1, 0.12, 0.11, 0.09, 0.13, 0.1, 0.11, 0.12, 0.1, 0.12]


def fresh(values, name="nice_density2d", **more):
    return Result(name, Claim("excess_nats", at_most=1), "reprise", list(range(100, 100 + len(values))), values, **more)


def test_a_claim_is_kept_beyond_what_a_new_seed_reaches():
    assert kept(Claim("x", at_most=0.14), fresh(VALUES))  # 0.11 + 1.83 * 0.0125 * 1.05 is 0.134
    assert not kept(Claim("x", at_most=0.13), fresh(VALUES))
    assert kept(Claim("x", at_least=0.08), fresh(VALUES))
    assert not kept(Claim("x", at_least=0.09), fresh(VALUES))


def test_one_seed_in_ten_beyond_a_claim_is_too_many():
    values = [0.1] * 9 + [0.15]  # the bound of normal values is 0.135
    assert not kept(Claim("x", at_most=0.14), fresh(values))
    assert kept(Claim("x", at_most=0.15), fresh(values))


def test_a_seed_that_failed_or_is_alone_shows_nothing():
    assert not kept(Claim("x", at_most=1), fresh(VALUES, failures={"110": "it died"}))
    assert not kept(Claim("x", at_most=1), fresh([0.1]))


def test_the_claim_is_the_recipes_as_it_is_now():
    bound = recipe("nice_density2d").claim.at_most
    assert lucky([fresh([bound / 2 + v / 100 for v in VALUES])]) == []
    (line,) = lucky([fresh([bound - 0.1301 + v for v in VALUES])])
    assert line.startswith("nice_density2d: seeds 100 to 109: ") and f"10 of 10 keep excess_nats ≤ {bound:g}" in line
