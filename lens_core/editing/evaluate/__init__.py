"""How good is an edit? Everything the papers score, and what they leave out.

    from lens_core.editing.evaluate import records, score, scoreboard

    record = records(model, 1)[0]
    found = score(model, rome(model, record.request), record)
    for line in scoreboard(found):
        print(line.title, line.before, line.after)

``python -m lens_core.editing.evaluate`` evaluates methods on many records and writes the tables.
"""

from lens_core.editing.evaluate.asking import Applied, Said, applied, ask, merged
from lens_core.editing.evaluate.evaluation import Evaluation, Made, Summary
from lens_core.editing.evaluate.files import (
    LoadedRecords,
    load_counterfact,
    load_ripple_edits,
    load_zsre,
)
from lens_core.editing.evaluate.free_text import FreeText, free_text
from lens_core.editing.evaluate.locating_helps import Locating, locating
from lens_core.editing.evaluate.many_edits import Scaling, ScalingPoint, scaling
from lens_core.editing.evaluate.metrics import METRICS, NOT_COMPARABLE, Metric, Rate, Reply
from lens_core.editing.evaluate.over_records import Method, change_of, evaluate
from lens_core.editing.evaluate.record import GROUPS, EvaluationRecord, Group, Question
from lens_core.editing.evaluate.scores import (
    Baseline,
    ScoreLine,
    Scores,
    baseline,
    score,
    scoreboard,
)
from lens_core.editing.evaluate.unrelated import (
    UnrelatedEffect,
    UnrelatedText,
    unrelated_effect,
)
from lens_core.editing.evaluate.world_records import Sizes, record_of, records, split_of

__all__ = [
    "GROUPS",
    "METRICS",
    "NOT_COMPARABLE",
    "Applied",
    "Baseline",
    "Evaluation",
    "EvaluationRecord",
    "FreeText",
    "Group",
    "LoadedRecords",
    "Locating",
    "Made",
    "Method",
    "Metric",
    "Question",
    "Rate",
    "Reply",
    "Said",
    "Scaling",
    "ScalingPoint",
    "ScoreLine",
    "Scores",
    "Sizes",
    "Summary",
    "UnrelatedEffect",
    "UnrelatedText",
    "applied",
    "ask",
    "baseline",
    "change_of",
    "evaluate",
    "free_text",
    "load_counterfact",
    "load_ripple_edits",
    "load_zsre",
    "locating",
    "merged",
    "record_of",
    "records",
    "scaling",
    "score",
    "scoreboard",
    "split_of",
    "unrelated_effect",
]
