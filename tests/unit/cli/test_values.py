"""`key=value` arguments and passwords."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer

from app.cli.people import parse_expiry
from app.cli.values import read_assignments, strip_newline
from app.core.errors import InvalidError


def test_values_stand_there_or_in_a_file_or_on_stdin(tmp_path: Path):
    file = tmp_path / "secret.txt"
    file.write_text("whsec_x=\n", "utf-8")
    found = read_assignments(
        ["a=1", f"secret=@{file}", "token=-", "url=https://x/?a=b"], stdin=io.StringIO("t\n")
    )
    assert found == [("a", "1"), ("secret", "whsec_x="), ("token", "t"), ("url", "https://x/?a=b")]


@pytest.mark.parametrize("arguments", [["secret"], ["=x"], ["a=-", "b=-"]])
def test_what_is_no_assignment_is_wrong_usage(arguments: list[str]):
    with pytest.raises(typer.BadParameter):
        read_assignments(arguments, stdin=io.StringIO("x"))


def test_a_message_never_repeats_what_may_be_a_secret():
    with pytest.raises(typer.BadParameter) as caught:
        read_assignments(["whsec_abcdef"])
    assert "whsec" not in str(caught.value.message)


def test_a_missing_or_binary_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidError, match="No such file"):
        read_assignments([f"a=@{tmp_path / 'none'}"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidError, match="no UTF-8"):
        read_assignments([f"a=@{tmp_path / 'binary'}"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a\r", "a\r"), ("", "")],
)
def test_one_newline_at_the_end_is_not_part_of_a_value(text: str, kept: str):
    assert strip_newline(text) == kept


def test_an_expiry_is_a_length_or_a_date():
    now = 1_750_000_000_000
    assert parse_expiry("30d", now) == now + 30 * 86_400_000
    assert parse_expiry("12h", now) == now + 12 * 3_600_000
    assert parse_expiry("2030-01-01T00:00:00Z", now) == 1_893_456_000_000
    for text in ("0d", "-1h", "2001-01-01", "soon", "d", ""):
        with pytest.raises(typer.BadParameter):
            parse_expiry(text, now)
