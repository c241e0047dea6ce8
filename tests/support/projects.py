"""What the projects under test answered."""

from __future__ import annotations

ANSWERS: dict[str, object] = {
    "repository_url": "https://github.com/example/weather-server",
    "deploy_targets": ["kubernetes", "helm", "fly", "railway", "compose"],
}
WITHOUT_DATABASE = {**ANSWERS, "database": "none"}
