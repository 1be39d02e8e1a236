"""What every dataset is: a list of frozen records that turns into a table."""

from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

import pandas as pd

T = TypeVar("T")


class Records(list[T], Generic[T]):
    """A list of frozen dataclasses with ``to_frame()``."""

    def to_frame(self) -> pd.DataFrame:
        """One row a record, one column a field; tuples stay tuples."""
        rows = []
        for record in self:
            if not is_dataclass(record):
                raise TypeError(f"to_frame() needs dataclass records, not {type(record).__name__}.")
            rows.append({f.name: getattr(record, f.name) for f in fields(record)})
        return pd.DataFrame(rows)


def not_enough(what: str, wanted: int, found: int) -> ValueError:
    """The error of a dataset that cannot be as large as was asked."""
    return ValueError(f"There are only {found} {what}, not {wanted}: ask for fewer.")
