"""Baked checkpoints: plain transformers loads them, and they say what the edited model says."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from lens_core import HookedModel
from lens_core.editing import EditingError, bake
from lens_core.interventions import low_rank
from lens_core.lens.identity import weights_sha256
from lens_core.model.errors import InterventionError
from tests.unit.editing.edit_helpers import made

SITES = ("mlp_out", "attn_out", "mlp_pre", "mlp_gate")


def terms_of(model):
    """A random edit of every projection of the second layer that can be edited."""
    generator = torch.Generator().manual_seed(0)
    terms = []
    for site in SITES:
        if model.has_site(site, 1):
            d_in, d_out = model._projection_sizes(site, 1)
            left = torch.randn(d_in, 2, generator=generator) / d_in**0.5
            terms.append(low_rank(site, 1, left, torch.randn(2, d_out, generator=generator)))
    return terms


@pytest.mark.parametrize("name", ["gpt2", "llama", "phi3", "gpt_neox"])
def test_a_baked_model_needs_nothing_but_transformers(family_named, name, tmp_path):
    """Forbids: a transposed weight, the wrong half of a fused one, weights left in the model."""
    family = family_named(name)
    model, tokens = family.hooked, family.tokens
    hashed = weights_sha256(model)
    terms = terms_of(model)
    folder = bake(model, terms, tmp_path / "out" / "baked")
    plain = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval()
    with torch.no_grad():
        logits = plain(input_ids=tokens).logits
    edited = model.edited(terms).run(tokens)
    assert (logits - edited).abs().max() <= 1e-4 * max(1.0, float(edited.abs().max()))
    assert not torch.allclose(logits, model.run(tokens), atol=1e-2)
    assert weights_sha256(model) == hashed
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".md"}
    # What stands in a view is baked too.
    again = bake(model.edited(terms[:1]), terms[1:], tmp_path / "again")
    other = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=False).eval()
    with torch.no_grad():
        assert torch.allclose(other(input_ids=tokens).logits, logits, atol=1e-4)


def test_tiny_world_is_baked_with_its_tokenizer(tiny_world, tmp_path):
    """Forbids: a folder that only this library, or only this process, can load."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(1024, 1, generator=generator), torch.randn(1, 256)
    edit = low_rank("mlp_out", 2, left / 32, right)
    folder = bake(tiny_world, [edit], tmp_path / "baked")
    prompt = "The Eiffel Tower is in"
    code = (
        "import sys, torch, transformers\n"
        f"model = transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})\n"
        f"tokenizer = transformers.AutoTokenizer.from_pretrained({str(folder)!r})\n"
        f"ids = [tokenizer.bos_token_id, *tokenizer.encode({prompt!r}, add_special_tokens=False)]\n"
        "logits = model(torch.tensor([ids])).logits[0, -1].double()\n"
        "assert 'lens_core' not in sys.modules\n"
        "print(logits.argmax().item(), logits.max().item())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    ).stdout.split()
    logits = tiny_world.edited([edit]).run(prompt)[0, -1]
    assert int(said[0]) == int(logits.argmax())
    assert float(said[1]) == pytest.approx(float(logits.max()), abs=1e-4)
    assert "BOS" in (folder / "README.md").read_text()
    loaded = HookedModel.from_pretrained(folder, check=False)
    assert torch.allclose(loaded.run(tiny_world.to_tokens(prompt))[0, -1], logits, atol=1e-4)


def test_text_of_requests_cannot_leave_its_block(gpt2, tmp_path):
    """Forbids: a request that writes its own markdown into the model's card."""
    request = replace(made(gpt2.hooked).requests[0], target_new="```\n<script>x</script>")
    folder = bake(gpt2.hooked, [made(gpt2.hooked, requests=(request,))], tmp_path / "baked")
    assert (folder / "README.md").read_text().count("```") == 2


def test_a_folder_in_use_is_refused_and_nothing_is_left_behind(gpt2, tmp_path, monkeypatch):
    """Forbids: overwriting somebody's files, and half a checkpoint after a fault."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    edit = made(gpt2.hooked)
    with pytest.raises(EditingError, match="something in 'mine'"):
        bake(gpt2.hooked, [edit], tmp_path / "mine")
    with pytest.raises(InterventionError, match="put its prefix"):
        bake(gpt2.hooked, [replace(edit, prefix="x ")], tmp_path / "new")

    def full(*args, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(type(gpt2.hooked.hf_model), "save_pretrained", full)
    with pytest.raises(EditingError, match="cannot be written"):
        bake(gpt2.hooked, [edit], tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
