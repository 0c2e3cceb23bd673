"""Images from local parquet files of the hub's columns, and the sentences for files that cannot be used."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.readers import files
from datamodules.readers.files import split_of
from datamodules.readers.images import KNOWN, Images

datasets = pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")


def png(pixels):
    file = io.BytesIO()
    PIL.fromarray(pixels).save(file, "png")
    return file.getvalue()


def pictures(n, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def write(path, encoded, labels):
    rows = {"img": [{"bytes": e, "path": None} for e in encoded], "label": labels}
    datasets.Dataset.from_dict(rows).to_parquet(str(path))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train-00000.parquet", [png(p) for p in pictures(20)], list(range(20)))
    write(tmp_path / "test-00000.parquet", [png(p) for p in pictures(6, seed=1)], list(range(6)))
    return tmp_path


def images(folder, **options):
    return Images(batch=10, data_dir=str(folder), **{"size": 8, "classes": 20, **options})


def test_pixels_labels_and_mirrored_rows_are_those_of_the_files(folder):
    data = images(folder)
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(4)]  # one epoch: 20 rows, each also mirrored
    seen = {}
    for batch in batches:
        for x, label in zip(batch["x"], batch["label"].tolist(), strict=True):
            seen.setdefault(label, []).append(x)
    assert sorted(seen) == list(range(20))
    for label, found in seen.items():
        plain = torch.from_numpy(pictures(20)[label]).permute(2, 0, 1).float() / 127.5 - 1
        assert len(found) == 2
        assert any(torch.equal(x, plain) for x in found)
        assert any(torch.equal(x, plain.flip(2)) for x in found)


def test_held_out_rows_are_not_mirrored(folder):
    batch = images(folder).test(4)
    assert batch["x"].shape == (4, 3, 8, 8)
    assert batch["label"].tolist() == [0, 1, 2, 3]
    assert batch["x"].min() >= -1
    assert batch["x"].max() <= 1


def test_labels_may_be_left_out(folder):
    data = images(folder, label="", flip=False)
    assert set(next(iter(data.train_dataloader()))) == {"x"}
    assert data.classes == 0


def refused(sentence, folder, **options):
    with pytest.raises(ValueError, match=sentence) as error:
        next(iter(images(folder, **options).train_dataloader()))
    assert "\n" not in str(error.value)


def test_unknown_column(folder):
    refused("no column 'image'.*columns are img, label", folder, image="image")
    refused("no column 'class'", folder, label="class")


def test_wrong_size(folder):
    refused("8x8, not 32x32", folder, size=32)


def test_missing_and_empty_folder(tmp_path):
    refused("no folder", tmp_path / "nowhere")
    refused("no parquet, image or IDX files", tmp_path)


def test_truncated_and_empty_file(folder):
    whole = folder / "train-00000.parquet"
    whole.write_bytes(whole.read_bytes()[:-50])
    refused("not a whole parquet file", folder)
    write(whole, [], [])
    refused("no rows", folder)


def test_files_of_different_columns(folder):
    datasets.Dataset.from_dict({"img": [1], "other": [2]}).to_parquet(str(folder / "train-00001.parquet"))
    refused("cannot be read as one table", folder)


def test_large_files_give_the_same_as_small_ones(folder, monkeypatch, tmp_path):
    small = next(iter(images(folder).train_dataloader()))
    monkeypatch.setattr(files, "IN_MEMORY", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    large = next(iter(images(folder).train_dataloader()))
    assert all(torch.equal(small[name], large[name]) for name in small)
    assert (tmp_path / "cache").exists()


def test_corrupt_image(tmp_path):
    write(tmp_path / "train.parquet", [png(p)[:60] for p in pictures(20)], list(range(20)))
    refused("row 0 of .* cannot be read", tmp_path)


def test_column_that_holds_no_images(tmp_path):
    datasets.Dataset.from_dict({"img": [1, 2], "label": [0, 1]}).to_parquet(str(tmp_path / "train.parquet"))
    refused("column 'img'", tmp_path)


def test_unknown_name_on_the_hub():
    with pytest.raises(ValueError, match=r"cannot be had from the hub.*give a folder"):
        Images(batch=4, name="no-such-owner/no-such-set").setup("fit")


LIKE = {
    "ylecun/mnist": ((28, 28), "L", {"label": 7}),
    "zalando-datasets/fashion_mnist": ((28, 28), "L", {"label": 9}),
    "uoft-cs/cifar10": ((32, 32), "RGB", {"label": 9}),
    "flwrlabs/celeba": ((178, 218), "RGB", {"celeb_id": 5, "Smiling": True}),
    "benjamin-paine/imagenet-1k-64x64": ((64, 64), "RGB", {"label": 999}),
    "ILSVRC/imagenet-1k": ((320, 260), "RGB", {"label": 999}),
}
"""Size, kind and other columns of the sets on the hub."""


def encoded(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def like(name, folder):
    """One file for each split, as the hub has it: every image of one colour, which is its row."""
    size, mode, others = LIKE[name]
    for split in ("train", "validation", "test"):
        colours = [k if mode == "L" else (k, 2 * k, 3 * k) for k in range(8 if split == "train" else 3)]
        rows = {KNOWN[name].image: [encoded(PIL.new(mode, size, c)) for c in colours]}
        rows |= {column: [value] * len(colours) for column, value in others.items()}
        if name.startswith("benjamin") and split == "test":
            rows["label"] = [-1] * len(colours)  # its labels are secret
        datasets.Dataset.from_dict(rows).to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("style", ["map", "in_memory", "streaming"])
def test_known_sets_need_no_settings(name, style, tmp_path):
    like(name, tmp_path)
    data = Images(batch=8, name=name, data_dir=str(tmp_path), **({} if style == "map" else {style: True}))
    shape, classes = data.shape, data.classes
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(2 if data.known.flip else 1)]
    levels = torch.cat([(b["x"][:, 0, 0, 0] + 1) * 127.5 for b in batches]).round().long().tolist()
    assert sorted(levels) == sorted([*range(8)] * len(batches))
    assert batches[0]["x"].shape == (8, *shape)
    assert ("label" in batches[0]) == (classes > 0)
    assert data.test()["x"].shape == (3, *shape)
    assert data.known.licence


@pytest.mark.parametrize("streaming", [False, True])
def test_the_hub_is_asked_for_the_splits_of_the_set(streaming, tmp_path, monkeypatch):
    name, asked = "benjamin-paine/imagenet-1k-64x64", []
    like(name, tmp_path)

    def load(given, config, *, split, streaming):
        asked.append((given, split, streaming))
        rows = load_dataset("parquet", data_files=str(tmp_path / f"{split}-*"), split="train", streaming=streaming)
        rows.info.splits = datasets.SplitDict({split: datasets.SplitInfo(split, num_examples=8)})
        return rows

    load_dataset = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load)
    data = Images(batch=8, name=name, streaming=streaming, num_workers=0)
    assert len(next(iter(data.train_dataloader()))["x"]) == 8
    assert data.test(2)["label"].tolist() == [999, 999]
    assert asked == [(name, "train", streaming), (name, "validation", streaming)]


def test_a_stream_of_unknown_length_is_refused(tmp_path, monkeypatch):
    like("ylecun/mnist", tmp_path)
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "train-*"), split="train", streaming=True)
    rows.info.splits = None
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with pytest.raises(ValueError, match="does not say how many rows"):
        Images(batch=8, name="ylecun/mnist", streaming=True).setup("fit")


def test_attributes_can_be_labels(tmp_path):
    like("flwrlabs/celeba", tmp_path)
    data = Images(batch=8, name="flwrlabs/celeba", data_dir=str(tmp_path), label="Smiling", classes=2)
    assert next(iter(data.train_dataloader()))["label"].tolist() == [1] * 8


def test_the_centre_is_cut_out_and_resized(tmp_path):
    x = np.zeros((218, 178, 3), np.uint8)
    x[39:179, 19:159] = 200  # the centre 140 x 140
    x[104:114, 84:94] = 90
    rows = {"image": [encoded(PIL.fromarray(x))]}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "test.parquet"))
    got = (Images(batch=1, name="flwrlabs/celeba", data_dir=str(tmp_path)).test()["x"][0] + 1) * 127.5
    assert got.shape == (3, 64, 64)
    assert (got[:, :20] - 200).abs().max() < 1
    assert (got[:, 31:33, 31:33] - 90).abs().max() < 3


def own(folder, n=6):
    """Image files in a directory for each class."""
    for k in range(n):
        for kind in ("cats", "dogs"):
            for split in ("", "test"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
                shade = k * 10 + (100 if kind == "dogs" else 0) + (5 if split else 0)
                PIL.new("RGB", (12, 10), (shade,) * 3).save(folder / split / kind / f"latest{k}.png")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_image_files(streaming, tmp_path):
    own(tmp_path)
    data = Images(
        batch=12, name="", data_dir=str(tmp_path), label="kind", classes=2, size=8, resize=True, streaming=streaming
    )
    batch = next(iter(data.train_dataloader()))
    shades = ((batch["x"][:, 0, 0, 0] + 1) * 127.5).round().long()
    assert sorted(shades.tolist()) == [0, 10, 20, 30, 40, 50, 100, 110, 120, 130, 140, 150]
    assert torch.equal(batch["label"], (shades >= 100).long())
    assert len(data.test()["x"]) == 12


def test_corrupt_and_odd_image_files_are_named(tmp_path):
    own(tmp_path)
    file = tmp_path / "cats" / "latest0.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    refused("latest0.png cannot be read", tmp_path, name="", label="")
    file.write_bytes(whole)
    refused("latest0.png is 12x10, not 8x8", tmp_path, name="", label="")
    PIL.fromarray(np.full((8, 8), 60_000, np.uint16)).save(file)
    refused("latest0.png has values of more than 8 bits", tmp_path, name="", label="")
    PIL.new("RGB", (8, 8)).save(file)
    refused("channels RGB, not 1", tmp_path, name="", label="", channels=1)


def test_labels_out_of_range(folder, tmp_path_factory):
    refused("there are 5 classes, 0 to 4", folder, classes=5, in_memory=True)
    other = tmp_path_factory.mktemp("secret")
    like("benjamin-paine/imagenet-1k-64x64", other)
    with pytest.raises(ValueError, match="is -1"):
        Images(batch=1, name="", data_dir=str(other), label="label", size=64, classes=1000).test()


def test_contradictions_and_unknown_channels(folder):
    refused("in_memory or streaming", folder, in_memory=True, streaming=True)
    refused("channels is 2", folder, channels=2)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000.parquet", "train"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("validation-0.parquet", "valid"),
        ("valid/cats/3.png", "valid"),
        ("latest/contest.png", "train"),
        ("testudo/4.png", "train"),
        ("my_test.wav", "test"),
    ],
)
def test_the_split_of_a_file(path, split):
    assert split_of(Path(path)) == split
