"""Secrets at rest."""

import pytest

from app.core.crypto import SecretBox, hash_token, parse_secret_key
from app.core.errors import ConfigurationError

KEY = b"k" * 32


def test_a_secret_comes_back_and_is_never_sealed_the_same_way_twice() -> None:
    box = SecretBox(KEY)
    one, other = box.seal("whsec_abc"), box.seal("whsec_abc")
    assert one != other
    assert "whsec_abc" not in one
    assert box.open(one) == box.open(other) == "whsec_abc"
    assert SecretBox.is_sealed(one)
    assert not SecretBox.is_sealed("whsec_abc")


def test_another_key_and_an_altered_secret_are_refused_with_what_to_do() -> None:
    sealed = SecretBox(KEY).seal("whsec_abc")
    for box, text in (
        (SecretBox(b"x" * 32), sealed),
        (SecretBox(KEY), sealed[:-4] + "AAA="),
        (SecretBox(KEY), "sealed:1:!"),
    ):
        with pytest.raises(ConfigurationError, match="HUOJI_SECRET_KEY") as refused:
            box.open(text)
        assert "whsec" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "short", "a" * 42, "!" * 43, "ä" * 43])
def test_a_key_of_the_wrong_size_or_alphabet_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_secret_key(text)
    assert not text or text not in str(refused.value)


def test_a_key_may_lack_its_padding() -> None:
    assert parse_secret_key("a2trazIra2tra2tra2tra2tra2tra2tra2tra2tra2s") != b""
    assert len(parse_secret_key("A" * 43)) == 32


def test_a_token_is_stored_as_a_hash() -> None:
    assert hash_token("abc") != "abc"
    assert hash_token("abc") == hash_token("abc") != hash_token("abd")
