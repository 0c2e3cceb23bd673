"""Recipes of captions: the judge of pixels on pictures whose truth is known, the paper's size, and which guide a model follows."""

from types import SimpleNamespace

import pytest
import torch

from datamodules.labs.shapes import Attributes, Shapes, caption, draw_attributes, paint
from lightning_modules.conditions import Cond
from lightning_modules.nets.text.vocabulary import Vocabulary
from ray_jobs.recipe.captions import as_captioned, at_strengths, chance, retrieval
from ray_jobs.recipe.settings import build
from ray_jobs.recipes.diffusion.glide import adm_net, of_both, without_clip

SMALL = {"width": 8, "levels": 8, "sample_steps": 2}


class Painter:
    """A model that paints fresh pictures with the captions it is given, or with those of other pictures."""

    device = torch.device("cpu")

    def __init__(self, shift=0):
        self.shift = shift

    def sample(self, n, cond, *, guidance, rng, batch):
        drawn = draw_attributes(200_000, 32, rng)
        found = {tuple(c): i for i, c in enumerate(caption(drawn, 32).tolist())}
        places = torch.tensor([found[tuple(c)] for c in cond.tokens.roll(self.shift, 0).tolist()])
        return paint(Attributes(*(column[places] for column in drawn)), 32)


def test_pictures_are_judged_by_all_six_attributes_of_their_captions():
    """Pictures and captions that do not belong together fit by chance, which is known: within 4 standard errors of 4,096 pairs."""
    pictures = Shapes().test(512)
    assert as_captioned(pictures["x"], pictures["attributes"]).all()
    assert pictures["attributes"].max(0).values[4:].min() > 2  # places are those of pixels again
    first, other = (draw_attributes(1_000_000, 32, torch.Generator().manual_seed(k)) for k in (0, 1))
    same = torch.stack([a == b for a, b in zip(thirds(first), thirds(other), strict=True)], 1)
    found, error = chance(), (0.0015 / 1e6) ** 0.5
    assert same.all(1).double().mean().item() == pytest.approx(found["accuracy_chance"], abs=4 * error)
    assert same.double().mean().item() == pytest.approx(found["attributes_chance"], abs=4 * 0.5 / 1e3)
    assert 1 / 1620 < found["accuracy_chance"] < 0.002 and same.shape == (1_000_000, 6)


def thirds(drawn):
    return (*drawn[:4], drawn.row * 3 // 32, drawn.column * 3 // 32)


def test_a_painter_of_the_captions_is_perfect_and_one_of_other_captions_is_not():
    right = at_strengths(Painter(), Shapes(), (0.0, 2.0), n=48)
    assert right["accuracy_0"] == right["accuracy_2"] == right["attributes_2"] == 1 and right["recall_2"] > 0.8
    wrong = at_strengths(Painter(1), Shapes(), (2.0,), n=48)
    assert wrong["accuracy_2"] < 0.05 and wrong["attributes_2"] < 0.6 and wrong["recall_2"] > 0.8


def test_of_the_paper_s_size_there_are_three_and_a_half_billion_weights():
    """Source: the abstract of arXiv:2112.10741. Embeddings of words are apart, for there are as many as the data have words."""
    words = Vocabulary(tuple(f"w{k}" for k in range(1000)), 128)
    with torch.device("meta"):
        net = adm_net(
            SimpleNamespace(shape=(3, 64, 64)), words, width=512, multiples=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3),
            dropout=0.1, text_width=2048, text_depth=24, bf16=True, checkpoint=True,
        )  # fmt: skip
    assert sum(p.numel() for part in (net.body, net.text.blocks) for p in part.parameters()) == pytest.approx(
        3.5e9, rel=0.02
    )


def test_a_run_with_a_clip_is_measured_by_either_guide_and_keeps_its_own(seeded):
    made = build("glide_shapes", SMALL | {"clip": True, "steps": 12})
    assert [stage.steps for stage in made.model.stages] == [2, 10]
    base, asked = made.model.last, []
    clip = made.model.clip
    free = without_clip(base)
    assert base.draw.classifier == clip.log_ratio and free.draw.classifier is None and free.net is base.net
    clip.register_forward_hook(lambda *_: None)
    clip.image.register_forward_hook(lambda *_: asked.append(1))
    prompt = Cond(tokens=made.data.test(2)["caption"])
    free.sample(2, prompt, guidance=2.0)
    assert not asked
    base.sample(2, prompt, guidance=2.0)
    assert len(asked) == 2  # once a step
    few = made.data.test
    made.data.test = lambda n=None: few(8)
    found = of_both(made.model, made.data)
    assert base.draw.classifier == clip.log_ratio
    assert {
        "accuracy_0",
        "accuracy_2",
        "clip_accuracy_2",
        "clip_retrieval_0.1",
        "clip_gain",
        "accuracy_chance",
    } <= found.keys()


def test_the_own_caption_is_found_among_others_by_what_the_clip_thinks():
    data = Shapes()
    perfect = SimpleNamespace(
        device=torch.device("cpu"),
        of_images=lambda y, s: torch.eye(64),
        of_captions=lambda tokens: torch.eye(64),
    )
    assert retrieval(perfect, data, 0.1, n=64) == 1
    perfect.of_captions = lambda tokens: torch.eye(64).roll(1, 0)
    assert retrieval(perfect, data, 0.1, n=64) < 0.1
