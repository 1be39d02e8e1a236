"""The published data sets of fact editing, read from the files their authors gave out.

Only when the user has them: nothing is fetched. Each reader takes the JSON file as it was
published, lists the records that it cannot use, with the reason, and reads the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.record import EvaluationRecord, Group, Question
from lens_core.editing.requests import EditRequest

_LARGEST_BYTES = 512 * 2**20  # the published files are below 100 MB


@dataclass(frozen=True)
class LoadedRecords:
    """Records of a file, and what could not be read.

    Attributes:
        bad: for each record that was left out its number in the file, from 0, and why.
    """

    records: tuple[EvaluationRecord, ...]
    bad: tuple[tuple[int, str], ...]


def load_counterfact(path: str | Path, n: int | None = None) -> LoadedRecords:
    """CounterFact, or the multi-counterfact file of MEMIT, as its authors published them.

    Paraphrases, neighbours (whose right answer is the old one) and generation prompts are taken
    over; ``reference_texts`` stay empty, since the file holds none.

    Raises:
        EditingError: no such file, no list of records in it, or no usable record.

    Paper: Meng et al. 2022, "Locating and Editing Factual Associations in GPT".
    """
    return _read(path, n, _counterfact)


def load_zsre(path: str | Path, n: int | None = None) -> LoadedRecords:
    """zsRE questions, in the file that the MEND authors made and ROME's code reads.

    As in ROME's code, the edit asks for the right answer, so that there is no old one to compare
    with: free decoding counts. The question about something else ("loc") becomes one about another
    subject, compared with the new answer.

    Raises:
        EditingError: as `load_counterfact`.

    Papers: Levy et al. 2017; Mitchell et al. 2022, "Fast Model Editing at Scale".
    """
    return _read(path, n, _zsre)


def load_ripple_edits(path: str | Path, n: int | None = None) -> LoadedRecords:
    """RippleEdits: what follows from an edit, and what must not.

    Compositionality I and II become two-hop questions, logical generalisation reversed ones
    (without a rival, so that only free decoding counts), subject aliasing paraphrases, relation
    specificity the same subject's other relations. The edit's prompt is cut before its answer. Of
    the answers that a question allows the first is taken.

    Raises:
        EditingError: as `load_counterfact`.

    Paper: Cohen et al. 2024, "Evaluating the Ripple Effects of Knowledge Editing".
    """
    return _read(path, n, _ripple)


def _read(
    path: str | Path, n: int | None, reader: Callable[[int, Mapping[str, Any]], EvaluationRecord]
) -> LoadedRecords:
    found: list[EvaluationRecord] = []
    bad: list[tuple[int, str]] = []
    for number, values in enumerate(_list_in(Path(path))):
        if n is not None and len(found) == n:
            break
        try:
            if not isinstance(values, dict):
                raise _BadRecordError("It is no object with fields.")
            found.append(reader(number, values))
        except (_BadRecordError, EditingError) as error:
            bad.append((number, str(error)))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            bad.append((number, _why(error)))
    if not found:
        why = f"; the first is: {bad[0][1]}" if bad else ""
        raise EditingError(f"{Path(path).name} has no record that can be used{why}")
    return LoadedRecords(tuple(found), tuple(bad))


class _BadRecordError(Exception):
    """One record cannot be used, with the reason."""


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"It has no field {error.args[0]!r:.40}."
    return f"A field has another form than published ({str(error)[:80]})."


def _list_in(path: Path) -> list[Any]:
    if not path.is_file():
        raise EditingError(f"There is no file {str(path)[:200]!r}; check the path.")
    if path.stat().st_size > _LARGEST_BYTES:
        raise EditingError(f"{path.name} is larger than the published files; give one of those.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise EditingError(f"{path.name} is not JSON text ({str(error)[:60]}).") from None
    if not isinstance(content, list):
        raise EditingError(f"{path.name} is not a list of records, as the published files are.")
    return content


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _BadRecordError(f"Its {what} is not a text.")
    return value.strip()


def _texts(values: Any, what: str) -> list[str]:
    if not isinstance(values, list):
        raise _BadRecordError(f"Its {what} are not a list.")
    return [_text(v, what) for v in values]


def _record(
    case: str,
    request: EditRequest,
    questions: Mapping[Group, Iterable[Question]],
    generation_prompts: Iterable[str] = (),
) -> EvaluationRecord:
    kept = {g: tuple(q) for g, q in questions.items()}
    return EvaluationRecord(
        case,
        request,
        request.subject,
        {g: q for g, q in kept.items() if q},
        tuple(generation_prompts),
    )


def _counterfact(number: int, values: Mapping[str, Any]) -> EvaluationRecord:
    asked = values.get("requested_rewrite", values)  # multi-counterfact writes the same
    subject = _text(asked["subject"], "subject")
    new = _text(asked["target_new"]["str"], "new answer")
    old = _text(asked["target_true"]["str"], "old answer")
    prompt = _text(asked["prompt"], "prompt")
    if prompt.count("{}") != 1:
        raise _BadRecordError("Its prompt has no single place {} for the subject.")
    relation = str(asked.get("relation_id", ""))
    request = EditRequest(prompt.replace("{}", subject), subject, new, old, relation)

    def of_list(name: str, answer: str, rival: str, about: str) -> list[Question]:
        return [
            Question(p, answer, rival, about, relation if about else "")
            for p in _texts(values.get(name, []), name)
        ]

    return _record(
        f"counterfact {values.get('case_id', number)}",
        request,
        {
            "paraphrase": of_list("paraphrase_prompts", new, old, subject),
            "neighbour": of_list("neighborhood_prompts", old, new, ""),
        },
        _texts(values.get("generation_prompts", []), "generation prompts"),
    )


def _zsre(number: int, values: Mapping[str, Any]) -> EvaluationRecord:
    subject, prompt = _text(values["subject"], "subject"), _text(values["src"], "question")
    new = _text(values["answers"][0], "answer")
    questions: dict[Group, list[Question]] = {}
    if values.get("rephrase"):
        asked = _text(values["rephrase"], "rephrased question")
        questions["paraphrase"] = [Question(asked, new, "", subject)]
    if values.get("loc"):
        # The file writes "nq question: " before these questions, and no question mark after.
        other = _text(values["loc"], "question about something else").removeprefix("nq question: ")
        answer = _text(values["loc_ans"], "answer to it")
        questions["other subject"] = [Question(f"{other.rstrip('?')}?", answer, new)]
    return _record(f"zsre {number}", EditRequest(prompt, subject, new), questions)


_RIPPLE_GROUPS: dict[str, Group] = {
    "Compositionality_I": "two-hop",
    "Compositionality_II": "two-hop",
    "Subject_Aliasing": "paraphrase",
    "Relation_Specificity": "same subject",
    "Forgetfulness": "same subject",
    "Logical_Generalization": "reversed",
}


# Where a RippleEdits prompt has its subject, which the file names by its number alone.
_RIPPLE_SUBJECTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"which (.+) is (?:associated with|a member of|part of|the capital of) is$",
        r"which (.+) plays in is$",
        r"held by (.+) is$",
        r"award (.+) won is$",
        r"children (.+) has is$",
        r"(?:currency|performed) in (.+) is$",
        r"^(.+) (?:follows|is followed by)$",
        r"^The (?:names? of the )?(?:(?:place|date|head|country|field) of \w+|[\w ]+?)"
        r" of (.+) (?:is|are)$",
    )
)
_BEFORE_ANSWER = re.compile(r"^(.*\b(?:is followed by|is|are|follows)) (.+)$")


def _ripple(number: int, values: Mapping[str, Any]) -> EvaluationRecord:
    edit = values["edit"]
    sentence = _text(edit["prompt"], "edit's sentence").removesuffix(".").rstrip()
    cut = _BEFORE_ANSWER.match(sentence)
    if cut is None:
        raise _BadRecordError("Its edit's sentence has no place where the answer begins.")
    prompt, new = cut.groups()
    earlier = edit.get("original_fact") or edit.get("previous_fact")
    old = ""
    if earlier:
        told = _text(earlier["prompt"], "earlier sentence").removesuffix(".").rstrip()
        if not told.startswith(f"{prompt} "):
            raise _BadRecordError("Its earlier sentence begins otherwise than the edit's.")
        old = told[len(prompt) + 1 :].strip()
    found = next((m for p in _RIPPLE_SUBJECTS if (m := p.search(prompt))), None)
    if found is None:
        raise _BadRecordError("Its edit's sentence names the subject in a way that is not known.")
    request = EditRequest(prompt, found[1], new, old, str(edit.get("relation", "")))
    questions: dict[Group, list[Question]] = {}
    for name, group in _RIPPLE_GROUPS.items():
        for test in values.get(name) or []:
            for query in test["test_queries"]:
                if query["answers"]:
                    asked = _text(query["prompt"], "question")
                    answer = _text(query["answers"][0]["value"], "answer")
                    questions.setdefault(group, []).append(Question(asked, answer))
    return _record(f"ripple {number}", request, questions)
