"""The figures of an evaluation, counted by hand."""

from __future__ import annotations

import pytest

from app.intents.evaluate import auroc, coverage_at, evaluate, read_queries, snapshot_of
from tests.unit.intents.small_knowledge import PHRASINGS

ROWS = [{"intent": intent, "text": text} for intent, texts in PHRASINGS.items() for text in texts]


def test_coverage_is_cut_only_between_different_confidences() -> None:
    confidences = [0.9] * 20 + [0.8] * 10
    right = [True] * 20 + [True] * 9 + [False]
    assert coverage_at(0.95, confidences, right, [True] * 30) == pytest.approx(1.0)
    assert coverage_at(0.98, confidences, right, [True] * 30) == pytest.approx(20 / 30)


def test_a_tie_counts_whole() -> None:
    confidences = [0.9] * 30
    assert coverage_at(0.95, confidences, [True] * 25 + [False] * 5, [True] * 30) == 0


def test_fewer_than_twenty_answers_are_no_coverage() -> None:
    assert coverage_at(0.95, [0.9] * 19, [True] * 19, [True] * 19) == 0


def test_an_answer_out_of_scope_is_wrong_and_covers_nothing() -> None:
    confidences = [1 - number / 100 for number in range(40)]
    known = [number != 0 for number in range(40)]
    assert coverage_at(0.95, confidences, known, known) == 1.0
    assert coverage_at(0.98, confidences, known, known) == 0


def test_auroc_counts_ties_half() -> None:
    assert auroc([0.9, 0.5, 0.5, 0.1], [True, True, False, False]) == pytest.approx(0.875)
    assert auroc([0.1, 0.9], [True, False]) == 0
    assert auroc([0.1, 0.9], [True, True]) == 0


def test_an_evaluation_counts_what_it_predicts() -> None:
    queries = [
        {"text": "啥时候发货呀", "intent": "ship_when"},
        {"text": "物流到哪了", "intent": "track", "alt": ["ship_when"]},
        {"text": "今晚月色真美", "intent": None},
        {"text": "嗯？", "intent": None, "ambiguous": True},
    ]
    evaluation = evaluate(ROWS, queries)
    wire = evaluation.to_wire()
    assert (wire["queries"], wire["in_scope"], wire["out_of_scope"]) == (3, 2, 1)
    assert wire["top1"] == wire["recall_at_3"] == wire["mrr"] == 1.0
    assert wire["oos_auroc"] == 1.0
    assert wire["auto"]["answered"] == wire["auto"]["correct"] + wire["auto"]["wrong"]
    assert [line.text for line in evaluation.predictions] == ["啥时候发货呀", "物流到哪了", "今晚月色真美"]
    first = evaluation.predictions[0].to_wire()
    assert first["ranked"][0][0] == "ship_when"
    assert first["band"] in {"answer", "ask", "unknown"}
    assert 0 <= first["confidence"] <= 1


def test_an_empty_evaluation_is_all_zero() -> None:
    wire = evaluate([], []).to_wire()
    assert wire["queries"] == 0
    assert wire["top1"] == wire["oos_auroc"] == wire["coverage_at_precision_95"] == 0


@pytest.mark.parametrize(
    "row", [{"intent": "a"}, {"text": "a"}, {"intent": "", "text": "a"}, {"intent": 1, "text": "a"}]
)
def test_a_malformed_knowledge_row_is_named(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="line 2"):
        snapshot_of([{"intent": "a", "text": "b"}, row])


@pytest.mark.parametrize("row", [{"intent": "a"}, {"text": 1, "intent": None}, {"text": "a", "intent": 2}])
def test_a_malformed_query_row_is_named(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read_queries([row])
