"""Where a model's files are (shipped, in a local folder, on the hub) and which may be asked for.

shipped_models()            # {"tiny-world": Path(...)}
resolve("tiny-world").kind  # "shipped"
"""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

from lens_core.model.errors import ModelNotAllowedError, UnknownModelError

ALLOWED_VARIABLE = "LENS_LAB_ALLOWED_MODELS"
Kind = Literal["shipped", "folder", "hub"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*")
_PACKAGE = Path(__file__).resolve().parents[1]
# The installed package carries the models inside; a checkout has them beside the package.
SHIPPED_ROOTS = (_PACKAGE / "_models", _PACKAGE.parent / "content" / "models")


@dataclass(frozen=True)
class Source:
    """Where one model comes from.

    `location` is what transformers is given for config and weights: a folder's path, or a hub id.
    `tokenizer_location` differs from it only for a training checkpoint of a local model.
    """

    kind: Kind
    name: str
    location: str
    tokenizer_location: str
    revision: str | None
    local_only: bool


def shipped_models() -> dict[str, Path]:
    """Names and folders of the models that come with Lens Lab; these never need the network."""
    found: dict[str, Path] = {}
    for root in SHIPPED_ROOTS:
        for config in sorted(root.glob("*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return found


def allowed_models() -> frozenset[str] | None:
    """The names that the environment's LENS_LAB_ALLOWED_MODELS lists, or None: anything goes.

    Shipped models may always be loaded; they are here already.
    """
    text = os.environ.get(ALLOWED_VARIABLE, "")
    names = frozenset(part.strip() for part in text.split(",") if part.strip())
    return names | shipped_models().keys() if names else None


def offline_hint() -> str:
    """The end of a sentence: which models work without the network."""
    names = ", ".join(shipped_models()) or "none in this installation"
    return f"models that work without the hub: {names}"


def resolve(name: str | Path, revision: str | None = None) -> Source:
    """Find out what `name` means: a shipped model, else a local folder, else a hub id.

    A text counts as a folder when it begins like a path (`/`, `./`, `../`, `~`) or when such a
    folder is there; one bare word also needs a config.json in that folder, so that a stray folder
    does not hide a hub model. `revision` names a branch, tag or commit on the hub, and for local
    models a folder of `checkpoints/`.

    Raises ModelNotAllowedError when the host's allow-list does not hold the name, and
    UnknownModelError when it can be neither a folder that is there nor a hub id.
    """
    text = str(name).strip()
    allowed = allowed_models()
    if allowed is not None and text not in allowed:
        raise ModelNotAllowedError(
            f"This lab does not offer {text[:100]!r}; choose one of {', '.join(sorted(allowed))}."
        )
    shipped = shipped_models().get(text)
    if shipped is not None and not isinstance(name, Path):
        return _local("shipped", text, shipped, revision)
    folder = Path(text).expanduser()
    if isinstance(name, Path) or re.match(r"(/|~|\.\.?(/|$))", text) or folder.is_absolute():
        if not folder.is_dir():
            raise UnknownModelError(f"There is no folder {text[:200]!r}; check the path.")
        return _local("folder", folder.resolve().name, folder.resolve(), revision)
    if folder.is_dir() and ("/" in text or (folder / "config.json").is_file()):
        return _local("folder", folder.resolve().name, folder.resolve(), revision)
    if not _HUB_ID.fullmatch(text):
        raise UnknownModelError(
            f"{text[:100]!r} is no model name; write a hub id such as 'gpt2' or "
            f"'EleutherAI/pythia-70m' ({offline_hint()})."
        )
    return Source("hub", text, text, text, revision, local_only=not hub_answers())


def _local(kind: Kind, name: str, folder: Path, revision: str | None) -> Source:
    where = folder
    if revision is not None:
        where = folder / "checkpoints" / revision
        if not _REVISION.fullmatch(revision) or not where.is_dir():
            steps = sorted(path.name for path in folder.glob("checkpoints/*/"))
            raise UnknownModelError(
                f"{name} has no checkpoint {revision[:50]!r}; leave revision out, or choose one "
                f"of: {', '.join(steps) or 'none'}."
            )
    if not (where / "config.json").is_file():
        raise UnknownModelError(
            f"The folder of {name} has no config.json; name a folder that save_pretrained wrote."
        )
    own_tokenizer = any(where.glob("tokenizer*"))
    tokens = where if own_tokenizer else folder
    return Source(kind, name, str(where), str(tokens), None, local_only=True)


def hub_answers(timeout_s: float = 3.0) -> bool:
    """Whether the hub can be reached at all.

    Asked once a load, because the hub's own client retries for 25 seconds before it says that there
    is no network. Behind a proxy the question cannot be put this way, and the answer is taken to be
    yes.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    hub = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((hub.hostname or "", hub.port or 443), timeout=timeout_s):
            return True
    except OSError:
        return False
