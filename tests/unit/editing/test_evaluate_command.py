"""``python -m lens_core.editing.evaluate`` and the methods by name."""

import json

import pytest

from lens_core.editing import EditingError
from lens_core.editing.evaluate.__main__ import main
from lens_core.editing.evaluate.methods import METHOD_NAMES, method_of


def test_the_command_writes_figures_and_table_and_goes_on(tmp_path, capsys):
    """Forbids a command that needs more than one line, or does its work twice."""
    arguments = ["--methods", "in-context", "--n", "2", "--threads", "1"]
    arguments += ["--output", str(tmp_path / "out"), "--table", str(tmp_path / "t.md")]
    arguments += ["--checkpoints", str(tmp_path / "ck")]
    assert main(arguments) == 0
    assert "in-context: 2 of 2" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "development-in-context.json").read_text())
    assert content["n_records"] == 2
    assert content["provenance"]["split"] == "development"
    assert "not comparable" in (tmp_path / "t.md").read_text()
    assert main(arguments) == 0
    assert "of 2" not in capsys.readouterr().out


def test_bad_input_is_one_sentence(tmp_path, capsys):
    """Forbids a traceback on the command line."""
    where = ["--output", str(tmp_path), "--checkpoints", str(tmp_path)]
    assert main(["--methods", "nothing", "--n", "1", *where]) == 2
    assert main(["--file", str(tmp_path / "no.json"), *where]) == 2
    assert main(["--methods", "ft:x", "--n", "1", *where]) == 2
    said = capsys.readouterr().err
    lines = [x for x in said.splitlines() if x.strip() and not x.startswith("Loading weights")]
    assert len(lines) == 3
    assert all(line.endswith(".") for line in lines)


def test_every_method_has_settings_for_the_shipped_model(tiny_world):
    """Forbids a name in the list that cannot be run."""
    for name in METHOD_NAMES:
        assert method_of(tiny_world, name).name == name
    assert method_of(tiny_world, "original").settings["variant"] == "original"
    assert method_of(tiny_world, "r-rome", layer=3).settings["layer"] == 3
    with pytest.raises(EditingError, match="no method"):
        method_of(tiny_world, "rome-2")
    with pytest.raises(EditingError, match="no such settings"):
        method_of(tiny_world, "r-rome", colour=1)
