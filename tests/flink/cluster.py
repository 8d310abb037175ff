"""A cluster of Flink on this machine: real processes that can be killed.

One JobManager, TaskManagers with one slot each, and one pool of Python workers, which
all of them ask: on one machine they share the address in --environment_config.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests import radiographs
from tests.flink.install import Installation

ROOT = Path(__file__).parent.parent.parent
_START_SECONDS = 120
_END_SECONDS = 15

# Flink's own conf/ is not in its PyPI package.
_CONFIG = """\
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: localhost
jobmanager.memory.process.size: 1g
rest.address: localhost
rest.bind-address: localhost
rest.port: {rest}
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.memory.process.size: 1536m
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
taskmanager.memory.managed.size: 128m
taskmanager.numberOfTaskSlots: 1
heartbeat.interval: 2000
heartbeat.timeout: 10000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 10
restart-strategy.fixed-delay.delay: 2 s
blob.storage.directory: {folder}/blobs
io.tmp.dirs: {folder}/tmp
"""
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""
# As Flink's own conf/config.yaml has them.
_OPENED = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/sun.nio.ch",
)
_ENTRY = {
    "JM": "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    "TM": "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
}


class Cluster:
    """Starts on construction; `close` ends every process of it.

    Args:
        installation: of Flink and the job server.
        folder: for configuration, logs and temporary files.
        cores: a TaskManager for each, pinned to that core; to none where None.
    """

    def __init__(
        self,
        installation: Installation,
        folder: Path,
        cores: Sequence[int | None] = (None, None),
    ) -> None:
        self._installation = installation
        self._cores = cores
        self._folder = folder
        for name in ("conf", "logs", "tmp", "blobs"):
            (folder / name).mkdir(parents=True)
        self._rest, rpc, self._pool = free_ports(3)
        config = _CONFIG.format(rest=self._rest, rpc=rpc, folder=folder)
        (folder / "conf" / "config.yaml").write_text(config)
        (folder / "conf" / "log4j.properties").write_text(_LOGGING)
        self._memory = {kind: self._memory_flags(kind) for kind in _ENTRY}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything, and wait until its slots are there."""
        pool = [sys.executable, "-m", "beam_pipeline.worker", "--pool", str(self._pool)]
        self._start("pool", pool)
        self._start("jobmanager", self._java("JM"))
        for number in range(len(self._cores)):
            self.start_task_manager(number)
        await_that(lambda: self._slots() == len(self._cores), "slots")

    @property
    def flags(self) -> list[str]:
        """Flags of Beam for a job on this cluster, without those of an environment."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master=http://localhost:{self._rest}",
            f"--flink_job_server_jar={self._installation.job_server}",
        ]

    @property
    def pool(self) -> list[str]:
        """Flags that name the pool of workers."""
        address = f"localhost:{self._pool}"
        return ["--environment_type=EXTERNAL", f"--environment_config={address}"]

    def start_task_manager(self, number: int) -> None:
        """Start that TaskManager, counted from 0, for the first time or again."""
        name = f"taskmanager-{number}"
        core = self._cores[number]
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        named = ["-D", f"taskmanager.resource-id={name}"]
        self._start(name, [*pinned, *self._java("TM"), *named])

    def kill_task_manager(self, number: int) -> None:
        process = self._processes.pop(f"taskmanager-{number}")
        process.kill()
        process.wait(_END_SECONDS)

    def workers(self) -> list[int]:
        """Process ids of the pool's Python workers."""
        return children(self._processes["pool"].pid)

    def readers(self) -> list[int]:
        """Process ids of the Python workers that read studies: theirs have readers."""
        return [pid for pid in self.workers() if children(pid)]

    def ask(self, path: str) -> Any:
        """What the JobManager's REST API says at `path`."""
        url = f"http://localhost:{self._rest}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())

    def runs(self, name: str) -> list[int]:
        """Which TaskManagers run a task now whose name has `name` in it."""
        return [
            int(subtask["taskmanager-id"].removeprefix("taskmanager-"))
            for job in self.ask("/jobs")["jobs"]
            for vertex in self.ask(f"/jobs/{job['id']}")["vertices"]
            if name in vertex["name"]
            for subtask in self.ask(f"/jobs/{job['id']}/vertices/{vertex['id']}")[
                "subtasks"
            ]
            if subtask["status"] == "RUNNING"
        ]

    def restarts(self) -> list[str]:
        """What failed so that a job was restarted, in all jobs until now."""
        log = (self._folder / "logs" / "jobmanager.log").read_text("utf-8", "replace")
        return [line for line in log.splitlines() if "to RESTARTING" in line]

    def close(self) -> None:
        """End all processes, the pool first: it ends its workers."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_END_SECONDS)

    def _slots(self) -> int:
        return int(self.ask("/overview")["slots-total"])

    def _memory_flags(self, kind: str) -> tuple[list[str], list[str]]:
        """Flags of the JVM and of Flink, as Flink's own scripts compute them."""
        jars = [self._installation.flink / "bin" / "bash-java-utils.jar"]
        jars += self._installation.flink.glob("lib/flink-dist-*.jar")
        tool = "org.apache.flink.runtime.util.bash.BashJavaUtils"
        command = ["java", "-cp", os.pathsep.join(map(str, jars)), tool]
        command += [f"GET_{kind}_RESOURCE_PARAMS", "--configDir", self._conf]
        printed = subprocess.run(command, check=True, capture_output=True, text=True)
        found = [
            line.split(":", 1)[1].split()
            for line in printed.stdout.splitlines()
            if line.startswith("BASH_JAVA_UTILS_EXEC_RESULT:")
        ]
        return found[0], found[1]

    @property
    def _conf(self) -> str:
        return str(self._folder / "conf")

    def _java(self, kind: str) -> list[str]:
        jvm, flink = self._memory[kind]
        jars = self._installation.flink.glob("lib/*.jar")
        wanted = ("flink-dist-", "log4j-")
        classpath = [str(jar) for jar in jars if jar.name.startswith(wanted)]
        opened = [f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED]
        logging = f"-Dlog4j.configurationFile={self._folder}/conf/log4j.properties"
        command = ["java", *jvm, "-XX:+UseSerialGC", *opened, logging]
        command += ["-cp", os.pathsep.join(classpath), _ENTRY[kind]]
        return [*command, "--configDir", self._conf, *flink]

    def _start(self, name: str, command: list[str]) -> None:
        # Appended: a TaskManager that is started again is the same one.
        with (self._folder / "logs" / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                # It must not outlive a test that is killed.
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )


@contextlib.contextmanager
def running(
    installation: Installation,
    folder: Path,
    cores: Sequence[int | None] = (None, None),
) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    cluster = Cluster(installation, folder, cores)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def process_flags(script: Path) -> list[str]:
    """Flags of a PROCESS environment, and at `script` its command.

    It does what installing this package makes of `beam-pipeline-worker`.
    """
    command = f'PYTHONPATH={ROOT} exec {sys.executable} -m beam_pipeline.worker "$@"'
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    config = json.dumps({"command": str(script)})
    return ["--environment_type=PROCESS", f"--environment_config={config}"]


def write_archive(folder: Path, studies: int) -> Path:
    """Write small radiographs to `folder`, no two of them alike, and return it."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(studies):
        noise = random.integers(-20, 20, (200, 180))
        chest = radiographs.chest(random.uniform(0.2, 0.8), 200, 180) + noise
        pixels = np.clip(chest, 0, 255).astype(np.uint8)
        data = radiographs.to_bytes(radiographs.dicom(pixels))
        (folder / f"{number:05}.dcm").write_bytes(data)
    return folder


def await_that(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; fail where it takes too long."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if holds():
                return
        time.sleep(0.3)
    raise TimeoutError(f"waited {_START_SECONDS} s for {what}")


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Process ids of the children of a process that are alive."""
    found: list[int] = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, each.read_text().split())
    return [child for child in found if _is_alive(child)]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False
