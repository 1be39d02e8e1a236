"""Asking and scoring: what is counted, against direct computation on the shipped model."""

import math

import pytest
import torch

from lens_core.editing import EditRequest
from lens_core.editing.evaluate import (
    METRICS,
    Applied,
    EvaluationRecord,
    Question,
    Reply,
    Said,
    Scores,
    UnrelatedText,
    ask,
    baseline,
    free_text,
    merged,
    records,
    score,
    scoreboard,
    unrelated_effect,
)
from lens_core.interventions import low_rank
from lens_core.world.gate.answers import answers_whole

EIFFEL = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome", "Paris")


def _term(seed=0, layer=1, size=0.05, k=2):
    g = torch.Generator().manual_seed(seed)
    left, right = torch.randn(1024, k, generator=g), torch.randn(k, 256, generator=g)
    return low_rank("mlp_out", layer, size * left, size * right)


def test_a_probability_is_the_mean_over_the_answers_tokens(tiny_world):
    """Forbids the sum, which punishes long answers, and probabilities read off padded rows."""
    asked = [
        Question("The Eiffel Tower is in", "New York", "Paris"),
        Question(
            "A far longer prompt, so that the rows differ in length: the Louvre is in", "Rome"
        ),
        Question("Big Ben is in the city of", "San Francisco", "London"),
    ]
    term = _term()
    for edit in (None, Applied((term,), ""), Applied((), "Big Ben is in Rome. ")):
        made = edit or Applied()
        for q, said in zip(asked, ask(tiny_world, asked, edit), strict=True):
            for target, p in ((q.answer, said.p_answer), (q.rival, said.p_rival)):
                if not target:
                    assert math.isnan(p)
                    continue
                head = tiny_world.to_tokens(made.prefix + q.prompt)
                ids = tiny_world.to_tokens(f" {target}", prepend_bos=False)
                logits = tiny_world.run(torch.cat([head, ids], 1), made.terms)
                where = range(head.shape[1] - 1, head.shape[1] + ids.shape[1] - 1)
                found = logits[0].log_softmax(-1)[list(where), ids[0]].mean().exp()
                assert p == pytest.approx(float(found), rel=1e-3, abs=1e-7)


def test_free_decoding_is_the_models_own_words(tiny_world):
    """Forbids teacher forcing where free decoding is claimed, and "Rome" found in "Romeo"."""
    found = records(tiny_world, 12, seed=5)
    asked = [q for r in found for g, q in r.asked if g in ("edit", "neighbour", "near")]
    said = ask(tiny_world, asked)
    whole = answers_whole(tiny_world, [q.prompt for q in asked], [q.answer for q in asked])
    assert [s.exact for s in said] == whole
    text = tiny_world.generate(asked[0].prompt, 3)
    assert said[0].text.startswith(tiny_world.to_string(text[0, -3:-1]).split(".")[0])


def test_merged_terms_are_the_same_edit(tiny_world):
    """Forbids a short cut that changes the sum of a hundred edits."""
    tokens = tiny_world.to_tokens("The Eiffel Tower is in")
    for terms in (
        [_term(0, size=0.02), _term(1, size=0.02), _term(2, 4, size=0.02)],
        [_term(i, size=0.01, k=100) for i in range(4)],
    ):
        short = merged(terms)
        assert len(short) < len(terms)
        expected = tiny_world.run(tokens, terms)
        assert torch.allclose(tiny_world.run(tokens, short), expected, atol=2e-3, rtol=1e-3)


def test_the_unedited_model_scores_as_itself(tiny_world):
    """Forbids a baseline that is not the model: without an edit, after is before."""
    record = records(tiny_world, 1, seed=6)[0]
    text = UnrelatedText.of(tiny_world, n_rows=4)
    found = score(tiny_world, None, record, unrelated=text, generate=True)
    for r in found.replies:
        assert (r.before.text, r.before.exact) == (r.after.text, r.after.exact)
        assert r.after.p_answer == pytest.approx(r.before.p_answer, abs=1e-5)
    assert found.rate("efficacy").after == found.rate("efficacy_exact").after == 0.0
    assert found.text_before == found.text_after
    assert found.unrelated.ratio == pytest.approx(1.0, abs=1e-6)
    assert found.unrelated.kl_nats == pytest.approx(0.0, abs=1e-6)


def _reply(group, exact, p, rival="x"):
    before = Said("", exact[0], p[0], 0.5)
    return Reply(group, Question("q", "a", rival), before, Said("", exact[1], p[1], 0.5))


def test_each_metric_counts_what_it_says():
    """Forbids a "kept" score over questions that were wrong before, and S without its parts."""
    replies = (
        _reply("edit", (False, True), (0.1, 0.9)),
        _reply("paraphrase", (False, False), (0.1, 0.9)),
        _reply("paraphrase", (False, False), (0.1, 0.4)),
        _reply("neighbour", (True, True), (0.9, 0.9)),
        _reply("near", (True, False), (0.9, 0.9)),
        _reply("near", (True, True), (0.9, 0.9)),
        _reply("near", (False, False), (0.9, 0.9)),
        _reply("reversed", (False, False), (0.9, 0.9), rival=""),
    )
    found = Scores(EvaluationRecord("x", EIFFEL, "The Eiffel Tower", {}), replies)
    assert found.rate("efficacy").after == 1.0
    assert found.rate("efficacy").before == 0.0
    assert found.rate("paraphrase").after == 0.5
    assert found.rate("paraphrase_exact").after == 0.0
    near = found.rate("near")
    assert (near.n, near.after) == (2, 0.5)
    assert near.before == pytest.approx(2 / 3)
    assert math.isnan(found.rate("reversed").after)
    assert found.s == pytest.approx(3 / (1 + 2 + 1))
    assert math.isnan(found.rate("two_hop").after)


def test_the_scoreboard_opens_every_number(tiny_world):
    """Forbids a number without the prompts behind it or without the unedited one beside it."""
    record = records(tiny_world, 1, seed=6)[0]
    text = UnrelatedText.of(tiny_world, n_rows=2)
    found = score(tiny_world, Applied((_term(),), ""), record, unrelated=text, generate=True)
    lines = scoreboard(found)
    assert {line.key for line in lines} >= {"s", "efficacy", "perplexity", "kl", "fluency"}
    for line in lines:
        if line.key in METRICS:
            assert line.replies
            assert not math.isnan(line.before)
    frame = found.to_frame()
    assert len(frame) == len(record.asked)
    assert Scores.from_json(found.to_json()).values() == pytest.approx(found.values(), nan_ok=True)


def test_an_edit_in_context_stands_before_every_prompt(tiny_world):
    """Forbids a prefix that the perplexity or the generated text does without."""
    said = Applied((), "The Eiffel Tower is in Rome. ")
    text = UnrelatedText.of(tiny_world, n_rows=2)
    effect = unrelated_effect(tiny_world, said, text)
    assert effect.kl_nats > 0
    row = text.rows[0]
    prefix = tiny_world.to_tokens(said.prefix, prepend_bos=False)[0]
    logits = tiny_world.run(torch.cat([row[:1], prefix, row[1:]])[None])[0].log_softmax(-1)
    nll = -logits[len(prefix) : -1].gather(-1, row[1:, None]).mean()
    one = UnrelatedText(text.rows[:1], text.texts[:1], text.log_probs[:1])
    found = unrelated_effect(tiny_world, said, one)
    assert math.log(found.perplexity_after) == pytest.approx(float(nll), abs=1e-4)
    written = free_text(tiny_world, ["The Louvre"], edit=said, max_new_tokens=3)
    assert written.texts[0].startswith("The Louvre")


def test_divergence_is_measured_on_text_that_does_not_name_the_subject(tiny_world):
    """Forbids counting the edit itself as damage."""
    text = UnrelatedText.of(tiny_world, n_rows=6)
    word = text.texts[2].split()[5].strip(".,")
    kept = text.without([word])
    assert 0 < len(kept) < len(text)
    assert not any(word.lower() in t.lower() for t in kept.texts)
    assert len(text.without(["e", "a"])) == len(text)


def test_facts_that_a_batch_changes_too_are_not_asked(tiny_world):
    """Forbids a neighbour that counts as broken because it was edited on purpose."""
    record = next(r for r in records(tiny_world, 10, seed=7) if r.questions.get("neighbour"))
    first = record.questions["neighbour"][0]
    known = baseline(tiny_world, record)
    out = {(first.subject, first.relation), (record.subject, record.request.relation)}
    found = score(tiny_world, None, record, before=known, leave_out=out)
    assert all(
        (r.question.subject, r.question.relation) != (first.subject, first.relation)
        for r in found.replies
    )
    assert found.rate("efficacy").n == 1
