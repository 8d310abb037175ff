from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline import lease
from tests import radiographs

HOLD = """
import sys, time
from pathlib import Path
from beam_pipeline import lease
from tests import radiographs
with lease.held(radiographs.run(Path(sys.argv[1]), "other")):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_run_at_a_time_and_the_other_is_told_whose(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                ValueError, match=f"held by run other .*process {holder.pid}"
            ),
            lease.held(radiographs.run(tmp_path)),
        ):
            pass
        # However it ends, its lock ends with it.
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lease.held(radiographs.run(tmp_path)):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_leaves_nothing(tmp_path: Path) -> None:
    run = radiographs.run(tmp_path)
    with lease.held(run):
        said = json.loads((tmp_path / "_journal" / "_lock").read_text())
        assert said["run_id"] == run.run_id
        assert said["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


class Bucket:
    """A folder in which leases are used, as in a bucket, and time goes fast."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lease = folder / "_journal" / "_lease.json"
        self.run = radiographs.run(folder, "ours")
        self.lease.parent.mkdir()
        monkeypatch.setattr(lease, "_on_disk", lambda _: False)
        monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.1)
        monkeypatch.setattr(lease, "_EXPIRE_SECONDS", 0.5)
        monkeypatch.setattr(lease, "_SETTLE_SECONDS", 0.1)

    def renewals(self) -> int:
        return int(json.loads(self.lease.read_text())["renewals"])


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return Bucket(tmp_path, monkeypatch)


def test_a_lease_is_renewed_and_deleted(bucket: Bucket) -> None:
    with lease.held(bucket.run):
        before = bucket.renewals()
        deadline = 100
        while bucket.renewals() == before and deadline:
            deadline -= 1
            lease.time.sleep(0.05)
        assert bucket.renewals() > before
    assert not bucket.lease.exists()


def test_a_lease_that_is_renewed_is_another_run_s(bucket: Bucket) -> None:
    # Begun from the other side: what is found changes while it is looked at.
    theirs = lease._Lease(str(bucket.lease), radiographs.run(Path("/"), "theirs"))
    theirs.renew()
    with (
        theirs.renewed(),
        pytest.raises(lease.Held, match="held by run theirs"),
        lease.held(bucket.run),
    ):
        pass


def test_a_lease_that_is_renewed_no_more_is_over(bucket: Bucket) -> None:
    lease._Lease(str(bucket.lease), radiographs.run(Path("/"), "dead")).renew()
    with lease.held(bucket.run):
        assert json.loads(bucket.lease.read_text())["run_id"] == "ours"


def test_who_lost_its_lease_publishes_nothing(bucket: Bucket) -> None:
    with lease.held(bucket.run):
        lease.require(bucket.run)
        with pytest.raises(lease.Held, match="held by run ours"):
            lease.require(radiographs.run(bucket.lease.parents[1], "late"))


def test_of_two_that_begin_at_once_the_last_to_write_holds(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lease._Lease(str(bucket.lease), radiographs.run(Path("/"), "faster"))
    monkeypatch.setattr(lease.time, "sleep", lambda _: other.renew())
    with pytest.raises(lease.Held, match="faster"), lease.held(bucket.run):
        pass


def test_a_job_that_outlived_its_run_publishes_nothing(tmp_path: Path) -> None:
    run = radiographs.run(tmp_path)
    with lease.held(run):
        lease.require(run)
        with pytest.raises(lease.Held, match="held by run night"):
            lease.require(radiographs.run(tmp_path, "before"))
    with pytest.raises(lease.Held, match="no longer holds"):
        lease.require(run)


def test_a_job_that_nobody_waits_for_publishes_unless_another_holds_it(
    tmp_path: Path,
) -> None:
    detached = replace(radiographs.run(tmp_path, "template"), is_detached=True)
    lease.require(detached)
    with (
        lease.held(radiographs.run(tmp_path)),
        pytest.raises(lease.Held, match="held by run night"),
    ):
        lease.require(detached)


def test_who_wakes_up_late_leaves_the_lease_to_who_has_it_now(bucket: Bucket) -> None:
    late = lease._Lease(str(bucket.lease), bucket.run)
    late.renew()
    other = lease._Lease(str(bucket.lease), radiographs.run(Path("/"), "other"))
    with late.renewed():
        other.renew()
        lease.time.sleep(0.5)
        assert json.loads(bucket.lease.read_text())["run_id"] == "other"
    assert json.loads(bucket.lease.read_text())["run_id"] == "other"


def test_another_attempt_at_the_same_run_is_another_holder(tmp_path: Path) -> None:
    with (
        lease.held(radiographs.run(tmp_path)),
        pytest.raises(lease.Held, match="held by run night"),
    ):
        lease.require(radiographs.run(tmp_path))
