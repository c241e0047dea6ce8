"""Protections that are taken out of a project, one at a time, and whether the project's own tests notice."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CATALOGUE = HERE / "catalogue"
PAGE = "docs/protections-proved.md"
CONTROL = "control"
ROOT = HERE.parents[1]
PACKAGE = "src/weather_server"
UNITS = "units/"
TESTS = "tests/hardening"
# A test that waits longer than this for what it has lost does not name it.
SECONDS = 120
LOOKS = 2
LEFT_BEHIND = (".git", ".hypothesis", ".pytest_cache", ".ruff_cache", ".venv")


@dataclass(frozen=True)
class Mutant:
    """One protection that is missing.

    Attributes:
        group: File of the catalogue.
        protection: What its heading on the page calls it.
        out: What is taken out, in a few words.
        file: Where, in a project.
        find: Text that occurs there exactly once.
        put: What takes its place.
        noticed_by: The test that fails, as pytest names it: below `tests/hardening` of a project,
            or, beginning with `units/`, below `tests` of this repository.
        quick: Whether it belongs to the sample of the quick loop.
    """

    group: str
    protection: str
    out: str
    file: str
    find: str
    put: str
    noticed_by: str
    quick: bool = False

    @property
    def name(self) -> str:
        """What the test of this mutant is called."""
        return f"{self.group}: {self.out}"

    def applied(self, project: Path) -> str:
        """Return the file of a project without the protection.

        Raises:
            ValueError: The text is not there exactly once: the mutant has to be written again.
        """
        path = project / self.file
        text = path.read_text("utf-8") if path.is_file() else ""
        if (count := text.count(self.find)) != 1:
            message = f"{self.name}: its text occurs {count} times in {self.file}"
            raise ValueError(message)
        return text.replace(self.find, self.put)


def read() -> list[Mutant]:
    """Return the catalogue, in the order of its files."""
    found: list[Mutant] = []
    for file in sorted(CATALOGUE.glob("*.toml")):
        group = tomllib.loads(file.read_text("utf-8"))
        for entry in group["mutant"]:
            fields = {**{key: value for key, value in group.items() if key != "mutant"}, **entry}
            fields["file"] = fields["file"].replace("hardening/", f"{PACKAGE}/hardening/", 1)
            found.append(Mutant(group=file.stem, **fields))
    return found


@dataclass(frozen=True)
class Outcome:
    """What came of a run of tests: pytest's exit code, the tests that failed, what was printed."""

    code: int | None
    failed: tuple[str, ...]
    said: str

    @property
    def skipped(self) -> bool:
        """Whether nothing ran, because a program is missing on this machine."""
        return self.code == 0 and bool(re.search(r"^\d+ skipped in ", self.said, re.MULTILINE))

    def noticed(self, mutant: Mutant) -> bool:
        """Whether the test failed by itself: neither by an error while it was collected, nor by hanging."""
        names = {*self.failed, *(name.partition("[")[0] for name in self.failed)}
        return self.code == 1 and mutant.noticed_by in names


class Prover:
    """Runs tests of a project on copies of it.

    Args:
        project: After `make setup`; its environment serves all copies.
        folder: For the copies.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        self.pythons = {False: project / ".venv/bin/python", True: Path(sys.executable)}
        self.folder = folder
        # What pytest compiles in it serves the copies.
        self.pristine = self._copy(project, "pristine")
        self._idle: dict[bool, queue.SimpleQueue[Nursery]] = {unit: queue.SimpleQueue() for unit in (False, True)}

    def _copy(self, project: Path, name: str) -> Path:
        to = self.folder / name
        shutil.copytree(project, to, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        return to

    @contextmanager
    def copy(self, name: str) -> Iterator[Path]:
        """Give a copy of the project."""
        to = self._copy(self.pristine, name)
        yield to
        shutil.rmtree(to, ignore_errors=True)

    def test(
        self, copy: Path, *tests: str, options: tuple[str, ...] = (), seconds: float = SECONDS, patience: int = 20
    ) -> Outcome:
        """Run tests against a copy, named as in the catalogue: of the project, of this repository, or both."""
        outcomes = [
            self._run(copy, unit, named, options, seconds, patience)
            for unit in (False, True)
            if (named := [test for test in tests if test.startswith(UNITS) is unit])
        ]
        code = next((outcome.code for outcome in outcomes if outcome.code != 0), 0)
        failed = tuple(name for outcome in outcomes for name in outcome.failed)
        return Outcome(code, failed, "\n".join(outcome.said for outcome in outcomes))

    def _run(  # noqa: PLR0913, PLR0917 - what a run is
        self,
        copy: Path,
        unit: bool,  # noqa: FBT001 - which of two
        tests: list[str],
        options: tuple[str, ...],
        seconds: float,
        patience: int,
    ) -> Outcome:
        kinds = ("report", "output", "scratch")
        report, output, scratch = (copy.with_name(f"{copy.name}-{unit}-{kind}") for kind in kinds)
        shown = ("-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning")
        written = (f"--basetemp={scratch}", f"--junitxml={report}")
        folder, below = (ROOT, ROOT / "tests") if unit else (copy, copy / TESTS)
        named = [str(below / test) for test in tests]
        try:
            nursery = self._idle[unit].get_nowait()
        except queue.Empty:
            nursery = Nursery(self.pythons[unit])
        given = [*shown, *written, "--rootdir", str(folder), *options, *named]
        where = {"HARDENING": str(copy / PACKAGE / "hardening")} if unit else {"PYTHONPATH": str(copy / "src")}
        environment = {**where, "TEST_WAIT_SECONDS": str(patience)}
        code = nursery.run(folder, given, seconds, output, environment)
        self._idle[unit].put(nursery)
        failed = _failed(report) if report.is_file() else []
        said = output.read_text("utf-8", "replace")
        for path in (report, output):
            path.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        return Outcome(code, tuple(failed), said)

    def compile(self, *tests: str) -> None:
        """Let pytest compile files once, so that each copy need not do it."""
        files = {test.partition("::")[0] for test in tests}
        self.test(self.pristine, *files, options=("--collect-only",))

    def control(self, *tests: str, seconds: float) -> Outcome:
        """Run tests in a copy in which nothing is missing; what a busy machine has made late gets a second look."""
        with self.copy(CONTROL) as copy:
            outcome = self.test(copy, *tests, seconds=seconds)
            if outcome.code == 1:
                failed = {test.partition("[")[0] for test in outcome.failed}
                outcome = self.test(copy, *failed, seconds=seconds)
            return outcome

    def prove(self, mutant: Mutant, name: str) -> Outcome:
        """Take one protection out of a copy, and run the test that has to notice.

        It gets a second look too: what is missing may come right by chance, in the order of two tasks for example.
        """
        with self.copy(name) as copy:
            (copy / mutant.file).write_text(mutant.applied(copy), "utf-8")
            # What was taken out may never come: dozens of these tests wait to their end.
            for _ in range(LOOKS):
                outcome = self.test(copy, mutant.noticed_by, options=("-x",), patience=10)
                if outcome.noticed(mutant) or outcome.skipped:
                    break
            return outcome

    def close(self) -> None:
        """End every process."""
        for idle in self._idle.values():
            while not idle.empty():
                idle.get().close()


class Nursery:
    """A process that starts runs; see `nursery.py`."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, HERE / "nursery.py"],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, folder: Path, arguments: list[str], seconds: float, output: Path, environment: dict[str, str]
    ) -> int | None:
        """Run pytest in a folder; return its exit code, or None when it took too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        run = {"folder": str(folder), "arguments": arguments, "seconds": seconds, "output": str(output)}
        run["environment"] = environment
        self._process.stdin.write(json.dumps(run) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=SECONDS)


def _failed(report: Path) -> list[str]:
    """Return the tests that failed; what runs into the limit of every test does not say what is missing."""
    failed: list[str] = []
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has written it
        failure = case.find("failure")
        if failure is not None and "Timeout (>" not in failure.get("message", ""):
            folders = case.get("classname", "").removeprefix("tests.").removeprefix("hardening.")
            failed.append(f"{folders.replace('.', '/')}.py::{case.get('name', '')}")
    return failed


def anchor(heading: str) -> str:
    """Return the fragment of a heading's address, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page(mutants: list[Mutant]) -> str:
    """Return the catalogue as a page for people."""
    lines = [
        "# What each protection rests on",
        "",
        f"Each of the {len(mutants)} rows is a protection, or a part of one, that was taken out of a project,",
        "and the test that failed then.",
        "`make proving` takes them out again, one at a time, in copies of a fresh project;",
        "a row whose test does not fail, or whose text is not there any more, fails the run.",
        "",
        "A test that begins with `units/` is one of this repository, in `tests/units`;",
        "the others are in every project, in `tests/hardening`.",
        "The page is made from [the catalogue](../tests/proving/catalogue) by `python scripts/protections.py`.",
        "",
        *(f"- [{name}](#{anchor(name)})" for name in dict.fromkeys(mutant.protection for mutant in mutants)),
    ]
    protection = ""
    for mutant in mutants:
        if mutant.protection != protection:
            protection = mutant.protection
            heading = protection[0].upper() + protection[1:]
            lines += ["", f"## {heading}", "", "| taken out | file | test that fails |", "| --- | --- | --- |"]
        file = mutant.file.removeprefix(f"{PACKAGE}/hardening/")
        lines.append(f"| {mutant.out} | `{file}` | `{mutant.noticed_by.replace('::', '` `')}` |")
    return "\n".join([*lines, ""])
