"""Images from local parquet files of the hub's columns, and the sentences for files that cannot be used."""

import io

import numpy as np
import pytest
import torch

from datamodules.images import Images

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
    return Images(10, data_dir=str(folder), **{"size": 8, "classes": 20, **options})


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
    refused("no parquet files", tmp_path)


def test_truncated_and_empty_file(folder):
    whole = folder / "train-00000.parquet"
    whole.write_bytes(whole.read_bytes()[:-50])
    refused("not a whole parquet file", folder)
    write(whole, [], [])
    refused("no rows", folder)


def test_corrupt_image(tmp_path):
    write(tmp_path / "train.parquet", [png(p)[:60] for p in pictures(20)], list(range(20)))
    refused("cannot be read", tmp_path)


def test_column_that_holds_no_images(tmp_path):
    datasets.Dataset.from_dict({"img": [1, 2], "label": [0, 1]}).to_parquet(str(tmp_path / "train.parquet"))
    refused("column 'img'", tmp_path)


def test_unknown_name_on_the_hub():
    with pytest.raises(ValueError, match="cannot be had from the hub.*give a folder"):
        Images(4, name="no-such-owner/no-such-set").setup("fit")
