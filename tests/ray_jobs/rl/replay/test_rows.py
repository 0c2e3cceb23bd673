from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from ray_jobs.rl.replay.records import layout, views, words

TYPES = (torch.bool, torch.uint8, torch.float16, torch.float32, torch.int32, torch.int64, torch.float64)
SHAPES = ((), (1,), (3,), (2, 5), (0,), (3, 1, 2))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(SHAPES)), min_size=1, max_size=7))
def test_what_is_written_to_a_row_is_there_and_nothing_beside_it_changes(kinds):
    fields = layout({str(i): kind for i, kind in enumerate(kinds)})
    kept = views(torch.zeros(4, 3, words(fields), dtype=torch.int64), fields)
    written = {k: torch.randint(0, 2, (4, 3, *x.shape[2:])).to(x.dtype) for k, x in kept.items()}
    for k, x in written.items():
        kept[k].copy_(x)
    for (k, x), (dtype, shape) in zip(written.items(), (kinds[int(k)] for k in written), strict=True):
        assert kept[k].dtype == dtype and kept[k].shape == (4, 3, *shape)
        assert torch.equal(kept[k], x)


def test_a_row_is_as_long_as_what_it_holds_rounded_up_to_words():
    example = {
        "obs": (torch.float32, (4,)),
        "done": (torch.bool, ()),
        "action": (torch.int64, ()),
        "cut": (torch.bool, ()),
    }
    fields = layout(example)
    assert words(fields) == 4  # 16 + 8 + 1 + 1 bytes
    assert [fields[k].first for k in ("action", "obs", "done", "cut")] == [0, 8, 24, 25]
