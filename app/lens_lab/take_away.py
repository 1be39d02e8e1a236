"""What a visitor takes along: the table and the code. Link and pictures are under the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.components.lens_grid import Chosen
from app.lens_lab.reading import Reading
from app.lens_lab.request import Request
from app.lens_lab.settings import Settings
from app.snippets import lens_code
from app.take_away import table_and_code

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


def take_away(
    model: HookedModel, wanted: Request, reading: Reading, settings: Settings, cell: Chosen
) -> None:
    """The table of every cell, and the script that makes the same numbers."""
    table_and_code(
        lambda: _table(reading),
        lambda: lens_code(model, wanted, settings, reading, cell),
        file_name="lens.csv",
    )


def _table(reading: Reading) -> pd.DataFrame:
    import pandas as pd

    frame = reading.lens.to_frame()
    if reading.second is None:
        return frame
    return pd.concat([frame.assign(reading=1), reading.second.lens.to_frame().assign(reading=2)])
