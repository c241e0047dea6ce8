"""Says what of an old server's own code has no place in the template: constructors, handlers, calls that declare."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONSTRUCTORS = {"FastMCP", "MCPServer", "Server"}
# What is given to a constructor, and where it goes.
GIVEN = {
    "auth": "callers are let in by settings: MCP_AUTH=api_key or jwt, MCP_JWT_ISSUER, MCP_JWT_AUDIENCE",
    "auth_server_provider": "callers are let in by settings: MCP_AUTH=jwt, MCP_JWT_ISSUER, MCP_JWT_AUDIENCE",
    "token_verifier": "callers are let in by settings: MCP_AUTH=jwt, MCP_JWT_ISSUER, MCP_JWT_AUDIENCE",
    "lifespan": "goes to harden(…, lifespan=…) in src/{package}/server.py; tools find its state in ctx.state",
    "instructions": "become INSTRUCTIONS in src/{package}/server.py",
    "host": "is the setting HOST",
    "port": "is the setting PORT",
    "middleware": "has no place: the order of the guards is the template's; docs/tools.md says what a tool may use",
    "dependencies": "stand in pyproject.toml, by uv add",
    "tools": "are named in TOOLS, in src/{package}/tools/__init__.py",
}
# What is called on a server.
CALLED = {
    "add_tool": "name the function in TOOLS, in src/{package}/tools/__init__.py, under @tool(read_only=…)",
    "add_resource": "add the resource in src/{package}/server.py, to what build returns",
    "add_prompt": "add the prompt in src/{package}/server.py, to what build returns",
    "add_middleware": GIVEN["middleware"],
    "custom_route": "has no place: health is /livez and /readyz, and a page of your own is another service",
    "mount": "name the tools of the other server in TOOLS: a project serves one",
    "import_server": "name the tools of the other server in TOOLS: a project serves one",
}
# What carries the protocol, and what starts it: on a server, or by itself.
SERVED = "goes; the command of the server is serve, and stdio for a client on its machine"
STARTED = ("run", "run_async", "run_stdio_async", "run_sse_async", "run_streamable_http_async", "run_http_async")
STARTED += ("http_app", "sse_app", "streamable_http_app")
CARRIERS = {"stdio_server", "SseServerTransport", "StreamableHTTPSessionManager"}
# Handlers of the low-level server, as decorators or as `on_…`.
HANDLERS = {
    "list_tools": "goes; each tool is a function under @tool(read_only=…), named in TOOLS",
    "call_tool": "its branches become those functions, with typed arguments and a model of pydantic as the result",
    "list_prompts": "goes; a prompt is @server.prompt() on what build returns, in src/{package}/server.py",
    "get_prompt": "becomes @server.prompt() on what build returns, in src/{package}/server.py",
    "list_resources": "goes; a resource is @server.resource(…) on what build returns, in src/{package}/server.py",
    "list_resource_templates": "goes; a template is @server.resource(…) with {{name}} in its address",
    "read_resource": "becomes @server.resource(…) on what build returns, in src/{package}/server.py",
    "completion": "becomes @server.completion() on what build returns, in src/{package}/server.py",
    "set_logging_level": "goes; the operator sets MCP_LOG_LEVEL",
}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def declared_by_call(tree: ast.AST) -> set[str]:
    """Return the names of functions that become tools without a decorator: `mcp.tool(f)`, `mcp.add_tool(f)`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    given = {_name(call.args[0]) for call in calls if _name(call.func) in {"tool", "add_tool"} and call.args}
    return given - {""}


def described(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each tool that a low-level server describes; the name may be a constant, or of an enum."""
    constants: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            constants |= {_name(target): str(node.value.value) for target in node.targets}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "Tool":
            said = {keyword.arg: keyword.value for keyword in node.keywords}
            name = said.get("name")
            if name is None or "description" not in said:
                continue
            shown = ast.unparse(name)
            member = shown.removesuffix(".value").rpartition(".")[2]
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else constants.get(member, shown)


def imported(file: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each module that a file of Python imports, or imports from."""
    package = re.sub(r"^src/|/?[^/]*$", "", name).split("/")
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        # Said where the rules of tools are looked for.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{one.name}") for one in node.names)


def rules(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield one line for each thing that goes elsewhere, with its place in the file."""
    for line, name in described(tree):
        yield (
            f"{line} {name}: write it as a function in src/{package}/tools/{name}.py, under @tool(read_only=…), and"
            " name it in TOOLS; its inputSchema becomes typed arguments with bounds"
        )
    servers = {"mcp", "server", "app"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _name(node.value.func) in CONSTRUCTORS:
            servers |= {_name(target) for target in node.targets}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (f"{node.lineno} {what}: {rule.format(package=package)}" for what, rule in _call(node, servers))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                name = _name(decorator.func) if isinstance(decorator, ast.Call) else ""
                if name in HANDLERS:
                    yield f"{node.lineno} {node.name}: {HANDLERS[name].format(package=package)}"


def _call(node: ast.Call, servers: set[str]) -> Iterator[tuple[str, str]]:
    name, shown = _name(node.func), ast.unparse(node.func)
    if name in CONSTRUCTORS:
        yield from ((f"{one.arg}=", GIVEN[one.arg]) for one in node.keywords if one.arg in GIVEN)
        handlers = [(one.arg or "").removeprefix("on_") for one in node.keywords]
        yield from ((f"on_{handler}=", HANDLERS[handler]) for handler in handlers if handler in HANDLERS)
    elif name in CARRIERS or shown == "uvicorn.run":
        yield shown, SERVED
    elif isinstance(node.func, ast.Attribute):
        if name in CALLED:
            yield shown, CALLED[name]
        elif name in STARTED and _name(node.func.value) in servers:
            yield shown, SERVED
