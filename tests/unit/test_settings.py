"""Settings: what is read from where, and what a person is told when it is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError
from app.settings import Settings, key_file, load_secret_key, load_settings
from tests.fakes import FakeIds

KEY = "3q2-7wEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJo"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def load(*, env_file: Path | None = None, **names: str) -> Settings:
    return load_settings(
        environment={f"HUOJI_{name.upper()}": value for name, value in names.items()}, env_file=env_file
    )


def refusal(*, env_file: Path | None = None, **names: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(env_file=env_file, **names)
    return caught.value.message


def test_nothing_needs_to_be_set_for_development():
    settings = load()
    assert settings.database_url == "sqlite:///var/huoji.db"
    assert (settings.env, settings.max_body, settings.burst_quiet, settings.burst_max) == (
        "development",
        1 << 20,
        2.5,
        8,
    )


def test_values_are_read_as_what_they_are():
    settings = load(
        max_body="2MiB", burst_quiet="0", trusted_proxies="10.0.0.0/8, 127.0.0.1", log_level="debug",
        public_url="https://huoji.example/", redis_url="",
    )  # fmt: skip
    assert settings.max_body == 2 << 20
    assert settings.burst_quiet == 0
    assert settings.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert settings.log_level == "DEBUG"
    assert settings.public_url == "https://huoji.example"
    assert settings.redis_url is None


def test_the_environment_wins_over_the_file_and_an_option_over_both(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("# ours\nHUOJI_LOG_LEVEL=ERROR\nHUOJI_MAX_BODY='2048'\nOTHER=1\n", "utf-8")
    settings = load_settings(environment={"HUOJI_LOG_LEVEL": "WARNING"}, env_file=file)
    assert (settings.log_level, settings.max_body) == ("WARNING", 2048)
    overridden = load_settings(
        environment={"HUOJI_LOG_LEVEL": "WARNING"}, env_file=file, log_level="DEBUG", redis_url=None
    )
    assert overridden.log_level == "DEBUG"


def test_an_unknown_name_is_refused_with_the_nearest_one_and_an_example():
    message = refusal(database_ulr="sqlite:///x.db")
    assert "HUOJI_DATABASE_ULR is no setting" in message
    assert "HUOJI_DATABASE_URL=postgresql://" in message


def test_a_name_near_nothing_is_refused_with_the_known_ones():
    assert "HUOJI_MEDIA_DIR" in refusal(zzzz="1")


def test_variables_of_the_test_suites_are_left_alone():
    assert load(chaos_point="after_commit", suite_report="x").env == "development"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "burst_quiet",
            "soon",
            "HUOJI_BURST_QUIET is no number that can be used here; write e.g. HUOJI_BURST_QUIET=2.5",
        ),
        ("burst_quiet", "nan", "is no number"),
        ("burst_quiet", "-1", "must be at least 0"),
        ("max_body", "1", "must be at least 1024"),
        ("max_body", "many", "is no number"),
        ("env", "prod", "must be 'development' or 'production'"),
        ("database_url", "mysql://localhost/x", "runs on sqlite and postgresql"),
        ("database_url", "huoji.db", "is not a database URL"),
        ("database_url", "postgresql://huoji:p@ss@localhost/huoji", "%40"),
        ("database_url", "postgresql://huoji@localhost:many/huoji", "HUOJI_DATABASE_URL"),
        ("redis_url", "localhost:6379", "redis://"),
        ("public_url", "huoji.example", "https://"),
        ("secret_key", "short", "32 random bytes"),
    ],
)
def test_a_wrong_value_is_refused_with_an_example(name: str, value: str, said: str):
    values: dict[str, str] = {name: value}
    assert said in refusal(env_file=None, **values)


def test_no_message_repeats_a_password_or_key():
    assert "hunter2" not in refusal(database_url="postgresql://huoji:hunter2@x@localhost/huoji")
    assert "hunter2" not in refusal(secret_key="hunter2")


def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("# ours\n\nHUOJI_ENV=prod\n", "utf-8")
    assert refusal(env_file=file).startswith(f"{file}:3: HUOJI_ENV must be")
    file.write_text("HUOJI_LOGLEVEL=INFO\n", "utf-8")
    assert refusal(env_file=file).startswith(
        f"{file}:1: HUOJI_LOGLEVEL is no setting; did you mean HUOJI_LOG_LEVEL"
    )


def test_one_name_twice_in_the_file_is_refused(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("HUOJI_LANG=zh\nHUOJI_LANG=en\n", "utf-8")
    assert refusal(env_file=file) == f"{file}:2: HUOJI_LANG already stands at {file}:1"


def test_production_wants_a_real_key():
    assert "required in production" in refusal(env="production")
    assert "is an example or too short" in refusal(env="production", secret_key="A" * 43)
    assert "HUOJI_METRICS_TOKEN is an example" in refusal(
        env="production", secret_key=KEY, metrics_token="changeme"
    )
    assert load(env="production", secret_key=KEY).is_production


def test_bursts_cannot_end_before_they_are_quiet():
    assert "HUOJI_BURST_MAX is shorter" in refusal(burst_quiet="9")


def test_in_development_the_key_is_made_once_beside_the_database_for_its_owner_only(tmp_path: Path):
    settings = load(database_url=f"sqlite:///{tmp_path / 'data' / 'huoji.db'}")
    first = load_secret_key(settings, FakeIds())
    assert first.file is not None
    assert first.file == key_file(settings) == tmp_path / "data" / "huoji.key"
    assert first.warning is not None
    assert str(first.file) in first.warning
    assert stat.S_IMODE(first.file.stat().st_mode) == 0o600
    again = load_secret_key(settings, FakeIds(start=5))
    assert (again.value, again.warning) == (first.value, None)
    assert [path.name for path in first.file.parent.iterdir()] == ["huoji.key"]


def test_a_key_that_is_set_is_used_and_none_is_kept(tmp_path: Path):
    settings = load(database_url=f"sqlite:///{tmp_path / 'huoji.db'}", secret_key=KEY)
    assert len(load_secret_key(settings, FakeIds()).value) == 32
    assert list(tmp_path.iterdir()) == []


def test_a_kept_key_that_is_none_is_refused(tmp_path: Path):
    settings = load(database_url=f"sqlite:///{tmp_path / 'huoji.db'}")
    key_file(settings).write_text("nonsense", "ascii")
    with pytest.raises(ConfigurationError, match="doesn't hold a key"):
        load_secret_key(settings, FakeIds())


def test_every_setting_is_described():
    page = DOCS.read_text("utf-8")
    assert [name for name in Settings.model_fields if f"`HUOJI_{name.upper()}`" not in page] == []
