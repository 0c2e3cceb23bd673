"""Data by one word: a table, a folder of images, WAV or parquet files, a set on the hub or a laboratory."""

import io

import numpy as np
import pytest
from scipy.io import wavfile

from datamodules.labs.copulas import Copulas
from datamodules.labs.density2d import Density2D
from datamodules.labs.waves import Echoes
from datamodules.readers.audio import Audio
from datamodules.readers.digits import Digits
from datamodules.readers.images import Images
from datamodules.readers.own import LABORATORIES, read

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
        data = read(places[name], kind="images", batch=2, size=8)
        assert isinstance(data, Images)
        assert first(data).shape == (2, 3, 8, 8)
    for name, options in (("waves", {}), ("wave table", {}), ("named", {"column": "speech"})):
        data = read(places[name], kind="waves", batch=2, size=50, **options)
        assert isinstance(data, Audio)
        assert first(data).shape == (2, 50)
        assert data.rate == 8000


def refused(sentence, folder, **options):
    with pytest.raises(ValueError, match=sentence) as error:
        read(folder, **options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_used_is_refused(tmp_path):
    refused("There are no data", tmp_path / "nowhere")
    refused("no image, IDX, WAV or parquet", tmp_path)
    tables(tmp_path, "photo", picture(1))
    refused("no column 'image': name one of its columns, id, photo", tmp_path)
    refused("no column 'pic'", tmp_path, column="pic")
    (tmp_path / "train.parquet").write_bytes(b"no")
    refused("train.parquet is not a whole parquet file", tmp_path)
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "a.wav").write_bytes(wave())
    refused("both images and WAV", tmp_path)


def test_grey_images_have_one_channel_and_every_tenth_is_held_out(tmp_path):
    for k in range(20):
        PIL.new("L", (9, 12), k).save(tmp_path / f"{k:02}.png")
    data = read(tmp_path, size=4, batch=18)
    shades = lambda x: sorted(((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist())  # noqa: E731
    assert data.shape == (1, 4, 4) and data.levels == 256
    assert shades(data.test()["x"]) == [9, 19]
    assert shades(first(data)) == [k for k in range(20) if k % 10 != 9]
    PIL.new("RGB", (9, 12)).save(tmp_path / "colour.png")
    assert read(tmp_path).shape == (3, 32, 32)


def test_every_tenth_wave_is_held_out_unless_names_do(tmp_path):
    for k in range(10):
        wavfile.write(tmp_path / f"{k}.wav", 100, np.full(100, 1000 * k, np.int16))
    data = read(tmp_path)
    assert (data.rate, data.shape) == (100, (100,))
    assert len(data.test()["x"]) == 1 and data.test()["x"].mean() > 0.25
    (tmp_path / "0.wav").rename(tmp_path / "test0.wav")
    assert read(tmp_path).test()["x"].abs().max() < 0.01


def rows():
    rng = np.random.default_rng(1)
    return rng.normal(size=(50, 3)) * [1, 10, 0.1] + [5, -3, 0]


def text(file, separator, header):
    lines = [separator.join(f"{v:.17g}" for v in row) for row in rows()]
    file.write_text("\n".join([separator.join(header), *lines] if header else lines) + "\n")


def written(folder):
    import pandas as pd

    text(folder / "named.csv", ",", ["a", "b", "c"])
    text(folder / "plain.csv", ",", [])
    text(folder / "semicolons.csv", ";", ["a", "b", "c"])
    text(folder / "tabs.tsv", "\t", [])
    pd.DataFrame(rows(), columns=["a", "b", "c"]).to_parquet(folder / "table.parquet")
    np.save(folder / "array.npy", rows())
    np.savez(folder / "one.npz", anything=rows())
    np.savez(folder / "several.npz", x=rows(), y=np.zeros(2))
    return sorted(folder.iterdir())


def test_tables_of_every_kind_hold_the_same_rows(tmp_path):
    files = written(tmp_path)
    assert len(files) == 8
    everything = []
    for file in files:
        data = read(file, kind="vectors", batch=45)
        train, held_out = first(data), data.test()["x"]
        assert train.shape == (45, 3) and held_out.shape == (5, 3) and data.shape == (3,)
        assert np.allclose(train.mean(0), 0, atol=1e-6) and np.allclose(train.std(0, correction=0), 1, atol=1e-5)
        back = (np.concatenate([train, held_out]) * data.std.numpy()) + data.mean.numpy()
        assert np.allclose(np.sort(back, 0), np.sort(rows(), 0), atol=1e-5)
        assert np.array_equal(held_out, read(file).test()["x"]) and len(data.test(2)["x"]) == 2
        everything.append(held_out)
    assert all(np.allclose(everything[0], other) for other in everything)
    assert read(tmp_path / "named.csv").names == ["a", "b", "c"] and read(tmp_path / "plain.csv").names == [
        "0",
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("words.csv", "a,b\n" + "1,2\n" * 9 + "1,red\n", "column 'b' of .*words.csv is not numeric: row 9 holds 'red'"),
        ("gap.csv", "a,b\n1,2\n,3\n" + "1,2\n" * 9, "Row 1 of the column 'a' of .* is empty or not finite"),
        ("same.csv", "a,b\n" + "".join(f"{k},7\n" for k in range(12)), "column 'b' of .* is constant"),
        ("short.csv", "1,2\n3,4\n", "has 2 rows: at least 10"),
        ("broken.csv", "a,b\n1,2\n1,2,3,4\n", "cannot be read as a table"),
        ("bad.npy", "no", "cannot be read as a table"),
        ("notes.txt", "no", "must end in .csv, .tsv, .parquet, .npy, .npz"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(name, content, sentence, tmp_path):
    (tmp_path / name).write_text(content)
    refused(sentence, tmp_path / name)


def test_arrays_that_are_no_tables_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=rows(), b=rows())
    refused("holds the arrays a, b: name one of them x", tmp_path / "two.npz")
    np.save(tmp_path / "cube.npy", np.zeros((20, 2, 2)))
    refused("has the shape .20, 2, 2.", tmp_path / "cube.npy")


def test_sets_and_laboratories_by_name():
    assert isinstance(read("digits"), Digits) and read("digits").levels == 17
    assert isinstance(read("moons", kind="vectors"), Density2D) and read("ring", size=5).shape == (5,)
    assert isinstance(read("clayton"), Copulas) and read("clayton").shape == (6,)
    assert isinstance(read("echoes", size=64), Echoes) and read("echoes", size=64).shape == (64,)
    mnist, small = read("mnist", batch=7, num_workers=2), read("mnist", size=16)
    assert mnist.name == "ylecun/mnist" and mnist.shape == (1, 28, 28) and (mnist.batch, mnist.num_workers) == (7, 2)
    assert small.shape == (1, 16, 16) and small.known.resize
    assert read("uoft-cs/cifar10").shape == (3, 32, 32) and read("someone/pictures").shape == (3, 32, 32)
    assert read("openslr/librispeech_asr", kind="waves", size=4000).shape == (4000,)


def test_every_laboratory_gives_what_it_says():
    dimensions = {"images": 3, "waves": 1, "vectors": 1}
    names = [name for laboratories in LABORATORIES.values() for name in laboratories]
    assert len(names) == len(set(names)) > 20
    for kind, laboratories in LABORATORIES.items():
        for name in laboratories:
            data = read(name, kind=kind)
            assert data.test(2)["x"].shape == (2, *data.shape) and len(data.shape) == dimensions[kind]


def test_the_wrong_kind_is_refused(tmp_path):
    text(tmp_path / "rows.csv", ",", [])
    refused("rows.csv' holds vectors, but images are needed: give a folder", tmp_path / "rows.csv", kind="images")
    refused("'digits' holds images, but vectors are needed: give a table", "digits", kind="vectors")
    refused(
        "There are no data 'nowhere': give a folder of WAV .* or one of tones, switching, echoes",
        "nowhere",
        kind="waves",
    )
    refused("have 8 pixels to a side, not 16", "digits", size=16)
    with pytest.raises(ValueError, match=r"There are no data 'mnits': give a folder of image .*mnist"):
        read("mnits")
