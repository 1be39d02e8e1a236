"""Work that takes more than a moment: in a thread of its own, watched and cancelled by the page.

A visitor's script is never interrupted (``fastReruns`` is off), so a *Cancel* could not be heard by
work that runs inside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Result = TypeVar("Result")
# Several visitors may train at once; each job computes on one processor, and no more than this run.
_PLACES = threading.BoundedSemaphore(2)


class CancelledError(Exception):
    """The visitor has changed their mind."""


@dataclass
class Job(Generic[Result]):
    """One piece of work: ``work(job)`` calls `step` as it goes and returns the result."""

    work: Callable[[Job[Result]], Result]
    done: int = 0
    total: int = 0
    figures: list[float] = field(default_factory=list)  # one a step, for a line on the page
    result: Result | None = None
    error: Exception | None = None
    finished: threading.Event = field(default_factory=threading.Event)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Job[Result]:
        """Begin, or wait for a place; returns itself."""
        threading.Thread(target=self._run, name="lens-lab-job", daemon=True).start()
        return self

    def step(self, done: int, total: int, figure: float) -> None:
        """Note how far it is; raises CancelledError when the visitor has cancelled."""
        self.done, self.total = done, total
        self.figures.append(figure)
        if self._cancelled.is_set():
            raise CancelledError

    def cancel(self) -> None:
        """Ask it to end at its next step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """It was asked to end."""
        return self._cancelled.is_set()

    def _run(self) -> None:
        try:
            with _PLACES:
                if not self.cancelled:
                    self.result = self.work(self)
        except CancelledError:
            pass
        except Exception as error:
            # Handed to the visitor's page, which says it politely and logs it.
            self.error = error
        finally:
            self.finished.set()
