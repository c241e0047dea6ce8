"""Reads what a project says of itself, in the form of `[project]`: from that table, from Poetry's, or from `setup.cfg`.

What the table leaves to the build backend is read from the file that the backend reads.
Nothing of the project is run: what only code knows is said to be missing.
"""

from __future__ import annotations

import configparser
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Metadata = dict[str, Any]
REQUIREMENTS = "requirements.txt"
# A line of that file that names a package; others are options, addresses and paths.
NAMED = r"[A-Za-z0-9][\w.-]*\s*(\[|[<>=!~;#@]|$)"
# A dependency that lies beside the project.
BESIDE = r"@\s*(file:|[{$./])|^-e\b|^[./]"
# The version in a module, or alone in a file of text.
VERSION = re.compile(
    r"^(?:(?:__version__|version)\s*(?::\s*\w+\s*)?=\s*)?[\"']?v?(\d[\w.+!-]*)[\"']?\s*(?:#.*)?$",
    re.IGNORECASE | re.MULTILINE,
)


def read(project: Path) -> tuple[Metadata, list[str]]:
    """Return the document of `pyproject.toml`, with its `project` filled, and what a person has to look at.

    A file that cannot be read ends this with its name: what it says is not nothing.
    """
    try:
        return _read(project)
    except (ValueError, AttributeError, TypeError, configparser.Error) as problem:
        names = ("pyproject.toml", "setup.cfg", REQUIREMENTS)
        there = ", ".join(name for name in names if (project / name).exists())
        sys.exit(f"The metadata of the project cannot be read ({there}): {problem}")


def _read(project: Path) -> tuple[Metadata, list[str]]:
    file = project / "pyproject.toml"
    document: Metadata = tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
    if "project" in document:
        _development(document)
        return document, list(_left_to_the_backend(project, document))
    said: list[str] = []
    if poetry := document.get("tool", {}).get("poetry"):
        found, development = _poetry(poetry, said)
    else:
        found, development = _setup_cfg(project / "setup.cfg")
        if paths := _setup_cfg_version(project / "setup.cfg"):
            said += _version(project, paths, found)
    if "dependencies" not in found:
        said += _requirements(project / REQUIREMENTS, found)
    if not found.get("name") and (project / "setup.py").exists():
        said.append(
            "setup.py: it is not run, so name what it says: --data package_name=…, and your dependencies by uv add"
        )
    said += [
        f"{name}: pyproject.toml takes its place; delete it when nothing else reads it"
        for name in ("setup.cfg", "setup.py", REQUIREMENTS)
        if (project / name).exists()
    ]
    document["project"] = {key: value for key, value in found.items() if value}
    document.setdefault("dependency-groups", {}).setdefault("dev", development)
    return document, said


def _requirements(file: Path, found: Metadata) -> Iterator[str]:
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found["dependencies"] = [line.split(" #")[0].strip() for line in lines if re.match(NAMED, line)]
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#") and not re.match(NAMED, line):
            yield f"{REQUIREMENTS}: not taken over, add what it brings by uv add: {line.strip()}"


def _left_to_the_backend(project: Path, document: Metadata) -> Iterator[str]:
    """Fill what is `dynamic` in `[project]`; yield what a person has to look at."""
    found, tools = document["project"], document.get("tool", {})
    dynamic = found.get("dynamic", [])
    if "version" in dynamic:
        setuptools = tools.get("setuptools", {}).get("dynamic", {}).get("version", {})
        named = [tools.get(name, {}).get("version", {}).get("path") for name in ("hatch", "pdm")]
        yield from _version(project, [*named, *_paths(setuptools)], found)
    if "dependencies" in dynamic:
        yield from _requirements(project / REQUIREMENTS, found)
    beside = "|".join(
        re.sub(r"[-_.]+", "[-_.]+", name)
        for name, given in tools.get("uv", {}).get("sources", {}).items()
        if any({"workspace", "path"} & one.keys() for one in (given if isinstance(given, list) else [given]))
    )
    for entries in (found.get("dependencies", []), document["dependency-groups"]["dev"]):
        for entry in [*entries]:
            if isinstance(entry, str) and re.search(rf"{BESIDE}|(?i:^({beside or '$'})\b(?![.-]))", entry):
                entries.remove(entry)
                yield (
                    f"pyproject.toml: {entry} is not taken over, because the image is built from this folder alone:"
                    " publish it, or add its address in git by uv add"
                )


def _version(project: Path, paths: list[str | None], found: Metadata) -> Iterator[str]:
    for path in filter(None, paths):
        file = project / path
        if file.is_file() and (said := VERSION.search(file.read_text("utf-8"))):
            found["version"] = said[1]
            yield (
                f"{path}: its version {said[1]} is in pyproject.toml now, where releases look for it; code gets it from"
                " importlib.metadata.version"
            )
            return
    yield "pyproject.toml: no file says your version (git's tags or code do), so it is 0.1.0: write the next one there"


def _paths(table: Metadata) -> list[str | None]:
    """Return the files in which setuptools looks for a version: those of `file`, or the module of `attr`."""
    module = str(table.get("attr", "")).rpartition(".")[0].replace(".", "/")
    files = table.get("file", [])
    found = [f"{folder}{module}{end}" for folder in ("src/", "") for end in (".py", "/__init__.py") if module]
    return [*([files] if isinstance(files, str) else files), *found]


def _development(document: Metadata) -> None:
    """Put the development tools of PDM, Hatch and older uv into `dependency-groups`, where others have them."""
    groups, tools = document.setdefault("dependency-groups", {}), document.get("tool", {})
    for name, entries in tools.get("pdm", {}).get("dev-dependencies", {}).items():
        groups.setdefault(name, entries)
    default = tools.get("hatch", {}).get("envs", {}).get("default", {})
    own = [*default.get("dependencies", []), *default.get("extra-dependencies", [])]
    own += tools.get("uv", {}).get("dev-dependencies", [])
    groups["dev"] = [*groups.get("dev", []), *own]


def _poetry(table: Metadata, said: list[str]) -> tuple[Metadata, list[str]]:
    found: Metadata = {key: table[key] for key in ("name", "version", "description", "license") if key in table}
    found["authors"] = [_author(text) for text in table.get("authors", [])]
    found["urls"] = {key: table[key] for key in ("repository", "homepage") if key in table}
    groups = table.get("group", {})
    tables = {
        "dependencies": table.get("dependencies", {}),
        "dev": {**table.get("dev-dependencies", {}), **groups.get("dev", {}).get("dependencies", {})},
    }
    lists = {kind: [_requirement(*one, said) for one in entries.items()] for kind, entries in tables.items()}
    found["dependencies"] = [one for one in lists["dependencies"] if one]
    left = [f"group {name}" for name in groups if name != "dev"]
    left += [key for key in ("extras", "plugins", "source") if key in table]
    if left:
        said.append(f"pyproject.toml: not taken over of Poetry, copy what you need: {', '.join(left)}")
    if len(table.get("scripts", {})) > 1:
        said.append("pyproject.toml: of the commands the template has its own; others stay in pyproject.toml.before")
    return found, [one for one in lists["dev"] if one]


def _author(text: str) -> dict[str, str]:
    name, _, email = text.partition("<")
    return {"name": name.strip()} | ({"email": email.rstrip("> ")} if email else {})


def _requirement(name: str, given: Any, said: list[str]) -> str:
    """Return the form of PEP 508; nothing for Python itself, and for what has another source, which is said."""
    table = given if isinstance(given, dict) else {"version": given}
    if name == "python":
        return ""
    if not isinstance(table.get("version"), str) or table.get("optional") or table.get("source"):
        said.append(f"pyproject.toml: the dependency {name} is not taken over: add it by uv add")
        return ""
    extras = f"[{','.join(table['extras'])}]" if table.get("extras") else ""
    marker = f"; {table['markers']}" if table.get("markers") else ""
    return f"{name}{extras}{','.join(_bounds(part) for part in table['version'].split(','))}{marker}"


def _bounds(text: str) -> str:
    """Return a bound of Poetry's as one of PEP 440: `^1.2` is `>=1.2,<2`, `~1.2` is `>=1.2,<1.3`."""
    text = text.strip()
    if text in {"", "*"}:
        return ""
    if not (match := re.fullmatch(r"([\^~])\s*(\d+(?:\.\d+)*)\S*", text)):
        return text.replace(" ", "") if text[0] in "<>=!~" else f"=={text}"
    numbers = [int(part) for part in match[2].split(".")]
    fixed = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
    if match[1] == "~":
        fixed = min(1, len(numbers) - 1)
    upper = [*numbers[:fixed], numbers[fixed] + 1]
    return f">={text[1:].strip()},<{'.'.join(map(str, upper))}"


def _setup_cfg_version(file: Path) -> list[str | None]:
    config = configparser.ConfigParser(interpolation=None)
    config.read(file, "utf-8")
    kind, _, value = config.get("metadata", "version", fallback="").partition(":")
    return _paths({kind: value.strip()}) if value else []


def _setup_cfg(file: Path) -> tuple[Metadata, list[str]]:
    config = configparser.ConfigParser(interpolation=None)
    config.read(file, "utf-8")

    def lines(section: str, key: str) -> list[str]:
        return [line.strip() for line in config.get(section, key, fallback="").splitlines() if line.strip()]

    of = dict(config["metadata"]) if config.has_section("metadata") else {}
    found: Metadata = {
        key: text
        for key in ("name", "version", "description", "license")
        if (text := of.get(key, "")) and text[:5] not in {"attr:", "file:"}
    }
    author = {key: of[old] for key, old in (("name", "author"), ("email", "author_email")) if old in of}
    found["authors"] = [author] if author else []
    found["urls"] = {"homepage": of["url"]} if "url" in of else {}
    if entries := lines("options", "install_requires"):
        found["dependencies"] = entries
    return found, lines("options.extras_require", "dev")
