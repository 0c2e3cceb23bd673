"""One constructor for a user's own folder of images, WAV or parquet files."""

import io

import numpy as np
import pytest
from scipy.io import wavfile

from datamodules.readers.audio import Audio
from datamodules.readers.images import Images
from datamodules.readers.own import own

datasets = pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")


def picture(shade):
    PIL.new("RGB", (20, 10), (shade,) * 3).save(file := io.BytesIO(), "png")
    return file.getvalue()


def wave():
    wavfile.write(file := io.BytesIO(), 8000, np.zeros(100, np.int16))
    return file.getvalue()


def tables(folder, column, content, feature=None):
    rows = datasets.Dataset.from_dict({"id": [0, 1], column: [{"bytes": content, "path": None}] * 2})
    (rows.cast_column(column, feature) if feature else rows).to_parquet(str(folder / "train.parquet"))


def first(data):
    return next(iter(data.train_dataloader()))["x"]


def test_images_waves_and_both_in_parquet(tmp_path):
    places = {name: tmp_path / name for name in ("images", "waves", "image table", "wave table", "named")}
    for place in places.values():
        place.mkdir()
    for k in range(2):
        (places["images"] / f"{k}.png").write_bytes(picture(k))
        (places["waves"] / f"{k}.wav").write_bytes(wave())
    tables(places["image table"], "img", picture(3))
    tables(places["wave table"], "audio", wave())
    tables(places["named"], "speech", wave(), datasets.Audio(decode=False))
    for name in ("images", "image table"):
        data = own(places[name], batch=2, size=8)
        assert isinstance(data, Images)
        assert first(data).shape == (2, 3, 8, 8)
    for name, options in (("waves", {}), ("wave table", {}), ("named", {"column": "speech"})):
        data = own(places[name], batch=2, rate=8000, length=50, **options)
        assert isinstance(data, Audio)
        assert first(data).shape == (2, 50)


def refused(sentence, folder, **options):
    with pytest.raises(ValueError, match=sentence) as error:
        own(folder, **options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_used_is_refused(tmp_path):
    refused("There is no folder", tmp_path / "nowhere")
    refused("no image, WAV or parquet", tmp_path)
    tables(tmp_path, "photo", picture(1))
    refused("no column 'image': name one of its columns, id, photo", tmp_path)
    refused("no column 'pic'", tmp_path, column="pic")
    (tmp_path / "train.parquet").write_bytes(b"no")
    refused("train.parquet is not a whole parquet file", tmp_path)
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "a.wav").write_bytes(wave())
    refused("both images and WAV", tmp_path)
