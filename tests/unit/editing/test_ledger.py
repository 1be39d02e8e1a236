"""The ledger: switched, moved, undone, written and read, always bit for bit."""

import copy
import json
from dataclasses import dataclass

import pytest
import torch

from lens_core import HookedModel
from lens_core.editing import EditingError, Ledger
from lens_core.editing.packing import pack, unpack
from lens_core.interventions import low_rank, zero
from lens_core.lens.identity import weights_sha256
from tests.unit.editing.edit_helpers import made


@pytest.fixture
def model(gpt2):
    return gpt2.hooked


@pytest.fixture
def tokens(gpt2):
    return gpt2.tokens


@pytest.fixture
def ledger(model):
    """Three edits."""
    ledger = Ledger(model)
    for seed in range(3):
        ledger.add(made(model, seed))
    return ledger


def test_undo_in_any_order_is_exact(model, tokens, ledger):
    """Forbids: logits that an edit has been in and out of, and weights that were touched."""
    plain, hashed = model.run(tokens), weights_sha256(model)
    first, second, third = (entry.key for entry in ledger)
    alone = Ledger(model)
    alone.add(ledger[third].edit)
    ledger.remove(second)
    ledger.remove(first)
    assert torch.equal(ledger.model(model).run(tokens), alone.model(model).run(tokens))
    assert not torch.equal(ledger.model(model).run(tokens), plain)
    ledger.undo()
    assert ledger.model(model) is model
    assert torch.equal(ledger.model(model).run(tokens), plain)
    assert weights_sha256(model) == hashed
    with pytest.raises(EditingError, match="no edit to undo"):
        ledger.undo()


def test_switch_move_and_rename(model, tokens, ledger):
    """Forbids: an edit that is off and acts, keys that change when the order does."""
    first, second, third = (entry.key for entry in ledger)
    ledger.switch(second, False)
    assert [entry.key for entry in ledger.active] == [first, third]
    assert len(ledger.interventions()) == 2
    without = ledger.model(model)
    assert ledger.model(model) is without
    ledger.switch(second, True)
    assert ledger.model(model) is not without
    ledger.move(third, 0)
    assert [entry.key for entry in ledger] == [third, first, second]
    ledger.rename(third, "<script>alert(1)</script>")
    assert ledger[third].name == "<script>alert(1)</script>"
    ledger.remove(first)
    assert ledger.add(made(model, 5)).key not in (first, second, third)
    with pytest.raises(EditingError, match="no edit number"):
        ledger.switch(first, True)


def test_round_trip(model, tokens, ledger):
    """Forbids: numbers, switches, names or the trace that a file loses."""
    key = ledger.entries[1].key
    ledger.switch(key, False)
    ledger.rename(key, '../../x\n"<b>{}`')
    data = ledger.to_bytes()
    read = Ledger.from_bytes(data, model)
    assert [(e.name, e.on) for e in read] == [(e.name, e.on) for e in ledger]
    for ours, theirs in zip(ledger, read, strict=True):
        assert ours.edit.terms == theirs.edit.terms
        assert ours.edit.settings == theirs.edit.settings
        assert ours.edit.requests == theirs.edit.requests
        assert ours.edit.trace.steps == theirs.edit.trace.steps
        a, b = ours.edit.trace.diagnostics[0], theirs.edit.trace.diagnostics[0]
        assert torch.equal(a.key, b.key)
        assert torch.equal(a.value_written, b.value_written)
        assert (a.denominator, b.leverage != b.leverage) == (b.denominator, True)
    assert torch.equal(read.model(model).run(tokens), ledger.model(model).run(tokens))
    assert read.to_bytes() == data
    empty = Ledger(model).to_bytes()
    assert len(Ledger.from_bytes(empty, model)) == 0


def test_in_context_edits_are_kept_as_text(model, tokens):
    """Forbids: a prefix that is lost in a file, or that is taken for a weight."""
    ledger = Ledger(model)
    ledger.add(made(model, terms=(), layers=(), prefix="The Louvre is in Rome. ", settings=None))
    assert ledger.model(model) is model
    assert Ledger.from_bytes(ledger.to_bytes(), model).prefix == "The Louvre is in Rome. "


def test_other_weights_are_refused(model, ledger, llama):
    """Forbids: an edit of one model applied to another, which would be noise."""
    twin = HookedModel.from_hf(copy.deepcopy(model.hf_model), name="twin", check=False)
    with torch.no_grad():
        twin.W_out[0][0, 0] += 1
    with pytest.raises(EditingError, match="made for 'gpt2' with the weights"):
        Ledger.from_bytes(ledger.to_bytes(), twin)
    with pytest.raises(EditingError, match="made for"):
        Ledger(twin).add(ledger.entries[0].edit)
    with pytest.raises(EditingError, match="make them again"):
        ledger.model(twin)
    # A view of the model is the model with edits, not another one.
    assert ledger.model(model.edited([made(model, 7)])).base is model


def test_damaged_and_foreign_files_are_refused_in_a_sentence(model, ledger):
    """Forbids: a traceback, or half a ledger, out of a file that is not one."""
    data = ledger.to_bytes()
    for broken in (
        b"",
        b"PK\x03\x04 not this",
        data[:7],
        data[:100],
        data[:-5],
        b"\xff" * 200,
        pack({"format": "other"}, {}),
        pack({"format": "lens_core ledger", "version": 99}, {}),
        pack({"format": "lens_core ledger", "version": 1}, {}),
    ):
        with pytest.raises(EditingError, match=r"^This .*\.$"):
            Ledger.from_bytes(broken, model)


def _with(data: bytes, change) -> bytes:
    content, tensors = unpack(data, "ledger")
    change(content["entries"][0], tensors)
    return pack(content, tensors)


def _other_tensor(entry, tensors):
    name = next(n for n in tensors if n.startswith("sha256"))
    tensors[name] = tensors[name] + 1


def _too_wide(entry, tensors):
    from lens_core.interventions import to_json

    terms, more = to_json([low_rank("mlp_out", 1, torch.ones(7, 1), torch.ones(1, 32))])
    entry["edit"]["terms"] = terms
    tensors |= more


def _infinite(entry, tensors):
    from lens_core.interventions import to_json

    term = low_rank("mlp_out", 1, torch.full((128, 1), torch.inf), torch.ones(1, 32))
    entry["edit"]["terms"], more = to_json([term])
    tensors |= more


def _not_low_rank(entry, tensors):
    from lens_core.interventions import to_json

    entry["edit"]["terms"] = to_json([zero("z", 0)])[0]


@pytest.mark.parametrize(
    "change",
    [
        _other_tensor,
        _too_wide,
        _infinite,
        _not_low_rank,
        lambda entry, _: entry["edit"].update(terms=3),
        lambda entry, _: entry["edit"].update(terms="[" * 100_000),
        lambda entry, _: entry["edit"].update(settings={"kind": "Popen", "values": {}}),
        lambda entry, _: entry["edit"].update(
            settings={"kind": "RomeSettings", "values": {"steps": "x"}}
        ),
        lambda entry, _: entry["edit"]["requests"][0].update(subject="not there"),
        lambda entry, _: entry["edit"]["requests"][0].update(method="x"),
        lambda entry, _: entry["edit"].update(diagnostics=[[1]]),
        lambda entry, _: entry["edit"].update(steps=[[0, 0, "a", 0, 0, 0, 0]]),
        lambda entry, _: entry["edit"].pop("layers"),
        lambda entry, _: entry.update(on="yes"),
        lambda entry, _: entry.update(edit=None),
        lambda entry, _: entry["edit"].update(name="x" * 10_000),
    ],
)
def test_a_hostile_edit_is_refused_in_a_sentence(model, ledger, change):
    """Forbids: code, other classes, endless text or numbers that do not fit out of a file."""
    data = _with(ledger.to_bytes(), change)
    with pytest.raises(EditingError, match=r"^Edit \d of this file .*\.$"):
        Ledger.from_bytes(data, model)


@dataclass(frozen=True)
class _OwnSettings:
    steps: int = 1


def test_what_cannot_be_read_back_is_not_written(model):
    """Forbids: a file that its own program refuses."""
    ledger = Ledger(model)
    ledger.add(made(model, settings=_OwnSettings()))
    with pytest.raises(EditingError, match="cannot be saved"):
        ledger.to_bytes()


def test_the_file_is_plain_safetensors_without_pickle(ledger):
    """Forbids: a format that could run code when it is read."""
    data = ledger.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert json.loads(header["__metadata__"]["lens_core"])["format"] == "lens_core ledger"
    assert b"pickle" not in data
