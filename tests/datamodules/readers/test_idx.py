"""IDX files as MNIST comes: what is read is what was written, and one sentence for each file that cannot be used."""

import gzip
import struct

import numpy as np
import pytest
import torch

from datamodules.readers import idx
from datamodules.readers.images import Images
from datamodules.readers.own import read

SIDE = 6


def written(array, path):
    """An IDX file of bytes, written by the format's definition, gzipped where its name says so."""
    content = bytes((0, 0, 8, array.ndim)) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def pictures(n, seed, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


@pytest.fixture(params=["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte"])
def folder(request, tmp_path):
    """A set of 12 and 5 images, whose label is their row."""
    for part, n in (("train", 12), ("t10k", 5)):
        written(pictures(n, n), tmp_path / f"{part}-images{request.param.format(3)}")
        written(np.arange(n, dtype=np.uint8), tmp_path / f"{part}-labels{request.param.format(1)}")
    return tmp_path


@pytest.fixture()
def plain(tmp_path):
    """The same set in plain files."""
    for part, n in (("train", 12), ("t10k", 5)):
        written(pictures(n, n), tmp_path / f"{part}-images-idx3-ubyte")
        written(np.arange(n, dtype=np.uint8), tmp_path / f"{part}-labels-idx1-ubyte")
    return tmp_path


def images(folder, **options):
    return Images(
        batch=12, data_dir=str(folder), **{"name": "ylecun/mnist", "size": SIDE, "classes": 12, "flip": False} | options
    )


def units(array):
    """Bytes [N, S, S] as x [N, 1, S, S] in [-1, 1]."""
    return torch.from_numpy(array)[:, None].float() / 127.5 - 1


def used(data):
    next(iter(data.train_dataloader()))
    data.test()


def refused(sentence, folder, **options):
    with pytest.raises(ValueError, match=sentence) as error:
        used(images(folder, **options))
    assert "\n" not in str(error.value)


def test_pixels_and_labels_are_those_of_the_files(folder):
    data = images(folder)
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch["label"].tolist()) == list(range(12)) and batch["label"].dtype == torch.long
    torch.testing.assert_close(batch["x"], units(pictures(12, 12))[batch["label"]])
    held = data.test(4)
    torch.testing.assert_close(held["x"], units(pictures(5, 5))[:4])
    assert held["label"].tolist() == [0, 1, 2, 3] and len(data.test()["x"]) == 5
    assert data.part == "test" and data.validation() is None


def test_mirrored_images_are_examples_of_their_own(plain):
    data = images(plain, flip=True)
    x = torch.cat([b["x"] for b, _ in zip(data.train_dataloader(), range(2), strict=False)])
    whole = units(pictures(12, 12))
    for picture in (*whole, *whole.flip(3)):
        assert sum(torch.allclose(picture, found) for found in x) == 1


def test_colour_and_another_size_are_made_of_grey_images(plain):
    data = images(plain, channels=3, size=3, resize=True)
    x = data.test()["x"]
    assert x.shape == (5, 3, 3, 3) and torch.equal(x[:, 0], x[:, 2])
    assert (x.mean((1, 2, 3)) - units(pictures(5, 5)).mean((1, 2, 3))).abs().max() < 0.1
    written(np.full((5, SIDE, SIDE), 9, np.uint8), plain / "t10k-images-idx3-ubyte")
    assert images(plain, size=4, crop=4, resize=True).test()["x"].unique().tolist() == pytest.approx([9 / 127.5 - 1])


def test_labels_may_be_left_out_with_their_files(plain):
    for file in plain.glob("*labels*"):
        file.unlink()
    assert set(next(iter(images(plain, label="").train_dataloader()))) == {"x"}
    refused("no IDX file of labels to train with: expected e.g. train-labels-idx1-ubyte", plain)


def test_an_unpacked_file_stands_for_the_gzipped_one(plain):
    (plain / "train-images-idx3-ubyte.gz").write_bytes(b"half a downl")
    assert len(images(plain).seen()["x"]) == 12


def test_image_and_parquet_files_come_first(plain):
    assert idx.are_in(plain)
    (plain / "train.parquet").write_bytes(b"no")
    assert not idx.are_in(plain)
    refused("not a whole parquet file", plain)


def test_by_one_word_the_set_has_its_own_size_and_is_grey(plain):
    data = read(plain, kind="images", batch=4)
    assert data.shape == (1, SIDE, SIDE) and data.classes == 0
    torch.testing.assert_close(data.test()["x"], units(pictures(5, 5)))
    assert read(plain, size=4, channels=3).test()["x"].shape == (5, 3, 4, 4)
    assert read(plain, label="label").classes == 12 and read(plain, label="label").test()["label"].tolist() == [
        *range(5)
    ]
    with pytest.raises(ValueError, match="holds images, but vectors are needed"):
        read(plain, kind="vectors")


def test_files_that_are_not_whole(plain):
    file = plain / "train-images-idx3-ubyte"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    refused("has 431 bytes of images, not 12 x 6 x 6", plain)
    for wrong in (whole[:5], b"", b"\0\0\x0d\x03" + whole[4:], (plain / "train-labels-idx1-ubyte").read_bytes()):
        file.write_bytes(wrong)
        refused("is not an IDX file of images in bytes", plain)
    packed = plain / "train-images-idx3-ubyte.gz"
    file.unlink()
    for wrong in (gzip.compress(whole)[:-9], whole):
        packed.write_bytes(wrong)
        refused("train-images-idx3-ubyte.gz cannot be read", plain)
    written(pictures(0, 0), file)
    refused("has no images", plain)


def test_files_that_do_not_fit_together(plain):
    written(np.arange(11, dtype=np.uint8), plain / "train-labels-idx1-ubyte")
    refused("12 images in .*, but 11 labels", plain)
    (plain / "other").mkdir()
    written(pictures(3, 3), plain / "other" / "train-images-idx3-ubyte")
    refused("holds 2 IDX files of images to train with", plain)


def test_what_the_settings_rule_out(plain):
    refused("are 6x6, not 28x28: give its size, or set resize", plain, size=28)
    refused("label of row 10 of .* is 10; there are 10 classes, 0 to 9", plain, classes=10)
    refused("read whole, not streamed", plain, streaming=True)
    for file in plain.glob("t10k*"):
        file.unlink()
    refused("no IDX file of images to test with: expected e.g. t10k-images-idx3-ubyte", plain)
