"""Rows of tokens from text: the beginning token, documents, units and bad files."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_core import HookedModel
from lens_core.lens import LensDataError
from lens_core.lens.corpus import Rows, read_corpus, split_rows, world_documents
from lens_core.model.errors import LensError

DOCS = ["abc " * n for n in (3, 30, 1, 80, 7, 7, 7, 40)] * 3


@pytest.fixture(scope="module")
def models(random_model: Callable[[str], HookedModel]) -> tuple[HookedModel, HookedModel]:
    """One model that is given no BOS, and the same with BOS before every prompt."""
    plain = random_model("gpt2")
    bos = copy.copy(plain)
    bos.default_prepend_bos = True
    return plain, bos


@pytest.fixture
def with_bos(models: tuple[HookedModel, HookedModel]) -> HookedModel:
    """The one that is given BOS."""
    return models[1]


def test_rows_begin_as_the_model_was_trained(gpt2: HookedModel, with_bos: HookedModel) -> None:
    """Forbids rows that begin in the middle of a sink-less context for a model given BOS."""
    assert (read_corpus(DOCS, with_bos, n_ctx=32).tokens[:, 0] == 0).all()
    plain = read_corpus(DOCS, gpt2, n_ctx=32).tokens
    assert plain[0, 0] == 0  # a document still begins after the separator
    assert not (plain[:, 0] == 0).all()  # a text's second row does not
    assert plain.shape[1] == 32


def test_documents_are_whole_in_a_split(with_bos: HookedModel) -> None:
    """Forbids the second half of a text being held out while the first half is trained on."""
    docs = [chr(ord("a") + i) * n for i, n in enumerate((10, 70, 200, 15, 64, 33, 90, 8, 120, 50))]
    rows = read_corpus(docs, with_bos, n_ctx=32)
    train, held = split_rows(rows, 0.3)
    assert len(train) + len(held) == len(rows)
    letters = [set(part.tokens.unique().tolist()) - {0} for part in (train, held)]
    assert letters[0].isdisjoint(letters[1])
    with pytest.raises(LensDataError, match="one document"):
        split_rows(read_corpus(["x" * 400], with_bos, n_ctx=32))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=30),
    n_ctx=st.integers(4, 64),
    bos=st.booleans(),
)
def test_owner_is_shared_by_every_row_of_a_document(
    models: tuple[HookedModel, HookedModel], lengths: list[int], n_ctx: int, bos: bool
) -> None:
    """Forbids bootstrap clusters that share a text, and rows of another length."""
    docs = [chr(33 + i) * n for i, n in enumerate(lengths)]
    try:
        rows = read_corpus(docs, models[bos], n_ctx=n_ctx)
    except LensDataError:
        return
    seen: dict[int, int] = {}
    for row, owner in zip(rows.tokens.tolist(), rows.documents.tolist(), strict=True):
        assert len(row) == n_ctx
        for token in set(row) - {0}:
            assert seen.setdefault(token, owner) == owner


def test_files_and_documents_give_the_same_rows(gpt2: HookedModel, tmp_path: Path) -> None:
    """Forbids a reader that loses the first line, the last line or the second zstd frame."""
    lines = [json.dumps({"text": doc, "n": 1}) + "\n" for doc in DOCS]
    plain, packed, text = (tmp_path / n for n in ("a.jsonl", "a.jsonl.zst", "a.txt"))
    plain.write_text("".join(lines))
    half = len(lines) // 2
    frames = ["".join(lines[:half]), "".join(lines[half:])]
    packed.write_bytes(b"".join(zstandard.compress(frame.encode()) for frame in frames))
    text.write_text("\n\n".join(DOCS))
    hashes = {
        read_corpus(source, gpt2, n_ctx=32).sha256 for source in (DOCS, plain, str(packed), text)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "a"}\nnot json\n', "Line 2 of a.jsonl"),
        ("a.jsonl", b'{"body": "a"}\n', "body"),
        ("a.jsonl", b'["a"]\n', "no column"),
        ("a.jsonl.zst", b"not zstd", "cannot be read"),
        ("a.txt", b"\xff\xfe\xff", "cannot be read"),
        ("a.txt", b"short", "0 tokens|6 tokens"),
        ("a.csv", b"a,b", "not a text file"),
    ],
)
def test_bad_files_are_one_sentence(
    gpt2: HookedModel, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """Forbids tracebacks of json, zstandard and codecs."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LensDataError, match=says):
        read_corpus(tmp_path / name, gpt2, n_ctx=32)


def test_a_missing_file_never_asks_the_hub(gpt2: HookedModel, monkeypatch) -> None:
    """Forbids a mistyped path from going over the network."""

    def refuse(*_: object) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr("lens_core.lens.corpus_sources._needed", refuse)
    for name in ("nowhere.jsonl", "/nowhere/a.txt", "./pile", "nowhere.jsonl.zst"):
        with pytest.raises(LensDataError):
            read_corpus(name, gpt2, n_ctx=32)


def test_hub_names_are_refused_politely_offline(gpt2: HookedModel, monkeypatch) -> None:
    """Forbids a retry loop or a traceback where there is no hub or no package."""
    monkeypatch.setattr("lens_core.lens.corpus_sources.hub_answers", lambda: False)
    with pytest.raises(LensError, match=r"datasets|hub"):
        read_corpus("some/dataset config", gpt2, n_ctx=32)


def test_bits_per_byte_of_bytes(gpt2: HookedModel) -> None:
    """Forbids characters, or nats, where bits and UTF-8 bytes are meant."""
    docs = ["é" * 500] * 8  # two tokens a character in a byte vocabulary, and one separator
    rows = read_corpus(docs, gpt2, n_ctx=32)
    assert rows.nats_to_bits_per_byte == pytest.approx(1001 / 1000 / math.log(2))


def test_odd_texts_are_data(gpt2: HookedModel) -> None:
    """Forbids a crash on half of a surrogate pair, and empty documents that become rows."""
    rows = read_corpus(["", "  ", "a\ud800b" * 40], gpt2, n_ctx=16)
    assert (rows.tokens[0] == 0).sum() == 1


def test_the_world_is_apart_and_the_same_again(gpt2: HookedModel) -> None:
    """Forbids a corpus that changes from run to run, or that a seed does not change."""
    first = [next(documents) for documents in (world_documents(), world_documents())]
    assert first[0] == first[1]
    a = read_corpus("world", gpt2, n_ctx=64, max_tokens=640)
    b = read_corpus("world:3", gpt2, n_ctx=64, max_tokens=640)
    assert len(a) == len(b) == 10
    assert a.sha256 != b.sha256


def test_rows_too_long_for_the_model(gpt2: HookedModel) -> None:
    """Forbids an index error inside the model's position table."""
    with pytest.raises(LensDataError, match="choose 2 to 64"):
        read_corpus(DOCS, gpt2, n_ctx=65)


def test_the_hash_is_of_the_tokens() -> None:
    """Forbids a hash that depends on the name or on the tensor's type."""
    tokens = torch.arange(12).view(3, 4)
    a = Rows.of(tokens, torch.arange(3), 1.0, "a")
    b = Rows.of(tokens.int(), torch.zeros(3), 2.0, "b")
    assert a.sha256 == b.sha256 != a.take(torch.tensor([0, 2])).sha256
