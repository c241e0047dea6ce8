"""Says all that has to change in a project of MCP tools before it can be served: `python scripts/adopt.py PROJECT`.

File by file: what is new, what stays yours, what the template has under the same name.
Rule by rule: what each tool, the metadata and old code need.
It reads only; with `--write` it also brings the files, on a clean git tree; what has one of their names stays beside
it as `NAME.before`.
It runs no code of the project.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import copier
import old_metadata
import old_places
import old_servers
import pathspec
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
# The answer, as metadata names it, and as its text begins: a word in capitals such as LIMITED names none.
LICENSES = {
    "MIT": (
        r"(The )?(Expat|MIT)( License)?",
        r"Permission is hereby granted, free of charge, to any person|\A\W*(The )?MIT License",
    ),
    "Apache-2.0": (
        r"Apache([ -]Software)?([ -]License)?,?[ -](Version )?2(\.0)?",
        r"\A\W*Apache License\s+Version 2\.0",
    ),
    "BSD-3-Clause": (r"BSD[ -]3-Clause( License)?", r"Neither the name of|\A\W*BSD 3-Clause"),
}
# What is taken over of the metadata, beside tables of other tools.
CARRIED = {"name", "version", "description", "authors", "license", "license-files", "dependencies", "readme", "dynamic"}
# Tables of build backends: what stands in them is carried over, or is what uv_build does by itself.
BUILDING = {"build", "version", "metadata", "packages", "package-dir", "package-data", "dynamic", "distribution"}
HANDLED = {
    "uv": {"sources", "index", "dev-dependencies"},
    "pdm": BUILDING | {"dev-dependencies"},
    "hatch": BUILDING,
    "flit": BUILDING,
    "setuptools": BUILDING | {"include-package-data"},
}
LINE = "# Your own dependencies go below this line."
DEV_LINE = "# Your own development tools go below this line."
# Of yours by name, and useless to the template as they are: it needs what stands in them.
REPLACED_ANYWAY = ("server.py", "settings.py", "tools/__init__.py", "__main__.py")
# Packages whose place the template's server takes.
SERVERS = {"mcp", "fastmcp"}
ADVICE = {
    "Makefile": "move your targets into local.mk, which the template's Makefile reads",
    "Dockerfile": "the template's image runs as a number and has no package manager",
    "compose.yaml": "move your services into compose.override.yaml",
    ".gitignore": "add your lines to .git/info/exclude, or at the end of the new file",
    "ruff.toml": 'put your rules into .ruff.toml, with extend = "ruff.toml"',
    "pytest.ini": "your fixtures go into tests/tools/conftest.py",
    "tests/conftest.py": "your fixtures go into tests/tools/conftest.py",
    ".github/workflows/ci.yml": "give what you still need a workflow with another name",
}


@dataclass
class Plan:
    """What would happen to each file, and what a person has to do."""

    package: str
    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    old: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)


def git(project: Path, *arguments: str) -> str:
    """Run git in the project; a folder that is no repository ends this with git's own words."""
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(f"git cannot read {project}: {done.stderr.strip()}")
    return done.stdout


def answers(project: Path, given: list[str]) -> dict[str, Any]:
    """Return the answers that the project's metadata gives, and those of the command line."""
    metadata = old_metadata.read(project)[0]["project"]
    name = str(metadata.get("name") or project.resolve().name)
    found: dict[str, Any] = {"project_name": name.replace("-", " ").replace("_", " ").title()}
    if metadata.get("name"):
        found["package_name"] = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if text := metadata.get("description"):
        found["description"] = text
    found["license"] = license_of(project, metadata)
    author = next(iter(metadata.get("authors", [])), {})
    found |= {f"author_{key}": author[key] for key in ("name", "email") if key in author}
    urls = {key.lower(): url for key, url in metadata.get("urls", {}).items()}
    if url := next((urls[key] for key in ("repository", "source", "homepage") if key in urls), ""):
        found["repository_url"] = url.rstrip("/")
    uses = "\n".join(path.read_text("utf-8", "replace") for path in sources(project))
    found["database"] = "postgres" if re.search(r"\b(asyncpg|psycopg2?|databases)\b", uses) else "none"
    targets = {
        "kubernetes": "deploy/kubernetes",
        "helm": "deploy/helm",
        "fly": "fly.toml",
        "railway": "railway.json",
        "compose": "compose.yaml",
    }
    found["deploy_targets"] = [target for target, path in targets.items() if (project / path).exists()]
    if "compose" not in found["deploy_targets"] and any((project / name).is_file() for name in old_places.COMPOSE):
        found["deploy_targets"].append("compose")
    for pair in given:
        key, _, value = pair.partition("=")
        found[key] = yaml.safe_load(value)
    return found


def license_of(project: Path, metadata: dict[str, Any]) -> str:
    """Return the license that the project has; adopting a template gives nobody a right that was not given before."""
    said = metadata.get("license", "")
    named = str(said.get("text", "") if isinstance(said, dict) else said).strip()
    for one, (name, _) in LICENSES.items():
        if re.fullmatch(name, named, re.IGNORECASE):
            return one
    if license_expression(metadata):
        return "Proprietary"
    texts = [named] if "\n" in named else [file.read_text("utf-8", "replace") for file in license_files(project)]
    known = {
        next((one for one, (_, sign) in LICENSES.items() if re.search(sign, text[:3000])), "Proprietary")
        for text in texts
    }
    # Several texts, of which each may hold: no single answer is right.
    return known.pop() if len(known) == 1 else "Proprietary"


def license_expression(metadata: dict[str, Any]) -> str:
    """Return the license as the project's metadata names it, where the template has no text for it."""
    said = metadata.get("license", "")
    one = re.fullmatch(r"[A-Za-z0-9.+() -]{1,100}", said) if isinstance(said, str) else None
    return said if one and re.search(r"-\d|\bOR\b|\bAND\b|LicenseRef-|^(ISC|Unlicense|Zlib|0BSD)$", said) else ""


def license_files(project: Path) -> list[Path]:
    """Return the files that hold the text of a license."""
    found = [*project.glob("LICEN[SC]E*"), *project.glob("COPYING*")]
    return sorted(path for path in found if path.is_file())


def python_files(project: Path) -> list[str]:
    """Return the project's own Python files, committed or not."""
    listed = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py").split("\0")
    return sorted({name for name in listed if name and (project / name).is_file()})


def sources(project: Path) -> list[Path]:
    """Return those that are no tests."""
    names = python_files(project)
    return [project / name for name in names if not re.match(r"(tests?/|.*/tests?/|test_)", name)]


def plan(project: Path, render: Path) -> Plan:
    """Compare a fresh render with the project."""
    (hardening,) = render.glob("src/*/hardening")
    found = Plan(hardening.parent.name)
    config = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    yours = pathspec.PathSpec.from_lines("gitignore", config["_skip_if_exists"])
    comes: list[str] = []
    for path in sorted(render.rglob("*")):
        name = path.relative_to(render).as_posix()
        if path.is_dir():
            continue
        comes.append(name)
        if name == "pyproject.toml":
            continue
        needed = any(name == f"src/{found.package}/{one}" for one in REPLACED_ANYWAY)
        if not os.path.lexists(project / name):
            found.new.append(name)
        elif yours.match_file(name) and not needed:
            found.kept.append(name)
        elif not (project / name).is_file() or (project / name).read_bytes() != path.read_bytes():
            found.replaced.append(name)
    found.blocked = list(old_places.in_the_way(project, comes))
    found.todo += [f"before the files can come: {what}" for what in found.blocked]
    found.todo += old_places.instead(project)
    top = Path(git(project, "rev-parse", "--show-toplevel").removesuffix("\n"))
    found.todo += old_places.around(project, top)
    if not found.blocked:
        shown = {line[1:] for line in (render / ".gitignore").read_text("utf-8").splitlines() if line.startswith("!")}
        arriving = [name for name in (*found.new, *found.replaced) if name not in shown]
        found.todo += old_places.not_seen(project, top, arriving)
    found.todo += [
        f"{name}: the template has a file of this name, yours would be {name}.before"
        + (f"; {ADVICE[name]}" if name in ADVICE else "")
        for name in found.replaced
    ]
    found.todo += metadata_rules(project)
    code = [
        rule
        for path in sources(project)
        for rule in tool_rules(path, path.relative_to(project).as_posix(), found.package)
    ]
    code += taken_from_replaced(project, found)
    if not any("under @tool" in rule for rule in code):
        code.append(
            "no function under @….tool was found: is this the folder of the project, and are its tools declared?"
        )
    found.todo += code
    found.todo += [
        f"{folder}/: only src/{found.package} is installed: move into it what the server needs"
        for folder in other_packages(project, found.package)
    ]
    found.old = [name for name in python_files(project) if name not in found.replaced]
    if found.old:
        found.todo.append(
            "old code is linted and typed strictly: .ruff.toml puts the rules of style off, file by file; a line"
            " `# pyright: basic` at the head of a file puts types off"
        )
    return found


def other_packages(project: Path, package: str) -> list[str]:
    """Return the folders of packages that the template's build leaves out."""
    names = [name for name in python_files(project) if name.endswith("/__init__.py")]
    folders = {str(Path(name).parent) for name in names if re.fullmatch(r"(src/)?[^/]+/__init__\.py", name)}
    return sorted(folders - {f"src/{package}", "src", "tests", "test", "docs", "scripts"})


def taken_from_replaced(project: Path, found: Plan) -> Iterator[str]:
    """Yield each import, tests included, from a module of yours whose place the template's takes."""
    gone = {
        re.sub(r"^src/|(/__init__)?\.py$", "", name).replace("/", ".") for name in found.replaced if name[-3:] == ".py"
    }
    for name in python_files(project) if gone else ():
        if name in found.replaced:
            continue
        for line, module in old_servers.imported(project / name, name):
            if module in gone:
                yield f"{name}:{line} {module}: the template's takes its place: import what you move from where it goes"


def metadata_rules(project: Path) -> list[str]:
    """Return what of `pyproject.toml` needs a person."""
    document, said = old_metadata.read(project)
    if not document["project"].get("dependencies"):
        said.append("pyproject.toml: no dependency was found; name yours below its line (uv add)")
    tables = sorted(document.get("tool", {}))
    found = [
        f"pyproject.toml: [tool.{name}] is read from {where}"
        for name, where in (
            ("ruff", "ruff.toml; put your rules into .ruff.toml"),
            ("pytest", "pytest.ini"),
            ("pyright", "pyrightconfig.json"),
        )
        if name in tables
    ]
    found += said
    metadata = document["project"]
    if "scripts" in metadata:
        found.append(
            "pyproject.toml: the command of the server is the template's (serve, dev, probe, schema, settings)"
            + ("; other commands stay in pyproject.toml.before" if len(metadata["scripts"]) > 1 else "")
        )
    left = {f"project.{name}" for name in metadata.keys() - CARRIED - {"scripts", "optional-dependencies"}}
    left |= {
        f"project.optional-dependencies.{name}" for name in metadata.get("optional-dependencies", {}) if name != "dev"
    }
    left |= {f"dependency-groups.{name}" for name in document.get("dependency-groups", {}) if name != "dev"}
    for name, handled in HANDLED.items():
        left |= {f"tool.{name}.{key}" for key in document.get("tool", {}).get(name, {}).keys() - handled}
    if metadata.get("requires-python") == ">=3.11":
        left.discard("project.requires-python")
    if left:
        names = ", ".join(sorted(left))
        found.append(f"pyproject.toml: not taken over, copy what you need of it from pyproject.toml.before: {names}")
    if license_of(project, metadata) == "Proprietary":
        yours = license_expression(metadata)
        if not yours and not license_files(project):
            found.append("LICENSE: you name none, so all rights stay reserved; --data license=MIT is another answer")
        elif not yours:
            found.append(
                "LICENSE: yours is none that the template knows, so pyproject.toml says LicenseRef-Proprietary until"
                ' you write what it is, such as license = "GPL-3.0-or-later"'
            )
    backend = document.get("build-system", {}).get("build-backend")
    if backend and backend != "uv_build":
        found.append(f"pyproject.toml: the build backend becomes uv_build, in place of {backend}")
    return found


def tool_rules(path: Path, name: str, package: str) -> list[str]:
    """Return what each tool, prompt and resource of a file needs, and each place where old code meets a rule."""
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError) as problem:
        return [f"{name}: cannot be read as Python ({problem})"]
    found = [f"{name}:{rule}" for rule in old_servers.rules(tree, package)]
    by_call = old_servers.declared_by_call(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kinds = {_attribute(decorator) for decorator in node.decorator_list}
            if "tool" in kinds or node.name in by_call:
                found += [f"{name}:{node.lineno} {node.name}: {rule}" for rule in _rules(node, package)]
            found += [
                f"{name}:{node.lineno} {node.name}: add this {kind} in src/{package}/server.py, to what build returns"
                for kind in ("prompt", "resource")
                if kind in kinds
            ]
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(one.name for one in node.names)]
            found += [
                f"{name}:{node.lineno} {client}: what tools ask of other systems goes through ctx.http"
                for client in ("aiohttp", "httpx", "requests")
                if client in {module.partition(".")[0] for module in modules}
            ]
            found += [
                f"{name}:{node.lineno} {parser}: what the command line said becomes a field of Settings, in"
                f" src/{package}/settings.py: the command is the template's"
                for parser in ("argparse", "click", "typer")
                if parser in {module.partition(".")[0] for module in modules}
            ]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"{name}:{node.lineno} print: use log of the hardening; what is printed is counted, not shown")
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
            found.append(
                f"{name}:{node.lineno} os.{node.attr}: becomes a field of Settings, in src/{package}/settings.py"
            )
    return found


def _attribute(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _rules(node: ast.FunctionDef | ast.AsyncFunctionDef, package: str) -> list[str]:
    found = [f"move it into src/{package}/tools/{node.name}.py, under @tool(read_only=…), and name it in TOOLS"]
    found += _declared(node)
    if isinstance(node, ast.FunctionDef):
        found.append("make it async; what blocks goes through await ctx.thread(function, …)")
    if not 20 <= len(ast.get_docstring(node) or "") <= 1024:  # noqa: PLR2004 - of the rule
        found.append("write a docstring of 20 to 1024 characters: it is what the model reads")
    for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
        if argument.arg == "self":
            continue
        shown = ast.unparse(argument.annotation) if argument.annotation else ""
        if not shown:
            found.append(f"give the argument {argument.arg} a type")
        elif "Context" in shown:
            found.append(f"the argument {argument.arg} is of the type Context[Settings] of .hardening")
            found += _words(node, argument.arg)
        elif re.search(r"\b(str|list|dict|set)\b", shown) and "max_length" not in shown:
            found.append(f"bound the argument {argument.arg}: Annotated[{shown}, Field(max_length=…, description=…)]")
    if node.args.vararg or node.args.kwarg:
        found.append("name each argument; * and ** have no schema")
    shown = ast.unparse(node.returns) if node.returns else ""
    if not shown or re.fullmatch(
        r"(dict|Dict|Any|object|None|list|List)|(list|List)\[(dict|Dict|Any).*\]|[dD]ict\[.*\]", shown
    ):
        found.append("let it return a model of pydantic, so that clients know the fields")
    return found


def _declared(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found: list[str] = []
    for call in node.decorator_list:
        if not isinstance(call, ast.Call) or _attribute(call) != "tool":
            continue
        said = {keyword.arg: keyword.value for keyword in call.keywords} | dict(zip(("name",), call.args, strict=False))
        name = said.get("name")
        if isinstance(name, ast.Constant) and name.value != node.name:
            found.append(f"clients know it as {name.value}: give the function that name")
        if "description" in said:
            found.append("what description= says becomes the docstring")
    return found


def _words(node: ast.AST, context: str) -> list[str]:
    taken = {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == context
    }
    told = sorted(taken & {"debug", "info", "warning", "error", "log"})
    state = {"request_context", "lifespan_context"} & taken
    other = sorted(taken - {"report_progress", *told, *state})
    return (
        [f"{context}.{word}: log.info(…) of .hardening tells the operator" for word in told]
        + [f"{context}.{word}: {context}.state has what the lifespan yields" for word in sorted(state)]
        + [f"{context}.{word}: {context}.sdk.{word} is the SDK's; see docs/tools.md for ours" for word in other]
    )


def write(project: Path, render: Path, found: Plan) -> None:
    """Bring the files; what has the name of one of them stays beside it."""
    if git(project, "status", "--porcelain", "--untracked-files=all", "."):
        sys.exit("Commit everything first: then git shows what this changes, and takes it back")
    if found.blocked:
        sys.exit("The files cannot come yet:\n" + "\n".join(f"  {what}" for what in found.blocked))
    for name in found.replaced:
        (project / name).rename(project / f"{name}.before")
    for name in [*found.new, *found.replaced]:
        to = project / name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes((render / name).read_bytes())
    style = project / ".ruff.toml"
    if found.old and not style.exists():
        style.write_text(put_off(found.old), "utf-8")
    old = project / "pyproject.toml"
    text = old.read_text("utf-8") if old.exists() else ""
    merged = merge_metadata(old_metadata.read(project)[0], text, (render / "pyproject.toml").read_text("utf-8"))
    if text:
        old.rename(project / "pyproject.toml.before")
    old.write_text(merged, "utf-8")


def put_off(names: list[str]) -> str:
    """Return rules of style for code from before the template."""
    listed = "".join(f'{_quoted(name)} = ["ALL"]\n' for name in names)
    return (
        'extend = "ruff.toml"\n\n'
        "# Code from before the template: take a file away from both lists when it is to keep the rules.\n"
        f"[lint.extend-per-file-ignores]\n{listed}\n"
        f"[format]\nexclude = [{', '.join(map(_quoted, names))}]\n"
    )


def merge_metadata(document: dict[str, Any], theirs: str, ours: str) -> str:
    """Return the template's `pyproject.toml` with version, dependencies and other tools' tables of another one."""
    project = document.get("project", {})
    # What is installed to serve; a package of an extra or of the development group is not there in the image.
    served, _, rest = ours.partition(LINE)

    def own(entries: list[Any], there: str) -> str:
        known = {_normal(name) for name in re.findall(r'^    "([A-Za-z0-9._-]+)', there, re.MULTILINE)}
        wanted: list[str] = []
        for entry in entries:
            found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(\[[^\]]*\])?", entry) if isinstance(entry, str) else None
            if not found or _normal(found[1]) in SERVERS:
                continue
            if _normal(found[1]) not in known:
                wanted.append(entry)
            elif found[2]:
                # The template says the versions, and the extra is yours.
                wanted.append(f"{found[1]}{found[2]}")
        return "".join(f"    {_quoted(entry)},\n" for entry in wanted)

    text = ours.replace(f"    {LINE}\n", f"    {LINE}\n{own(project.get('dependencies', []), served)}")
    development = [
        *document.get("dependency-groups", {}).get("dev", []),
        *project.get("optional-dependencies", {}).get("dev", []),
    ]
    text = text.replace(f"    {DEV_LINE}\n", f"    {DEV_LINE}\n{own(development, served + rest)}")
    if (expression := license_expression(project)) and expression not in LICENSES:
        text = text.replace('license = "LicenseRef-Proprietary"', f'license = "{expression}"', 1)
    if version := project.get("version"):
        text = text.replace('version = "0.1.0"', f'version = "{version}"', 1)
    tables = re.findall(
        r"^\[+tool\.(?!ruff|pytest|pyright|hatch|setuptools|poetry|pdm|flit|uv\b(?!\.(?:sources|index)\b))[^\n]*\n(?:(?!\[)[^\n]*\n?)*",
        theirs,
        re.MULTILINE,
    )
    return text + "".join(f"\n{table.rstrip()}\n" for table in tables)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def shown(found: Plan, *, written: bool) -> str:
    """Return the plan as a person reads it."""
    lines = [f"The package is src/{found.package}.", ""]
    kinds = (
        ("Files that come", found.new),
        ("Yours, and kept", found.kept),
        ("Yours, kept as NAME.before", found.replaced),
    )
    for title, names in kinds:
        lines += [f"{title}: {len(names)}", *(f"  {name}" for name in names if title != kinds[0][0]), ""]
    folders = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in found.new})
    lines += [f"What comes is in: {', '.join(folders)}", "", f"For you to do: {len(found.todo)}"]
    lines += [f"  {number}. {what}" for number, what in enumerate(found.todo, 1)]
    lines += [
        "",
        "Then: make setup settings schema check test"
        if written
        else "Nothing was changed. To bring the files: --write",
    ]
    return "\n".join(lines) + "\n"


def make(template: str, render: Path, data: dict[str, Any], given: list[str]) -> list[str]:
    """Render with these answers; return what was refused of the metadata, where the default is taken instead."""
    refused: list[str] = []
    while True:
        try:
            copier.run_copy(template, render, data=data, defaults=True, quiet=True, overwrite=True)
        except ValueError as problem:
            if str(problem).startswith("Local template"):
                sys.exit(f"{template} is no template here; an address that does not end in .git begins with git+")
            question = next(iter(re.findall(r"question '(\w+)'", str(problem))), "package_name")
            named = question == "package_name" or any(pair.startswith(f"{question}=") for pair in given)
            if named or question not in data:
                sys.exit(f"{problem}\nGive another answer: --data {question}=…")
            rule = str(problem).partition(": ")[2]
            refused.append(
                f"pyproject.toml: {question}: the default is taken, or name another: --data {question}=…; {rule}"
            )
            del data[question]
        else:
            return refused


def main() -> None:
    """Read the command line, and say or do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", help="the folder of the project, in a git repository")
    parser.add_argument("--write", action="store_true", help="bring the files, too")
    parser.add_argument("--data", action="append", default=[], metavar="QUESTION=ANSWER", help="an answer for Copier")
    parser.add_argument("--template", default=str(ROOT), help="where updates will come from (default: this clone)")
    chosen = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name in another alphabet is no reason to say nothing where only ASCII can be shown.
        sys.stdout.reconfigure(errors="backslashreplace")
    project = Path(chosen.project).resolve()
    if not chosen.project or not project.is_dir() or project.is_relative_to(ROOT):
        sys.exit(
            f"Name the folder of a project, {chosen.project or 'nothing'!r} is none: make adopt PROJECT=/path/to/it"
        )
    # Where updates come from is asked for in the project, so a folder is named from everywhere.
    template = str(Path(chosen.template).resolve()) if Path(chosen.template).exists() else chosen.template
    git(project, "rev-parse", "--show-toplevel")
    try:
        with tempfile.TemporaryDirectory() as folder:
            render = Path(folder) / "render"
            refused = make(template, render, answers(project, chosen.data), chosen.data)
            found = plan(project, render)
            found.todo += refused
            if chosen.write:
                write(project, render, found)
    except (OSError, ValueError) as problem:
        back = "; to take back what has come: git restore --source=HEAD --staged --worktree . && git clean --force -d ."
        sys.exit(f"Stopped: {problem}{back if chosen.write else ''}")
    sys.stdout.write(shown(found, written=chosen.write))


if __name__ == "__main__":
    main()
