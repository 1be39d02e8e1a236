import socket
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedConfig

from lens_core.model import errors, sources
from lens_core.model.loading import load


def test_without_network_the_sentence_names_what_works(save, monkeypatch, tmp_path):
    """Forbids a connection error as the answer to a hub name without network."""
    save("toy", root=tmp_path / "shipped")
    monkeypatch.setattr(sources, "SHIPPED_ROOTS", (tmp_path / "shipped",))
    with pytest.raises(errors.HubUnreachableError, match=r"network.*toy") as error:
        load("no-such/model")
    assert isinstance(error.value, errors.UnknownModelError)


def test_the_hub_is_asked_once_whether_it_answers(monkeypatch):
    """Forbids the hub client's retries: a refused connection is enough to know."""
    tried = []

    def refuse(address, timeout):
        tried.append((address, timeout))
        raise OSError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sources, "getproxies", dict)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert sources.resolve("gpt2").local_only
    assert len(tried) == 1


def response(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "http://127.0.0.1/"))


HUB_ANSWERS = [
    (GatedRepoError("x", response=response(403)), errors.GatedModelError, "licence"),
    (RepositoryNotFoundError("x", response=response(404)), errors.UnknownModelError, "spelling"),
    (RevisionNotFoundError("x", response=response(404)), errors.UnknownModelError, "'odd'"),
    (LocalEntryNotFoundError("x"), errors.HubUnreachableError, "network"),
]


@pytest.mark.parametrize(("answer", "kind", "word"), HUB_ANSWERS)
def test_what_the_hub_answers(monkeypatch, answer, kind, word):
    """Forbids one sentence for what is mended differently: gated, misspelt, no network."""

    def refuse(*_args, **_kwargs):
        raise OSError("transformers says this") from answer

    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", refuse)
    with pytest.raises(kind, match=word) as error:
        load("some/model", revision="odd")
    assert type(error.value) is kind
    assert "transformers says" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b/c", "../..x", "what is this?", "<b>gpt2</b>", "-rf"])
def test_what_is_no_name(name):
    """Forbids sending whatever was typed to the hub or to the file system."""
    with pytest.raises(errors.UnknownModelError):
        sources.resolve(name)


def test_folders(save, monkeypatch, tmp_path):
    """Forbids a stray folder that hides a hub model, and a path sought on the hub."""
    save("mine")
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert sources.resolve("mine").kind == "folder"
    assert sources.resolve("gpt2").kind == "hub"
    for path in ("./gpt2", Path("gpt2"), str(tmp_path / "gpt2")):
        with pytest.raises(errors.UnknownModelError, match=r"config\.json"):
            sources.resolve(path)
    for path in ("./nowhere", "~/no/where", Path("nowhere"), "/no/where"):
        with pytest.raises(errors.UnknownModelError, match="no folder"):
            sources.resolve(path)


def test_allow_list(save, monkeypatch, tmp_path):
    """Forbids visitors a model, or a folder of the server, that the host did not list."""
    folder = save("toy", root=tmp_path / "shipped")
    monkeypatch.setattr(sources, "SHIPPED_ROOTS", (tmp_path / "shipped",))
    assert sources.allowed_models() is None
    monkeypatch.setenv("LENS_LAB_ALLOWED_MODELS", " gpt2, EleutherAI/pythia-70m ,")
    assert sources.allowed_models() == {"gpt2", "EleutherAI/pythia-70m", "toy"}
    assert sources.resolve("toy").kind == "shipped"
    assert sources.resolve("gpt2").kind == "hub"
    for name in ("gpt2-xl", str(folder), folder, "/etc"):
        with pytest.raises(errors.ModelNotAllowedError, match="gpt2, toy"):
            load(name)


def test_a_path_is_never_a_shipped_name(save, monkeypatch, tmp_path):
    """Forbids Path('toy') that loads the shipped model where the caller named a folder."""
    save("toy", root=tmp_path / "shipped")
    save("toy", root=tmp_path / "own")
    monkeypatch.setattr(sources, "SHIPPED_ROOTS", (tmp_path / "shipped",))
    monkeypatch.chdir(tmp_path / "own")
    assert sources.resolve("toy").kind == "shipped"
    assert sources.resolve(Path("toy")).location == str(tmp_path / "own" / "toy")
