"""Write cookiecutter.json from copier.yml: the same questions for people who start with Cookiecutter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "cookiecutter.json"
FOLDER = "Which folder shall the project be in? It is made where you are."
DERIVED = "Leave it empty to have it derived."


def default(question: dict[str, Any], names: list[str]) -> str | list[str]:
    """Return what Cookiecutter offers: choices with the default first, or text; empty is left to Copier."""
    given = question["default"]
    choices = list(question.get("choices", {}).values())
    if question.get("multiselect"):
        return ",".join(given)
    if choices:
        return sorted(choices, key=lambda choice: choice != given)
    if "{%" in given:
        return ""
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: _renamed(found[1], names), given)


def _renamed(name: str, names: list[str]) -> str:
    if name not in names:
        message = f"a default may name questions only, not {name}"
        raise ValueError(message)
    return f"{{{{ cookiecutter.{name} }}}}"


def prompt(question: dict[str, Any]) -> str | dict[str, str]:
    """Return what is asked; a choice is shown with what it means."""
    text = question["help"]
    if question.get("multiselect"):
        return f"{text} Name them with commas between: {', '.join(question['choices'].values())}; or none."
    if "choices" in question:
        return {"__prompt__": text, **{value: shown for shown, value in question["choices"].items()}}
    return f"{text} {DERIVED}" if "{%" in question["default"] else text


def generate() -> str:
    """Return the text of cookiecutter.json."""
    loaded = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    asked = {
        name: question
        for name, question in loaded.items()
        if not name.startswith("_") and question.get("when") is not False
    }
    result: dict[str, Any] = {}
    for name, question in asked.items():
        result[name] = default(question, list(asked))
        if name == "project_name":
            result["project_slug"] = "{{ cookiecutter.project_name | slugify }}"
    result["_several"] = [name for name, question in asked.items() if question.get("multiselect")]
    result["_copier"] = f"copier>={loaded['_min_copier_version']},<10"
    prompts = {name: prompt(question) for name, question in asked.items()}
    result["__prompts__"] = {**prompts, "project_slug": FOLDER}
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(generate(), "utf-8")
    print(TARGET.name)
