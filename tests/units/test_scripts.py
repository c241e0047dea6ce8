"""Scripts of a project whose answer decides something: each is run on a small template, a small project and a real git.

`HARDENING` names the package that they lie beside.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

import alias
import pytest
from support.programs import run_alone
from support.workflow import SIGNING, Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCRIPTS = alias.HARDENING.parents[2] / "scripts"
RELEASE = alias.HARDENING.parents[2] / ".github/workflows/release.yml"
SECONDS = 60
# The programs of a machine, without what a person has set for git and Copier.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
}
CONFIG = "[user]\nname = Ada\nemail = ada@example.com\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n"
QUESTIONS = "_subdirectory: files\n_skip_if_exists: [/yours.txt]\ntarget:\n  type: str\n  default: none\n"
ANSWERS = "{{ _copier_answers | to_nice_yaml }}"
# What uvx would fetch is installed beside these tests.
UVX = f'#!/bin/sh\nshift 2\n[ "$1" = copier ] || exit 9\nshift\nexec "{sys.executable}" -m copier "$@"\n'


class Place:
    """A folder with a home of its own, programs that stand in front of the machine's, and git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.home.mkdir()
        self.bin.mkdir()
        (self.home / "gitconfig").write_text(CONFIG, "utf-8")
        self.program("uvx", UVX)

    @property
    def environment(self) -> dict[str, str]:
        """What scripts are given."""
        return {
            **ENVIRONMENT,
            "PATH": f"{self.bin}{os.pathsep}{ENVIRONMENT['PATH']}",
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"),
            "COPIER_CACHE_DIR": str(self.home / "cache"),
        }

    def program(self, name: str, text: str) -> None:
        """Put a program before that of the machine."""
        (self.bin / name).write_text(text, "utf-8")
        (self.bin / name).chmod(0o755)

    def run(self, *command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command; return its exit code and what it said."""
        return run_alone(*command, cwd=cwd, env={**self.environment, **(env or {})}, timeout=SECONDS)

    def git(self, *arguments: str, cwd: Path) -> str:
        """Run git, which has to succeed."""
        code, said = self.run("git", *arguments, cwd=cwd)
        assert code == 0, said
        return said

    def commit(self, folder: Path, message: str) -> None:
        """Commit everything."""
        self.git("add", "--all", cwd=folder)
        self.git("commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A machine of the test's own."""
    return Place(tmp_path)


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Write files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


# --- Gate 2 -------------------------------------------------------------------------------------------


@pytest.fixture
def published(place: Place) -> Path:
    """A project with a release and a commit after it; its `python` knows of no difference, but for `DIFFERS`."""
    project = place.folder / "project"
    fill(project, {"src/weather/hardening/x": "", "schema/tools.json": "{}\n", "pyproject.toml": "\n"})
    place.git("init", "--quiet", ".", cwd=project)
    place.commit(project, "Start")
    place.git("tag", "v0.1.0", cwd=project)
    place.commit(project, "Another")
    place.program(
        "python",
        '#!/bin/sh\ncase "$*" in\n'
        '  *"schema check --against"*) exit "${BREAKS:-0}" ;;\n'
        '  *"schema check"*) exit "${UNREVIEWED:-0}" ;;\n'
        '  *"schema diff"*) echo "compared with $6" && exit "${DIFFERS:-0}" ;;\nesac\n',
    )
    return project


def gate_2(place: Place, project: Path, **environment: str) -> tuple[int, str]:
    """Run the gate."""
    return place.run("bash", SCRIPTS / "contract.sh", cwd=project, env=environment)


def test_gate_2_passes_what_it_has_compared(place: Place, published: Path) -> None:
    """With nothing changed it passes, and says with what it has compared."""
    assert gate_2(place, published)[0] == 0
    assert "Gate 2, contract: compared with v0.1.0" in gate_2(place, published)[1]
    assert "Gate 2, contract: compared with HEAD~1" in gate_2(place, published, BASE="HEAD~1")[1]


def _shallow(place: Place, project: Path) -> Path:
    place.git("clone", "--quiet", "--depth", "1", f"file://{project}", "clone", cwd=place.folder)
    return place.folder / "clone"


def _untagged(place: Place, project: Path) -> Path:
    place.git("clone", "--quiet", "--no-tags", str(project), "clone", cwd=place.folder)
    return place.folder / "clone"


def _unborn(place: Place, project: Path) -> Path:
    place.run("rm", "-r", ".git", cwd=project)
    place.git("init", "--quiet", ".", cwd=project)
    return project


def _nowhere(place: Place, project: Path) -> Path:
    place.run("rm", "-r", ".git", cwd=project)
    return project


def _unreadable(place: Place, project: Path) -> Path:
    tree = place.git("rev-parse", "v0.1.0^{tree}", cwd=project).strip()
    (project / ".git/objects" / tree[:2] / tree[2:]).unlink()
    return project


def _elsewhere(place: Place, project: Path) -> Path:  # noqa: ARG001 - one of several
    return project / "src"


@pytest.mark.parametrize(
    ("arrange", "base"),
    [
        (None, "orgin/main"),
        (None, "0" * 40),
        (None, "--all"),
        (_shallow, "HEAD~1"),
        (_shallow, ""),
        (_untagged, ""),
        (_unborn, ""),
        (_unborn, "HEAD"),
        (_nowhere, ""),
        (_nowhere, "HEAD"),
        (_unreadable, ""),
        (_elsewhere, ""),
    ],
)
def test_gate_2_fails_where_it_cannot_look(place: Place, published: Path, arrange: object, base: str) -> None:
    """No revision, no history, no tags, no git: none of them is "nothing has changed"."""
    project = arrange(place, published) if callable(arrange) else published

    code, said = gate_2(place, project, BASE=base)

    assert code == 1
    assert "::error::Gate 2, contract: " in said


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"UNREVIEWED": "4"}, "run make schema, look at the difference"),
        ({"BREAKS": "4"}, "a change breaks clients"),
        ({"DIFFERS": "1"}, "the contract of v0.1.0 cannot be read"),
        ({"DIFFERS": "2"}, "the contract of v0.1.0 cannot be read"),
    ],
)
def test_gate_2_fails_when_a_comparison_does(
    place: Place, published: Path, answers: dict[str, str], words: str
) -> None:
    """Unreviewed, breaking, or not compared at all: each fails with its own sentence."""
    code, said = gate_2(place, published, **answers)

    assert code == 1
    assert words in said


def test_gate_2_compares_a_release_with_the_one_before(place: Place, published: Path) -> None:
    """A tag on the commit itself, as in the workflow of a release, is not what it is compared with."""
    place.git("tag", "v0.2.0", cwd=published)

    assert "compared with v0.1.0" in gate_2(place, published)[1]


def test_gate_2_knows_a_release_by_its_number(place: Place, published: Path) -> None:
    """Neither another tag with a v nor a candidate of the newest release is what it is compared with."""
    for tag in ("vendor-2020", "v0.1.0-rc.1", "v0.1.0rc2", "v0.1.0b1"):
        place.git("tag", tag, "v0.1.0", cwd=published)

    assert "compared with v0.1.0; reviewed" in gate_2(place, published)[1]


def test_gate_2_asks_for_the_release_of_a_folder(place: Place, published: Path) -> None:
    """Below the root of a repository a release may be called weather/v1.2.3: who does not know it cannot look."""
    below = place.folder / "all/services/weather"
    shutil.copytree(published, below, ignore=shutil.ignore_patterns(".git"))
    place.git("init", "--quiet", "all", cwd=place.folder)
    place.commit(below, "Start")
    assert gate_2(place, below)[0] == 0
    place.git("tag", "weather/v1.2.3", cwd=below)
    place.commit(below, "Another")

    code, said = gate_2(place, below)

    assert code == 1
    assert said.endswith("name the newest one, make contract BASE=weather/v1.2.3\n")
    assert gate_2(place, below, BASE="weather/v1.2.3")[0] == 0


# --- Edits in files of the template -------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with two releases, and a project of the first; the second has moved `ours.txt`, and changed files."""
    place = Place(tmp_path_factory.mktemp("released"))
    template = place.folder / "template"
    fill(
        template,
        {
            "copier.yml": QUESTIONS,
            "files/{{ _copier_conf.answers_file }}.jinja": ANSWERS,
            "files/ours.txt": "one\ntwo\nthree\n",
            "files/also.txt": "one\ntwo\nthree\n",
            "files/yours.txt": "yours\n",
            "files/kept/deep.txt": "deep\n",
            "files/pyproject.toml": "[project]\n",
            "files/.gitattributes": "* text=auto\n",
            "files/{% if target == 'fly' %}fly.toml{% endif %}": "fly\n",
        },
    )
    place.git("init", "--quiet", ".", cwd=template)
    place.commit(template, "One")
    place.git("tag", "v1.0.0", cwd=template)
    (template / "files/moved").mkdir()
    place.git("mv", "files/ours.txt", "files/moved/ours.txt", cwd=template)
    longer = "zero\none\ntwo\nthree\n"
    fill(template, {"files/moved/ours.txt": longer, "files/also.txt": longer, "files/kept/deep.txt": "deeper\n"})
    place.commit(template, "Two")
    place.git("tag", "v2.0.0", cwd=template)
    to = place.folder / "my project"
    copy = ("copy", "--quiet", "--defaults", "--vcs-ref", "v1.0.0")
    code, said = place.run(sys.executable, "-m", "copier", *copy, template, to, cwd=place.folder)
    assert code == 0, said
    place.git("init", "--quiet", ".", cwd=to)
    return place.folder


@pytest.fixture
def project(place: Place, released: Path) -> Path:
    """A project of the test's own, with a template of its own."""
    for name in ("template", "my project"):
        shutil.copytree(released / name, place.folder / name)
    project = place.folder / "my project"
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text("utf-8").replace(str(released), str(place.folder)), "utf-8")
    place.commit(project, "Start")
    return project


def add(path: Path) -> None:
    """Add a line at the end."""
    path.write_text(path.read_text("utf-8") + "mine\n", "utf-8")


def script(place: Place, project: Path, name: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a script of the project."""
    return place.run("bash", SCRIPTS / f"{name}.sh", *arguments, cwd=project, env=environment)


def version(project: Path) -> str:
    """Return the version of the template that a project is on."""
    return next(
        line.split()[1]
        for line in (project / ".copier-answers.yml").read_text("utf-8").splitlines()
        if line.startswith("_commit")
    )


def test_drift_names_edits_and_nothing_else(place: Place, project: Path) -> None:
    """Edited files of the template, in the working tree as in a commit; not yours, not shared, not deleted ones."""
    for name in ("also.txt", "pyproject.toml", "yours.txt"):
        add(project / name)
    place.commit(project, "Edit")
    add(project / "ours.txt")
    (project / "kept/deep.txt").unlink()

    code, said = script(place, project, "drift")

    assert code == 0
    assert [line.split("|")[0].strip() for line in said.splitlines() if "|" in line] == ["also.txt", "ours.txt"]
    # What has moved is named for those who ask for it, and nobody has.
    assert "ours.txt" not in said.splitlines()


def test_drift_asks_for_no_signature_and_no_hook(place: Place, project: Path) -> None:
    """What a person has set for commits of their own is not meant for those in a scratch folder."""
    hooks = place.folder / "hooks"
    fill(hooks, {"pre-commit": "#!/bin/sh\nexit 1\n"})
    (hooks / "pre-commit").chmod(0o755)
    with (place.home / "gitconfig").open("a", encoding="utf-8") as file:
        file.write(f"[commit]\ngpgsign = true\n[gpg]\nprogram = false\n[core]\nhooksPath = {hooks}\n")
    add(project / "ours.txt")

    code, said = script(place, project, "drift")

    assert code == 0, said
    assert "ours.txt" in said


def _without_git(place: Place, project: Path) -> None:
    place.run("rm", "-r", ".git", cwd=project)


def _without_template(place: Place, project: Path) -> None:  # noqa: ARG001 - one of several
    (place.folder / "template").rename(place.folder / "gone")


def _without_network(place: Place, project: Path) -> None:  # noqa: ARG001 - one of several
    place.program("uvx", "#!/bin/sh\necho 'no route to host' >&2\nexit 2\n")


def _without_answers(place: Place, project: Path) -> None:  # noqa: ARG001 - one of several
    (project / ".copier-answers.yml").unlink()


@pytest.mark.parametrize("arrange", [_without_git, _without_template, _without_network, _without_answers])
@pytest.mark.parametrize("called", [("drift",), ("drift", "--moved"), ("update",), ("restore", "kept/deep.txt")])
def test_what_cannot_be_looked_up_is_not_fine(
    place: Place, project: Path, arrange: object, called: tuple[str, ...]
) -> None:
    """Without git, the template, the network or the answers nobody is told that there are no edits, or no file."""
    add(project / "ours.txt")
    (project / "kept/deep.txt").unlink()
    place.commit(project, "Edit")
    assert callable(arrange)
    arrange(place, project)

    code, said = script(place, project, *called)

    assert code != 0
    assert said
    assert "mine" in (project / "ours.txt").read_text("utf-8")


def test_an_update_stops_before_an_edit_is_lost(place: Place, project: Path) -> None:
    """The file that moves is named, the one that stays is not, and nothing has changed."""
    add(project / "ours.txt")
    add(project / "also.txt")
    place.commit(project, "Edit")

    code, said = script(place, project, "update")

    assert code == 1
    assert [line.strip() for line in said.splitlines() if line.startswith("  ")] == ["ours.txt"]
    assert version(project) == "v1.0.0"
    assert place.git("status", "--porcelain", cwd=project) == ""


def test_an_update_carries_edits_over(place: Place, project: Path) -> None:
    """An edit is in the file's new place; what was deleted stays deleted; what is yours in shared files stays."""
    for name in ("ours.txt", "also.txt", "pyproject.toml", ".gitattributes", "yours.txt"):
        add(project / name)
    (project / "kept/deep.txt").unlink()
    place.commit(project, "Edit")

    code, said = script(place, project, "update", EDITS="carry")

    assert code == 0, said
    assert version(project) == "v2.0.0"
    assert (project / "moved/ours.txt").read_text("utf-8") == "zero\none\ntwo\nthree\nmine\n"
    assert (project / "also.txt").read_text("utf-8") == "zero\none\ntwo\nthree\nmine\n"
    assert not (project / "kept/deep.txt").exists()
    assert not (project / "ours.txt").exists()
    for name in ("pyproject.toml", ".gitattributes", "yours.txt"):
        assert (project / name).read_text("utf-8").endswith("mine\n"), name
    assert place.git("status", "--porcelain", cwd=project) == ""


def test_an_update_carries_nothing_that_is_not_committed(place: Place, project: Path) -> None:
    """It stops before it begins, and what was not committed is there."""
    add(project / "ours.txt")
    fill(project, {"half.txt": "half\n"})

    code, said = script(place, project, "update", EDITS="carry")

    assert code == 1
    assert "Commit everything first" in said
    assert (project / "half.txt").read_text("utf-8") == "half\n"


def change_on_both_sides(place: Place, project: Path) -> None:
    """Commit an edit here, and a release of the template that changes the same line."""
    fill(project, {"pyproject.toml": "[project]  # mine\n"})
    place.commit(project, "Edit")
    template = place.folder / "template"
    fill(template, {"files/pyproject.toml": "[project]  # theirs\n"})
    place.commit(template, "Three")
    place.git("tag", "v3.0.0", cwd=template)


def test_an_update_commits_no_conflict(place: Place, project: Path) -> None:
    """Where both have changed a line that an edit of a shared file needs, a person decides before the commit."""
    add(project / "ours.txt")
    change_on_both_sides(place, project)

    code, said = script(place, project, "update", EDITS="carry")

    assert code == 1
    assert "Decide on one side of each conflict" in said
    assert "<<<<<<<" not in place.git("show", "HEAD:pyproject.toml", cwd=project)


@pytest.mark.parametrize("edits", ["carry", ""])
def test_an_update_sees_files_that_git_was_told_not_to_show(place: Place, project: Path, edits: str) -> None:
    """With `status.showUntrackedFiles=no` a file that was never committed is neither deleted nor replaced."""
    with (place.home / "gitconfig").open("a", encoding="utf-8") as file:
        file.write("[status]\nshowUntrackedFiles = no\n")
    if edits:
        add(project / "ours.txt")
        place.commit(project, "Edit")
    fill(project, {"moved/ours.txt": "never committed\n"})

    code, said = script(place, project, "update", EDITS=edits)

    assert code != 0, said
    assert (project / "moved/ours.txt").read_text("utf-8") == "never committed\n"
    assert version(project) == "v1.0.0"


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_an_update_overwrites_nothing_that_git_does_not_look_at(place: Place, project: Path, flag: str) -> None:
    """An edit in such a file is in no status, so it is named before anything begins."""
    place.git("update-index", flag, "also.txt", cwd=project)
    add(project / "also.txt")

    code, said = script(place, project, "update")

    assert code == 1
    assert said.endswith("or git sparse-checkout disable\n  also.txt\n")
    assert (project / "also.txt").read_text("utf-8").endswith("mine\n")
    assert version(project) == "v1.0.0"


def test_an_update_keeps_edits_with_blanks_at_the_end(place: Place, project: Path) -> None:
    """With git's `apply.whitespace=error` every edit was lost, and the update ended well."""
    with (place.home / "gitconfig").open("a", encoding="utf-8") as file:
        file.write("[apply]\nwhitespace = error\n")
    with (project / "also.txt").open("a", encoding="utf-8") as file:
        file.write("mine  \n")
    place.commit(project, "Edit")

    code, said = script(place, project, "update")

    assert code == 0, said
    assert (project / "also.txt").read_text("utf-8") == "zero\none\ntwo\nthree\nmine  \n"
    assert version(project) == "v2.0.0"


def test_an_update_with_conflicts_does_not_end_well(place: Place, project: Path) -> None:
    """Copier ends with 0; the script names the files and does not."""
    change_on_both_sides(place, project)

    code, said = script(place, project, "update")

    assert code == 1
    assert said.endswith("decide on one side of each conflict, and git add these files:\npyproject.toml\n")
    assert version(project) == "v3.0.0"


def test_an_update_that_stops_half_way_says_how_to_go_back(place: Place, project: Path) -> None:
    """The network goes when the edits are already set aside: the command that is said brings them back."""
    add(project / "ours.txt")
    place.commit(project, "Edit")
    place.program("uvx", UVX.replace("exec", 'case " $* " in *" update "*) exit 1 ;; esac\nexec'))

    code, said = script(place, project, "update", EDITS="carry")

    assert code == 1
    assert "mine" not in (project / "ours.txt").read_text("utf-8")
    command = said.splitlines()[-1]
    assert command.startswith("  git reset --soft ")
    assert place.run("bash", "-ec", command, cwd=project)[0] == 0
    assert (project / "ours.txt").read_text("utf-8").endswith("mine\n")
    place.program("uvx", UVX)
    assert script(place, project, "update", EDITS="carry")[0] == 0
    assert (project / "moved/ours.txt").read_text("utf-8").endswith("mine\n")


def test_an_update_that_is_interrupted_says_how_to_go_back(place: Place, project: Path) -> None:
    """Half an update that is committed would be taken for a whole one; work beside the project stays as it is."""
    monorepo = project.parent / "monorepo"
    shutil.copytree(project, monorepo / "service", ignore=shutil.ignore_patterns(".git"))
    place.git("init", "--quiet", ".", cwd=monorepo)
    fill(monorepo, {"beside.txt": "one\n"})
    place.commit(monorepo, "Start")
    fill(monorepo, {"beside.txt": "not committed\n"})
    service = monorepo / "service"
    stop = (
        'case " $* " in *" update "*) echo half > also.txt; echo new > new.txt; git add .; kill -INT $$ ;; esac\nexec'
    )
    place.program("uvx", UVX.replace("exec", stop))

    code, said = script(place, service, "update")

    assert code != 0
    assert "Stopped half-way: commit nothing of it" in said
    assert place.run("bash", "-ec", said.splitlines()[-1], cwd=service)[0] == 0
    assert place.git("status", "--porcelain", cwd=monorepo) == " M beside.txt\n"
    assert (service / "also.txt").read_text("utf-8") == "one\ntwo\nthree\n"


def test_an_update_that_was_not_begun_says_nothing_of_going_back(place: Place, project: Path) -> None:
    """Without a network nothing has changed; with work that is not committed nothing begins."""
    place.program("uvx", "#!/bin/sh\nexit 1\n")
    for name, words in (("", ""), ("half.txt", "Commit everything first")):
        if name:
            fill(project, {name: "half\n"})

        code, said = script(place, project, "update", EDITS="lose")

        assert (code, "Stopped" in said, words in said) == (1, False, True), said


def test_an_update_that_carries_edits_asks_no_hook(place: Place, project: Path) -> None:
    """A hook that refuses the commit between two others would leave the project half-way."""
    add(project / "ours.txt")
    place.commit(project, "Edit")
    fill(project, {".git/hooks/pre-commit": "#!/bin/sh\nexit 1\n"})
    (project / ".git/hooks/pre-commit").chmod(0o755)

    code, said = script(place, project, "update", EDITS="carry")

    assert code == 0, said
    assert (project / "moved/ours.txt").read_text("utf-8").endswith("mine\n")


def test_a_damaged_manifest_is_not_unedited(place: Place) -> None:
    """Empty, or with a line that is none: nobody knows what was edited, and that is said."""
    project = place.folder / "project"
    fill(project, {"one.txt": "1\n", "scripts/unedited.py": (SCRIPTS / "unedited.py").read_text("utf-8")})
    manifest = "src/weather/hardening/MANIFEST.sha256"
    digest = hashlib.sha256(b"1\n").hexdigest()
    for text, code in ((f"{digest}  one.txt  -  One.\n", 0), ("", 1), (f"{digest}\n", 1), ("<<<<<<< HEAD\n", 1)):
        fill(project, {manifest: text})
        done, said = place.run(sys.executable, "scripts/unedited.py", cwd=project)
        assert (done, "nobody knows" in said, "Traceback" in said) == (code, bool(code), False), said


@pytest.mark.parametrize("how", ["committed", "not committed", "ignored"])
def test_restore_brings_what_was_deleted(place: Place, project: Path, how: str) -> None:
    """With the deletion committed or not, and where the author's git ignores the file; nothing else changes."""
    add(project / "ours.txt")
    (project / "also.txt").unlink()
    place.commit(project, "Edit")
    (project / "kept/deep.txt").unlink()
    if how != "not committed":
        fill(project, {".git/info/exclude": "deep.txt\n" if how == "ignored" else ""})
        place.commit(project, "Delete")

    code, said = script(place, project, "restore", "./kept/deep.txt")

    assert code == 0, said
    assert (project / "kept/deep.txt").read_text("utf-8") == "deep\n"
    assert "mine" in (project / "ours.txt").read_text("utf-8")
    assert not (project / "also.txt").exists()


def test_restore_leaves_what_is_there(place: Place, project: Path) -> None:
    """A file that is there is refused, and one that a pattern names too stays as it is."""
    add(project / "ours.txt")
    (project / "also.txt").unlink()
    place.commit(project, "Edit")

    code, said = script(place, project, "restore", "ours.txt")
    assert code == 1
    assert "ours.txt is here already" in said
    code, said = script(place, project, "restore", "*.txt")
    assert code == 0, said
    assert (project / "also.txt").exists()
    assert "mine" in (project / "ours.txt").read_text("utf-8")


def test_restore_says_what_the_template_does_not_have(place: Place, project: Path) -> None:
    """A file of another answer, and no file at all, fail with a sentence."""
    code, said = script(place, project, "restore", "fly.toml")
    assert code == 1
    assert "The template has no fly.toml for the answers of this project" in said
    code, said = script(place, project, "restore", "")
    assert code == 1
    assert "Name what to bring" in said


# --- How a release is signed --------------------------------------------------------------------------


@pytest.mark.parametrize(("visibility", "signing", "decided"), SIGNING)
def test_a_release_that_is_not_public_decides_how_to_sign(
    place: Place, visibility: str, signing: str, decided: str | None
) -> None:
    """Whatever is not known to be public is neither signed in a public log nor pushed without a decision."""
    (place.folder / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n', "utf-8")
    place.program("gh", "#!/bin/sh\necho '[{}]'\n")
    place.program("docker", f"#!/bin/sh\necho called >> {place.folder}/called\nexit 1\n")
    place.program("bash", '#!/bin/sh\ncase "$1" in scripts/*) exit 0 ;; esac\nexec /bin/bash "$@"\n')
    contexts = {"github.event.repository.visibility": visibility, "vars.RELEASE_SIGNING": signing}
    environment = {"GITHUB_REF_NAME": "v0.1.0", "GITHUB_REPOSITORY": "e/w", "GITHUB_SHA": "0" * 40, "GITHUB_ACTOR": "a"}

    done = Run(RELEASE, "image", place.folder, place.folder / "scratch", (place.bin,), contexts, environment)()

    if decided is None:
        assert done.failed == ["Insist on a decision about signatures"], done.said
        assert not (place.folder / "called").exists()
    else:
        assert done.ids["signing"].outputs == {"signing": decided}
        assert (place.folder / "called").exists()
