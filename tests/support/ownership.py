"""Who owns which path of a project, said once more and independently of `copier.yml`.

A new path is in none of the lists, so a test asks for its owner.
"""

from __future__ import annotations

from functools import cache

import pathspec

COPIERS = ["/.copier-answers.yml"]

SHARED = ["/.gitattributes", "/pyproject.toml"]

YOURS = [
    "/.env.example",
    "/AGENTS.md",
    "/CHANGELOG.md",
    "/LICENSE",
    "/README.md",
    "/compose.override.yaml",
    "/deploy/helm/values.production.yaml",
    "/deploy/kubernetes/overlays/**",
    "/docs/settings.md",
    "/fly.toml",
    "/railway.json",
    "/renovate.json",
    "/schema/**",
    "/server.json",
    "/src/*/__init__.py",
    "/src/*/migrations/**",
    "/src/*/server.py",
    "/src/*/settings.py",
    "/src/*/tools/**",
    "/tests/tools/**",
    "/uv.lock",
]

OURS = [
    "/.dockerignore",
    "/.github/workflows/*.yml",
    "/.gitignore",
    "/.pre-commit-config.yaml",
    "/Dockerfile",
    "/Makefile",
    "/compose.yaml",
    "/deploy/caddy/**",
    "/deploy/compose/**",
    "/deploy/grafana/**",
    "/deploy/helm/.helmignore",
    "/deploy/helm/Chart.yaml",
    "/deploy/helm/templates/**",
    "/deploy/helm/values.schema.json",
    "/deploy/helm/values.yaml",
    "/deploy/kubernetes/base/**",
    "/deploy/kubernetes/components/**",
    "/deploy/kubernetes/probe/**",
    "/deploy/nginx/**",
    "/deploy/postgres/**",
    "/deploy/prometheus/**",
    "/deploy/systemd/**",
    "/docs/elsewhere.md",
    "/docs/first-deployment.md",
    "/docs/operations.md",
    "/docs/tools.md",
    "/pyrightconfig.json",
    "/pytest.ini",
    "/ruff.toml",
    "/scripts/**",
    "/src/*/__main__.py",
    "/src/*/hardening/**",
    "/tests/conformance/**",
    "/tests/conftest.py",
    "/tests/hardening/**",
    "/tests/support/**",
]

LISTS = {"Copier's": COPIERS, "shared": SHARED, "yours": YOURS, "ours": OURS}


@cache
def matches(path: str, pattern: str) -> bool:
    """Tell whether a pattern, read as Copier reads it, covers the path."""
    return pathspec.PathSpec.from_lines("gitignore", [pattern]).match_file(path)


def owners(path: str) -> list[str]:
    """Return every owner whose list covers the path; the answer should have one."""
    return [owner for owner, patterns in LISTS.items() if any(matches(path, pattern) for pattern in patterns)]
