"""Waves from small WAV and parquet files, mu-law against its definition, and the sentences for what cannot be used."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from datamodules.readers.audio import Audio, decode, encode

datasets = pytest.importorskip("datasets")


def companded(x, mu):
    return math.copysign(math.log(1 + mu * abs(x)) / math.log(1 + mu), x)


@given(st.floats(-1, 1, width=32), st.sampled_from([2, 16, 256]))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_level_is_the_nearest_on_the_companded_scale(x, levels):
    mu = levels - 1
    code = encode(torch.tensor([x]), levels)
    exact = (companded(x, mu) + 1) / 2 * mu
    assert abs(code.item() - exact) <= 0.5 + 1e-4
    back = decode(code, levels).item()
    assert abs(companded(back, mu) - companded(x, mu)) <= 1 / mu + 1e-5  # half of a step


@pytest.mark.parametrize("levels", [2, 16, 256, 1024])
def test_decoding_is_undone_by_encoding(levels):
    code = torch.arange(levels)
    x = decode(code, levels)
    assert torch.equal(encode(x, levels), code)
    assert (x.diff() > 0).all()
    assert x[0] == -1
    assert x[-1] == 1


def test_beyond_full_scale_is_the_last_level():
    assert encode(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def waves():
    """Seven waves of different lengths; samples are int16 that name their wave and place, so that windows can be told."""
    return [np.arange(1000 * w, 1000 * w + n, dtype=np.int16) for w, n in enumerate((25, 9, 40, 31, 10, 8, 30))]


@pytest.fixture
def folder(tmp_path):
    for w, samples in enumerate(waves()):
        wavfile.write(tmp_path / f"{w}.wav", 8000, samples)
    (tmp_path / "test").mkdir()
    wavfile.write(tmp_path / "test" / "0.wav", 8000, np.full(20, -1000, np.int16))
    return tmp_path


def parts(rows):
    return {tuple(map(int, row)) for row in rows}


def expected():
    """All windows of 10 samples."""
    return {tuple(w[k : k + 10].tolist()) for w in waves() for k in range(0, len(w) - 9, 10)}


def epoch(data, steps):
    stream = iter(data.train_dataloader())
    return torch.cat([next(stream)["code"] for _ in range(steps)])


def test_every_window_comes_once_an_epoch(folder):
    data = Audio(folder, 8000, 10, batch=13, levels=2**17)  # so many levels that every int16 has its own
    code = epoch(data, 1)
    want = {tuple(encode(torch.tensor(w) / 2**15, 2**17).tolist()) for w in expected()}
    assert len(want) == 13
    assert parts(code) == want
    assert data.test()["x"].shape == (2, 10)


def test_amplitudes_are_those_of_the_levels(folder):
    batch = next(iter(Audio(folder, 8000, 10, batch=4).train_dataloader()))
    assert batch["x"].dtype == torch.float32
    assert torch.equal(encode(batch["x"]), batch["code"])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_kinds_of_samples_are_one_scale(kind, tmp_path):
    x = np.sin(np.arange(50) / 5) * 0.9
    stored = {
        np.uint8: np.round(x * 128 + 128).astype(np.uint8),
        np.int16: np.round(x * 2**15).astype(np.int16),
        np.int32: np.round(x * 2**31).astype(np.int32),
        np.float32: x.astype(np.float32),
    }[kind]
    wavfile.write(tmp_path / "test.wav", 8000, np.stack([stored, stored], 1))  # two equal channels
    got = Audio(tmp_path, 8000, 50, batch=1, levels=2**16).test()["x"][0]
    np.testing.assert_allclose(got, x, atol=0.005 if kind == np.uint8 else 3e-4)


def test_parquet_with_a_column_of_audio_gives_the_same_windows(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("parquet")
    found = [{"bytes": (folder / f"{w}.wav").read_bytes(), "path": None} for w in range(7)]
    datasets.Dataset.from_dict({"audio": found, "id": list(range(7))}).to_parquet(str(other / "train.parquet"))
    here, there = (epoch(Audio(place, 8000, 10, batch=13), 1) for place in (folder, other))
    assert torch.equal(here, there)
    for windows in (0, 13):
        streamed = epoch(Audio(other, 8000, 10, batch=13, streaming=True, windows=windows), 1)
        assert parts(streamed) == parts(here)


def test_24_bits(tmp_path):
    import wave

    with wave.open(str(tmp_path / "test.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(int(k * 2**18).to_bytes(3, "little", signed=True) for k in range(-20, 20)))
    got = Audio(tmp_path, 8000, 40, batch=1, levels=2**16).test()["x"][0]
    np.testing.assert_allclose(got, np.arange(-20, 20) / 32, atol=1e-4)


def refused(sentence, source, rate=8000, length=10, **options):
    with pytest.raises(ValueError, match=sentence) as error:
        next(iter(Audio(source, rate, length, batch=4, **options).train_dataloader()))
    assert "\n" not in str(error.value)


def test_what_cannot_be_used_is_refused(folder, tmp_path):
    refused("8000 samples in a second, not 16000", folder, rate=16_000)
    refused("has 50 samples: take a smaller", folder, length=50)
    refused("There is no folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("no WAV or parquet files", tmp_path / "empty")
    refused("length is 0", folder, length=0)
    refused("read by index: set streaming=False", folder, streaming=True)


@pytest.mark.parametrize("broken", [b"", b"hello, this is no wave", "half"])
def test_corrupt_files_are_named(broken, folder):
    file = folder / "2.wav"
    file.write_bytes(file.read_bytes()[:70] if broken == "half" else broken)
    refused("2.wav cannot be read", folder)


@pytest.mark.parametrize("bad", [math.nan, 1.5])
def test_amplitudes_out_of_range_are_named(bad, tmp_path):
    wavfile.write(tmp_path / "loud.wav", 8000, np.full(20, bad, np.float32))
    refused("loud.wav are not all within -1 and 1", tmp_path)


def test_a_column_that_is_missing_or_holds_no_audio(tmp_path):
    datasets.Dataset.from_dict({"audio": [1.5], "id": [1]}).to_parquet(str(tmp_path / "train.parquet"))
    refused("no column 'sound'.*columns are audio, id", tmp_path, column="sound")
    refused("column 'audio' does not hold audio", tmp_path)


def test_flac_needs_soundfile(tmp_path):
    found = [{"bytes": b"fLaC" + bytes(50), "path": None}]
    datasets.Dataset.from_dict({"audio": found}).to_parquet(str(tmp_path / "train.parquet"))
    try:
        import soundfile  # noqa: F401
    except ImportError:
        refused("pip install .reprise", tmp_path)
    else:
        refused("row 0 of .* cannot be read", tmp_path)


def test_flac_is_the_wave_it_was_made_of(tmp_path, tmp_path_factory):
    """As LibriSpeech has it: FLAC in parquet, cut into windows in the middle of the file."""
    soundfile = pytest.importorskip("soundfile")
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 95).astype(np.int16)
    soundfile.write(file := io.BytesIO(), samples, 8000, format="FLAC")
    found = [{"bytes": file.getvalue(), "path": "84-121123-0000.flac"}]
    datasets.Dataset.from_dict({"audio": found}).to_parquet(str(tmp_path / "test.parquet"))
    other = tmp_path_factory.mktemp("wav")
    wavfile.write(other / "test.wav", 8000, samples)
    flac, wav = (Audio(place, 8000, 30, batch=1).test()["code"] for place in (tmp_path, other))
    assert flac.shape == (3, 30)
    assert torch.equal(flac, wav)


def test_unknown_name_on_the_hub():
    refused("cannot be had from the hub", "no-such-owner/no-such-set")
