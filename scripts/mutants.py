"""Tries a sample of all changes of every room, each tried on a copy: do the tests of this repository notice?

    python scripts/mutants.py auth limits --sample 40 --seed 1

Which tests run a line is measured first, once, by coverage; only those run, the fastest first, until one fails.
A line that runs while modules are loaded, or in another process only, meets the whole room after them;
any other meets the tests of its room that start processes of their own.
What survives them meets the tests of the other rooms that were measured in the same scratch folder, those that
start processes included.
A run that takes much longer than its tests do without a change is ended, and counts as noticed.

A run that was stopped goes on where it was, in the same scratch folder: what was noticed is kept there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from file_kinds import FILES, changes_of, tests_of
from proving.mutants import PACKAGE, ROOT, Nursery
from proving.operators import Change, changes, is_python

SOURCE = ROOT / "template/src/{{ package_name }}"
RESULTS = ROOT / "tests/proving/sampled.json"
EQUIVALENT = ROOT / "tests/proving/equivalent.toml"
NOTHING_RAN = 5
PAGE = ROOT / "docs/sampled-mutants.md"
# A change is tried by the tests that run its line, so many of them and so long; then by its room, so long.
CONSTANTS = "tests/units/test_promised_values.py"
MOST_TESTS = 60
SECONDS = 30.0
MORE_SECONDS = 60.0
# A run of tests of files is ended then: how long they take without a change is not measured; the machine may be busy.
FILE_SECONDS = 540.0
# Where it is known, after so many times as long, and never before so many seconds.
TIMES_LONGER = 4
LEAST_SECONDS = 60.0
# What was taken out may never come.
ENVIRONMENT = {"TEST_WAIT_SECONDS": "20"}
OPTIONS = ("-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning")
NOTICED, BROKEN, ENDED, SURVIVED = "noticed", "does not start", "ended", "survived"


def room_of(file: str) -> str:
    """Return the room of a module; those of the package's root are one room."""
    return file.partition("/")[0] if "/" in file else "root"


def files_of(room: str, module: str = "") -> list[str]:
    """Return the files of tests of a room, as pytest is given them; first those that are named as a module is."""
    folder = ROOT / "tests/units"
    found = folder.glob("*.py") if room == "root" else (folder / room).glob("test_*.py")
    start = module.partition("_")[0]
    named = folder.rglob(f"test_{start}*.py") if start else ()
    paths = [*sorted(named), *sorted(path for path in found if path.name.startswith("test_"))]
    return list(dict.fromkeys(str(path.relative_to(ROOT)) for path in paths))


class Coverage:
    """Which tests run which line, and how long each takes."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        # Edited since: which tests run a module is known, and which run a line is not.
        self._moved: set[str] = set()

    def measure(self, room: str, package: Path) -> None:
        """Run the tests of a room once, unless that was done."""
        data, report = self._scratch / f"{room}.db", self._scratch / f"{room}.xml"
        # The report is written at the end: without it, the run was stopped.
        if not report.exists():
            data.unlink(missing_ok=True)
            measured = (f"--cov={package}", "--cov-context=test", "--cov-report=", f"--junitxml={report}")
            command = [sys.executable, "-m", "pytest", *OPTIONS[2:], "-q", *measured, *files_of(room)]
            environment = {**os.environ, "COVERAGE_FILE": str(data), "HARDENING": str(package)}
            subprocess.run(  # noqa: S603 - pytest, with what is written here
                command, cwd=ROOT, env=environment, check=False, timeout=600, stdout=subprocess.DEVNULL
            )
            _write(
                self._scratch / f"{room}.sources.json", {file: _digest(package / file) for file in _modules(package)}
            )
        for other in self._scratch.glob("*.xml"):
            self._read(other.with_suffix(".db"), other)
            sources = json.loads(other.with_suffix(".sources.json").read_text("utf-8"))
            self._moved |= {file for file in _modules(package) if sources.get(file) != _digest(package / file)}

    def _read(self, data: Path, report: Path) -> None:
        from coverage import CoverageData

        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has written it
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
            # What fails without any change notices none.
            if case.find("failure") is None and case.find("error") is None:
                self.seconds[name] = float(case.get("time", "0"))
        covered = CoverageData(str(data))
        covered.read()
        for path in covered.measured_files():
            lines = self.lines[path.partition("/hardening/")[2]]
            for line, contexts in covered.contexts_by_lineno(path).items():
                lines[line] |= {context.partition("|")[0] for context in contexts if context}

    def running(self, change: Change) -> set[str]:
        """Return the tests that run a place; none for what is run by an import, or in another process only."""
        lines = self.lines[change.file]
        if change.file in self._moved and change.where:
            return set().union(*lines.values())
        return set().union(*(lines.get(change.line + n, set()) for n in range(change.old.count("\n") + 1)))

    def tests(self, change: Change) -> tuple[list[str], list[str]]:
        """Return the tests that run a line: first those of its module, the fastest of every file before the second.

        Those that take longer, or come later, are the second list.
        """
        lines = self.lines[change.file]
        found = self.running(change) or set().union(*lines.values())
        own = f"test_{Path(change.file).stem}.py"
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in sorted(found & self.seconds.keys(), key=self.seconds.__getitem__):
            by_file[name.partition("::")[0]].append(name)
        ranked = sorted(
            (not file.endswith(own), place, self.seconds[name], name)
            for file, names in by_file.items()
            for place, name in enumerate(names)
        )
        first = [] if change.where and self.running(change) else [CONSTANTS]
        names = [name for *_, name in ranked]
        first += self._within(names[:MOST_TESTS], SECONDS)
        rest = [] if CONSTANTS in first else [CONSTANTS]
        # The rows of a table take no time; what takes long would leave none for them.
        others = sorted((name for name in names if name not in first), key=self.seconds.__getitem__)
        return first, rest + self._within(others, MORE_SECONDS)

    def elsewhere(self, files: list[str]) -> list[str]:
        """Return the tests of files that run the package in other processes, where no line is measured."""
        here = set().union(*(tests for lines in self.lines.values() for tests in lines.values()))
        return self._within(sorted(set(self.of(files)) - here, key=self.seconds.__getitem__), MORE_SECONDS)

    def of(self, files: list[str]) -> list[str]:
        """Return the tests of files that were measured, and pass without any change."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in self.seconds:
            by_file[name.partition("::")[0]].append(name)
        return [name for file in files for name in by_file[file]]

    def files(self) -> list[str]:
        """Return every file of tests that was measured."""
        return sorted({name.partition("::")[0] for name in self.seconds})

    def bound(self, tests: list[str]) -> float:
        """Return the seconds after which a run of tests is ended."""
        return max(LEAST_SECONDS, TIMES_LONGER * sum(self.seconds.get(name, 0) for name in tests))

    def _within(self, names: list[str], left: float) -> list[str]:
        """Return the tests that fit into a time."""
        chosen: list[str] = []
        for name in names:
            if self.seconds[name] <= left:
                chosen.append(name)
                left -= self.seconds[name]
        return chosen


class Copy:
    """A copy of the package, or for other files of this repository as committed, and a process that runs its tests."""

    clock = 1_700_000_000

    def __init__(self, folder: Path, room: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.root, self.changed = (
            (folder / "repository",) * 2 if room in FILES else (ROOT, folder / PACKAGE / "hardening")
        )
        if room in FILES:
            subprocess.run(["git", "clone", "--quiet", ROOT, self.root], check=True, timeout=60)  # noqa: S603, S607 - this repository
            (self.root / ".venv").symlink_to(ROOT / ".venv")
        else:
            shutil.copytree(SOURCE, self.changed.parent)
        self._nursery = Nursery(Path(sys.executable))
        self._folder = folder
        folder.chmod(0o755)

    def run(self, tests: list[str], seconds: float) -> tuple[str, str]:
        """Run tests until one fails; return what came of it, and which test it was."""
        environment = ENVIRONMENT | ({} if self.root != ROOT else {"HARDENING": str(self.changed)})
        scratch, output, report = (self._folder / name for name in ("scratch", "output", "report"))
        report.unlink(missing_ok=True)
        given = [*OPTIONS, f"--basetemp={scratch}", f"--junitxml={report}", "--rootdir", str(self.root), *tests]
        code = self._nursery.run(self.root, given, seconds, output, environment)
        shutil.rmtree(scratch, ignore_errors=True)
        said = output.read_text("utf-8", "replace")
        if code in {0, NOTHING_RAN}:
            return SURVIVED, ""
        if code == 1:
            return NOTICED, next(iter(re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)), "")
        if code is None:
            return ENDED, ""
        # Rows of a table may be named by what was changed; then the whole test runs.
        missing = re.search(r"^ERROR: (?:not found|file or directory not found): .*", said, re.MULTILINE)
        if missing and any("[" in test for test in tests):
            return self.run(list(dict.fromkeys(test.partition("[")[0] for test in tests)), seconds)
        # Renamed since it was measured, or not to be named; it would look like a module that does not start.
        if missing:
            raise SystemExit(missing[0])
        return BROKEN, said[-300:]

    def attempt(self, change: Change, *stages: tuple[list[str], float]) -> tuple[str, str]:
        """Make a change, run tests, each within its seconds, take it back."""
        path = self.changed / change.file
        before = path.read_bytes()
        self._write(path, change.applied(before))
        try:
            outcome = (SURVIVED, "")
            for tests, seconds in stages:
                if tests and outcome[0] == SURVIVED:
                    outcome = self.run(tests, seconds)
            return outcome
        finally:
            self._write(path, before)

    def _write(self, path: Path, text: bytes) -> None:
        # Compiled files are told apart by the second and the size of their source.
        Copy.clock += 1
        path.write_bytes(text)
        os.utime(path, (Copy.clock, Copy.clock))

    def close(self) -> None:
        """End the process."""
        self._nursery.close()


def chosen(room: str, size: int, seed: int) -> tuple[list[Change], int]:
    """Return the sample of a room and how many there are; a change keeps its place while others come and go."""
    folder = ROOT if room in FILES else SOURCE / "hardening"
    every = (
        changes_of(room) if room in FILES else [change for change in changes(folder) if room_of(change.file) == room]
    )
    every.sort(key=lambda change: hashlib.sha256(f"{seed} {change.name}".encode()).digest())
    sample: list[Change] = []
    for change in every:
        if len(sample) == size:
            break
        if not change.file.endswith(".py") or is_python(change.applied((folder / change.file).read_bytes())):
            sample.append(change)
    return sample, len(every)


def _modules(package: Path) -> list[str]:
    return sorted(str(path.relative_to(package)) for path in package.rglob("*.py"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what, indent=2) + "\n", "utf-8")


def equivalent() -> dict[str, str]:
    """Return the changes after which nothing is different that anybody was promised, with the reason."""
    return {row["change"]: row["reason"] for row in tomllib.loads(EQUIVALENT.read_text("utf-8"))["equivalent"]}


def sample_room(room: str, asked: argparse.Namespace, again: dict[str, Any] | None) -> dict[str, Any]:
    """Try a sample of a room; return its numbers and the survivors."""
    sample, total = chosen(room, asked.sample, asked.seed)
    known = equivalent()
    left = set(again["survived"] if again else (change.name for change in sample))
    tried = [change for change in sample if change.name not in known and change.name in left]
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    made = [Copy(asked.scratch / f"{room}-{n}", room) for n in range(asked.processes)]
    coverage = Coverage(asked.scratch)
    if room not in FILES:
        coverage.measure(room, made[0].changed)
    # What fails without any change notices none.
    unchanged = [CONSTANTS] if room not in FILES else [file for files in tests_of(room) for file in files]
    if (came := made[0].run(unchanged, FILE_SECONDS)) != (SURVIVED, ""):
        raise SystemExit(f"without any change: {came}")
    for copy in made:
        copies.put(copy)
    kept = asked.scratch / f"{room}.noticed.json"
    folder = ROOT if room in FILES else SOURCE / "hardening"
    state = {file: _digest(folder / file) for file in {change.file for change in tried}}
    outcomes: dict[str, tuple[str, str]] = {}
    if kept.exists():
        # A survivor is tried again: a test may have been written for it.
        before = json.loads(kept.read_text("utf-8"))
        outcomes = {
            change.name: tuple(before["outcomes"][change.name])
            for change in tried
            if change.name in before["outcomes"] and before["state"].get(change.file) == state[change.file]
        }

    def attempt(change: Change) -> None:
        copy = copies.get()
        try:
            if room in FILES:
                bounds = [(each, FILE_SECONDS) for each in tests_of(room)]
            else:
                others = coverage.elsewhere if coverage.running(change) else coverage.of
                stages = (*coverage.tests(change), others(files_of(room, Path(change.file).stem)))
                stages += (coverage.elsewhere([*set(coverage.files()) - set(files_of(room, Path(change.file).stem))]),)
                bounds = [(each, coverage.bound(each)) for each in stages]
            outcomes[change.name] = copy.attempt(change, *bounds)
        finally:
            copies.put(copy)
        found = {name: came for name, came in outcomes.items() if came[0] != SURVIVED}
        _write(kept, {"state": state, "outcomes": found})
        print(f"{outcomes[change.name][0]:15} {change.line:4} {change.name} {outcomes[change.name][1]}", flush=True)

    with ThreadPoolExecutor(asked.processes) as pool:
        list(pool.map(attempt, [change for change in tried if change.name not in outcomes]))
    for copy in made:
        copy.close()
        shutil.rmtree(copy.changed, ignore_errors=True)
    by = {kind: sorted(name for name, (came, _) in outcomes.items() if came == kind) for kind in (ENDED, SURVIVED)}
    return {
        "seed": asked.seed,
        "changes": total,
        "sample": len(sample),
        "equivalent": (same := sum(change.name in known for change in sample)),
        "noticed": len(sample) - same - len(by[SURVIVED]),
        "first": again.get("first") if again else len(sample) - same - len(by[SURVIVED]),
        "ended": sorted({*by[ENDED], *(again["ended"] if again else ())}),
        "survived": by[SURVIVED],
    }


def page(results: dict[str, Any]) -> str:
    """Return what came of the samples as a page for people."""
    lines = [
        "# Mutants that nobody chose",
        "",
        "`make mutants` changes the modules of `hardening/` by rule: a comparison, a bound, a condition, a default,",
        "a word of a protocol, a statement, a `finally` that is gone. There are too many to try them all,",
        "so each room has a sample, drawn with a seed. The tests of this repository run against each until one fails.",
        "",
        "*Equivalent* are changes that nobody could notice, or that break no promise;",
        "[each has its reason](../tests/proving/equivalent.toml).",
        "What survived may be noticed by a test that was written since, or by one that runs in another process:",
        "a room is tried again with its numbers when it is changed.",
        "*Ended* are those that made a test wait until it was ended; they count as noticed.",
        "*At first* is what those tests noticed that were there when the sample was drawn; then more were written,",
        "so a new sample is nearer to it. It is not known of samples that are older than this column.",
        "What survived in code that nothing needed has gone with that code, and counts as noticed afterwards.",
        "",
        "Files beside the package are changed by rule too, by kind: a line that goes, a number, a switch, a word,",
        "and lines that undo what others promise: a privilege, a retry of what was sent, a failure that is ignored.",
    ]
    rooms = {room: came for room, came in results.items() if _base(room) not in FILES}
    newest: dict[str, dict[str, Any]] = {}
    for room, came in sorted(rooms.items(), key=lambda one: one[1]["seed"]):
        newest[_base(room)] = came
    last = max(came["seed"] for came in newest.values())
    drawn_last = [came for came in newest.values() if came["seed"] == last]
    lines += [
        "",
        f"Of the newest sample of each room {_first(newest.values())} were noticed at first;",
        f"of those {len(drawn_last)} that were drawn last, with seed {last}, {_first(drawn_last)}.",
    ]
    lines += _table("room", rooms)
    lines += _table("files", {room: came for room, came in results.items() if _base(room) in FILES})
    for room, came in results.items():
        if came["survived"]:
            lines += ["", f"## Survived in {room}", "", *(f"- {name}" for name in came["survived"])]
    return "\n".join([*lines, ""])


def _base(room: str) -> str:
    """Return the room of a sample, which is named with its seed where the room has others."""
    return room.partition(",")[0]


def _first(samples: Iterable[dict[str, Any]]) -> str:
    """Return how many of some samples were noticed at first, and how many there were."""
    samples = list(samples)
    asked = sum(came["sample"] - came["equivalent"] for came in samples)
    return f"{sum(came['first'] for came in samples)} of {asked}"


def _table(what: str, results: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"| {what} | changes | seed | sample | equivalent | at first | noticed | ended | survived | share noticed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    sums = [0, 0, 0, 0]
    for room, came in results.items():
        numbers = [came["sample"], came["equivalent"], came["noticed"], len(came["survived"])]
        sums = [one + other for one, other in zip(sums, numbers, strict=True)]
        given = [room, came["changes"], came["seed"], *numbers[:2], came.get("first", ""), numbers[2]]
        given += [len(came["ended"]), numbers[3], _share(numbers)]
        lines.append("| " + " | ".join(map(str, given)) + " |")
    return [*lines, f"| all | | | {sums[0]} | {sums[1]} | | {sums[2]} | | {sums[3]} | {_share(sums)} |"]


def _share(numbers: list[int]) -> str:
    # Never more than it is.
    return f"{100 * numbers[2] // max(1, numbers[0] - numbers[1])} %"


def main() -> None:
    """Try the rooms that are named, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*")
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="only what survived the last time")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="numbers and survivors, from which the page is made"
    )
    asked = parser.parse_args()
    for room in asked.rooms:
        results = json.loads(asked.results.read_text("utf-8")) if asked.results.exists() else {}
        again = results[room] if asked.again else None
        came = sample_room(room, asked, again)
        print(room, {name: value for name, value in came.items() if name != "survived"}, flush=True)
        results[room] = came
        asked.results.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n", "utf-8")
    if asked.results == RESULTS:
        PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
