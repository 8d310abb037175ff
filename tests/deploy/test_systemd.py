from __future__ import annotations

import configparser
import re
import shlex
import string
from pathlib import Path

import pytest

from tests.deploy import tools

pytestmark = tools.needed("systemd-analyze")

FOLDER = tools.DEPLOY / "systemd"
SERVICE = FOLDER / "radiograph-scorer.service"
COMMAND = "/opt/radiograph-scorer/.venv/bin/beam-pipeline"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with a command that is installed here."""
    copies = []
    for unit in (*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")):
        text = unit.read_text("utf-8").replace(COMMAND, "/bin/true")
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text, "utf-8")
    return sorted(copies)


def test_systemd_understands_the_units(units: list[Path]) -> None:
    done = tools.run("systemd-analyze", "verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_say_what_is_wrong(units: list[Path]) -> None:
    with units[0].open("a") as stream:
        stream.write("\n[Service]\nProtectSytem=strict\n")
    done = tools.run("systemd-analyze", "verify", *units)
    assert "ProtectSytem" in done.stderr


def test_the_service_may_do_little(units: list[Path]) -> None:
    [service] = [unit for unit in units if unit.name == SERVICE.name]
    flags = ("--offline=true", "--threshold=20", "--no-pager")
    done = tools.run("systemd-analyze", "security", *flags, service)
    assert done.returncode == 0, done.stdout[-300:]


def test_the_timer_goes_off_every_night_and_makes_up_for_one() -> None:
    timer = configparser.ConfigParser()
    timer.read(FOLDER / "radiograph-scorer.timer")
    when = timer["Timer"]["OnCalendar"]
    done = tools.run("systemd-analyze", "calendar", "--iterations=2", when)
    assert done.returncode == 0
    assert len(re.findall(r"03:30:00 UTC", done.stdout)) >= 2
    assert timer["Timer"]["Persistent"] == "true"


def test_the_command_line_is_one_that_score_understands(
    tmp_path: Path,
) -> None:
    lines = (FOLDER / "radiograph-scorer.conf").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    values = dict(pairs, METRICS_FILE=str(tmp_path / "scorer.prom"))
    text = re.sub(r"\\\n", " ", SERVICE.read_text("utf-8"))
    command = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1]
    filled = string.Template(command).substitute(values)
    program, subcommand, *argv = shlex.split(filled)
    assert (program, subcommand) == (COMMAND, "score")
    asked = tools.parsed(argv)
    assert asked.input == ("/srv/pacs-export/{date}",)
    assert (asked.min_inputs, asked.keep_runs) == (20, 30)
    writable = re.search(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)[1].split()
    assert values["OUTPUT"] in writable
    assert dict(pairs)["METRICS_FILE"].startswith(writable[1])
