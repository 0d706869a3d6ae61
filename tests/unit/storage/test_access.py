"""A database that this user may not write: a start says why, and which command helps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError
from app.storage.access import require_writable

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of ours that others can look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "huoji.db").write_bytes(b"")
        yield folder


@pytest.fixture
def plain_user(folder: Path) -> Iterator[Path]:
    """The folder and what is in it, seen by a user that no file opens itself to: root becomes another, who owns them."""
    if os.geteuid() != 0:
        yield folder
        return
    for path in (folder, folder / "huoji.db"):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(0)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        require_writable(path)
    assert caught.value.code == "database_unreachable"
    return caught.value.message


def test_what_can_be_written_or_made_is_fine(plain_user: Path) -> None:
    require_writable(plain_user / "huoji.db")
    require_writable(plain_user / "var" / "deeper" / "huoji.db")


@pytest.mark.parametrize("name", ["huoji.db", "huoji.db-wal", "huoji.db-shm", "huoji.db.lock"])
def test_a_read_only_file_is_named_with_the_command(plain_user: Path, name: str) -> None:
    (plain_user / name).touch()
    (plain_user / name).chmod(0o444)
    said = refusal(plain_user / "huoji.db")
    assert f"{plain_user / name} is read-only (mode 0444)" in said
    assert said.endswith(f"chmod u+rw {plain_user / name}")


def test_a_read_only_folder_is_named_with_the_command(plain_user: Path) -> None:
    plain_user.chmod(0o555)
    for path in (plain_user / "huoji.db", plain_user / "var" / "huoji.db"):
        assert refusal(path).endswith(f"chmod u+rwx {plain_user}")
    plain_user.chmod(0o755)


@as_root
@pytest.mark.parametrize("name", ["huoji.db", "huoji.db-wal", ""])
def test_what_belongs_to_another_is_named_with_both_and_the_command(plain_user: Path, name: str) -> None:
    blocked = plain_user / name
    os.seteuid(0)
    blocked.touch()
    os.chown(blocked, 0, 0)
    os.seteuid(NOBODY)
    said = refusal(plain_user / "huoji.db")
    assert f"{blocked} belongs to root" in said
    assert said.endswith(f"sudo chown nobody {blocked}")


def test_a_folder_in_the_files_place_and_a_file_in_the_folders_are_named(folder: Path) -> None:
    assert f"{folder} is a folder" in refusal(folder)
    assert f"{folder / 'huoji.db'} is no folder" in refusal(folder / "huoji.db" / "huoji.db")
