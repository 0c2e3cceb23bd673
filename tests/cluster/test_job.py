"""Jobs are refused when they cannot be sent."""

import pytest

from cluster.job import Job, exit_words, new_id, parse_memory


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


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-15, "ended by SIGTERM (exit code -15)"), (137, "ended by SIGKILL (exit code 137)"),
     (128, "exit code 128"), (255, "exit code 255"), (None, "")],
)  # fmt: skip
def test_exit_codes_in_words(code, words):
    assert exit_words(code) == words
