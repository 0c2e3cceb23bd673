"""Jobs are refused when they cannot be sent, and secrets never show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.job import HIDDEN, Job, exit_words, hide_command, hide_env, hide_words, new_id, parse_memory


@pytest.mark.parametrize("name", ["", "-x", "x-", "Upper", "a b", "a/b", "ü", "x" * 49, "a\n"])
def test_a_name_that_some_place_would_refuse_is_refused(name):
    with pytest.raises(ValueError, match="cannot name a job"):
        Job(name, ("true",))


def test_ids_differ_and_are_names_themselves():
    ids = {new_id("ddpm_digits") for _ in range(200)}
    assert len(ids) == 200  # two equal of 200 among 2^32: 5e-6
    assert all(Job(id, ("true",)).name == id for id in ids)


def test_no_command_and_nul_are_refused():
    with pytest.raises(ValueError, match="no command"):
        Job("a", ())
    with pytest.raises(ValueError, match="NUL"):
        Job("a", ("x", "y\0"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("500M", 500 * 10**6),
        ("4GiB", 4 * 2**30),
        ("4gi", 4 * 2**30),
        ("1.5 k", 1500),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "4X", "1e9", "i", "4 G i B"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_memory(text)


def test_secret_options_are_hidden_however_they_are_written():
    shown = hide_command(("run", "--hub.token=abc", "--password", "def", "--lr", "1", "--api-key", "--x", "token"))
    assert shown == ("run", f"--hub.token={HIDDEN}", "--password", HIDDEN, "--lr", "1", "--api-key", HIDDEN, "token")


def test_settings_that_only_sound_like_secrets_are_shown():
    assert hide_command(("--tokens=512", "--tokenizer", "bpe")) == ("--tokens=512", "--tokenizer", "bpe")


@given(st.lists(st.text(alphabet="abc-= ", max_size=6)))
def test_hiding_keeps_what_is_no_secret(words):
    assert hide_command(words) == tuple(words)


def test_secret_variables_are_hidden():
    env = {"HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "y", "WANDB_API_KEY": "z", "PATH": "/bin", "MONKEY": "m"}
    assert hide_env(env) == dict.fromkeys(list(env)[:3], HIDDEN) | {"PATH": "/bin", "MONKEY": "m"}


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-15, "ended by SIGTERM (exit code -15)"), (137, "ended by SIGKILL (exit code 137)"),
     (128, "exit code 128"), (255, "exit code 255"), (None, "")],
)  # fmt: skip
def test_exit_codes_in_words(code, words):
    assert exit_words(code) == words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("export API_KEY=abc x=1", "export API_KEY=*** x=1"),
        ("export API_KEY=$MINE", "export API_KEY=$MINE"),
        ("https://me:abc@host/x", "https://me:***@host/x"),
        ("http://host:8265/x@y", "http://host:8265/x@y"),
        (("a", "TOKEN=b"), ["a", "TOKEN=***"]),
        (3, 3),
        (True, True),
    ],
)
def test_secrets_within_words_are_hidden(said, shown):
    assert hide_words(said) == shown
