"""Every mistake that a visitor or a host can make is one polite sentence on the page."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import plain
from lens_core.model.sizing import LIMIT_VARIABLE
from lens_core.model.sources import ALLOWED_VARIABLE, shipped_models


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped model, to be broken."""
    copy = tmp_path / "broken"
    shutil.copytree(shipped_models()["tiny-world"], copy, ignore=shutil.ignore_patterns("README*"))
    return copy


def without_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def cut_off(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def pickled_code(folder):
    class Bomb:
        def __reduce__(self):
            return (print, ("code from a checkpoint ran",))

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, folder / "pytorch_model.bin")


def encoder_only(folder):
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def not_a_number(folder):
    weights = load_file(folder / "model.safetensors")
    first = next(iter(weights))
    weights[first] = torch.full_like(weights[first], torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


BREAKS = (without_tokenizer, cut_off, pickled_code, encoder_only, not_a_number)


def sentence(at):
    """The one error on the page."""
    assert not at.exception
    assert len(at.error) == 1
    text = at.error[0].value
    assert "Traceback" not in text
    assert "Something went wrong" not in text
    return text


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda breaks: breaks.__name__)
def test_a_broken_model_is_explained(open_page, folder, monkeypatch, capsys, breaks):
    """Forbids a traceback, or a checkpoint's code run, where a folder is damaged or hostile."""
    breaks(folder)
    monkeypatch.setenv(ALLOWED_VARIABLE, str(folder))
    at = open_page("logit_lens", model=str(folder))
    assert sentence(at).endswith(("\\.", "\\)"))
    assert "not loaded" in " ".join(element.value for element in at.sidebar.markdown)
    assert "code from a checkpoint ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["no/such-model", "![x](https://evil.example/p.png)"])
def test_an_unknown_model_is_explained_and_its_name_stays_text(open_page, monkeypatch, name):
    """Forbids a hub error on screen, and an image fetched because a model's name is Markdown."""
    monkeypatch.setenv(ALLOWED_VARIABLE, name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "![x](" not in sentence(open_page("logit_lens", model=name))


def test_a_model_over_the_hosts_limit_is_explained(open_page, folder, monkeypatch):
    """Forbids loading what the host cannot hold."""
    monkeypatch.setenv(ALLOWED_VARIABLE, str(folder))
    monkeypatch.setenv(LIMIT_VARIABLE, "0.01")
    assert "GB" in sentence(open_page("logit_lens", model=str(folder)))


def test_a_long_prompt_is_explained(open_page):
    """Forbids an index error inside the model when the prompt is longer than its context."""
    text = sentence(open_page("logit_lens", prompt="house " * 200))
    assert "128" in text


def test_a_prompt_of_spaces_is_an_invitation(open_page):
    """Forbids running the model on nothing."""
    at = open_page("logit_lens", prompt="   ")
    assert not at.error
    assert not at.exception


def test_a_bug_is_an_apology_and_is_logged(open_page, monkeypatch, caplog):
    """Forbids a traceback on screen, and one that is in no log either."""

    def broken(*args, **kwargs):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("app.lens_lab.lab.read", broken)
    at = open_page("logit_lens")
    assert not at.exception
    assert "Something went wrong" in at.error[0].value
    assert "secret detail" not in at.error[0].value
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["![x](https://evil.example/p.png)", "[a](b) **c** `d` $e$ :red[f] <b>", "1. # - + ~~s~~ | t"],
)
def test_plain_text_stays_plain(text):
    """Forbids Markdown in a message that repeats what a visitor typed."""
    assert plain(text).replace("\\", "") == text
    for sign in "![]()*`$:<#~|":
        assert f"{sign}" not in plain(text).replace(f"\\{sign}", "")
