"""What both commands do first: the model and the rows that the flags name."""

from __future__ import annotations

import argparse
import os

import torch

from lens_core import HookedModel
from lens_core.lens.corpus import Rows, read_corpus

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def is_first_process() -> bool:
    """Whether this process, of those that a launcher started, speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def load_model(options: argparse.Namespace) -> HookedModel:
    """The model, on the device that the flags or the launcher say."""
    device = options.device
    if device is None and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    return HookedModel.from_pretrained(
        options.model_name,
        device=device or "cpu",
        dtype=_DTYPES.get(options.precision),
        device_map=options.device_map,
        revision=options.model_revision,
    )


def read_rows(
    options: argparse.Namespace, model: HookedModel, max_tokens: int | None = None
) -> Rows:
    """The rows that the flags name, as long as the model's context allows."""
    n_ctx = options.max_seq_len
    if model.cfg.n_ctx is not None:
        n_ctx = min(n_ctx, model.cfg.n_ctx)
    return read_corpus(
        " ".join(options.data_name),
        model,
        n_ctx=n_ctx,
        max_tokens=max_tokens,
        text_column=options.text_column,
        split=options.split,
        revision=options.data_revision,
    )
