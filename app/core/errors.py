"""The error tree. Raised where known, turned into an answer at one place per edge.

::

    HuojiError                    code, status, message for a person; ``retry_after`` seconds where waiting helps
    ├── NotFoundError             404  no such thing, or not yours to see
    ├── ForbiddenError            403  signed in, but not allowed
    ├── UnauthenticatedError      401  not, or no longer, signed in
    ├── ConflictError             409  the thing is not in the state this needs
    │   └── StaleError            412  somebody changed it since you read it
    ├── InvalidError              422  the input names its field and the fix
    ├── TooLargeError             413  more bytes than allowed
    ├── RateLimitedError          429  too many tries
    ├── UnavailableError          503  storage, queue or peer cannot take this now
    │   └── OverloadedError       503  our own queue is full
    ├── SignatureError            401  a webhook that is not from its marketplace
    ├── ChannelError              502  a marketplace refused or failed (subclasses in app/domain/delivery.py)
    ├── ConfigurationError        exit 1, this installation is set up wrongly; the message says how to mend it
    └── InvariantError            500  our own bug
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "ChannelError",
    "ConfigurationError",
    "ConflictError",
    "FieldProblem",
    "ForbiddenError",
    "HuojiError",
    "InvalidError",
    "InvariantError",
    "NotFoundError",
    "OverloadedError",
    "RateLimitedError",
    "SignatureError",
    "StaleError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
]


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with one field: its dotted path, what is wrong, and what to write instead."""

    field: str
    message: str
    fix: str = ""


class HuojiError(Exception):
    """Base of every error Huoji raises on purpose; ``message`` tells a person what to do."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldProblem] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.errors = tuple(errors)
        self.retry_after = retry_after


class NotFoundError(HuojiError):
    status, default_code = 404, "not_found"


class ForbiddenError(HuojiError):
    status, default_code = 403, "forbidden"


class UnauthenticatedError(HuojiError):
    status, default_code = 401, "token_invalid"


class ConflictError(HuojiError):
    """The thing is not in the state this needs; ``by`` names who holds it, where somebody does."""

    status, default_code = 409, "conflict"

    def __init__(self, message: str, *, code: str | None = None, by: str | None = None) -> None:
        super().__init__(message, code=code)
        self.by = by


class StaleError(ConflictError):
    status, default_code = 412, "stale"


class InvalidError(HuojiError):
    status, default_code = 422, "invalid"


class TooLargeError(HuojiError):
    status, default_code = 413, "too_large"


class RateLimitedError(HuojiError):
    status, default_code = 429, "rate_limited"


class UnavailableError(HuojiError):
    status, default_code = 503, "unavailable"


class OverloadedError(UnavailableError):
    default_code = "overloaded"


class SignatureError(HuojiError):
    status, default_code = 401, "signature_invalid"


class ChannelError(HuojiError):
    status, default_code = 502, "channel_failed"


class ConfigurationError(HuojiError):
    default_code = "configuration"


class InvariantError(HuojiError):
    default_code = "invariant"
