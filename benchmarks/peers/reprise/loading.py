"""Batches per second of our data modules: tables in memory; images by index, decoded once, or streamed."""

import pathlib
import sys

import torch

from datamodules.base import Data, table
from datamodules.readers.images import Images

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import loads


class InMemory(Data):
    """Examples in memory."""

    def __init__(self, kind: str, num_workers: int) -> None:
        super().__init__(batch=loads.BATCH, num_workers=num_workers)
        self.source = table(x=torch.from_numpy(loads.tensors(kind)))


def main() -> None:
    """Measure, and print or record the result."""
    args = loads.arguments()
    torch.set_num_threads(1)
    if args.data != "files":
        data: Data = InMemory(args.data, args.workers)
    else:
        how = {args.way: True} if args.way else {}
        data = Images(batch=loads.BATCH, data_dir=str(loads.parquet()), flip=False, num_workers=args.workers, **how)
    loads.measure(data.train_dataloader(), args.seconds)


main()
