"""`cookiecutter` gives the very project that `copier copy` gives, and one that can be updated."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import copier
import pytest
import yaml
from support.harness import AWKWARD, DEFAULT, NEXT_RELEASE, ROOT, SHORTEST, Answers, files, git, run, tool

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from support.harness import Template

HOOKS = sorted((ROOT / "hooks").iterdir())
PRE, POST = ROOT / "hooks/pre_gen_project.py", ROOT / "hooks/post_gen_project.py"
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
# Notes how it was called and what it was given, in place of Copier.
STUB = """\
#!/bin/sh
for word; do echo "$word" >> {log}/said; done
echo {name} > {log}/name
while [ $# -gt 0 ]; do [ "$1" = --data-file ] && cp "$2" {log}/data; shift; done
exit {code}
"""


@dataclass
class Door:
    """Runs Cookiecutter in a folder, as a person who has never used it."""

    folder: Path

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.here = self.folder / "here"
        self.here.mkdir(parents=True)
        config = {"cookiecutters_dir": str(self.home / "clones"), "replay_dir": str(self.home / "replay")}
        self.config = self.folder / "config.yml"
        self.config.write_text(yaml.safe_dump(config), "utf-8")

    def open(self, source: Path | str, *options: str, **answers: Any) -> subprocess.CompletedProcess[str]:
        """Answer on the command line; return what was said."""
        given = {name: ",".join(value) if isinstance(value, list) else value for name, value in answers.items()}
        words = [f"{name}={value}" for name, value in given.items()]
        command = (sys.executable, "-m", "cookiecutter", "--no-input", *options, str(source), *words)
        environment = {"COOKIECUTTER_CONFIG": str(self.config), "PWD": str(self.here)}
        return run(*command, cwd=self.here, env=environment, check=False)

    def project(self, source: Path | str, *options: str, **answers: Any) -> Path:
        """Return the one project that was made."""
        done = self.open(source, *options, **answers)
        assert done.returncode == 0, done.stdout
        (made,) = self.here.iterdir()
        return made


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Cookiecutter in a folder of its own."""
    return Door(tmp_path / "door")


@pytest.fixture
def forge(repository: Path, tmp_path: Path) -> str:
    """The template behind a git address."""
    git("clone", "--quiet", "--bare", repository, tmp_path / "template.git", cwd=tmp_path)
    return f"file://{tmp_path}/template.git"


def _differences(one: Path, other: Path) -> list[str]:
    names = set(files(one)) | set(files(other))
    return sorted(
        name
        for name in names - {".copier-answers.yml"}
        if not ((one / name).is_file() and (other / name).is_file())
        or (one / name).read_bytes() != (other / name).read_bytes()
        or (one / name).stat().st_mode != (other / name).stat().st_mode
    )


def _recorded(project: Path) -> Answers:
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))
    del recorded["_src_path"]
    return recorded


def test_the_questions_are_those_of_copier() -> None:
    """`cookiecutter.json` is what `scripts/cookiecutter_json.py` writes from `copier.yml`."""
    generate = runpy.run_path(str(ROOT / "scripts/cookiecutter_json.py"))["generate"]

    assert generate() == (ROOT / "cookiecutter.json").read_text("utf-8")


@pytest.mark.parametrize("hook", HOOKS, ids=lambda path: path.name)
def test_no_answer_can_become_code(hook: Path) -> None:
    """Cookiecutter fills in hooks before it runs them, so there is nothing in them to fill in."""
    text = hook.read_text("utf-8")

    assert not {"{{", "{%", "{#"} & {text[at : at + 2] for at in range(len(text))}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda path: path.name)
def test_hooks_need_python_alone(hook: Path) -> None:
    """Hooks run with Cookiecutter's interpreter, which has nothing of ours."""
    imported = set()
    for node in ast.walk(ast.parse(hook.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])

    assert imported <= sys.stdlib_module_names


def test_the_folder_holds_the_answers_only() -> None:
    """Everything else in a project comes from Copier."""
    (only,) = (ROOT / "{{cookiecutter.project_slug}}").iterdir()

    assert only.name == ".cookiecutter-context.json"


@pytest.mark.slow
@pytest.mark.parametrize("answers", [DEFAULT, SHORTEST, AWKWARD], ids=["default", "shortest", "awkward"])
def test_the_tree_is_the_same(template: Template, repository: Path, door: Door, answers: Answers) -> None:
    """Each file is that of `copier copy`, byte for byte; the answers file differs in the address at most."""
    project = door.project(repository, **answers)

    expected = template.render(answers)
    assert _differences(project, expected) == []
    assert _recorded(project) == _recorded(expected)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["address", "folder"])
def test_a_project_can_be_updated(forge: str, door: Door, tmp_path: Path, place: str) -> None:
    """What was typed is recorded, address or folder, so `check-update` and `update` work from everywhere."""
    folder = tmp_path / "folder"
    git("clone", "--quiet", forge, folder, cwd=tmp_path)
    source = forge if place == "address" else str(folder)
    project = door.project(source)
    assert yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["_src_path"] == source
    git("init", "--quiet", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "Start", cwd=project)
    current = run(tool("copier"), "check-update", "--quiet", cwd=project, check=False)
    git("clone", "--quiet", forge, tmp_path / "newer", cwd=tmp_path)
    module = tmp_path / "newer/template/src/{{ package_name }}/hardening/edge/health.py"
    module.write_text(module.read_text("utf-8") + "# newer\n", "utf-8")
    git("commit", "--quiet", "--all", "--message", "Newer", cwd=tmp_path / "newer")
    git("tag", "--annotate", "v9999.0.1", "--message", "Newer", cwd=tmp_path / "newer")
    git("push", "--quiet", "origin", "HEAD", "v9999.0.1", cwd=tmp_path / "newer")
    git("pull", "--quiet", "--tags", "origin", "HEAD", cwd=folder)

    newer = run(tool("copier"), "check-update", "--quiet", cwd=project, check=False)
    copier.run_update(project, defaults=True, overwrite=True, quiet=True)

    assert (current.returncode, newer.returncode) == (0, 2)
    assert git("status", "--porcelain", cwd=project).split() == [
        "M",
        ".copier-answers.yml",
        "M",
        "src/weather_server/hardening/edge/health.py",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["X $(touch pwned)';touch pwned;'", "X'+open('pwned','w').name+'"])
def test_names_that_are_legal_stay_text(repository: Path, door: Door, tmp_path: Path, name: str) -> None:
    """Neither a shell nor Python reads a name: it arrives in the README as it was typed."""
    project = door.project(repository, project_name=name, project_slug="my-server", package_name="x")

    assert (project / "README.md").read_text("utf-8").startswith(f"# {name}\n")
    assert list(tmp_path.rglob("*pwned*")) == []


@pytest.mark.parametrize(
    "name",
    ['X"; touch pwned; "', "X\n_tasks: [touch pwned]", "{% raw %}X {{ 7 * 7 }}{% endraw %}"],
)
def test_names_that_are_refused_leave_nothing(repository: Path, door: Door, tmp_path: Path, name: str) -> None:
    """Copier's rules are the rules; what was begun is removed."""
    done = door.open(repository, project_name=name, project_slug="my-server", package_name="x")

    assert done.returncode == 1
    assert "A project name has 1 to 40 characters on one line" in " ".join(done.stdout.split())
    assert list(door.here.iterdir()) == []
    assert list(tmp_path.rglob("*pwned*")) == []


@pytest.mark.parametrize("slug", ["My Server", "../other", "-x", "my-server;ls", "."])
def test_folders_that_are_refused_leave_nothing(repository: Path, door: Door, slug: str) -> None:
    """A folder has a plain name, and is made where the person is."""
    done = door.open(repository, project_slug=slug)

    assert done.returncode == 1
    assert list(door.here.iterdir()) == []
    assert sorted(path.name for path in door.folder.iterdir()) == ["config.yml", "here", "home"]


def test_a_folder_with_files_stays_as_it_is(repository: Path, door: Door) -> None:
    """Even when Cookiecutter is told to overwrite, nothing of a person's is touched."""
    mine = door.here / "my-server/mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine\n", "utf-8")

    done = door.open(repository, "--overwrite-if-exists", project_slug="my-server")

    assert done.returncode == 1
    assert "'my-server' is not empty: take another project_slug, or remove the folder" in done.stdout
    assert files(door.here) == ["my-server/mine.txt"]


def test_a_folder_without_history_is_refused(repository: Path, door: Door, tmp_path: Path) -> None:
    """A project from a plain folder could never be updated, so there is none."""
    shutil.copytree(repository, tmp_path / "plain", ignore=shutil.ignore_patterns(".git"))

    done = door.open(tmp_path / "plain")

    assert done.returncode == 1
    assert "is no git repository, so the project could never be updated: use the template's address" in done.stdout
    assert list(door.here.iterdir()) == []


@dataclass
class Bare:
    """A machine that has git, Python without packages, and the commands that are named."""

    folder: Path
    log: Path

    def __post_init__(self) -> None:
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.log.mkdir()
        self.work = self.folder / "my-server"
        self.work.mkdir()
        found = shutil.which("git")
        assert found
        (self.bin / "git").symlink_to(found)
        (self.bin / "cp").symlink_to(shutil.which("cp") or "/bin/cp")

    def add(self, *names: str, code: int = 0) -> None:
        """Put commands on PATH that note how they were called."""
        for name in names:
            (self.bin / name).write_text(STUB.format(log=self.log, name=name, code=code), "utf-8")
            (self.bin / name).chmod(0o755)

    def run(self, hook: Path, **context: Any) -> subprocess.CompletedProcess[str]:
        """Run a hook as Cookiecutter does, with this context."""
        if context:
            (self.work / ".cookiecutter-context.json").write_text(json.dumps(context), "utf-8")
        environment = {"PATH": str(self.bin), "PWD": str(self.folder)}
        return run(sys.executable, "-S", hook, cwd=self.work, env=environment, check=False)

    def said(self) -> list[str]:
        """Return the words of the command that was run."""
        return (self.log / "said").read_text("utf-8").splitlines()


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    """A machine with nothing but git and Python."""
    return Bare(tmp_path, tmp_path / "log")


def _context(folder: Path, **changed: Any) -> dict[str, Any]:
    defaults = {name: value[0] if isinstance(value, list) else value for name, value in QUESTIONS.items()}
    private = {name: value for name, value in QUESTIONS.items() if name.startswith("_")}
    about = {"_template": str(folder), "_repo_dir": str(folder), "_output_dir": str(folder), "_checkout": None}
    return {**defaults, **private, **about, "project_slug": "my-server", "description": "", **changed}


@pytest.mark.parametrize(
    ("there", "first"),
    [
        (["uvx", "pipx", "copier"], ["uvx", "--from", QUESTIONS["_copier"], "copier"]),
        (["pipx", "copier"], ["pipx", "run", "--spec", QUESTIONS["_copier"], "copier"]),
        (["copier"], ["copier"]),
    ],
    ids=["uvx", "pipx", "copier"],
)
def test_copier_is_found(repository: Path, bare: Bare, there: list[str], first: list[str]) -> None:
    """Where the interpreter has no Copier, uvx fetches it, else pipx, else the one on PATH is taken."""
    bare.add(*there)

    assert bare.run(PRE).returncode == 0
    done = bare.run(POST, **_context(repository))

    assert done.returncode == 0, done.stdout
    assert [(bare.log / "name").read_text("utf-8").strip(), *bare.said()][: len(first)] == first
    assert bare.said()[-2:] == [str(repository), str(bare.work)]
    assert files(bare.work) == []


def test_no_copier_is_one_sentence(repository: Path, bare: Bare) -> None:
    """Without any way to run Copier, both hooks say what to install."""
    for done in (bare.run(PRE), bare.run(POST, **_context(repository))):
        assert done.returncode == 1
        assert done.stdout == "This template needs Copier: install uv (it brings uvx), or run `pipx install copier`.\n"


def test_no_git_is_one_sentence(bare: Bare) -> None:
    """Without git, nothing is begun."""
    (bare.bin / "git").unlink()

    done = bare.run(PRE)

    assert (done.returncode, done.stdout) == (
        1,
        "This template needs git: install it with your system's packages.\n",
    )


def test_answers_are_handed_over_as_data(repository: Path, bare: Bare) -> None:
    """Choices become lists, what is empty is left to Copier, and no answer is a word of the command."""
    bare.add("copier")

    bare.run(POST, **_context(repository, project_name="X --trust", deploy_targets="fly, railway", author_name=""))

    data = json.loads((bare.log / "data").read_text("utf-8"))
    assert data == {
        "project_name": "X --trust",
        "database": "postgres",
        "license": "MIT",
        "deploy_targets": ["fly", "railway"],
    }
    assert not any("trust" in word for word in bare.said())


@pytest.mark.parametrize("typed", ["none", "", ",", " none "])
def test_no_target_is_an_answer(repository: Path, bare: Bare, typed: str) -> None:
    """Somebody who deploys to nothing that is offered can say so."""
    bare.add("copier")

    bare.run(POST, **_context(repository, deploy_targets=typed))

    assert json.loads((bare.log / "data").read_text("utf-8"))["deploy_targets"] == []


def test_a_version_is_handed_over(repository: Path, bare: Bare) -> None:
    """`--checkout` is the version that Copier takes."""
    bare.add("copier")

    bare.run(POST, **_context(repository, _checkout=NEXT_RELEASE))

    assert bare.said()[-4:-2] == ["--vcs-ref", NEXT_RELEASE]


def test_a_clone_leads_to_its_address(repository: Path, bare: Bare, tmp_path: Path) -> None:
    """Of what Cookiecutter cloned, the address is taken, not the clone, which may go away."""
    bare.add("copier")
    git("clone", "--quiet", repository, tmp_path / "clone", cwd=tmp_path)

    bare.run(POST, **_context(tmp_path / "clone", _template="gh:example/template"))

    assert bare.said()[-2] == str(repository)


def test_a_relative_folder_becomes_absolute(repository: Path, bare: Bare, tmp_path: Path) -> None:
    """A folder is recorded so that it is found from everywhere."""
    bare.add("copier")
    relative = os.path.relpath(repository, tmp_path)

    bare.run(POST, **_context(repository, _template=relative, _repo_dir=relative))

    assert bare.said()[-2] == str(repository)


def test_a_failure_is_passed_on(repository: Path, bare: Bare) -> None:
    """Copier's exit code is the hook's, which makes Cookiecutter remove the folder."""
    bare.add("copier", code=4)

    assert bare.run(POST, **_context(repository)).returncode == 4
