"""Files of a project that are not of its package, by kind: where they are, and which tests of this repository look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proving.operators import Change, Module, line_changes

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kind:
    """Files of one kind, as patterns, and which tests of this repository look at them: the quick ones first."""

    files: tuple[str, ...]
    quick: tuple[str, ...]
    slow: tuple[str, ...] = ()


# Templates and schema of the chart are made from the manifests, and not changed by hand.
FILES = {
    "kubernetes": Kind(
        ("template/deploy/*kubernetes*/**/*.yaml",),
        ("deploying/test_policies", "deploying/test_objects_agree", "deploying/test_kubernetes"),
        ("deploying/test_grace_chain", "deploying/test_probe_cronjob", "deploying/test_alerts"),
    ),
    "helm": Kind(
        ("template/deploy/*helm*/[Cv]*.yaml*",),
        ("deploying/test_configuration_model", "deploying/test_helm"),
        ("deploying/test_grace_chain",),
    ),
    "proxies": Kind(
        ("template/deploy/caddy/Caddyfile", "template/deploy/nginx/*.conf"),
        ("deploying/test_configuration_model", "deploying/test_grace_chain"),
        ("deploying/test_proxies", "deploying/test_streaming"),
    ),
    "image": Kind(
        ("template/Dockerfile.jinja", "template/.dockerignore", "template/*compose.yaml*"),
        ("deploying/test_configuration_model", "deploying/test_image_files", "deploying/test_compose"),
        ("deploying/test_configuration_policies", "deploying/test_grace_chain", "deploying/test_platforms"),
    ),
    "alerts": Kind(
        ("template/deploy/prometheus/*", "template/deploy/grafana/*"),
        ("deploying/test_configuration_model", "deploying/test_alerts"),
        ("deploying/test_scraping", "deploying/test_operations"),
    ),
    "workflows": Kind(
        ("template/.github/workflows/*",),
        ("rendering/test_workflow_model", "rendering/test_workflow_policies", "rendering/test_workflows"),
        ("deploying/test_workflows_run",),
    ),
    "platforms": Kind(
        ("template/*fly.toml*", "template/*railway.json*", "template/deploy/systemd/*", "template/deploy/*/role.sql"),
        ("deploying/test_configuration_model", "deploying/test_platforms", "deploying/test_grace_chain"),
        ("deploying/test_probe_unit", "deploying/test_database_role"),
    ),
    "scripts": Kind(
        ("template/scripts/*.sh", "template/scripts/*.sh{% endif %}", "template/scripts/*.py"),
        ("rendering/test_portable_shell", "rendering/test_workflow_policies", "units/test_script_calls"),
        ("units/test_scripts", "deploying/test_workflows_run"),
    ),
    "tools": Kind(
        (
            *("template/Makefile", "template/pyproject.toml.jinja", "template/ruff.toml", "template/pytest.ini"),
            *("template/pyrightconfig.json.jinja", "template/renovate.json", "template/.pre-commit-config.yaml"),
        ),
        ("rendering/test_make_targets", "rendering/test_tool_settings", "rendering/test_renovate"),
        ("rendering/test_portable_shell", "rendering/test_workflow_policies", "rendering/test_text"),
    ),
}


def tests_of(kind: str) -> tuple[list[str], list[str]]:
    """Return the files of tests that look at files of a kind, as pytest is given them: the quick, and the others."""
    quick, slow = ([f"tests/{name}.py" for name in names] for names in (FILES[kind].quick, FILES[kind].slow))
    return quick, slow


def changes_of(kind: str) -> list[Change]:
    """Return every change of the files of one kind."""
    paths = sorted({path for pattern in FILES[kind].files for path in ROOT.glob(pattern) if path.is_file()})
    found: list[Change] = []
    for path in paths:
        name = str(path.relative_to(ROOT))
        found += Module(path, name).changes() if path.suffix == ".py" else line_changes(path, name)
    return found
