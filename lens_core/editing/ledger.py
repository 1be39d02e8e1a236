"""The ledger: one person's edits of one model, each with a switch, undone in any order.

    ledger = Ledger(model)
    entry = ledger.add(rome(model, request))
    ledger.model(model).generate("The Eiffel Tower is in")
    ledger.remove(entry.key)                      # bit for bit as if it had never been

No weight is ever changed, so taking an edit out is leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lens_core.editing.edit import Edit
from lens_core.editing.errors import EditingError
from lens_core.editing.packing import pack, read_edit, unpack, write_edit
from lens_core.editing.weights import fingerprint
from lens_core.interventions import Intervention
from lens_core.model.errors import InterventionError

if TYPE_CHECKING:
    from lens_core import HookedModel

FORMAT, VERSION = "lens_core ledger", 1
_WHAT = "ledger of edits"


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of a ledger.

    Attributes:
        key: its number in this ledger, never used again.
        edit: what it does; name: what it is called here; on: whether it holds.
    """

    key: int
    edit: Edit
    name: str
    on: bool = True


class Ledger:
    """An ordered list of edits of one model.

    Attributes:
        model_name, fingerprint: the model it belongs to, without edits.
    """

    def __init__(self, model: HookedModel) -> None:
        self.model_name, self.fingerprint = model.base.cfg.name, fingerprint(model.base)
        self._entries: list[Entry] = []
        self._next_key = 1
        self._view: tuple[tuple[int, ...], HookedModel] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Its lines in order, those that are switched off included."""
        return tuple(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, key: int) -> Entry:
        """A line by its key. Raises EditingError if there is none."""
        return self._entries[self._place(key)]

    # --- changing it -----------------------------------------------------------------------------

    def add(self, edit: Edit, *, on: bool = True, name: str | None = None) -> Entry:
        """Put an edit at the end.

        Raises:
            EditingError: it was made for other weights.
        """
        if edit.fingerprint != self.fingerprint:
            raise EditingError(
                f"The edit {edit.name!r:.80} was made for {edit.model_name!r:.60} with the weights "
                f"{edit.fingerprint[:12]:.12}, and this ledger is for {self.model_name} with the "
                f"weights {self.fingerprint[:12]}; make the edit again for this model."
            )
        entry = Entry(self._next_key, edit, edit.name if name is None else name, on)
        self._next_key += 1
        self._entries.append(entry)
        return entry

    def remove(self, key: int) -> Edit:
        """Undo an edit, wherever in the list it is, and forget it."""
        return self._entries.pop(self._place(key)).edit

    def undo(self) -> Edit:
        """Remove the last edit.

        Raises:
            EditingError: there is none.
        """
        if not self._entries:
            raise EditingError("There is no edit to undo.")
        return self._entries.pop().edit

    def clear(self) -> None:
        """Remove every edit."""
        self._entries.clear()

    def switch(self, key: int, on: bool) -> None:
        """Let an edit hold, or not."""
        self._change(key, on=on)

    def rename(self, key: int, name: str) -> None:
        """Call an edit something else in this ledger."""
        self._change(key, name=name)

    def move(self, key: int, to: int) -> None:
        """Put an edit at another place in the list, counted from 0."""
        entry = self._entries.pop(self._place(key))
        self._entries.insert(to, entry)

    # --- using it --------------------------------------------------------------------------------

    @property
    def active(self) -> tuple[Entry, ...]:
        """The lines that are switched on."""
        return tuple(entry for entry in self._entries if entry.on)

    @property
    def prefix(self) -> str:
        """What the in-context edits that are on put before every prompt."""
        return "".join(entry.edit.prefix for entry in self.active)

    def interventions(self) -> tuple[Intervention, ...]:
        """Every edit of weights that is on, in order, as interventions of a run."""
        return tuple(term for entry in self.active for term in entry.edit.interventions)

    def model(self, model: HookedModel) -> HookedModel:
        """The model with every edit of weights that is on: a view, the same one until they change.

        In-context edits are texts and no part of it: put `prefix` before each prompt. With nothing
        on, it is the unedited model itself.

        Raises:
            EditingError: the model has other weights.
        """
        self._check(model)
        held = [entry for entry in self.active if entry.edit.interventions]
        if not held:
            return model.base
        keys = tuple(entry.key for entry in held)
        if self._view is None or self._view[0] != keys or self._view[1].base is not model.base:
            self._view = keys, model.base.edited([entry.edit for entry in held])
        return self._view[1]

    # --- files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The ledger as one safetensors file.

        Raises:
            EditingError: an edit cannot be saved.
        """
        written: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for number, entry in enumerate(self._entries):
            edit, its_tensors = write_edit(entry.edit, number, _settings_kinds())
            written.append({"name": entry.name, "on": entry.on, "edit": edit})
            tensors |= its_tensors
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model_name": self.model_name,
            "fingerprint": self.fingerprint,
            "entries": written,
        }
        return pack(content, tensors)

    @classmethod
    def from_bytes(cls, data: bytes, model: HookedModel) -> Ledger:
        """Read a ledger of this model.

        Raises:
            EditingError: the file is cut off, of another kind or made for other weights, or an edit
                in it does not fit the model; the sentence says which.
        """
        content, tensors = unpack(data, _WHAT)
        if content.get("format") != FORMAT:
            raise EditingError(f"This file is damaged, or is no {_WHAT}.")
        if content.get("version") != VERSION:
            raise EditingError(
                f"This {_WHAT} is of version {content.get('version')!r:.20} of the format; this "
                f"program reads version {VERSION}."
            )
        ledger = cls(model)
        theirs, entries = content.get("fingerprint"), content.get("entries")
        if not isinstance(theirs, str) or not isinstance(entries, list):
            raise EditingError(f"This {_WHAT} is not complete.")
        if theirs != ledger.fingerprint:
            raise EditingError(
                f"This ledger was made for {content.get('model_name')!r:.60} with the weights "
                f"{theirs[:12]}, and {ledger.model_name} has the weights "
                f"{ledger.fingerprint[:12]}. Load that model, or make the edits again for this one."
            )
        for number, entry in enumerate(entries):
            ledger._read_entry(entry, tensors, number, model)
        return ledger

    def _read_entry(
        self, entry: Any, tensors: dict[str, Any], number: int, model: HookedModel
    ) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("on"), bool):
            raise EditingError(f"Edit {number + 1} of this file is not complete.")
        edit = read_edit(entry.get("edit"), tensors, number, _settings_kinds())
        name = entry.get("name")
        try:
            model.base.edited(edit.interventions)
        except InterventionError as error:
            raise EditingError(f"Edit {number + 1} of this file cannot be used: {error}") from None
        self.add(edit, on=entry["on"], name=name if isinstance(name, str) else None)

    # --- inside ----------------------------------------------------------------------------------

    def _check(self, model: HookedModel) -> None:
        if fingerprint(model.base) != self.fingerprint:
            raise EditingError(
                f"These edits were made for {self.model_name} with the weights "
                f"{self.fingerprint[:12]}, and {model.base.cfg.name} has the weights "
                f"{fingerprint(model.base)[:12]}; make them again for this model."
            )

    def _place(self, key: int) -> int:
        for place, entry in enumerate(self._entries):
            if entry.key == key:
                return place
        raise EditingError(f"There is no edit number {key} in this ledger.")

    def _change(self, key: int, **changes: Any) -> None:
        place = self._place(key)
        self._entries[place] = replace(self._entries[place], **changes)


def _settings_kinds() -> dict[str, type]:
    """The settings that a file may hold, by the name of their class."""
    from lens_core.editing import settings

    return {
        name: kind
        for name, kind in vars(settings).items()
        if isinstance(kind, type) and name.endswith("Settings")
    }
