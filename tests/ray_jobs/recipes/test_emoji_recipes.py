"""Recipes of emoji: what the judge finds, with its chance level, and that it is never the guide."""

import re
from types import SimpleNamespace

import pytest
import torch

from benchmarks import guidance
from datamodules.labs.shapes import Shapes
from lightning_modules.conditions import Cond
from ray_jobs.errors import UsageError
from ray_jobs.recipe.captions import by_judge
from ray_jobs.recipe.settings import build
from ray_jobs.recipes.multistage.emoji import of_both, of_clip, pairs
from ray_jobs.recipes.multistage.glide import of_clip as of_noised_clip
from ray_jobs.recipes.multistage.glide import of_shapes
from ray_jobs.recipes.multistage.latent_diffusion import of_captioned
from ray_jobs.results import comparison
from tests.ray_jobs.recipes.smallest import smallest

pytest.importorskip("datasets")
N = 32


class Copies:
    """A model that draws the true pictures of its captions, or those of others."""

    def __init__(self, real, shift):
        self.real, self.shift = real, shift

    def sample(self, n, cond, *, guidance, rng):
        places = (cond.tokens[:, 0] + self.shift * (guidance > 0)) % n
        return self.real[places]


def coloured():
    """Pictures that differ, caption by caption, and a CLIP that sees which one it is."""
    x = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    flat = torch.nn.functional.normalize(x.flatten(1), dim=1)
    judge = SimpleNamespace(
        device=torch.device("cpu"),
        of_images=lambda y, level: torch.nn.functional.normalize(y.flatten(1), dim=1),
        of_captions=lambda tokens: flat[tokens[:, 0]],
    )
    return judge, {"x": x, "caption": torch.arange(N)[:, None]}


def test_the_judge_finds_true_pictures_and_by_chance_one_in_their_number():
    judge, real = coloured()
    found = by_judge(judge, Copies(real["x"], 1), real, (0.0, 2.0))
    assert found["retrieval_real"] == found["retrieval_0"] == 1 and found["retrieval_2"] == 0
    assert found["clip_score_0"] == pytest.approx(1) and found["recall_0"] == 1
    assert found["clip_score_2"] < 0.3 and found["clip_score_chance"] < 0.3
    assert found["retrieval_chance"] == 1 / N
    twice = real | {"caption": real["caption"] // 2 * 2}  # pairs of pictures share a caption
    assert by_judge(judge, Copies(real["x"], 0), twice, ())["retrieval_chance"] == 2 / N


def test_the_curve_of_guidance_has_its_chance_level(monkeypatch, tmp_path):
    judge, real = coloured()
    monkeypatch.setattr(comparison, "SHOWN", 4)
    axis = guidance.Judge(
        lambda model, strengths: by_judge(judge, model, real, strengths), ("retrieval", "clip_score"), "found",
        by_judge(judge, None, real, ()), real["caption"][:4],
    )  # fmt: skip
    found = guidance.points(Copies(real["x"], 1), axis, (0.0, 2.0))
    assert found[0.0]["retrieval"] == 1 and found[2.0]["retrieval"] == 0 and found[2.0]["recall"] == 1
    drawn = []
    monkeypatch.setattr(guidance, "save", lambda fig, path: drawn.extend(fig.axes[0].lines) or path)
    guidance.curve({"free": found}, axis, tmp_path / "curve.png")
    assert [line.get_label() for line in drawn] == ["classifier-free", "chance"]
    assert list(drawn[0].get_xdata()) == [1, 0] and list(drawn[1].get_xdata()) == [1 / N] * 2


@pytest.fixture()
def made(tmp_path):
    return smallest("glide_emoji", tmp_path)


def test_the_judge_is_trained_first_and_guides_nothing(made):
    """Other weights of the judge change what it finds and not what is drawn."""
    judge, model = (stage.model for stage in made.model.stages)
    assert [stage.steps for stage in made.model.stages] == [1, 1] and model.draw.classifier is None
    assert not {id(p) for p in judge.parameters()} & {id(p) for p in model.parameters()}
    made.data.setup("fit")
    real = made.data.test(8)

    def draw():
        return model.sample(4, Cond(tokens=real["caption"][:4]), guidance=2.0, rng=torch.Generator().manual_seed(0))

    before, found = draw(), by_judge(judge.eval(), model.eval(), real, (2.0,))
    with torch.no_grad():
        for p in judge.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(before, draw())
    other = by_judge(judge, model, real, (2.0,))
    assert found["recall_2"] == other["recall_2"]
    assert found["clip_score_2"] != other["clip_score_2"]


def test_measures_are_of_seen_and_of_held_out_captions(made):
    made.data.setup("fit")
    found = pairs(made.data, 6)
    assert [len(batch["x"]) for batch in found.values()] == [6, 6]
    assert torch.equal(found[""]["x"], made.data.images.source.first(6)["x"])
    first = made.data.encode([of_one[0] for of_one in made.data.texts()[:6]])
    assert torch.equal(found[""]["caption"], first)


@pytest.mark.parametrize(
    "name", ["glide_shapes", "ldm_shapes", "clip_shapes", "clip_emoji", "glide_emoji", "edm_emoji"]
)
def test_beside_every_measure_of_captions_stands_its_chance_level(name, tmp_path):
    made = smallest(name, tmp_path)
    made.data.setup("fit")
    measure = {
        "glide_shapes": of_shapes, "ldm_shapes": of_captioned, "clip_shapes": of_noised_clip, "clip_emoji": of_clip, "glide_emoji": of_both,
        "edm_emoji": of_both,
    }[name]  # fmt: skip
    assert made.evaluate is measure
    found = measure(made.model.eval(), made.data)
    judged = ("accuracy_", "attributes_0", "attributes_2", "caption_right", "retrieval", "clip_score")
    stems = {re.sub("_(right|real|chance|[0-9.]+)$", "", key) for key in found if any(word in key for word in judged)}
    assert stems and {stem for stem in stems if f"{stem}_chance" not in found} == set()


def test_more_steps_of_the_judge_than_all_are_refused():
    with pytest.raises(UsageError, match=r"--judge_steps 7 are more than all --steps 5: leave some to the diffusion"):
        build("glide_emoji", {"steps": 5, "judge_steps": 7})


def test_shapes_are_judged_by_their_pixels():
    axis = guidance.judge_of(None, Shapes(), 8)
    assert axis.chance.keys() == {"accuracy_chance", "attributes_chance"} and axis.names[0] == "accuracy"
    with pytest.raises(SystemExit, match="for runs of glide_shapes and glide_emoji"):
        guidance.judge_of(None, SimpleNamespace(), 8)
