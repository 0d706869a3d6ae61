"""Our signing and verifying against the published scheme: recorded vectors, and the reference library as oracle."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from app.channels import signing
from app.core.errors import SignatureError

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "standard_webhooks" / "vectors.json").read_text(
        encoding="utf-8"
    )
)["vectors"]


def is_accepted(inputs: dict[str, Any]) -> bool:
    headers = {name.lower(): value for name, value in inputs["headers"].items()}
    try:
        signing.verify(
            headers,
            inputs["body"].encode(),
            [signing.open_secret(inputs["secret"])],
            now_ms=inputs["now"] * 1000,
        )
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_recorded_request_passes_exactly_when_it_should(vector: dict[str, Any]):
    assert is_accepted(vector["inputs"]) is vector["expected"]["valid"]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if "signature" in vector["expected"]],
    ids=lambda vector: vector["id"],
)
def test_signing_the_same_bytes_gives_the_recorded_signature(vector: dict[str, Any]):
    inputs = vector["inputs"]
    made = signing.sign(
        [signing.open_secret(inputs["secret"])],
        inputs["webhook_id"],
        inputs["timestamp"],
        inputs["body"].encode(),
    )
    assert made == vector["expected"]["signature"]


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["expected"]["valid"]], ids=lambda vector: vector["id"]
)
def test_one_changed_character_spoils_a_good_request(vector: dict[str, Any]):
    inputs = vector["inputs"]
    changed = {**inputs, "body": inputs["body"].replace("t", "T", 1)}
    assert changed["body"] != inputs["body"]
    assert is_accepted(changed) is False


@given(
    key=st.binary(min_size=1, max_size=100),
    identifier=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    body=st.text(max_size=500),
    at=st.integers(min_value=1_000_000_000, max_value=4_000_000_000),
)
def test_the_reference_library_makes_the_same_signature(key: bytes, identifier: str, body: str, at: int):
    library = Webhook(key).sign(identifier, datetime.fromtimestamp(at, tz=UTC), body)
    ours = signing.sign([key], identifier, at, body.encode("utf-8", "surrogatepass"))
    assert ours == library
    signing.verify(
        {"webhook-id": identifier, "webhook-timestamp": str(at), "webhook-signature": library},
        body.encode(),
        [key],
        now_ms=at * 1000,
    )
