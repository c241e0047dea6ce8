"""Every file that states a grace or a timeout agrees with the settings it follows from."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from hardening.lifecycle.shutdown import CLOSING_SECONDS

ROOT = Path(__file__).parents[3]
UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZES = {"": 1, "k": 1024, "kb": 1000, "m": 1024**2, "mb": 1000**2}
# What Fly.io waits at most.
FLY_LIMIT = 300


@dataclass
class Place:
    """One file, and what it states; `settings` are the variables it sets itself."""

    path: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    # Waits for the server after SIGTERM.
    graces: list[float] = field(default_factory=list[float])
    # Cuts an answer that is silent for so long.
    silences: list[float] = field(default_factory=list[float])
    # Waits for answers in flight when it is stopped itself.
    proxy_graces: list[float] = field(default_factory=list[float])
    # Closes its idle connections to the server.
    idles: list[float] = field(default_factory=list[float])
    # Finds out that a replica is unready.
    notices: list[float] = field(default_factory=list[float])
    bodies: list[int] = field(default_factory=list[int])
    # Gives up a sender.
    senders: list[float] = field(default_factory=list[float])

    def problems(self, longest_tool: float) -> list[str]:
        """Return one sentence for each number that does not fit, with the number it must beat."""
        settings = defaults() | {
            name: float(value) for name, value in self.settings.items() if re.fullmatch(r"[\d.]+", value)
        }
        delay, drain = settings["MCP_READINESS_DELAY_SECONDS"], settings["MCP_DRAIN_TIMEOUT_SECONDS"]
        tool = max(settings["MCP_TOOL_TIMEOUT_SECONDS"], longest_tool)
        server = delay + drain + CLOSING_SECONDS
        ping = settings["MCP_STREAM_PING_SECONDS"]
        checks = [
            ("drain", [drain], lambda n: n > tool, f"exceed the longest tool, {tool:g} s"),
            ("grace", self.graces, lambda n: n > server, f"exceed delay + drain + closing, {server:g} s"),
            ("read timeout", self.silences, lambda n: n > tool, f"exceed the longest tool, {tool:g} s"),
            ("read timeout", self.silences, lambda n: n > 2 * ping, f"exceed two stream pings, {2 * ping:g} s"),
            ("proxy's grace", self.proxy_graces, lambda n: n > tool, f"exceed the longest tool, {tool:g} s"),
            (
                "idle connection",
                self.idles,
                lambda n: n < settings["MCP_KEEP_ALIVE_SECONDS"],
                f"stay below MCP_KEEP_ALIVE_SECONDS, {settings['MCP_KEEP_ALIVE_SECONDS']:g} s",
            ),
            ("health check", self.notices, lambda n: n <= delay, f"come within the readiness delay, {delay:g} s"),
            (
                "sender's time",
                self.senders,
                lambda n: n > settings["MCP_BODY_TIMEOUT_SECONDS"],
                f"exceed MCP_BODY_TIMEOUT_SECONDS, {settings['MCP_BODY_TIMEOUT_SECONDS']:g} s",
            ),
            (
                "body limit",
                self.bodies,
                lambda n: n > settings["MCP_MAX_BODY_BYTES"],
                f"exceed MCP_MAX_BODY_BYTES, {settings['MCP_MAX_BODY_BYTES']:g}",
            ),
        ]  # fmt: skip
        return [
            f"{self.path}: {what} of {number:g} must {rule}"
            for what, numbers, holds, rule in checks
            for number in numbers
            if not holds(number)
        ]


def defaults() -> dict[str, float]:
    """Return the numbers that hold where a file says nothing: yours where your settings change one of ours."""
    (package,) = (ROOT / "src").glob("*/hardening")
    fields = import_module(f"{package.parent.name}.settings").Settings.model_fields
    return {
        f"MCP_{name.upper()}": float(info.default)
        for name, info in fields.items()
        if isinstance(info.default, int | float)
    }


def seconds(text: str) -> float:
    """Read 50, 50s, 2m or 250ms."""
    found = re.fullmatch(r"([\d.]+)(ms|s|m|h|)", text.strip().strip('"'))
    assert found, f"not a duration: {text}"
    return float(found[1]) * UNITS[found[2]]


def size(text: str) -> int:
    """Read 2m or 2MB."""
    found = re.fullmatch(r"(\d+)([a-z]*)", text.strip().lower())
    assert found, f"not a size: {text}"
    return int(found[1]) * SIZES[found[2]]


def values(text: str, key: str) -> list[str]:
    """Return what follows a key in YAML, in a Caddyfile or in nginx's language; it must be there."""
    line = rf'^\s*(?:- )?"?{re.escape(key)}"?:? +([^\s;#]+);?\s*(?:#.*)?$'
    found = re.findall(line, text, re.MULTILINE)
    assert found, f"no {key}"
    return found


def assignments(text: str) -> dict[str, str]:
    """Return the MCP_ variables that a file sets, as NAME=value or NAME: value."""
    found = re.findall(r'^\s*(?:- )?(MCP_[A-Z_]+)(?:=|: )"?([^"\n]*)"?$', text, re.MULTILINE)
    return dict(found)


def service(text: str, name: str) -> str:
    """Return one service of a Compose file."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n|  +#.*\n)+)", text, re.MULTILINE)
    return found[1] if found else ""


def caddy(path: Path) -> Place:
    """Read a Caddyfile."""
    text = path.read_text(encoding="utf-8")
    return Place(
        path,
        silences=[seconds(v) for key in ("read_timeout", "response_header_timeout") for v in values(text, key)],
        proxy_graces=[seconds(v) for v in values(text, "grace_period")],
        idles=[seconds(v) for v in values(text, "keepalive")],
        notices=[seconds(v) for v in values(text, "health_interval")],
        bodies=[size(v) for v in values(text, "max_size")],
        senders=[seconds(v) for v in values(text, "read_body")],
    )  # fmt: skip


def nginx(path: Path) -> Place:
    """Read what nginx keeps open and lets through."""
    text = path.read_text(encoding="utf-8")
    return Place(
        path,
        idles=[seconds(v) for v in values(text, "keepalive_timeout")],
        bodies=[size(v) for v in values(text, "client_max_body_size")],
        senders=[seconds(v) for v in values(text, "client_body_timeout")],
    )


def nginx_proxy(path: Path) -> Place:
    """Read how long nginx waits."""
    text = path.read_text(encoding="utf-8")
    return Place(path, silences=[seconds(v) for v in values(text, "proxy_read_timeout")])


def compose(path: Path) -> Place:
    """Read a Compose file: the server's grace, and the proxy's above its own."""
    text = path.read_text(encoding="utf-8")
    server, proxy = service(text, "server"), service(text, "caddy")
    return Place(
        path,
        settings=assignments(server),
        graces=[seconds(v) for v in values(server, "stop_grace_period")],
        proxy_graces=[seconds(v) for v in values(proxy, "stop_grace_period")],
    )


def kubernetes(root: Path) -> list[Place]:
    """Read the base, each overlay on top of it, and the Ingress."""
    base = (root / "base/deployment.yaml").read_text(encoding="utf-8")
    pre_stop = [seconds(v) for v in re.findall(r"sleep:\s+seconds: (\d+)", base)]
    probe = re.search(r"readinessProbe:(?:\n {12}.*)+", base)
    numbers = [
        float(v) for key in ("periodSeconds", "failureThreshold") for v in values(probe[0] if probe else "", key)
    ]
    inherited = assignments((root / "base/kustomization.yaml").read_text(encoding="utf-8"))
    ingress = root / "components/ingress-nginx/ingress.yaml"
    annotation = "nginx.ingress.kubernetes.io/proxy-{}".format
    places: list[Place] = []
    for folder in [root / "base", *sorted((root / "overlays").glob("*/"))]:
        texts = [file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*")) if file.is_file()]
        grace = "terminationGracePeriodSeconds"
        stated = [v for text in texts if grace in text for v in values(text, grace)]
        own = {name: value for text in texts for name, value in assignments(text).items()}
        annotations = ingress.read_text(encoding="utf-8")
        places.append(
            Place(
                folder,
                settings=inherited | own,
                graces=[seconds(v) - sum(pre_stop) for v in stated or values(base, grace)],
                silences=[seconds(v) for v in values(annotations, annotation("read-timeout"))],
                bodies=[size(v) for v in values(annotations, annotation("body-size"))],
                notices=[numbers[0] * numbers[1]],
            )
        )  # fmt: skip
    return places


def helm(path: Path) -> Place:
    """Read the values of the chart; its grace is computed from them."""
    return Place(path, settings=assignments(path.read_text(encoding="utf-8")))


def fly(path: Path) -> Place:
    """Read fly.toml."""
    stated = tomllib.loads(path.read_text(encoding="utf-8"))
    assert stated["kill_signal"] == "SIGTERM", f"{path}: the server drains on SIGTERM"
    assert stated["kill_timeout"] <= FLY_LIMIT, f"{path}: Fly.io waits {FLY_LIMIT} s at most"
    checks = stated["http_service"]["checks"]
    return Place(
        path,
        settings=stated.get("env", {}),
        graces=[float(stated["kill_timeout"])],
        notices=[seconds(check["interval"]) for check in checks],
    )


def railway(path: Path) -> Place:
    """Read railway.json."""
    stated = json.loads(path.read_text(encoding="utf-8"))["deploy"]
    return Place(path, graces=[float(stated["drainingSeconds"])])


def places(root: Path) -> list[Place]:
    """Read every file that is there."""
    readers = {
        "deploy/caddy/Caddyfile": caddy,
        "deploy/nginx/mcp-server.conf": nginx,
        "deploy/nginx/mcp-server-proxy.conf": nginx_proxy,
        "compose.yaml": compose,
        "deploy/helm/values.production.yaml": helm,
        "fly.toml": fly,
        "railway.json": railway,
    }
    found = [read(root / name) for name, read in readers.items() if (root / name).exists()]
    folder = root / "deploy/kubernetes"
    # Without our base, what is in there is the author's alone.
    return found + (kubernetes(folder) if (folder / "base").exists() else [])


def longest_tool(root: Path) -> float:
    """Return the longest deadline that a tool declares."""
    declared = [
        float(number)
        for file in (root / "src").glob("*/tools/*.py")
        for number in re.findall(r"\btimeout_seconds=([\d.]+)", file.read_text(encoding="utf-8"))
    ]
    return max(declared, default=0.0)


def test_each_file_fits_the_settings() -> None:
    """Nobody kills, cuts or forgets a server that still has time to answer."""
    problems = [sentence for place in places(ROOT) for sentence in place.problems(longest_tool(ROOT))]

    # Elsewhere nothing would be found, and nothing would be wrong.
    assert (ROOT / "pyproject.toml").is_file()
    assert not problems, "\n".join(problems)
