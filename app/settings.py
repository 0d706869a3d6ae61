"""Settings of one installation: ``HUOJI_*`` variables of the environment, then those of ``.env``.

Read once, at the start of a command; nothing else reads the environment. Described in ``docs/settings.md``.

Source: the contracts page, section 1; the bad inputs, C rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.api.handshake_limit import HANDSHAKES_PER_SECOND
from app.core.crypto import parse_secret_key
from app.core.errors import ConfigurationError
from app.core.ids import Ids
from app.storage.urls import parse_database_url, sqlite_path

__all__ = ["PREFIX", "SecretKey", "Settings", "key_file", "load_secret_key", "load_settings"]

PREFIX = "HUOJI_"

_OTHERS = ("HUOJI_CHAOS", "HUOJI_SUITE_")
"""Beginnings of variables that steer the test suites, not an installation."""

_LEAST_DIFFERENT = 8
"""Characters that a random secret of 24 or more has at the very least; examples such as AAAA… have fewer."""

_LEAST_SECRET = 24
"""Source: the bad inputs, B71: secrets shorter than 24 bytes are refused in production."""


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """What an installation can set. Make it with ``load_settings``, whose errors are meant for people."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    env: Literal["development", "production"] = Field(default="development", examples=["production"])
    database_url: str = Field(
        default="sqlite:///var/huoji.db", examples=["postgresql://huoji:secret@localhost/huoji"]
    )
    redis_url: str | None = Field(default=None, examples=["redis://localhost:6379/0"])
    secret_key: SecretStr | None = Field(
        default=None, examples=["$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')"]
    )
    public_url: str | None = Field(default=None, examples=["https://huoji.example.com"])
    trusted_proxies: Listed = Field(default=(), examples=["10.0.0.0/8,127.0.0.1"])
    allowed_private_hosts: Listed = Field(default=(), examples=["erp.internal,192.168.1.0/24"])
    media_dir: Path = Field(default=Path("var/media"), examples=["/srv/huoji/media"])
    max_body: ByteSize = Field(default=ByteSize(1024 * 1024), ge=1024, le=64 * 1024 * 1024, examples=["1MiB"])
    metrics_token: SecretStr | None = Field(default=None, examples=["a-long-random-text"])
    burst_quiet: float = Field(default=2.5, ge=0, le=60, allow_inf_nan=False, examples=["2.5"])
    burst_max: float = Field(default=8.0, ge=0, le=300, allow_inf_nan=False, examples=["8"])
    agent_handshakes: float = Field(
        default=HANDSHAKES_PER_SECOND, ge=1, le=10_000, allow_inf_nan=False, examples=["100"]
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", examples=["INFO"])
    log_format: Literal["auto", "json", "text"] = Field(default="auto", examples=["json"])
    lang: Literal["zh", "en"] | None = Field(default=None, examples=["zh"])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from ``load_settings`` alone, which knows where each of them stands."""
        return (init_settings,)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        try:
            url = parse_database_url(value)
        except ConfigurationError as error:
            # Its message begins with the setting's name, which is added again below.
            raise _custom(error.message.removeprefix(f"{PREFIX}DATABASE_URL ")) from None
        except ValueError:
            raise _custom("has a port that is no number") from None
        if "@" in (url.host or ""):
            raise _custom("has an @ in its password; write it as %40 (and : as %3A, / as %2F)")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("redis", "rediss", "unix"):
            raise _custom("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _custom("must be an address beginning with https:// or http://")
        return value.rstrip("/")

    @field_validator("secret_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parse_secret_key(value.get_secret_value())
            except ConfigurationError:
                raise _custom("must be 32 random bytes in URL-safe base64") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.burst_max < self.burst_quiet:
            raise _custom("HUOJI_BURST_MAX is shorter than HUOJI_BURST_QUIET", whole=True)
        if self.is_production:
            self._check_production()
        return self

    def _check_production(self) -> None:
        if self.secret_key is None:
            raise _custom(
                "HUOJI_SECRET_KEY is required in production: the key that seals stored secrets. Make one with "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(32))' and keep it outside the database",
                whole=True,
            )
        for name, secret in (("SECRET_KEY", self.secret_key), ("METRICS_TOKEN", self.metrics_token)):
            text = secret.get_secret_value() if secret else None
            if text is not None and (len(text) < _LEAST_SECRET or len(set(text)) < _LEAST_DIFFERENT):
                raise _custom(
                    f"HUOJI_{name} is an example or too short for production; make one with "
                    "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
                    whole=True,
                )

    @property
    def is_production(self) -> bool:
        """Whether this installation serves real buyers."""
        return self.env == "production"


def _custom(why: str, *, whole: bool = False) -> PydanticCustomError:
    return PydanticCustomError("whole_setting" if whole else "setting", "{why}", {"why": why})


def load_settings(
    *,
    environment: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
    **overrides: Any,
) -> Settings:
    """Read and check the settings.

    Args:
        environment: names to values; None: this process's. It wins over the file.
        env_file: a file of ``NAME=value`` lines, or None; it needn't exist.
        overrides: fields that win over both, from command-line options; None counts as not given, "" as unset.

    Raises:
        ConfigurationError: a name is unknown, a value is wrong or a rule of production is broken; the message names
            the place, the setting and an example, and never a secret.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for name, value, place in _env_file(env_file):
        values[name], places[name] = value, place
    for name, value in (os.environ if environment is None else environment).items():
        if name.startswith(PREFIX) and not name.startswith(_OTHERS):
            values[name], places[name] = value, ""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        field = name.removeprefix(PREFIX).lower()
        if field not in Settings.model_fields or name != name.upper():
            raise _unknown(name, places[name])
        fields[field] = value
    fields |= {field: value for field, value in overrides.items() if value is not None}
    # An empty value is one that was left out, as in a copied template.
    fields = {field: value for field, value in fields.items() if value != ""}
    try:
        return Settings(**fields)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(_explain(details, places), code="settings_invalid") from None


def _env_file(path: Path | None) -> list[tuple[str, str, str]]:
    if path is None or not path.is_file():
        return []
    found: dict[str, tuple[str, str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}", code="settings_invalid") from None
    for binding in bindings:
        place = f"{path}:{binding.original.line + binding.original.string.count(chr(10), 0, _lead(binding.original.string))}: "
        if binding.error:
            raise ConfigurationError(f"{place}is no NAME=value line", code="settings_invalid")
        if binding.key is None or not binding.key.startswith(PREFIX) or binding.key.startswith(_OTHERS):
            continue
        if binding.key in found:
            first = found[binding.key][2].removesuffix(": ")
            raise ConfigurationError(
                f"{place}{binding.key} already stands at {first}", code="settings_invalid"
            )
        found[binding.key] = (binding.key, binding.value or "", place)
    return list(found.values())


def _lead(text: str) -> int:
    """Return how many blank characters a binding begins with: the parser counts them as part of it."""
    return len(text) - len(text.lstrip())


def _unknown(name: str, place: str) -> ConfigurationError:
    known = [field.upper() for field in Settings.model_fields]
    near = get_close_matches(name.removeprefix(PREFIX).upper(), known, n=1, cutoff=0.6)
    listed = ", ".join(PREFIX + field for field in known)
    hint = f"did you mean {_example(PREFIX + near[0])}?" if near else f"known are {listed}"
    return ConfigurationError(f"{place}{name} is no setting; {hint}", code="settings_unknown")


def _example(name: str) -> str:
    examples = Settings.model_fields[name.removeprefix(PREFIX).lower()].examples or [""]
    return f"{name}={examples[0]}"


def _explain(details: ErrorDetails, places: Mapping[str, str]) -> str:
    if details["type"] == "whole_setting":
        return details["msg"]
    name = PREFIX + str(details["loc"][0]).upper()
    limits = details.get("ctx", {})
    match details["type"]:
        case "setting":
            why = details["msg"]
        case "literal_error":
            why = f"must be {limits.get('expected')}"
        case "float_parsing" | "int_parsing" | "byte_size" | "byte_size_unit" | "finite_number":
            why = "is no number that can be used here"
        case "greater_than_equal":
            why = f"must be at least {limits.get('ge')}"
        case "less_than_equal":
            why = f"must be at most {limits.get('le')}"
        case _:
            why = details["msg"]
    return f"{places.get(name, '')}{name} {why}; write e.g. {_example(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """The key that seals stored secrets. ``warning``: what a person should know about where it comes from."""

    value: bytes
    file: Path | None = None
    warning: str | None = None


def key_file(settings: Settings) -> Path:
    """Return where the key lies in development: beside an embedded database, else under ``var``."""
    path = sqlite_path(parse_database_url(settings.database_url))
    return Path("var/huoji.key") if path is None else path.with_suffix(".key")


def load_secret_key(settings: Settings, ids: Ids) -> SecretKey:
    """Return the key that is set; in development without one, the kept one, made when it isn't there yet.

    Raises:
        ConfigurationError: the kept key can't be read or written, or is none.
    """
    if settings.secret_key is not None:
        return SecretKey(value=parse_secret_key(settings.secret_key.get_secret_value()))
    path = key_file(settings)
    warning: str | None = None
    try:
        if not path.exists():
            _keep(path, ids.token(32))
            warning = (
                f"HUOJI_SECRET_KEY is not set: made a key for development and kept it in {path}. "
                "Keep that file with the database; set the variable for production"
            )
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the secret key {path} can't be used ({error}); set HUOJI_SECRET_KEY instead", code="secret_key"
        ) from None
    try:
        return SecretKey(value=parse_secret_key(text), file=path, warning=warning)
    except ConfigurationError:
        raise ConfigurationError(
            f"{path} doesn't hold a key; put the right one back, or set HUOJI_SECRET_KEY", code="secret_key"
        ) from None


def _keep(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(key + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        # A link, not a rename: of two commands that start together the first one's key stays.
        path.hardlink_to(beside)
    except FileExistsError:
        pass
    finally:
        beside.unlink(missing_ok=True)
