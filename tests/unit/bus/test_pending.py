"""What waits to leave stays small, however long nobody takes it."""

from __future__ import annotations

from app.bus.pending import MAX_WORDS, PendingHints


def test_hints_of_one_topic_leave_as_one_with_all_their_words() -> None:
    pending = PendingHints()
    pending.add("inbox", "3,7")
    pending.add("events", "")
    pending.add("inbox", "7,9")

    assert pending.take() == {"inbox": "3,7,9", "events": ""}
    assert pending.take() == {}


def test_look_at_everything_takes_the_others_in_whatever_their_order() -> None:
    pending = PendingHints()
    pending.add("inbox", "3")
    pending.add("inbox", "")
    pending.add("inbox", "4")

    assert pending.take() == {"inbox": ""}


def test_too_many_words_become_look_at_everything() -> None:
    pending = PendingHints()
    for number in range(MAX_WORDS + 1):
        pending.add("conversations", str(number))

    assert pending.take() == {"conversations": ""}
