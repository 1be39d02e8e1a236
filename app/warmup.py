"""Load what the first visitor would wait for, once for the process, while the page is painted."""

from __future__ import annotations

import gc
import logging
import threading

log = logging.getLogger(__name__)
_started = threading.Lock()
_importing = threading.Lock()


def heavy_imports() -> None:
    """Import torch and transformers, one thread at a time.

    Two threads that import different parts of transformers at once can each find the other's half
    done, and fail. A page that imports more of lens_core waits here first.
    """
    with _importing:
        import lens_core.model.loading
        import lens_core.plots  # noqa: F401  (with it the analyses that the figures show)


def start() -> None:
    """Begin to warm up in a thread of its own, unless this process has begun before."""
    if _started.acquire(blocking=False):
        threading.Thread(target=warm_up, name="lens-lab-warm-up", daemon=True).start()


def warm_up() -> None:
    """Import the heavy packages, load the shipped model for all visitors and read one prompt."""
    try:
        heavy_imports()
        from app.lens_cache import cached_lens
        from app.models import DEFAULT_MODEL, load_model
        from app.presets import PRESETS

        model = load_model(DEFAULT_MODEL)
        cached_lens(model, PRESETS[0].prompt)
    except Exception:
        # A visitor who needs what failed here gets the same error, said politely.
        log.exception("warm-up failed")
    # Nearly half a million objects of torch and transformers live for ever now. Frozen, they no
    # longer cost every collection 0.2 s during which all visitors wait.
    gc.collect()
    gc.freeze()
