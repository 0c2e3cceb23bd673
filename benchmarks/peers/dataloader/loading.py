"""Batches per second of torch's DataLoader as it is: shuffled, one item after the other, collated."""

import pathlib
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import loads


class Files(Dataset):
    """Images of a parquet file, decoded when they are asked for."""

    def __init__(self) -> None:
        from datasets import Dataset as Rows
        from datasets import Image

        rows = Rows.from_parquet([str(f) for f in loads.parquet().iterdir()], keep_in_memory=True)
        self.rows = rows.cast_column("img", Image())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        row = self.rows[i]
        x = torch.from_numpy(np.array(row["img"].convert("RGB")))
        return {"x": x.permute(2, 0, 1).float() / 127.5 - 1, "label": row["label"]}


def main() -> None:
    """Measure, and print or record the result."""
    args = loads.arguments()
    torch.set_num_threads(1)
    items = Files() if args.data == "files" else TensorDataset(torch.from_numpy(loads.tensors(args.data)))
    loader = DataLoader(
        items,
        batch_size=loads.BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    loads.measure(loader, args.seconds)


main()
