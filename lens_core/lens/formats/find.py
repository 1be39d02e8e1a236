"""From a path or a name to a lens: which file is meant, and which format it is in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lens_core.lens.errors import LensFileError
from lens_core.lens.formats.files import read_pickle
from lens_core.lens.formats.jacobians import is_jacobian_state, jacobian_lens_of
from lens_core.lens.formats.own import FILE, own_lens_of
from lens_core.lens.formats.published import CONFIG, PARAMS, is_tuned_state, tuned_lens_of
from lens_core.lens.identity import check_weights
from lens_core.lens.transports import JacobianLens, TunedLens
from lens_core.model.errors import HubUnreachableError
from lens_core.model.sources import hub_answers

if TYPE_CHECKING:
    from lens_core import HookedModel

_PACKAGE = Path(__file__).resolve().parents[2]
# The installed package carries the lenses inside; a checkout has them beside the package.
SHIPPED_ROOTS = (_PACKAGE / "_lenses", _PACKAGE.parent / "content" / "lenses")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def shipped_lenses() -> dict[str, Path]:
    """Names (``model/lens``) and files of the lenses that come with Lens Lab."""
    found: dict[str, Path] = {}
    for root in SHIPPED_ROOTS:
        for path in sorted(root.glob(f"*/*/{FILE}")):
            found.setdefault(f"{path.parent.parent.name}/{path.parent.name}", path)
    return found


def load_lens(
    path_or_name: str | Path, model: HookedModel | None = None, *, hub: bool = False
) -> TunedLens | JacobianLens:
    """Read a lens, whatever format it is in.

    Reads: our own safetensors; a folder with ``config.json`` and ``params.pt`` as the `tuned-lens`
    package publishes it, or one of its older files; a Jacobian artifact, or the checkpoint of a
    fit. Pickles are opened as tensors only.

    Args:
        path_or_name: a file or folder, or the name of a shipped lens (``"tiny-world/tuned"``).
        model: what the lens is for, checked at once if given: its shape, and its weights where the
            lens names those that it was trained on.
        hub: fetch a published tuned lens by its model's name (``"gpt2"``) where there is no such
            file; the environment's TUNED_LENS_REPO_ID and TUNED_LENS_REPO_TYPE are heeded.

    Raises:
        LensFileError: there is no such lens, or it cannot be read; the sentence says why.
        LensMismatchError: it is for another model.
        UnsafeCheckpointError: the file could run code.
        HubUnreachableError: there is no network.

    Example:
        >>> load_lens("tiny-world/tuned", model)  # doctest: +SKIP
    """
    path = _find(path_or_name, hub=hub)
    if path.suffix == ".safetensors":
        lens: TunedLens | JacobianLens = own_lens_of(path)
    else:
        content = read_pickle(path)
        if is_jacobian_state(content):
            n_layers = None if model is None else model.cfg.n_layers
            lens = jacobian_lens_of(content, path, n_layers)
        elif is_tuned_state(content):
            lens = tuned_lens_of(content, path)
        else:
            raise LensFileError(
                f"{path.name} holds neither translators of a tuned lens nor a Jacobian lens."
            )
    if model is not None:
        lens.check(model)
        check_weights(lens, model)
    return lens


def _find(path_or_name: str | Path, *, hub: bool) -> Path:
    text = str(path_or_name).strip()
    if isinstance(path_or_name, str) and text in shipped_lenses():
        return shipped_lenses()[text]
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _inside(path)
    if hub and isinstance(path_or_name, str) and _HUB_ID.fullmatch(text):
        return _published(text)
    shipped = ", ".join(shipped_lenses()) or "none"
    raise LensFileError(
        f"There is no lens at {text[:200]!r}; give a file, a folder with {PARAMS} or {FILE}, or "
        f"the name of a lens that is here already ({shipped})."
    )


def _inside(folder: Path) -> Path:
    for name in (FILE, PARAMS):
        if (folder / name).is_file():
            return folder / name
    found = [p for p in sorted(folder.iterdir()) if p.suffix in (".pt", ".safetensors")]
    if len(found) != 1:
        raise LensFileError(
            f"{folder.name} holds {len(found)} files that could be lenses; name the one you mean."
        )
    return found[0]


def _published(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not hub_answers():
        raise HubUnreachableError(
            f"The published lens of {name} is not here and the hub cannot be reached."
        )
    repo = os.environ.get("TUNED_LENS_REPO_ID", "AlignmentResearch/tuned-lens")
    kind = os.environ.get("TUNED_LENS_REPO_TYPE", "space")
    try:
        for file in (CONFIG, PARAMS):
            path = hf_hub_download(repo, f"lens/{name}/{file}", repo_type=kind, revision="main")
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise LensFileError(f"Nobody has published a tuned lens of {name} in {repo}.") from error
    return Path(path)
