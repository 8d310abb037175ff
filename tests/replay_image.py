"""Replay the Dockerfile without Docker, and score a demo in what came out.

    sudo make image-test

The stages that the image for Kubernetes needs are built in bare Debian roots, one
instruction after the other, as their own users. Then the demo's export is scored as the
image's user, without a network: by the job alone, and by Beam's boot, which is the
image's entry point. Both must give the rows that this machine gives.

Three things differ from Docker. The base image is Debian's own Python 3.11 in a minimal
Debian, which debootstrap makes. Beam's boot is built from its released source, since
its image cannot be had without a registry. TensorFlow comes without CUDA, by the build
argument that the Dockerfile has for it. The stage for Dataflow, which adds Google's
launcher alone, is not replayed.

Needs Linux, root, debootstrap and Go; without them it is left out, unless
REQUIRE_IMAGE_TEST is set. Some ten minutes and 4 GB of disk while it runs.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from string import Template

import pyarrow.parquet as pq
from dockerfile_parse import DockerfileParser
from pathspec import GitIgnoreSpec

CONTEXT = Path(__file__).parent.parent
BUILD = CONTEXT / "build" / "image-test"
TARGET = "worker"
ARGUMENTS = {"TENSORFLOW_EXTRA": ""}
DEBIAN = "http://deb.debian.org/debian"
PACKAGES = ("ca-certificates", "python3-venv")
BOOT = "github.com/apache/beam/sdks/v2/python/container"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# How packages are reached from here, which is no part of the image.
REACH = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_CERT")
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

Instruction = tuple[str, str]


@dataclass
class Image:
    """A root folder and what the instructions so far have set in it."""

    root: Path
    user: str = "0:0"
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    entrypoint: str = ""


def main() -> None:
    """Build, look at what came out, score."""
    missing = [name for name in ("debootstrap", "go") if shutil.which(name) is None]
    missing += ["root"] if os.getuid() else []
    if missing:
        print(f"image-test: left out, for want of {', '.join(missing)}")
        sys.exit("REQUIRE_IMAGE_TEST" in os.environ)
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    try:
        image = Replay(CONTEXT / "Dockerfile").build(TARGET)
        inspect(image)
        score(image)
    finally:
        shutil.rmtree(BUILD, ignore_errors=True)
    print("image-test: passed")


class Replay:
    """The stages of a Dockerfile, each built once and when it is needed."""

    def __init__(self, dockerfile: Path) -> None:
        self._stages: dict[str, tuple[str, list[Instruction]]] = {}
        for name, value in instructions(dockerfile):
            if name == "FROM":
                image, _, stage = value.split()
                self._stages[stage] = (image, current := [])
            else:
                current.append((name, value))
        patterns = (CONTEXT / ".dockerignore").read_text().splitlines()
        # Docker's patterns begin at the context; these would match at any depth.
        self._ignored = GitIgnoreSpec.from_lines(
            pattern if pattern.startswith(("**", "#")) else _anchored(pattern)
            for pattern in patterns
        )
        self._built: dict[str, Image] = {}

    def build(self, stage: str) -> Image:
        """The stage, with everything that it is made from."""
        if stage not in self._built:
            parent, steps = self._stages[stage]
            # Of a chain of stages only the last is used: they share one folder.
            image = self.build(parent) if parent in self._stages else bare(parent)
            image = replace(image, environment=dict(image.environment))
            arguments: dict[str, str] = {}
            for name, value in steps:
                print(f"[{stage}] {name} {value}", flush=True)
                self._step(image, arguments, name, value)
            self._built[stage] = image
        return self._built[stage]

    def _step(
        self, image: Image, arguments: dict[str, str], name: str, value: str
    ) -> None:
        known = {**arguments, **image.environment}
        match name:
            case "ARG":
                key, _, default = value.partition("=")
                arguments[key] = ARGUMENTS.get(key, default)
            case "ENV":
                pairs = [each.partition("=") for each in shlex.split(value)]
                image.environment.update({key: text for key, _, text in pairs})
            case "WORKDIR":
                image.folder = Template(value).substitute(known)
                # As Docker does: root's where it does not exist yet.
                (image.root / image.folder[1:]).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = value
            case "ENTRYPOINT":
                [image.entrypoint] = shlex.split(value.strip("[]"))
            case "COPY":
                self._copy(image, value)
            case "RUN":
                flags, command = _flags(value)
                mounts = [self._mount(flag) for flag in flags.get("mount", ())]
                run(image, command, arguments, mounts)
            case "LABEL":
                pass
            case _:
                sys.exit(f"image-test: {name} cannot be replayed yet")

    def _copy(self, image: Image, value: str) -> None:
        flags, text = _flags(value)
        *sources, target = text.split()
        [stage] = flags.get("from", [""])
        origin = self.build(stage).root if stage else CONTEXT
        # Without an end of its own it is the folder's new name, as Docker has it.
        folder = image.root / os.path.join(image.folder, target)[1:]
        for source in sources:
            found = origin / source.lstrip("/")
            into = folder / found.name if target.endswith("/") else folder
            files = [found] if found.is_file() else sorted(found.rglob("*"))
            files = [path for path in files if path.is_file()]
            if not stage:
                names = {path: str(path.relative_to(origin)) for path in files}
                files = [p for p in files if not self._ignored.match_file(names[p])]
            if not files:
                sys.exit(f"image-test: COPY {source}: no file, or it is ignored")
            for path in files:
                placed = into / path.relative_to(found)
                placed.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, placed)

    def _mount(self, flag: str) -> tuple[Path, str]:
        given = dict(each.split("=") for each in flag.split(","))
        return self.build(given["from"]).root / given["source"][1:], given["target"]


def instructions(dockerfile: Path) -> Iterator[Instruction]:
    """The instructions, each on one line."""
    # Given a path it would write there.
    parser = DockerfileParser(fileobj=BytesIO(dockerfile.read_bytes()))
    for each in parser.structure:
        if each["instruction"] != "COMMENT":
            yield each["instruction"], each["value"]


def _anchored(pattern: str) -> str:
    return f"!/{pattern[1:]}" if pattern.startswith("!") else f"/{pattern}"


def _flags(value: str) -> tuple[dict[str, list[str]], str]:
    """`--name=text` before what an instruction is about, and that."""
    flags: dict[str, list[str]] = {}
    while value.startswith("--"):
        flag, value = value.split(maxsplit=1)
        name, _, text = flag[2:].partition("=")
        flags.setdefault(name, []).append(text)
    return flags, value


def bare(image: str) -> Image:
    """What stands in for an image of a registry."""
    root = Path(BUILD / image.replace("/", "_").replace(":", "_"))
    name, _, version = image.partition(":")
    if name == "python" and version.startswith("3.11.") and "bookworm" in version:
        return Image(_python(root.with_name(f"{root.name}-{len(os.listdir(BUILD))}")))
    if name == "apache/beam_python3.11_sdk":
        return Image(_beam(root, version))
    sys.exit(f"image-test: nothing stands in for {image}")


def _python(root: Path) -> Path:
    """A minimal Debian whose Python 3.11 installs where that image's does."""
    debian = BUILD / "debian"
    if not debian.exists():
        print(f"debootstrap {debian}", flush=True)
        make = ["debootstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES)]
        with (BUILD / "debootstrap.log").open("w") as log:
            command = [*make, "bookworm", debian, DEBIAN]
            subprocess.run(command, check=True, stdout=log)
        shutil.copy("/" + CERTIFICATES, debian / CERTIFICATES)
        # Docker gives every container one.
        (debian / "etc/hosts").write_text(f"127.0.0.1 localhost {platform.node()}\n")
        run(Image(debian), "python3 -m venv /usr/local")
    subprocess.run(["cp", "--archive", "--reflink=auto", debian, root], check=True)
    return root


def _beam(root: Path, version: str) -> Path:
    """Beam's boot, from the source that its image's was built from."""
    folder = root / "opt/apache/beam"
    folder.mkdir(parents=True)
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    go = ["go", "install", f"{BOOT}@v{version}"]
    subprocess.run(go, check=True, env=environment)
    (folder / "container").rename(folder / "boot")
    for name in ("LICENSE", "NOTICE"):
        (folder / name).touch()
    return root


def run(
    image: Image,
    command: str,
    arguments: Mapping[str, str] | None = None,
    mounts: list[tuple[Path, str]] | None = None,
    *,
    network: bool = True,
) -> None:
    """Run a shell command in the image, as its user, in its folder."""
    home = "/root" if image.user.startswith("0") else "/home/scorer"
    environment = {**(arguments or {}), **image.environment, "HOME": home}
    if network:
        shutil.copy("/etc/resolv.conf", image.root / "etc/resolv.conf")
        environment |= {name: os.environ[name] for name in REACH if name in os.environ}
    setting = [f"{name}={value}" for name, value in environment.items()]
    root = shlex.quote(str(image.root))
    inside = f"cd {image.folder}\n{command}"
    lines = [
        "set -e",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        "" if network else "ip link set lo up",
    ]
    for source, target in mounts or ():
        lines += [
            f"mkdir -p {root}{target}",
            f"mount --bind {shlex.quote(str(source))} {root}{target}",
        ]
    start = ["chroot", f"--userspec={image.user}", "--groups=", str(image.root)]
    lines.append(
        shlex.join(["exec", *start, "env", "-i", *setting, "sh", "-ec", inside])
    )
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if not network:
        isolated.append("--net")
    done = subprocess.run([*isolated, "sh", "-c", "\n".join(lines)])
    if done.returncode:
        sys.exit(f"image-test: {command!r} failed with {done.returncode}")


RIGHTS = """
test $(id -u) = 10001
test -w .
! test -w /opt/scorer
! test -w /usr/local/lib/python3.11/site-packages
"""


def inspect(image: Image) -> None:
    """What an image must not have: rights, caches, packages that nobody pinned."""
    run(image, RIGHTS)
    run(image, "python -m pip freeze --exclude radiograph-scorer > /tmp/installed")
    installed = _lines(image.root / "tmp/installed")
    unpinned = installed - _lines(CONTEXT / "constraints.txt")
    if unpinned or not installed:
        sys.exit(f"image-test: not as constraints.txt has them: {unpinned}")
    for cache in ("root/.cache", "home/*/.cache", "tmp/pip-*"):
        if found := list(image.root.glob(cache)):
            sys.exit(f"image-test: {found} was left behind")
    size = subprocess.check_output(["du", "-sm", image.root], text=True).split()[0]
    print(f"{len(installed)} packages, all pinned; {size} MB", flush=True)


def _lines(path: Path) -> set[str]:
    """Names and versions, each name as PEP 503 has it."""
    pairs = (line.lower().split("==") for line in path.read_text().split())
    return {f"{re.sub('[-_.]+', '-', name)}=={version}" for name, version in pairs}


SCORE = (
    "python -m beam_pipeline score --input /mnt/export --eligibility /mnt/rules.toml"
)
# The entry point as a pool of workers, and a runner that asks it for one.
BY_BOOT = """
{boot} --worker_pool &
python -m apache_beam.runners.portability.local_job_service_main --port=8099 &
until python -c "import socket; [socket.create_connection(('localhost', port))
for port in (8099, 50000)]" 2> /dev/null; do sleep 1; done
{score} --output /tmp/boot --runner PortableRunner --job_endpoint localhost:8099 \
  --environment_type EXTERNAL --environment_config localhost:50000 \
  --sdk_location container
"""


def score(image: Image) -> None:
    """The demo's export, thrice; the rows must be the same."""
    demo = BUILD / "demo"
    here = {**os.environ, "PYTHONPATH": str(CONTEXT)}
    assemble = [sys.executable, CONTEXT / "demo/assemble.py", demo / "export"]
    subprocess.run(assemble, check=True, env=here)
    shutil.copy(CONTEXT / "demo/rules.toml", demo)
    command = shlex.split(SCORE.replace("/mnt", str(demo)))[1:]
    subprocess.run(
        [sys.executable, *command, "--output", demo / "here"], check=True, env=here
    )
    mounts = [(demo, "/mnt")]
    run(image, f"{SCORE} --output /tmp/alone", mounts=mounts, network=False)
    by_boot = BY_BOOT.format(boot=image.entrypoint, score=SCORE)
    run(image, by_boot, mounts=mounts, network=False)
    expected = rows(demo / "here")
    for name in ("alone", "boot"):
        if rows(image.root / "tmp" / name) != expected:
            sys.exit(f"image-test: /tmp/{name} has other rows than this machine gives")
    print(f"{len(expected)} rows, three times the same", flush=True)


def rows(output: Path) -> dict[str, tuple[str, str | None, float | None]]:
    """What became of each file of the export."""
    return {
        row["source_uri"].partition("/export/")[2]: (
            row["status"],
            row["reason"],
            row["score"] and round(row["score"], 5),
        )
        for row in pq.read_table(output / "instances").to_pylist()
    }


if __name__ == "__main__":
    main()
