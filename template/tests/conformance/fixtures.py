"""The tools, prompts and resources that the official conformance suite asks for by name.

They are served through this project's whole hardening, so that the suite proves it breaks nothing.
Run `python tests/conformance/run.py`, which starts this module; it is no part of the server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

sys.path.append(str(Path(__file__).parents[1] / "support"))

import alias
from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    Completion,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    RequestParams,
    SamplingCapability,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

alias.install()

from hardening import Context, HardeningSettings, errors, harden, tool

if TYPE_CHECKING:
    from hardening.server import HardenedServer

# One red pixel, and a silent wave file.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA=="
Words = Annotated[str, Field(max_length=1000, description="Words to pass on.")]
PAUSE_SECONDS = 0.06


def result(*content: ContentBlock) -> CallToolResult:
    """Return content as a tool's result."""
    return CallToolResult(content=[*content])


def text(words: str) -> TextContent:
    """Return words as content."""
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    """Return the image as content."""
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """Return a resource as content."""
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=words))


# --- Content --------------------------------------------------------------------------------------


@tool(read_only=True)
async def test_simple_text() -> CallToolResult:
    """Return a text as the suite expects it."""
    return result(text("This is a simple text response for testing."))


@tool(read_only=True)
async def test_image_content() -> CallToolResult:
    """Return an image of one pixel."""
    return result(image())


@tool(read_only=True)
async def test_audio_content() -> CallToolResult:
    """Return a sound that is silent."""
    return result(AudioContent(type="audio", data=WAV, mime_type="audio/wav"))


@tool(read_only=True)
async def test_embedded_resource() -> CallToolResult:
    """Return a resource inside a result."""
    return result(embedded("test://embedded-resource", "This is an embedded resource content."))


@tool(read_only=True)
async def test_multiple_content_types() -> CallToolResult:
    """Return a text, an image and a resource."""
    document = json.dumps({"test": "data", "value": 123})
    mixed = embedded("test://mixed-content-resource", document, "application/json")
    return result(text("Multiple content types test:"), image(), mixed)


@tool(read_only=True)
async def test_error_handling() -> CallToolResult:
    """Fail with words for the model."""
    raise errors.InvalidInput("This tool intentionally returns an error for testing")


@tool(read_only=True)
async def test_x_mcp_header(
    region: Annotated[str, Field(max_length=100, description="Where.", json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    """Return an argument that travels in a header too."""
    return result(text(region))


# --- Notifications --------------------------------------------------------------------------------


@tool(read_only=True, streams=True)
async def test_tool_with_progress(ctx: Context) -> CallToolResult:
    """Report progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await asyncio.sleep(PAUSE_SECONDS)
    return result(text("done"))


async def say(ctx: Context, words: str) -> None:
    """Send a log message to the client."""
    session = ctx.sdk.session
    await session.send_log_message("info", words, related_request_id=ctx.sdk.request_id)  # pyright: ignore[reportDeprecated]


@tool(read_only=True, streams=True)
async def test_tool_with_logging(ctx: Context) -> CallToolResult:
    """Send three log messages."""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await say(ctx, words)
        await asyncio.sleep(PAUSE_SECONDS)
    return result(text("done"))


@tool(read_only=True, streams=True)
async def test_logging_tool(ctx: Context) -> CallToolResult:
    """Send a log message to clients that want them."""
    await say(ctx, "working")
    return result(text("done"))


@tool(read_only=True)
async def test_trigger_tool_change(ctx: Context) -> CallToolResult:
    """Say that the tools have changed."""
    await ctx.sdk.notify_tools_changed()
    return result(text("done"))


@tool(read_only=True)
async def test_trigger_prompt_change(ctx: Context) -> CallToolResult:
    """Say that the prompts have changed."""
    await ctx.sdk.notify_prompts_changed()
    return result(text("done"))


# --- Requests to the client, in sessions ----------------------------------------------------------

PERSON = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
OPTIONS = ["option1", "option2", "option3"]
TITLED = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)]
CHOICES = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
}


async def elicited(ctx: Context, message: str, schema: dict[str, Any], words: str) -> CallToolResult:
    """Ask the client's user, and return what came back."""
    answer = await ctx.sdk.session.elicit_form(message, schema, ctx.sdk.request_id)
    return result(text(f"{words}: action={answer.action}, content={json.dumps(answer.content)}"))


@tool(read_only=True, streams=True)
async def test_elicitation(message: Words, ctx: Context) -> CallToolResult:
    """Ask for a name and an address."""
    return await elicited(ctx, message, PERSON, "User response")


@tool(read_only=True, streams=True)
async def test_elicitation_sep1034_defaults(ctx: Context) -> CallToolResult:
    """Ask with default values."""
    return await elicited(ctx, "Please review", DEFAULTS, "Elicitation completed")


@tool(read_only=True, streams=True)
async def test_elicitation_sep1330_enums(ctx: Context) -> CallToolResult:
    """Ask with every kind of choice."""
    return await elicited(ctx, "Please choose", CHOICES, "Elicitation completed")


@tool(read_only=True, streams=True)
async def test_sampling(prompt: Words, ctx: Context) -> CallToolResult:
    """Ask the client's model."""
    answer = await ctx.sdk.session.create_message(  # pyright: ignore[reportDeprecated]
        [SamplingMessage(role="user", content=text(prompt))], max_tokens=100, related_request_id=ctx.sdk.request_id
    )
    words = answer.content.text if isinstance(answer.content, TextContent) else ""
    return result(text(f"LLM response: {words}"))


# --- Requests to the client, in results (2026-07-28, Multi Round-Trip Requests) --------------------


def form(message: str, **properties: str) -> ElicitRequest:
    """Return a question with one field."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": [*properties],
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, max_tokens: int) -> CreateMessageRequest:
    """Return a question to the client's model."""
    message = SamplingMessage(role="user", content=text(prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def ask(state: str | None = None, **requests: InputRequest) -> InputRequiredResult:
    """Return questions in place of a result."""
    return InputRequiredResult(input_requests=requests, request_state=state)


def accepted(ctx: Context, name: str) -> dict[str, Any] | None:
    """Return what the user filled in, if it came."""
    answer = (ctx.sdk.input_responses or {}).get(name)
    return dict(answer.content or {}) if isinstance(answer, ElicitResult) and answer.action == "accept" else None


ASK_NAME = form("What is your name?", name="string")


@tool(read_only=True)
async def test_input_required_result_elicitation(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask for a name, then greet."""
    person = accepted(ctx, "user_name")
    if person is None or not isinstance(person.get("name"), str):
        return ask(user_name=ASK_NAME)
    return result(text(f"Hello, {person['name']}!"))


@tool(read_only=True)
async def test_input_required_result_sampling(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask a model, then repeat it."""
    answer = (ctx.sdk.input_responses or {}).get("capital_question")
    if not isinstance(answer, CreateMessageResult) or not isinstance(answer.content, TextContent):
        return ask(capital_question=sample("What is the capital of France?", 100))
    return result(text(answer.content.text))


@tool(read_only=True)
async def test_input_required_result_list_roots(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask for the client's roots, then name them."""
    answer = (ctx.sdk.input_responses or {}).get("client_roots")
    if not isinstance(answer, ListRootsResult):
        return ask(client_roots=ListRootsRequest(params=RequestParams()))
    return result(text(", ".join(str(root.uri) for root in answer.roots)))


@tool(read_only=True)
async def test_input_required_result_request_state(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask, and get the state back that went along."""
    if ctx.sdk.request_state != "first" or accepted(ctx, "confirm") is None:
        return ask("first", confirm=form("Please confirm", ok="boolean"))
    return result(text("state-ok"))


@tool(read_only=True)
async def test_input_required_result_tampered_state(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask with a state that nobody may change."""
    if ctx.sdk.request_state is None:
        return ask("sealed", confirm=form("Please confirm", ok="boolean"))
    return result(text("state-ok"))


@tool(read_only=True)
async def test_input_required_result_multiple_inputs(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask three things at once."""
    if {"user_name", "greeting", "client_roots"} - (ctx.sdk.input_responses or {}).keys():
        roots = ListRootsRequest(params=RequestParams())
        return ask("all", user_name=ASK_NAME, greeting=sample("Generate a greeting", 50), client_roots=roots)
    return result(text("done"))


@tool(read_only=True)
async def test_input_required_result_multi_round(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask one thing after the other."""
    if ctx.sdk.request_state == "round 1" and accepted(ctx, "step1") is not None:
        return ask("round 2", step2=form("Step 2: What is your favorite color?", color="string"))
    if ctx.sdk.request_state == "round 2" and accepted(ctx, "step2") is not None:
        return result(text("done"))
    return ask("round 1", step1=form("Step 1: What is your name?", name="string"))


@tool(read_only=True)
async def test_input_required_result_capabilities(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask only what the client can answer."""
    declared = ctx.sdk.client_capabilities
    requests: dict[str, InputRequest] = {}
    if declared and declared.elicitation is not None:
        requests["user_name"] = ASK_NAME
    if declared and declared.sampling is not None:
        requests["greeting"] = sample("Generate a greeting", 50)
    if not requests or requests.keys() <= (ctx.sdk.input_responses or {}).keys():
        return result(text("done"))
    return InputRequiredResult(input_requests=requests)


@tool(read_only=True)
async def test_missing_capability(ctx: Context) -> CallToolResult:
    """Need a client that can sample."""
    declared = ctx.sdk.client_capabilities
    if declared is None or declared.sampling is None:
        needed = ClientCapabilities(sampling=SamplingCapability())
        data = {"requiredCapabilities": needed.model_dump(by_alias=True, exclude_none=True)}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling", data)
    return result(text("done"))


@tool(read_only=True, streams=True)
async def test_streaming_elicitation(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask in a result that is streamed."""
    await ctx.report_progress(1, 2)
    return result(text("done")) if accepted(ctx, "user_name") else ask(user_name=ASK_NAME)


TOOLS = tuple(function for name, function in list(globals().items()) if name.startswith("test_"))


# --- Prompts and resources ------------------------------------------------------------------------


def add_prompts(server: HardenedServer) -> None:
    """Add the prompts, and completion of their arguments."""

    @server.prompt(name="test_simple_prompt")
    def simple() -> str:
        """Return a text."""
        return "This is a simple prompt for testing."

    @server.prompt(name="test_prompt_with_arguments")
    def with_arguments(arg1: str, arg2: str) -> str:
        """Return both arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(name="test_prompt_with_embedded_resource")
    def with_resource(resourceUri: str) -> list[ContentBlock]:  # noqa: N803 - the suite's name
        """Return a resource and what to do with it."""
        words = "Embedded resource content for testing."
        return [embedded(resourceUri, words), text("Please process the embedded resource above.")]

    @server.prompt(name="test_prompt_with_image")
    def with_image() -> list[ContentBlock]:
        """Return an image and what to do with it."""
        return [image(), text("Please analyze the image above.")]

    @server.prompt(name="test_input_required_result_prompt")
    def asking(ctx: SdkContext) -> str | InputRequiredResult:
        """Ask before anything is returned."""
        if "user_context" not in (ctx.input_responses or {}):
            return ask(user_context=form("What context should the prompt use?", context="string"))
        return "done"

    @server.completion()
    async def complete(*_: object) -> Completion:
        return Completion(values=["paris", "park", "party"], total=3, has_more=False)

    _ = (simple, with_arguments, with_resource, with_image, asking, complete)


def add_resources(server: HardenedServer) -> None:
    """Add the resources."""

    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """A text that clients subscribe to."""
        return "watched"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def data(id: str) -> str:  # noqa: A002 - the suite's name
        """A document for each id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    _ = (static_text, static_binary, watched, data)


def add_removed_methods(server: HardenedServer) -> None:
    """Serve what 2026-07-28 has removed and 2025-11-25 requires; the SDK leaves it to the low-level server."""

    async def done(*_: object) -> EmptyResult:
        return EmptyResult()

    protocol = server.open_protocol().app
    protocol.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    protocol.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    protocol.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return the fixtures behind this project's hardening."""
    server = harden(settings, tools=TOOLS, instructions="For the conformance suite.")
    add_prompts(server)
    add_resources(server)
    add_removed_methods(server)
    return server


if __name__ == "__main__":
    from hardening.lifecycle.startup import serve

    raise SystemExit(serve(HardeningSettings, build))
