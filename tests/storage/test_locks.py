from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xrdct_beamline.domain.errors import ConfigurationError, OwnerError
from xrdct_beamline.storage.locks import OwnerLock


def test_a_second_owner_is_told_who_holds_it_and_since_when(tmp_path: Path) -> None:
    with OwnerLock(tmp_path / "x.lock", what="beamline"):
        with pytest.raises(OwnerError) as caught:
            OwnerLock(tmp_path / "x.lock", what="beamline").acquire()
    message = str(caught.value)
    assert f"process {os.getpid()} on {socket.gethostname()} since 2" in message
    assert message.startswith("the beamline is held by")


def test_released_lock_can_be_taken_again_and_names_nobody(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path / "x.lock")
    lock.acquire()
    lock.release()
    assert not lock.is_held
    assert (tmp_path / "x.lock").read_bytes() == b""
    with OwnerLock(tmp_path / "x.lock") as again:
        assert again.is_held


def test_taking_a_held_lock_again_is_refused(tmp_path: Path) -> None:
    with OwnerLock(tmp_path / "x.lock") as lock, pytest.raises(OwnerError, match="already held"):
        lock.acquire()


def test_a_lock_in_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        OwnerLock(tmp_path / "absent" / "x.lock").acquire()


def test_an_unnamed_holder_is_still_a_holder(tmp_path: Path) -> None:
    with OwnerLock(tmp_path / "x.lock"):
        (tmp_path / "x.lock").write_bytes(b"")
        with pytest.raises(OwnerError, match="has not written its name"):
            OwnerLock(tmp_path / "x.lock").acquire()


@pytest.mark.system
def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from xrdct_beamline.storage.locks import OwnerLock;"
        "lock = OwnerLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "x.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OwnerError, match=f"process {holder.pid} on"):
            OwnerLock(path).acquire()
        os.kill(holder.pid, signal.SIGKILL)
    OwnerLock(path).acquire()
