import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_snippets_run_as_they_stand(capsys, tmp_path, monkeypatch):
    """Forbids an example that fails for whoever copies it, or a lens that training made worse."""
    monkeypatch.chdir(tmp_path)
    first, second, third, fourth = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == names["model"].cfg.n_layers
    assert not names["without_head"].equal(names["logits"])
    exec(compile(second, "README.md", "exec"), names)
    written, effect = names["written"], names["effect"]
    assert written.ok
    assert effect.total_effect == pytest.approx(effect.direct_effect + effect.indirect_effect)
    exec(compile(third, "README.md", "exec"), names)
    measured = names["training"].held_out_kl
    assert (tmp_path / "runs" / "my-lens").is_dir()
    assert sum(measured[20]) < sum(measured[0])
    exec(compile(fourth, "README.md", "exec"), names)
    assert "Rome" in names["edited"].to_string(names["edited"].generate(names["fact"], 1)[0])
    assert "Paris" in names["model"].to_string(names["model"].generate(names["fact"], 1)[0])


def test_commands_are_single_lines_that_name_files_which_are_there():
    """Forbids a command that a fresh clone cannot run, and a CI that no longer finds it."""
    commands = re.findall(r"^pip install -r .*$", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        for name in re.findall(r"[\w/-]+\.(?:txt|py)", command):
            assert (ROOT / name).is_file(), name
    marked = re.search(r"<!-- test command -->(.*?)<!-- end -->", README, re.DOTALL)
    assert commands[1] in marked[1]


@pytest.mark.parametrize(
    "target", re.findall(r"\]\(([^)#]+)\)|`((?:[\w.-]+/)*[\w.-]+\.md)`", README)
)
def test_files_that_readme_points_to(target):
    """Forbids a broken picture or a file that was moved."""
    assert (ROOT / next(filter(None, target))).exists()
