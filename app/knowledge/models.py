"""The entry format of knowledge files, as strict models: what may stand where, and the JSON schema of it.

Source: the contracts page, section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.domain.orders import OrderStatus
from app.knowledge.problems import nearest_name
from app.knowledge.times import parse_duration, parse_instant, parse_span

__all__ = ["ENTRY_FILE", "CategoryFile", "EntryModel", "SynonymModel", "document_of", "known_keys"]

_STATUSES = tuple(status.value for status in OrderStatus)


def _parses(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text as written, but refuse one that ``parse`` can't read."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise PydanticCustomError("unreadable", "{why}", {"why": str(error)}) from None
        return text

    return AfterValidator(check)


def _status(text: str) -> str:
    if text in _STATUSES:
        return text
    near = nearest_name(text, _STATUSES)
    hint = f"did you mean {near}?" if near else f"one of {', '.join(_STATUSES)}"
    raise PydanticCustomError(
        "order_status", "{text} is no order status; {hint}", {"text": text, "hint": hint}
    )


def _field_value(value: object) -> object:
    # Cases compare texts; a file may still say `signed: true`.
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Id = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\s/\\]{1,64}$")]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Template = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Code = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,63}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Mode = Literal["auto", "suggest", "escalate"]
Status = Annotated[str, AfterValidator(_status), Field(json_schema_extra={"enum": list(_STATUSES)})]
FieldValue = Annotated[
    str,
    BeforeValidator(_field_value, json_schema_input_type=str | bool | int | float),
    StringConstraints(max_length=500),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CaseModel(_Strict):
    """A case to open."""

    kind: Code = Field(description="Kind of the case, such as return or lost_parcel.")
    fields: dict[Name, FieldValue] = Field(
        default={}, description="Fields it starts with; values may be templates."
    )


class WhenModel(_Strict):
    """When an answer holds; all keys that are given must hold."""

    order_status: list[Status] = Field(
        default=[], min_length=1, description="Status of the order in question."
    )
    product: list[Name] = Field(default=[], min_length=1, description="Ids of the product in question.")
    tier: list[Name] = Field(default=[], min_length=1, description="Tiers of the buyer.")
    channel: list[Name] = Field(default=[], min_length=1, description="Channels the buyer writes on.")
    order_overdue: bool | None = Field(
        default=None, description="Paid, not shipped, and past the promised time."
    )
    promo: bool | None = Field(default=None, description="Whether a promotion is running.")
    trace_older_than: Annotated[str, _parses(parse_duration)] | None = Field(
        default=None, description="Age of the newest logistics trace, such as 48h."
    )
    time: Annotated[str, _parses(parse_span)] | None = Field(
        default=None, description="Time of day in the shop's zone, such as 08:00-23:00."
    )


class AnswerModel(_Strict):
    """One conditional answer. What it leaves out is as the entry says; null means none."""

    when: WhenModel = Field(description="When this answer holds.")
    answer: Template | None = Field(default=None, description="Liquid template of the text.")
    mode: Mode | None = None
    group: Code | None = None
    case: CaseModel | None = None


class TextModel(_Strict):
    """An entry's words in another language."""

    question: Phrase
    variants: list[Phrase] = Field(default=[], max_length=500)
    answer: Template | None = None


class EntryModel(_Strict):
    """One thing buyers ask."""

    id: Id = Field(description="Unique in the whole knowledge base.")
    topic: Id | None = Field(default=None, description="Intent that handlers hang on; default: the id.")
    question: Phrase = Field(description="How the question is shown to people.")
    variants: list[Phrase] = Field(default=[], max_length=500, description="How buyers type it.")
    answer: Template | None = Field(
        default=None, description="Liquid template; used when no other answer holds."
    )
    answers: list[AnswerModel] = Field(
        default=[], max_length=50, description="Conditional answers; the first wins."
    )
    mode: Mode = Field(
        default="auto", description="auto: answer; suggest: to a human only; escalate: then a human."
    )
    group: Code | None = Field(default=None, description="Group that gets it when a human is needed.")
    case: CaseModel | None = None
    needs: list[Literal["order", "product"]] = Field(
        default=[], description="What the answer can't do without."
    )
    fallback: Template | None = Field(
        default=None, description="The text when something that it needs is missing."
    )
    texts: dict[Language, TextModel] = Field(default={}, description="Other languages, by code.")
    shops: list[Name] = Field(default=[], description="Shops this is for; default: all.")
    channels: list[Name] = Field(default=[], description="Channels this is for; default: all.")
    languages: list[Language] = Field(default=[], description="Languages this is for; default: all.")
    valid_from: Annotated[str, _parses(parse_instant)] | None = Field(
        default=None, description="RFC 3339, or a date (its start, Beijing time)."
    )
    valid_until: Annotated[str, _parses(parse_instant)] | None = Field(
        default=None, description="RFC 3339, or a date (its end, Beijing time)."
    )
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(
        default=0, description="Higher wins between equals."
    )

    @model_validator(mode="after")
    def _says_something(self) -> EntryModel:
        for index, answer in enumerate(self.answers):
            if answer.answer is None and (answer.mode or self.mode) != "escalate":
                raise _missing(
                    f"answers.{index} needs an answer, since its mode is {answer.mode or self.mode}"
                )
        if self.answer is None and not self.answers and self.mode != "escalate":
            raise _missing(f"mode {self.mode} needs an answer or answers; without one, write mode: escalate")
        if self.valid_from and self.valid_until:
            until = parse_instant(self.valid_until, end_of_day=True)
            if parse_instant(self.valid_from) >= until:
                raise _missing("valid_until lies before valid_from")
        return self


def _missing(why: str) -> PydanticCustomError:
    return PydanticCustomError("entry", "{why}", {"why": why})


class CategoryFile(_Strict):
    """A file that names its category; a bare list of entries takes the file's name."""

    category: Name
    entries: list[EntryModel]


class SynonymModel(_Strict):
    """Words that mean the same to these shops."""

    id: Id
    words: list[Phrase] = Field(min_length=2, max_length=200)


ENTRY_FILE: TypeAdapter[list[EntryModel] | CategoryFile] = TypeAdapter(list[EntryModel] | CategoryFile)
"""A whole knowledge file."""


def known_keys(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the keys allowed in the mapping at ``path`` within an entry, for finding the one that was meant."""
    model: type[BaseModel] = EntryModel
    nested: dict[str, type[BaseModel]] = {"answers": AnswerModel, "when": WhenModel, "case": CaseModel}
    for step in path:
        if step == "texts":
            model = TextModel
        elif isinstance(step, str) and step in nested:
            model = nested[step]
    return tuple(model.model_fields)


def document_of(entry: EntryModel, category: str) -> dict[str, Any]:
    """Return the entry's document for ``app.knowledge.codec``: only what was written, and the category."""
    return {**entry.model_dump(exclude_unset=True), "category": category}
