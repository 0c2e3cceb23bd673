"""Images with captions: the files that hold them, which image has which, and one sentence for everything that is missing."""

import json

import numpy as np
import pytest
import torch

from datamodules.labs.shapes import Shapes
from datamodules.readers.captioned import Captioned, read
from datamodules.readers.captions import of_files

datasets = pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")

SHADES = {"a.png": 10, "b.png": 60, "test/a.png": 200, "deep/c.png": 110}
"""Grey level of each image; one of them is held out."""


def pictures(folder):
    for name, shade in SHADES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        PIL.new("RGB", (6, 6), (shade,) * 3).save(folder / name)
    return folder


def encode(texts):
    """Tokens [B, 1]: the length of each caption."""
    return torch.tensor([[len(text)] for text in texts])


def opened(folder, **more):
    data = Captioned(data_dir=str(folder), size=8, batch=2, **more)
    data.encode = encode
    data.setup("fit")
    return data


def pairs(batch):
    """Grey level and length of the caption of each example."""
    shade = ((batch["x"][:, 0, 0, 0] + 1) * 127.5).round().int()
    return sorted(zip(shade.tolist(), batch["caption"][:, 0].tolist(), strict=True))


TEXTS = {"a.png": ["one"], "b.png": ["four", "longer"], "test/a.png": ["held out"], "deep/c.png": ["at the bottom"]}


def write(folder, kind):
    lines = [(name, text) for name, texts in TEXTS.items() for text in texts]
    if kind == "csv":
        text = "file_name,caption\n" + "".join(f'{name},"{text}"\n' for name, text in lines)
        (folder / "captions.csv").write_text(text)
    elif kind == "jsonl":
        rows = [json.dumps({"file_name": name, "text": text}) for name, text in lines]
        (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n\n")
    elif kind == "coco":
        images = [{"id": i, "file_name": name} for i, name in enumerate(TEXTS)]
        notes = [{"image_id": i, "caption": text} for i, texts in enumerate(TEXTS.values()) for text in texts]
        (folder / "annotations").mkdir()
        (folder / "annotations" / "captions_all.json").write_text(json.dumps({"images": images, "annotations": notes}))
    else:  # a file of captions in each folder, which names images from there
        for name, texts in TEXTS.items():
            where = (folder / name).parent / "captions.csv"
            head = where.read_text() if where.exists() else "image,caption,more\n"
            where.write_text(head + "".join(f"{name.rpartition('/')[2]},{text},x\n" for text in texts))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "coco", "apart"])
def test_every_image_has_its_captions_each_of_which_is_an_example(kind, tmp_path):
    write(pictures(tmp_path), kind)
    data = opened(tmp_path)
    assert pairs(data.seen()) == [(10, 3), (60, 4), (60, 6), (110, 13)]
    assert pairs(data.test()) == [(200, 8)] and data.part == "test"
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape == (2, 3, 8, 8) and batch["caption"].shape == (2, 1)


def test_mirrored_images_keep_their_captions(tmp_path):
    write(pictures(tmp_path), "csv")
    half = np.zeros((6, 6, 3), np.uint8)
    half[:, 3:] = 255
    PIL.fromarray(half).save(tmp_path / "b.png")
    data = opened(tmp_path, flip=True)
    assert data.source.size == 8 and data.source.forms == 2
    whole = data.source.take(np.arange(8))
    assert torch.equal(whole["caption"][:4], whole["caption"][4:]) and torch.equal(
        whole["x"][:4].flip(3), whole["x"][4:]
    )
    assert not torch.equal(whole["x"][:4], whole["x"][4:])
    kept, chosen = data.source.divided()
    assert kept.size == 6 and len(chosen(None)["caption"]) == 1


@pytest.mark.parametrize("column", ["caption", "text", "words"])
def test_parquet_files_have_a_column_of_captions_or_of_lists_of_them(column, tmp_path):
    write(pictures(tmp_path), "csv")
    names = {"train": ["a.png", "b.png", "deep/c.png"], "test": ["test/a.png"]}
    for split, of in names.items():
        texts = [TEXTS[name] if column == "text" else TEXTS[name][0] for name in of]
        rows = {"image": [{"bytes": (tmp_path / name).read_bytes(), "path": None} for name in of], column: texts}
        (tmp_path / "rows").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows" / f"{split}.parquet"))
    data = opened(tmp_path / "rows", text="words" if column == "words" else "")
    expected = [(10, 3), (60, 4), (110, 13)]
    assert pairs(data.seen()) == sorted([*expected, (60, 6)] if column == "text" else expected)
    assert pairs(data.test()) == [(200, 8)]


def test_rows_without_a_caption_or_a_column_are_named(tmp_path):
    image = {"bytes": None, "path": "x.png"}
    rows = {"image": [image] * 5, "text": ["one", None, "", " ", "two"], "count": [1, 2, 3, 4, 5]}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(ValueError, match=r"3 of 5 rows of .* have no caption: row 1, row 2, row 3\. Write captions"):
        opened(tmp_path)
    with pytest.raises(ValueError, match=r"no column 'words' in the data .* columns are image, text, count"):
        opened(tmp_path, text="words")
    with pytest.raises(ValueError, match="captions that are no texts but int"):
        opened(tmp_path, text="count")


def test_images_without_a_caption_are_counted_and_named(tmp_path):
    pictures(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds no captions: put a captions\.csv with the columns file_name and caption"
    ):
        opened(tmp_path)
    (tmp_path / "captions.csv").write_text("file,caption\nb.png,blue\na.png,\n")
    with pytest.raises(
        ValueError, match=r"2 of 3 images of .* have no caption in captions\.csv: a\.png, deep/c\.png\."
    ):
        opened(tmp_path)
    many = [tmp_path / f"{k}.png" for k in range(9)]  # of a folder that has captions of others
    with pytest.raises(
        ValueError, match=r"9 of 9 images .*: 0\.png, 1\.png, 2\.png and 6 more\. Write captions for them"
    ):
        of_files(tmp_path, many)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "captions.csv",
            b"picture,caption\na.png,x\n",
            "no column of image files: call it file_name or .* have picture, caption",
        ),
        ("captions.csv", b"file,words\na.png,x\n", "no column of captions: call it caption or text or prompt"),
        ("captions.csv", b"", "no column of image files: .* have none"),
        ("captions.csv", b"file,caption\na.png,\xff\xfe\n", r"cannot be read .*must be csv in UTF-8"),
        ("captions.jsonl", b"{'file': 1}\n", r"cannot be read .*must be jsonl in UTF-8"),
        ("captions.json", b"[]", "are not COCO's: 'images' and 'annotations' are needed"),
    ],
)
def test_a_file_of_captions_that_cannot_be_read_is_named(name, content, message, tmp_path):
    pictures(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        opened(tmp_path)
    assert name in str(refused.value) and "\n" not in str(refused.value)


def test_a_word_names_a_folder_a_set_or_shapes(tmp_path):
    write(pictures(tmp_path), "csv")
    assert isinstance(read("shapes"), Shapes) and read("shapes", size=64).shape == (3, 64, 64)
    assert isinstance(read(str(tmp_path), size=8), Captioned) and read("owner/name").images.name == "owner/name"
    for word in ("", "nothing", "./no/where"):
        with pytest.raises(ValueError, match=f"no images with captions '{word}': give a folder"):
            read(word)
    data = Captioned(data_dir=str(tmp_path), size=8)
    with pytest.raises(ValueError, match="no vocabulary yet"):
        data.setup("fit")
