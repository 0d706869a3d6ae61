"""Knowledge files: what is read, and what is refused with file, line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidError
from app.domain.knowledge import AnswerMode, CaseSpec
from app.knowledge.files import LoadResult, load_entries
from app.knowledge.shipped import shipped_knowledge

PLAIN = """\
- id: ship_when
  question: 什么时候发货
  variants: [啥时候发, 几号发货]
  answer: 您好，付款后48小时内发出。
"""


def load(folder: Path, **files: str | bytes) -> LoadResult:
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{name}.yaml").write_bytes(data)
    return load_entries([folder])


def only_problem(result: LoadResult) -> str:
    assert result.entries == ()
    assert len(result.problems) == 1, [str(problem) for problem in result.problems]
    return str(result.problems[0])


def test_a_list_of_entries_takes_its_category_from_the_file_name(tmp_path: Path) -> None:
    result = load(tmp_path, ship=PLAIN)
    assert result.problems == ()
    (entry,) = result.entries
    assert (entry.id, entry.topic, entry.category) == ("ship_when", "ship_when", "ship")
    assert entry.variants == ("啥时候发", "几号发货")
    assert entry.default.mode is AnswerMode.AUTO


def test_a_file_may_name_its_category(tmp_path: Path) -> None:
    result = load(tmp_path, ship="category: 发货\nentries:\n  - {id: a, question: 问, answer: 您好}\n")
    assert [entry.category for entry in result.entries] == ["发货"]


def test_conditional_answers_inherit_what_they_leave_out_and_null_means_none(tmp_path: Path) -> None:
    result = load(
        tmp_path,
        ship="""\
- id: urge
  question: 催一下
  mode: escalate
  group: aftersale
  case: {kind: ship_urge, fields: {paid: true, days: 3}}
  answers:
    - when: {order_status: [paid], order_overdue: true, trace_older_than: 48h, time: "22:00-06:00"}
      answer: 抱歉让您久等了。
    - when: {promo: true}
      mode: auto
      case: null
      group: presale
      answer: 您好，活动期间会晚一些。
""",
    )
    assert result.problems == ()
    (entry,) = result.entries
    case = CaseSpec(kind="ship_urge", fields={"paid": "true", "days": "3"})
    overdue, promo = entry.answers
    assert (overdue.mode, overdue.group, overdue.case) == (AnswerMode.ESCALATE, "aftersale", case)
    assert overdue.when is not None
    assert overdue.when.order_status == {"paid"}
    assert overdue.when.trace_older_than_s == 48 * 3600
    assert overdue.when.time == (22 * 60, 6 * 60)
    assert (promo.mode, promo.group, promo.case) == (AnswerMode.AUTO, "presale", None)
    assert entry.default.text is None


def test_numbers_and_dates_under_variants_stay_the_text_that_is_shown(tmp_path: Path) -> None:
    result = load(
        tmp_path,
        size="- {id: a, question: 00123, variants: [88, 1e5, 2026-11-11, no, 0x1f, 12:30], answer: 您好}\n",
    )
    (entry,) = result.entries
    assert entry.question == "00123"
    assert entry.variants == ("88", "1e5", "2026-11-11", "no", "0x1f", "12:30")


def test_dates_of_validity_are_days_in_beijing_and_the_last_day_counts(tmp_path: Path) -> None:
    result = load(
        tmp_path,
        promo="- {id: a, question: 问, answer: 您好, valid_from: 2026-11-10, valid_until: 2026-11-10}\n"
        "- {id: b, question: 答, answer: 您好, valid_from: '2026-11-10T00:00:00Z'}\n",
    )
    first, second = result.entries
    assert first.valid_from_ms is not None
    assert first.valid_until_ms is not None
    assert first.valid_until_ms - first.valid_from_ms == 24 * 3600 * 1000
    assert second.valid_from_ms == first.valid_from_ms + 8 * 3600 * 1000


def test_a_folder_gives_the_files_directly_in_it_and_its_synonyms(tmp_path: Path) -> None:
    for name in ("texts", "demo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.yaml").write_text("{")
    (tmp_path / "schema.json").write_text("{")
    result = load(tmp_path, ship=PLAIN, synonyms="- {id: parcel, words: [快递, 包裹]}\n")
    assert result.problems == ()
    assert (result.files, len(result.entries)) == (2, 1)
    assert result.synonyms[0].words == ("快递", "包裹")


def test_synonyms_may_be_a_mapping(tmp_path: Path) -> None:
    assert load(tmp_path, synonyms="parcel: [快递, 包裹]\n").synonyms[0].id == "parcel"


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("- id: a\n  question: 问\n  anser: 您好\n", 3, "did you mean answer?"),
        ("- id: a\n  question: 问\n  answers:\n    - whn: {}\n      answer: 您好\n", 4, "did you mean when?"),
        (
            "- id: a\n  question: 问\n  answer: 您好\n  texts: {en: {qestion: x}}\n",
            4,
            "did you mean question?",
        ),
        ("- id: a\n  question: 问\n  answer: 您好\n  wholly_else: 1\n", 4, "unknown key"),
        ("- id: a\n  answer: 您好\n", 1, "question: is missing"),
        ("- id: a\n  question: 问\n  answer: 您好\n  mode: ato\n", 4, "mode"),
        ("- id: a b\n  question: 问\n  answer: 您好\n", 1, "not allowed"),
        ("- id: a\n  question: 问\n  variants: [好, ~]\n  answer: 您好\n", 3, "must be a text"),
        ("- id: a\n  question: 问\n", 1, "needs an answer"),
        (
            "- id: a\n  question: 问\n  answers: [{when: {promo: true}}]\n  answer: 您好\n",
            1,
            "answers.0 needs",
        ),
        (
            "- id: a\n  question: 问\n  answer: 您好\n  answers:\n    - when: {order_status: [shiped]}\n      answer: 好\n",
            5,
            "did you mean shipped?",
        ),
        (
            "- id: a\n  question: 问\n  answer: 您好\n  answers:\n    - when: {trace_older_than: two}\n      answer: 好\n",
            5,
            "write it like 48h",
        ),
        (
            "- id: a\n  question: 问\n  answer: 您好\n  answers:\n    - when: {time: '08:00-25:00'}\n      answer: 好\n",
            5,
            "the last one is 24:00",
        ),
        ("- id: a\n  question: 问\n  answer: 您好\n  valid_from: 2026-13-01\n", 4, "no date"),
        (
            "- id: a\n  question: 问\n  answer: 您好\n  valid_from: 2026-12-01\n  valid_until: 2026-11-01\n",
            1,
            "before valid_from",
        ),
        ("- id: a\n  question: 问\n  answer: '您好 {{ order.shipmnts }}'\n", 3, "unknown slot"),
        ("- id: a\n  question: 问\n  answer: '您好 {{ order.status'\n", 3, "answer"),
        ("- id: a\n  question: 问\n  question: 答\n", 3, "twice"),
        ("- id: a\n\tquestion: 问\n", 2, "spaces"),
        ("- id: a\n  question: 问: 题: 目\n", 2, "quotes"),
        ("- &x\n  id: a\n- *x\n", 1, "anchors"),
        ("- id: !!python/name:os.system x\n", 1, "tag"),
        ("[" * 3000, 0, "nested too deeply"),
        ("just text\n", 1, "must be a list"),
        ("category: 发货\nentrys: []\n", 2, "did you mean entries?"),
        ("- 你好\n", 1, "must be a mapping"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_reason(
    tmp_path: Path, content: str, line: int, said: str
) -> None:
    result = load(tmp_path, ship=content)
    assert result.entries == ()
    told = [str(problem) for problem in result.problems]
    place = f"{tmp_path / 'ship.yaml'}:{line}:" if line else f"{tmp_path / 'ship.yaml'}:"
    assert any(text.startswith(place) and said in text for text in told), told


def test_an_undecodable_file_is_refused_with_line_and_byte(tmp_path: Path) -> None:
    said = only_problem(load(tmp_path, ship="- id: a\n  question: 问\n".encode("gbk")))
    assert "ship.yaml:2: not UTF-8: byte 20" in said


def test_a_mark_at_the_start_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    assert load(tmp_path, ship=b"\xef\xbb\xbf" + PLAIN.encode()).problems == ()


def test_an_id_in_two_files_is_refused_and_both_places_are_named(tmp_path: Path) -> None:
    said = only_problem(
        load(
            tmp_path, a="- {id: x, question: 问, answer: 您好}\n", b="- {id: x, question: 答, answer: 您好}\n"
        )
    )
    assert f"{tmp_path / 'b.yaml'}:1: x: this id stands already at {tmp_path / 'a.yaml'}:1" in said


@pytest.mark.parametrize("variant", ["啥时候发", "啥时候发？", " 啥时候发 ", "啥時候发".replace("時", "时")])
def test_one_variant_under_two_entries_is_refused(tmp_path: Path, variant: str) -> None:
    other = f'- {{id: other, question: 别的, variants: ["{variant}"], answer: 您好}}\n'
    said = only_problem(load(tmp_path, a=PLAIN, b=other))
    assert "b.yaml:1: other variants.0" in said
    assert "belongs already to ship_when" in said


def test_politeness_that_the_matcher_drops_doesnt_make_two_variants_one(tmp_path: Path) -> None:
    result = load(
        tmp_path, a="- {id: x, question: 好的谢谢, answer: 您好}\n- {id: y, question: 好的, answer: 您好}\n"
    )
    assert result.problems == ()


def test_a_variant_twice_in_one_entry_is_only_warned_about(tmp_path: Path) -> None:
    result = load(tmp_path, a="- {id: x, question: 问, variants: [好吗, 好吗？], answer: 您好}\n")
    assert result.problems == ()
    assert "stands here twice" in str(result.warnings[0])


def test_phrasings_of_two_entries_that_look_alike_are_warned_about(tmp_path: Path) -> None:
    result = load(
        tmp_path,
        a="- {id: x, question: 你们的快递几天能送到我这里, answer: 您好}\n- {id: y, question: 你们的快递几天能送到我们这里, answer: 您好}\n",
    )
    assert result.problems == ()
    assert [warning.entry for warning in result.warnings] == ["y"]
    assert "looks like" in str(result.warnings[0])


def test_breaches_of_the_tone_rules_are_warned_about_with_their_line(tmp_path: Path) -> None:
    result = load(tmp_path, a="- id: x\n  question: 问\n  answer: 保证到，加微信聊\n")
    assert result.problems == ()
    told = [str(warning) for warning in result.warnings]
    assert len(told) == 2
    assert all(f"{tmp_path / 'a.yaml'}:3: x answer: tone:" in text for text in told)


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = load_entries([tmp_path / "empty", tmp_path / "nowhere"])
    assert [problem.message for problem in result.problems] == [
        "no *.yaml file in this folder",
        "no such file or folder",
    ]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    load(tmp_path, ship=PLAIN)
    result = load_entries([tmp_path, tmp_path / "ship.yaml"])
    assert (result.files, result.problems) == (1, ())


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    result = load(tmp_path, a="- {id: x, question: 问}\n- {id: y, quesion: 问, answer: 您好}\n", b="{")
    assert len(result.problems) == 4
    with pytest.raises(InvalidError) as caught:
        result.require()
    assert len(caught.value.errors) == 4
    assert "and 3 more" in caught.value.message


def test_the_shipped_knowledge_is_in_order() -> None:
    result = load_entries([shipped_knowledge()])
    assert [str(problem) for problem in result.problems] == []
    assert len(result.entries) >= 40
