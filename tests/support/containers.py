"""Podman with a store and a configuration of its own."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any, Self

from support.base_image import CERTIFICATES, fill
from support.programs import find, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON_IMAGE = "localhost/python:3.13-slim"
UV_IMAGE = "localhost/uv:0.13"
TMPFS = "/tmp:rw,noexec,nosuid,nodev,size=16m"  # noqa: S108 - a path inside the container

# What an unprivileged build machine allows: its own cgroups, no raised limits, no systemd.
CONTAINERS_CONF = """
[network]
network_backend = "netavark"
network_config_dir = "{root}/networks"
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{root}/engine-tmp"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""


class Engine:
    """Builds and runs images, and leaves nothing behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.podman = find("podman")
        runtime = find("runc")
        (root / "containers.conf").write_text(CONTAINERS_CONF.format(root=root, runtime=runtime), encoding="utf-8")
        (root / "storage.conf").write_text(STORAGE_CONF.format(root=root), encoding="utf-8")
        self.env = {
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        }

    def __enter__(self) -> Self:
        # What the engine calls to make a network.
        find("iptables")
        # Process 1 of a service that says `init`.
        find("catatonit")
        # Only the base image of the tests knows of this machine's certificates.
        environment = (f"SSL_CERT_FILE={CERTIFICATES}", "PATH=/usr/local/bin:/usr/bin:/bin")
        self.image(PYTHON_IMAGE, fill, environment=environment)
        self.image(UV_IMAGE, lambda folder: shutil.copy(find("uv"), folder / "uv"))
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "--all", "--force", "--time", "0")
        self("rmi", "--all", "--force")
        self("unshare", "rm", "-rf", str(self.root / "graph"))
        # Each command may mount the store on itself; what stays mounted, nobody can delete, pytest included.
        while run("umount", str(self.root / "graph" / "overlay")).returncode == 0:
            pass

    def __call__(self, *arguments: str | Path, timeout: float = 120, check: bool = False) -> str:
        """Run podman; return its output."""
        done = run(self.podman, *arguments, env=self.env, timeout=timeout)
        assert not check or done.returncode == 0, f"podman {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def image(
        self, name: str, fill: Callable[[Path], object], *, of: str = "scratch", environment: tuple[str, ...] = ()
    ) -> None:
        """Make an image of a folder that `fill` fills, on top of another one."""
        folder = self.root / "folder"
        folder.mkdir()
        fill(folder)
        lines = [f"FROM {of}", "COPY . /", *(f"ENV {variable}" for variable in environment)]
        (self.root / "Imagefile").write_text("\n".join(lines), encoding="utf-8")
        options = ("--quiet", "--pull=never", "--isolation", "chroot", "--format", "docker")
        self("build", *options, "-f", self.root / "Imagefile", "-t", name, folder, check=True)
        shutil.rmtree(folder)

    def build(self, context: Path, tag: str, *options: str, timeout: float = 400) -> tuple[bool, str]:
        """Build the project's Dockerfile on the local base; return whether it worked, and the output."""
        done = run(
            self.podman, "build", "--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker",
            "--build-arg", f"PYTHON_IMAGE={PYTHON_IMAGE}", "--build-arg", f"UV_IMAGE={UV_IMAGE}",
            *options, "-t", tag, str(context),
            env=self.env, timeout=timeout,
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what podman knows of a container or an image."""
        return json.loads(self("inspect", name, check=True))[0]

    def run(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Container:
        """Start a container as the shipped files do: no capabilities, a read-only root."""
        name = self(
            "run", "--detach", "--pull=never", "--network", "host", "--read-only",
            "--tmpfs", TMPFS, "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", *options, image, *command, check=True,
        )  # fmt: skip
        return Container(self, name)


class Container:
    """A running container."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def exec(self, *command: str) -> str:
        """Run a command inside."""
        return self.engine("exec", self.name, *command)

    def logs(self) -> str:
        """Return both streams."""
        done = run(self.engine.podman, "logs", self.name, env=self.engine.env)
        return done.stdout + done.stderr

    def healthy(self) -> bool:
        """Run the image's HEALTHCHECK once."""
        return run(self.engine.podman, "healthcheck", "run", self.name, env=self.engine.env).returncode == 0

    def signal(self, name: str) -> None:
        """Send a signal to process 1."""
        self.engine("kill", "--signal", name, self.name, check=True)

    def wait(self, timeout: float) -> int:
        """Return the exit code; fail when it is still running at the deadline."""
        deadline = time.monotonic() + timeout
        while self.engine.inspect(self.name)["State"]["Running"]:
            assert time.monotonic() < deadline, f"still running after {timeout} s\n{self.logs()}"
            time.sleep(0.2)
        return int(self.engine.inspect(self.name)["State"]["ExitCode"])

    def remove(self) -> None:
        """End it, now."""
        self.engine("rm", "--force", "--time", "0", self.name)
