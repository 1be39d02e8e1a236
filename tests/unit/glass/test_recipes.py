"""The shipped folders hold what the code writes."""

import pytest
import torch
from safetensors.torch import load_file

from lens_core import HookedModel
from lens_core.glass.__main__ import RECIPES, main
from lens_core.model.catalogue import find
from lens_core.model.sources import shipped_models


@pytest.mark.parametrize("name", RECIPES)
def test_the_shipped_folder_holds_these_very_weights(name):
    """Forbids a folder that was written by an older recipe, or not at all."""
    folder = shipped_models()[name]
    stored = load_file(folder / "model.safetensors")
    built = dict(RECIPES[name][0]().named_parameters())
    assert {key for key in stored if key in built} == set(built)
    for key, parameter in built.items():
        assert torch.equal(stored[key].float(), parameter)
    loaded = HookedModel.from_pretrained(name)
    assert loaded.report is not None
    assert loaded.report.ok
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert "README" not in find(name).teaches


def test_writing_them_again_changes_no_byte(tmp_path, capsys):
    """Forbids weights or files that differ from run to run."""
    main(tmp_path)
    for name in RECIPES:
        for path in (tmp_path / name).iterdir():
            if path.name != "generation_config.json" and "config" not in path.name:
                assert path.read_bytes() == (shipped_models()[name] / path.name).read_bytes()
