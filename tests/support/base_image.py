"""A base image without a registry: a shell, a Python and what they link to, from this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

# What the Dockerfile and the tests call.
BINARIES = ("sh", "rm", "cat", "ls", "env", "id", "touch", "grep")
# What the Dockerfile has to take away again.
UNWANTED = ("apt-get", "dpkg")
# Loaded by name at run time, or expected by every wheel: ldd does not list them.
UNLISTED = (
    *("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libstdc++.so.6", "librt.so.1"),
    *("libpthread.so.0", "libdl.so.2", "libm.so.6", "libutil.so.1"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ABOUT_PYTHON = """
import sysconfig
print(sysconfig.get_path("stdlib"))
print(sysconfig.get_config_var("LIBDIR"))
print(sysconfig.get_config_var("py_version_short"))
"""
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "_tkinter*", "config-*", "*-packages"
)


def interpreter() -> Path:
    """Return the Python to put in: 3.13, as in the Dockerfile, where pyenv has it."""
    found = sorted(Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13"))
    return found[-1] if found else Path(sys.executable).resolve()


def libraries(files: list[Path]) -> set[Path]:
    """Return the shared libraries that the files link to, the loader included."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {Path(name) for name in re.findall(r"(?:=>|^)\s+(/\S+) \(0x", said, re.MULTILINE)}


def fill(root: Path) -> None:
    """Make `root` a file system in which Python and a shell run."""
    python = interpreter()
    said = subprocess.check_output([python, "-I", "-c", ABOUT_PYTHON], text=True)
    stdlib, libdir, version = said.split()
    for folder in ("usr/bin", "usr/lib", "usr/lib64", "usr/local/bin", "usr/local/lib", "tmp"):
        (root / folder).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    (root / "tmp").chmod(0o1777)
    (root / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy(CERTIFICATES, root / "etc/ssl/certs")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n", encoding="ascii")

    binaries = {name: Path(path) for name in (*BINARIES, *UNWANTED) if (path := shutil.which(name))}
    for name, path in binaries.items():
        shutil.copy(path, root / "usr/bin" / name)
    home = root / f"usr/local/lib/python{version}"
    shutil.copytree(stdlib, home, ignore=LEFT_OUT, symlinks=True)
    (home / "site-packages/pip").mkdir(parents=True)
    shutil.copy(python, root / f"usr/local/bin/python{version}")
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(f"python{version}")

    linked = libraries([python, *binaries.values(), *(home / "lib-dynload").glob("*.so")])
    linked |= set(Path(libdir).glob(f"libpython{version}.so*"))
    folder = next(path.parent for path in linked if path.name == "libc.so.6")
    linked |= {folder / name for name in UNLISTED if (folder / name).exists()}
    for library in linked:
        loader = library.name.startswith("ld-linux")
        shutil.copy(library, root / ("usr/lib64" if loader else "usr/lib") / library.name)
