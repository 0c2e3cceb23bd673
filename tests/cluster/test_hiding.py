"""Secrets are hidden by the names of variables and options, and in words; what is no secret stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import backends
from cluster.hiding import HIDDEN, hide, hide_command, hide_env, is_secret
from ray_jobs.recipe import loading
from ray_jobs.recipe.settings import known

SECRET_NAMES = """
MY_SECRETS TOKENS API_KEYS GITHUB_PAT DB_PASS SSH_KEY TOKEN HF_TOKEN WANDB_API_KEY AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID
AWS_SESSION_TOKEN GOOGLE_APPLICATION_CREDENTIALS OPENAI_API_KEY PASSWORD PASSWORDS PGPASSWORD MYSQL_PWD REDIS_PASS PASS PASSWD DB_PASSWD
KEY_PASSPHRASE SECRET SECRET_KEY SECRET_KEY_BASE CLIENT_SECRET clientSecret accessToken authtoken APIKEY apikey api-key api_key
PRIVATE_KEY SIGNING_KEY ENCRYPTION_KEYS GPG_KEY DEPLOY_KEY MASTER_KEY STORAGE_ACCOUNT_KEY KEY BASIC_AUTH AUTH DOCKER_AUTH_CONFIG
AUTHORIZATION BEARER JWT COOKIE SESSION_COOKIE CREDS DB_CREDS SLACK_WEBHOOK_URL SENTRY_DSN CONNECTION_STRING OTP CARD_PIN SAS_TOKEN
GH_PAT GITHUB_PATS SMTPPASS USERPWD hub.token model.hub.secret REFRESH_TOKENS TOKEN_2 API_KEY_2 DBPASSWORD2 S3_KEY NPM_TOKEN PYPI_TOKEN
"""
VISIBLE_NAMES = """
PATH PWD OLDPWD HOME PYTHONPATH TOKENIZER TOKENIZERS_PARALLELISM max_tokens num_tokens n_tokens tokens_per_step MONKEY KEYBOARD TURKEY
COMPASS BYPASS PASSES first_pass AUTHOR AUTHORS SECRETARY PATTERN PATIENCE PATCH key_dim num_keys public_key PUBLIC_KEY primary_key
pad_token mask_token RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH SSH_AUTH_SOCK DISPLAY LANG USER SPIN PINNED pin_memory CUDA_VISIBLE_DEVICES
OMP_NUM_THREADS HF_HOME lr seed hidden batch_size passthrough HOSTNAME keypoints basic session SESSION_ID XDG_SESSION_ID credit dsnap
"""
SECRET, VISIBLE = SECRET_NAMES.split(), VISIBLE_NAMES.split()
WORDS = [
    ("export API_KEY=abc x=1", "export API_KEY=*** x=1"),
    ("export API_KEY=$MINE", "export API_KEY=$MINE"),
    ("https://me:abc@host/x", "https://me:***@host/x"),
    ("ftp://me:abc@host", "ftp://me:***@host"),
    ("see postgres://me:a/b@c@db:5432/x now", "see postgres://me:***@db:5432/x now"),
    ("http://host:8265/x@y", "http://host:8265/x@y"),
    ("http://host:8265", "http://host:8265"),
    ("Authorization: Bearer abc", "Authorization: Bearer ***"),
    ("curl -H 'authorization: bearer abc' x", "curl -H 'authorization: bearer ***' x"),
    ("Authorization: Basic abc==", "Authorization: Basic ***"),
    ("Bearer abc", "Bearer ***"),
    ("curl -u me:abc http://h", "curl -u me:*** http://h"),
    ("curl --user=me:abc http://h", "curl --user=me:*** http://h"),
    ("curl -ume:abc http://h", "curl -ume:*** http://h"),
    ("docker run --user 1000:1000 x", "docker run --user 1000:1000 x"),
    ('{"token": "abc d", "lr": 1}', '{"token": "***", "lr": 1}'),
    ("X-Api-Key: abc", "X-Api-Key: ***"),
    ("PASSWORD='a b c' x", "PASSWORD='***' x"),
    ("x --password abc --lr 1", "x --password *** --lr 1"),
    ("http://h/x?page=1&api_key=abc", "http://h/x?page=1&api_key=***"),
    ("--env=A=1,TOKEN=abc", "--env=A=1,TOKEN=***"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123 x", "*** x"),
    ("git clone https://abcdefghijklmnopqrstuvwxyz@host/x", "git clone https://***@host/x"),
    ("path/to/recipes.py:mine@gas", "path/to/recipes.py:mine@gas"),
    ("reprise train x --lr 1e-3 --max_tokens 5 --out s3://bucket/run", "reprise train x --lr 1e-3 --max_tokens 5 --out s3://bucket/run"),
    ("a worker died; the group restarts", "a worker died; the group restarts"),
    (("a", "TOKEN=b"), ["a", "TOKEN=***"]),
    (3, 3),
    (True, True),
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_names_that_mean_a_secret(name):
    assert len(SECRET) >= 38
    assert is_secret(name)
    assert hide_env({name: "abc"}) == {name: HIDDEN}
    assert hide_command((f"--{name}=abc", f"--{name}", "abc")) == (f"--{name}={HIDDEN}", f"--{name}", HIDDEN)
    assert "abc" not in hide(f"{name}=abc") and "abc" not in hide(json.dumps({name: "abc"}))


@pytest.mark.parametrize("name", VISIBLE)
def test_names_that_only_sound_like_a_secret(name):
    assert not is_secret(name)
    assert hide(f"--{name}=abc --{name} abc {name}: abc") == f"--{name}=abc --{name} abc {name}: abc"


def test_no_setting_of_ours_is_taken_for_a_secret():
    names = {name for recipe in loading.names() for name in known(recipe)}
    names |= {name for backend in backends.BACKENDS for name in backends.options(backend)} - {"secrets"}
    assert len(names) > 100
    assert [name for name in sorted(names) if is_secret(name, "1")] == []


@pytest.mark.parametrize(("said", "shown"), WORDS)
def test_secrets_within_words_are_hidden(said, shown):
    assert hide(said) == shown
    assert hide(shown) == shown  # once is enough


def test_secret_options_are_hidden_however_they_are_written():
    shown = hide_command(("run", "--hub.token=abc", "--password", "def", "--lr", "1", "--api-key", "--x", "token"))
    assert shown == ("run", f"--hub.token={HIDDEN}", "--password", HIDDEN, "--lr", "1", "--api-key", HIDDEN, "token")
    assert hide_command(("curl", "-u", "me:pw", "ftp://me:pw@h")) == ("curl", "-u", "me:***", "ftp://me:***@h")
    assert hide_command(("x", "-H", "Authorization: Bearer a", "Bearer", "a")) == (
        "x", "-H", "Authorization: Bearer ***", "Bearer", HIDDEN,
    )  # fmt: skip


def test_settings_that_only_sound_like_secrets_are_shown():
    assert hide_command(("--tokens=512", "--tokenizer", "bpe")) == ("--tokens=512", "--tokenizer", "bpe")


@given(st.lists(st.text(alphabet="abc-= ", max_size=6)))
def test_hiding_keeps_what_is_no_secret(words):
    assert hide_command(words) == tuple(words)


def test_secret_variables_are_hidden():
    env = {"HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "y", "WANDB_API_KEY": "z", "PATH": "/bin", "MONKEY": "m"}
    assert hide_env(env) == dict.fromkeys(list(env)[:3], HIDDEN) | {"PATH": "/bin", "MONKEY": "m"}
    assert hide_env({"DATABASE_URL": "postgres://me:pw@h/x"}) == {"DATABASE_URL": "postgres://me:***@h/x"}
