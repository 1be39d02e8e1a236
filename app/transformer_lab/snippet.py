"""*Show the code*: the pass and the chosen cell as a short script for ``lens_core``."""

from __future__ import annotations

from app.transformer_lab.settings import Settings

_CODE = """\
from lens_core.glass import explain, forward_steps, glass_model, parse_edits, with_edits
from lens_core.interventions import scale

model = glass_model()
model = with_edits(model, parse_edits({edits!r}))
factor = [scale("resid_post", 1, factor={factor!r})]
steps = forward_steps(model, {sentence!r}, factor)

# Every tensor of the pass, in order.
for step in steps:
    print(step.key, tuple(step.tensor.shape), step.formula)

# The tensor on the page, and the arithmetic of the chosen cell.
step = steps[{tensor!r}]
print(step.tensor)
column = step.columns.index({column!r})
told = explain(model, steps, step.key, position={row}, column=column)
print(told)
print("value:", told.value)

# The answer after the last word.
answer = steps["probabilities"]
for token, probability in zip(answer.columns, answer.tensor[-1].tolist()):
    print(token, round(probability, 3))
"""


def transformer_code(settings: Settings) -> str:
    """A script that prints the page's numbers outside Streamlit. Texts are quoted by ``repr``."""
    return _CODE.format(
        edits=settings.edits,
        factor=settings.factor,
        sentence=settings.sentence,
        tensor=settings.tensor,
        column=settings.column,
        row=settings.row,
    )
