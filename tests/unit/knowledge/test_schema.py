"""The schemas beside the shipped knowledge say what the program accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from app.knowledge.schema import SCHEMA_FILES, knowledge_schema, render, shop_schema
from app.knowledge.shipped import shipped_knowledge


@pytest.mark.parametrize("name", sorted(SCHEMA_FILES))
def test_the_published_schema_is_in_step_with_the_models(name: str) -> None:
    made = render(SCHEMA_FILES[name]())
    assert (shipped_knowledge() / name).read_bytes() == made, "run: python -m app.knowledge.schema"


@pytest.mark.parametrize("file", sorted(shipped_knowledge().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_fits_the_published_schema(file: Path) -> None:
    if file.stem == "synonyms":
        return
    jsonschema.Draft202012Validator(knowledge_schema()).validate(YAML(typ="safe").load(file))


@pytest.mark.parametrize(
    ("shop", "fits"),
    [
        ({"name": "暖屿", "hours": {"presale": ["08:30-01:00"]}, "anything": {"else": 1}}, True),
        ({"mode": "automatic"}, False),
        ({"burst_quiet": -1}, False),
        ({"catalog": [{"title": "围巾"}]}, False),
    ],
)
def test_the_shop_schema_says_what_a_shop_may_hold(shop: dict[str, Any], fits: bool) -> None:
    assert jsonschema.Draft202012Validator(shop_schema()).is_valid(shop) is fits
