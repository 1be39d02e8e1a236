"""Tiny saved models: what loading meets on disk, without network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for variable in ("LENS_LAB_MAX_MODEL_GB", "LENS_LAB_ALLOWED_MODELS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({"<bos>": 0, **{c: i for i, c in enumerate(letters, 1)}}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<bos>")


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=260, n_positions=32)
    )


@pytest.fixture
def save(tmp_path: Path, gpt2: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> Save:
    """Save a model (the tiny GPT-2 unless told) and its tokenizer into a fresh folder."""

    def _save(name="model", *, model=gpt2, with_tokenizer=True, root=tmp_path, **options) -> Path:
        folder = root / name
        model.save_pretrained(folder, **options)
        if with_tokenizer:
            tokenizer.save_pretrained(folder)
        return folder

    return _save
