"""Every protection is needed: take one out, and a test of the project or of this repository fails."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from proving.mutants import CONTROL, PAGE, Mutant, Outcome, Prover, anchor, page, read
from support.harness import DEFAULT, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.harness import Template

MUTANTS = read()
# The control runs one test of each file that the catalogue names: the others run in a project and in place, in the
# same run.
CONTROL_SECONDS = 500


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """Begin with every mutant that this run asks for, as many at once as there are processors, and two at least.

    Many of them wait for what was taken out.
    """
    params = [getattr(item, "callspec").params for item in request.session.items if hasattr(item, "callspec")]  # noqa: B009
    asked: list[Mutant] = [given["mutant"] for given in params if isinstance(given.get("mutant"), Mutant)]
    tests = sorted({mutant.noticed_by for mutant in asked})
    prover = Prover(template.prepared(DEFAULT), tmp_path_factory.mktemp("proving"))
    prover.compile(*tests)
    neighbours = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with ThreadPoolExecutor(max(2, (os.cpu_count() or 1) // neighbours)) as pool:
        found = {CONTROL: pool.submit(prover.control, *controls(tests), seconds=CONTROL_SECONDS)}
        found |= {mutant.name: pool.submit(prover.prove, mutant, str(n)) for n, mutant in enumerate(asked)}
        yield found
        pool.shutdown(cancel_futures=True)
    prover.close()


def controls(tests: list[str]) -> list[str]:
    """Return what the control runs of the tests that have to notice something."""
    return list({test.partition("::")[0]: test for test in reversed(tests)}.values())


def test_each_mutant_applies_to_one_place(template: Template) -> None:
    """A protection that was rewritten is proved again, and not forgotten."""
    problems: list[str] = []
    project = template.render(DEFAULT)
    for mutant in MUTANTS:
        try:
            mutant.applied(project)
        except ValueError as problem:
            problems.append(str(problem))

    assert problems == []


def test_each_mutant_has_a_name_of_its_own() -> None:
    """What is taken out is said in words that are said once."""
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_the_page_leads_to_each_protection() -> None:
    """Its list names each protection once, every entry leads to a heading, and the README leads to the page."""
    text = (ROOT / PAGE).read_text("utf-8")
    listed = re.findall(r"^- \[(.+?)\]\(#(.+)\)$", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert len(MUTANTS) >= 500
    assert Counter(name for name, _ in listed) == Counter({mutant.protection for mutant in MUTANTS})
    assert [fragment for _, fragment in listed] == [anchor(heading) for heading in headings]
    assert f"]({PAGE})" in (ROOT / "README.md").read_text("utf-8")


def test_the_page_is_up_to_date() -> None:
    """Run `python scripts/protections.py` when this fails."""
    assert (ROOT / PAGE).read_text("utf-8") == page(MUTANTS)


def test_what_runs_is_the_copy(template: Template, tmp_path: Path) -> None:
    """The control of the method: a copy that says so is what the tests import, and what their children import."""
    prover = Prover(template.prepared(DEFAULT), tmp_path)
    with prover.copy("marked") as copy:
        (copy / "src/weather_server/__init__.py").write_text("MARK = 1\n", "utf-8")
        (copy / "tests/hardening/test_mark.py").write_text(
            "import subprocess, sys\n\n"
            "CODE = 'import weather_server; weather_server.MARK'\n\n"
            "def test_mark():\n"
            "    exec(CODE)\n"
            "    assert subprocess.run([sys.executable, '-c', CODE]).returncode == 0\n",
            "utf-8",
        )
        outcome = prover.test(copy, "test_mark.py")
    prover.close()

    assert outcome.code == 0, outcome.said


def test_nothing_fails_in_a_copy_as_it_is(outcomes: dict[str, Future[Outcome]]) -> None:
    """The control of the proof: with every protection in its place, the same tests pass."""
    outcome = outcomes[CONTROL].result()

    assert outcome.code == 0, outcome.said


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, id=mutant.name, marks=() if mutant.quick else pytest.mark.slow) for mutant in MUTANTS],
)
def test_it_is_noticed(outcomes: dict[str, Future[Outcome]], mutant: Mutant) -> None:
    """The test that the catalogue names fails, by an assertion of its own."""
    outcome = outcomes[mutant.name].result()
    if outcome.skipped:
        pytest.skip(f"{mutant.noticed_by} needs a program that is missing here")

    assert outcome.noticed(mutant), f"{mutant.noticed_by} did not notice (code {outcome.code}):\n{outcome.said}"
