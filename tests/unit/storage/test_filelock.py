"""One server a SQLite file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError
from app.storage.filelock import FileLock, LockHolder, lock_holder

HOLD = """
import sys
from pathlib import Path
from app.storage.filelock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_server_is_refused_with_pid_and_host(tmp_path: Path):
    database = tmp_path / "data" / "huoji.db"
    with FileLock(database):
        with pytest.raises(ConfigurationError) as caught:
            FileLock(database).acquire()
        assert caught.value.code == "database_in_use"
        assert f"pid {os.getpid()} on {socket.gethostname()}" in caught.value.message


def test_who_looks_sees_the_holder_and_nobody_after_the_end(tmp_path: Path):
    database = tmp_path / "huoji.db"
    assert lock_holder(database) is None
    with FileLock(database):
        assert lock_holder(database) == LockHolder(os.getpid(), socket.gethostname())
    assert lock_holder(database) is None
    with FileLock(database):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    database = tmp_path / "huoji.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == "held\n"
        found = lock_holder(database)
        assert found is not None
        assert found.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    with FileLock(database):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("", "ascii")
    with pytest.raises(ConfigurationError, match="must be writable"):
        FileLock(tmp_path / "file" / "huoji.db").acquire()
