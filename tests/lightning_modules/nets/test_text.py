"""Captions: words as tokens and back, what is refused of a prompt, and what a feature of the transformer depends on, by gradients."""

import pytest
import torch

from datamodules.labs.shapes import WORDS, Shapes, words
from lightning_modules.conditions import Cond
from lightning_modules.nets.attention import attend
from lightning_modules.nets.text.captioned import Captioned, Reads
from lightning_modules.nets.text.transformer import TextTransformer
from lightning_modules.nets.text.vocabulary import Vocabulary, split
from lightning_modules.nets.unet import UNet
from tests.lightning_modules.nets.awake import awake

SHAPES = Vocabulary(WORDS, 12)
SMALL = Vocabulary(("red", "blue", "cat", "dog"), 5)


# ---- words


def test_captions_of_shapes_are_read_back_as_their_tokens():
    tokens = Shapes().test(64)["caption"]
    assert torch.equal(SHAPES.prompts(words(tokens)), tokens)
    assert SHAPES.sentences(tokens) == words(tokens)


def test_capitals_and_punctuation_do_not_matter_and_padding_fills_up():
    assert split("A red, RED cat's toy-box!") == ["a", "red", "red", "cat's", "toy-box"]
    assert SMALL.prompts(["Red CAT."]).tolist() == [[0, 2, 4, 4, 4]]
    assert SMALL.empty(2).tolist() == [[4] * 5] * 2 and SMALL.sentences(SMALL.empty(1)) == [""]


def test_a_vocabulary_of_texts_has_every_word_once_the_commonest_first():
    made = Vocabulary.of(["a dog", "a cat sees a dog"])
    assert made.words == ("a", "dog", "cat", "sees") and made.length == 5
    assert Vocabulary.of(["one two three"], most=2).length == 2
    assert made.captions(["a bird sees", "a a a a a a dog"]).tolist() == [[0, 3, 4, 4, 4], [0] * 5]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "The prompt '' is empty: write words"),
        (" ?! ", "is empty"),
        ("a purple circle", "unknown word 'purple': this model knows a, at, the, .* white"),
        ("a " * 13, "has 13 words: this model takes at most 12"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_in_one_sentence(prompt, message):
    with pytest.raises(ValueError, match=message) as refused:
        SHAPES.prompts(["a small red circle", prompt])
    assert "\n" not in str(refused.value)


def test_of_many_words_only_the_nearest_are_named():
    many = Vocabulary((*(f"word{i}" for i in range(100)), "circle"), 3)
    with pytest.raises(ValueError, match="knows 101 words; the nearest are circle"):
        many.prompts(["cirkle"])


@pytest.mark.parametrize("words_", [(), ("a", "a")])
def test_words_that_are_no_vocabulary_are_refused(words_):
    with pytest.raises(ValueError, match="needs different words"):
        Vocabulary(words_, 3)


# ---- the transformer


def transformer(causal=False):
    torch.manual_seed(0)
    return TextTransformer(SMALL, width=8, depth=2, heads=2, causal=causal)


TOKENS = torch.tensor([[0, 2, 3, 4, 4]])
"""Three words, then padding."""


def influence(net, of):
    """Whether each word, place and padding has an influence on a feature, by its gradient: [V], [L], [L] bool."""
    net.zero_grad()
    rng = torch.Generator().manual_seed(1)
    (of * torch.randn(of.shape, generator=rng)).sum().backward()
    return [p.grad.abs().sum(1) > 0 for p in (net.words.weight, net.place, net.padding)]


def test_causal_features_depend_on_no_later_token():
    net = transformer(causal=True)
    for i in range(3):
        seen, places, padding = influence(net, net(TOKENS).rows[0, i])
        assert seen.tolist() == [k in TOKENS[0, : i + 1] for k in range(4)]
        assert places.tolist() == [k <= i for k in range(5)] and not padding.any()


def test_of_causal_features_the_last_word_stands_for_the_caption_and_padding_has_no_influence():
    net = transformer(causal=True)
    text = net(TOKENS)
    assert torch.equal(text.vector, text.rows[:, 2]) and text.mask.tolist() == [[True] * 3 + [False] * 2]
    seen, _, padding = influence(net, text.vector)
    assert seen.tolist() == [True, False, True, True] and not padding.any()
    assert net(SMALL.empty(1)).vector.isfinite().all()


def test_otherwise_every_token_counts_and_padding_has_an_embedding_at_each_place():
    net = transformer()
    for of in (net(TOKENS).rows[0, 0], net(TOKENS).vector):
        seen, places, padding = influence(net, of)
        assert seen.tolist() == [True, False, True, True]
        assert places.tolist() == [True] * 3 + [False] * 2 and padding.tolist() == [False] * 3 + [True] * 2
    text = net(TOKENS)
    assert torch.equal(text.vector, text.rows[:, -1])
    seen, places, padding = influence(net, net(SMALL.empty(1)).vector)
    assert padding.all() and not seen.any() and not places.any()


def test_causal_attention_is_that_of_each_beginning_alone():
    q, k, v = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    whole = attend(q, k, v, causal=True)
    for n in range(1, 7):
        torch.testing.assert_close(attend(q[:, :, n - 1 : n], k[:, :, :n], v[:, :, :n])[:, :, 0], whole[:, :, n - 1])


def test_weights_of_other_words_are_refused_and_the_words_are_saved():
    net, other = transformer(), TextTransformer(Vocabulary(("red", "blue", "cow", "dog"), 5), width=8, heads=2)
    assert bytes(net.state_dict()["spelled"].tolist()).decode().split("\n") == list(SMALL.words)
    transformer().load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match="a model with other words"):
        other.load_state_dict(net.state_dict())


def test_tokens_that_are_none_are_refused():
    with pytest.raises(ValueError, match="have 5 tokens here, not 4"):
        transformer()(TOKENS[:, :4])
    with pytest.raises(ValueError, match=r"Tokens must be in 0\.\.4, not 0\.\.5"):
        transformer()(torch.tensor([[0, 1, 2, 3, 5]]))
    with pytest.raises(ValueError, match="8 features of a text cannot be divided into 3 heads"):
        TextTransformer(SMALL, width=8, heads=3)
    with pytest.raises(ValueError, match="'tokens' must hold integers"):
        Cond(tokens=torch.zeros(2, 5))


# ---- in front of a network


def captioned():
    torch.manual_seed(0)
    body = UNet(1, width=8, multiples=(1, 2), blocks=1, attention=(0, 1), head=8, text=8, vector=8)
    return awake(Captioned(transformer(), body))


X, LEVEL = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(3)
THREE = torch.tensor([[0, 2, 4, 4, 4], [1, 3, 4, 4, 4], [0, 3, 2, 1, 0]])


def test_hidden_and_absent_captions_are_the_empty_one():
    net = captioned()
    with torch.no_grad():
        given, absent = net(X, LEVEL, Cond(tokens=THREE)), net(X, LEVEL)
        assert torch.equal(absent, net(X, LEVEL, Cond(tokens=SMALL.empty(3))))
        hidden = torch.tensor([False, True, False])
        some = net(X, LEVEL, Cond(tokens=THREE, hidden={"tokens": hidden}))
    torch.testing.assert_close(some, torch.where(hidden[:, None, None, None], absent, given))
    assert not torch.allclose(given, absent, atol=1e-3)


def test_the_caption_reaches_the_output_by_attention_and_by_the_level(seeded):
    net = captioned()
    net(X, LEVEL, Cond(tokens=THREE)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())  # DDP waits for one of every weight
    used = [net.text.words.weight, net.text.place, net.text.padding, net.body.tokens.text[1].weight]
    used += [net.body.condition.vector.body.weight, net.body.middle[0].attend.tokens.weight]
    assert all(p.grad.abs().sum() > 0 for p in used)


def test_prompts_become_conditions_and_sentences_again():
    net = captioned()
    assert isinstance(net, Reads) and not isinstance(net.body, Reads)
    cond = net.read(["Red cat", "dog"])
    assert net.sentences(cond) == ["red cat", "dog"] and cond.size == 2
    with pytest.raises(ValueError, match="without labels"):
        net(X, LEVEL, Cond(tokens=THREE, label=torch.zeros(3, dtype=torch.long)))
