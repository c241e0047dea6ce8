"""Changes by rule: each operator changes what it says, and the page has what came of the samples."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from proving.operators import changes, is_python, line_changes
from support.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

sys.path.insert(0, str(ROOT / "scripts"))
import file_kinds
import mutants

CODE = '''
async def run(self, given, *, wait=5):
    """Docstring: 1 < 2."""
    if given < 3 and not self.closed:
        await self.close(wait=wait)
    try:
        self.left -= 1
    except ValueError:
        return None
    finally:
        self.free()
    return cast("int", given) + 20
'''


def test_each_operator_makes_its_change(tmp_path: Path) -> None:
    """One function, everything that can go wrong with it, and nothing in its documentation."""
    (tmp_path / "room.py").write_text(CODE, "utf-8")

    made = changes(tmp_path)

    assert {(change.kind, change.old, change.new) for change in made} == {
        ("number", "5", "6"),
        ("number", "5", "2"),
        ("condition", "given < 3 and not self.closed", "True"),
        ("condition", "given < 3 and not self.closed", "False"),
        ("comparison", "<", "<="),
        ("and/or", "and", "or"),
        ("not", "not self.closed", "(self.closed)"),
        ("number", "3", "4"),
        ("number", "3", "1"),
        ("statement", "await self.close(wait=wait)", "pass"),
        ("statement", "self.left -= 1", "pass"),
        ("number", "1", "2"),
        ("except", "return None", "raise"),
        ("finally", "self.free()", "pass"),
        ("statement", "self.free()", "pass"),
        ("returned", 'cast("int", given) + 20', "None"),
        ("arithmetic", "+", "-"),
        ("number", "20", "40"),
        ("number", "20", "10"),
    }
    assert all(is_python(change.applied(CODE.encode())) for change in made)


def test_each_line_of_a_file_is_changed(tmp_path: Path) -> None:
    """A line that goes, a number, a switch, a word; a comment stays."""
    text = "# 5s\nproxy_read_timeout 120s;\ngzip off;\nuser: server\n"
    (tmp_path / "file").write_text(text, "utf-8")

    made = line_changes(tmp_path / "file", "file")

    assert [(change.kind, change.old.strip(), change.new) for change in made] == [
        ("line", "proxy_read_timeout 120s;", ""),
        ("number", "120", "240"),
        ("line", "gzip off;", ""),
        ("switch", "off", "on"),
        ("line", "user: server", ""),
        ("word", "server", "serverx"),
    ]


@pytest.mark.parametrize("room", ["auth", "limits"])
def test_a_sample_is_the_same_again(room: str) -> None:
    """The seed decides, and a larger sample holds the smaller one."""
    few, total = mutants.chosen(room, 5, 1)
    more, _ = mutants.chosen(room, 10, 1)

    assert total > 500
    assert more[:5] == few
    assert mutants.chosen(room, 5, 2)[0] != few


@pytest.mark.parametrize("kind", file_kinds.FILES)
def test_every_kind_of_files_has_files_and_tests(kind: str) -> None:
    """A pattern, or a test, that is not there any more would leave its files out."""
    for pattern in file_kinds.FILES[kind].files:
        assert any(path.is_file() for path in ROOT.glob(pattern)), pattern
    for tests in file_kinds.tests_of(kind):
        assert [test for test in tests if not (ROOT / test).is_file()] == []


def test_the_page_of_samples_is_up_to_date() -> None:
    """Run `make mutants` when this fails: with ROOM, or without to write the page alone."""
    assert mutants.PAGE.read_text("utf-8") == mutants.page(json.loads(mutants.RESULTS.read_text("utf-8")))


def test_what_is_called_equivalent_has_a_reason() -> None:
    """Each is a change that can be made today, and says why nobody could notice."""
    made = {change.name for change in changes(mutants.SOURCE / "hardening")}
    made |= {change.name for kind in file_kinds.FILES for change in file_kinds.changes_of(kind)}

    assert {name for name in mutants.equivalent() if name not in made} == set()
    assert all(len(reason) > 20 for reason in mutants.equivalent().values())
