"""An answer that was changed brings files of the template; what it cannot bring, because it is yours, is named here.

What you have deleted together with the template's part of it is not missed.
"""

from __future__ import annotations

import re
import tomllib
from importlib import import_module

import alias
import pytest

# A part of the template, and the file of yours that it cannot do without.
PARTS = [
    (".github/workflows/deploy-fly.yml", "fly.toml", "fly.toml"),
    (".github/workflows/deploy-railway.yml", "railway.json", "railway.json"),
    ("deploy/kubernetes/base", "deploy/kubernetes/overlays/*/kustomization.yaml", "deploy/kubernetes/overlays/**"),
    ("deploy/helm/Chart.yaml", "deploy/helm/values.production.yaml", "deploy/helm/values.production.yaml"),
]
# What a license's text says, where the template has that text.
LICENSES = {
    "MIT": "MIT License",
    "Apache-2.0": "Apache License",
    "BSD-3-Clause": "BSD 3-Clause License",
    "LicenseRef-Proprietary": "All rights reserved",
}
PACKAGE_FILES = ("__init__.py", "server.py", "settings.py", "tools/__init__.py")


def missing_parts() -> list[str]:
    """Return what to do for each part of the template whose other half, which is yours, is not here."""
    return [
        f"{part} is here, and {wanted} is not. To bring it: make restore FILE='{file}'. "
        f"If you do not deploy there, delete {part} too."
        for part, wanted, file in PARTS
        if (alias.ROOT / part).exists() and not any(alias.ROOT.glob(wanted))
    ]


def answer(question: str) -> str | None:
    """Return what was answered; nothing when the project has left the template."""
    file = alias.ROOT / ".copier-answers.yml"
    found = re.search(rf"^{question}: (.+)$", file.read_text("utf-8"), re.MULTILINE) if file.exists() else None
    return found[1] if found else None


def test_each_target_has_its_files() -> None:
    """A target that was added by an update brings workflows and manifests; platform file and overlay are yours."""
    problems = missing_parts()

    assert not problems, "\n".join(problems)


def test_the_settings_fit_the_database() -> None:
    """With the answer `none` nothing here starts a database, so no setting may require one."""
    if answer("database") == "none":
        settings_type = import_module(f"{alias.PACKAGE}.settings").Settings
        required = settings_type.model_fields["database_url"].is_required()
        assert not required, (
            f"In src/{alias.PACKAGE}/settings.py, take out the field database_url: the answer `database` is none, so "
            "neither Compose nor the tests start a database. Or take the answer back, and the database with it: "
            "copier update --context-lines 100000 --skip-answered --vcs-ref=:current: --data database=postgres"
        )
    else:
        assert answer("database") in {"postgres", None}


def test_the_license_is_the_one_that_is_published() -> None:
    """The package's metadata and LICENSE say the same."""
    said = tomllib.loads((alias.ROOT / "pyproject.toml").read_text("utf-8"))["project"].get("license")
    file = alias.ROOT / "LICENSE"
    text = file.read_text("utf-8") if file.exists() else ""
    others = [name for name, words in LICENSES.items() if words in text and name != said]

    assert not text or said not in LICENSES or LICENSES[said] in text or not others, (
        f"pyproject.toml says {said}, and LICENSE is that of {others[0]}. "
        "To bring the text: git rm LICENSE && make restore FILE=LICENSE"
    )


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_your_files_are_where_the_package_is(name: str) -> None:
    """A package that was renamed by an update leaves your files in the old folder."""
    here = alias.HARDENING.parent
    old = [path.parent for path in here.parent.glob(f"*/{name}") if not path.is_relative_to(here)]
    from_there = f"cp -r {old[0]}/. {here}/ && rm -r {old[0]}" if old else f"make restore FILE='src/*/{name}'"

    assert (here / name).is_file(), f"src/{here.name}/{name} is missing. To bring it: {from_there}"
