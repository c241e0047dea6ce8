"""What the tools promise."""

from __future__ import annotations

from typing import Any

from weather_server.hardening import Principal

ACME = Principal("api_key", "alice", tenant="acme")
OTHER = Principal("api_key", "bob", tenant="other")


async def test_notes_stay_with_their_tenant(server: Any, call_tool: Any) -> None:
    """Another tenant sees none of them."""
    added = await call_tool(server, "add_note", {"body": "buy umbrellas"}, principal=ACME)
    mine = await call_tool(server, "list_notes", {}, principal=ACME)
    theirs = await call_tool(server, "list_notes", {}, principal=OTHER)

    number = added.structured_content["result"]
    assert mine.structured_content["result"] == [{"id": number, "body": "buy umbrellas"}]
    assert theirs.structured_content["result"] == []


async def test_the_nearest_article_is_first(server: Any, call_tool: Any) -> None:
    """All words are in both titles; the one that says nothing else is nearer."""
    articles = [{"title": "red umbrella, a stand and much more of all that"}, {"title": "red umbrella", "shelf": "A1"}]
    assert not (await call_tool(server, "import_articles", {"articles": articles})).is_error
    found = await call_tool(server, "search_articles", {"query": "red umbrella"})

    assert found.structured_content["result"][0] == {"title": "red umbrella", "shelf": "A1"}
    assert len(found.structured_content["result"]) == 2


async def test_an_order_is_reported(server: Any, call_tool: Any) -> None:
    """The report ends with its last page."""
    for _ in range(51):
        await server.background.idle()
        assert not (await call_tool(server, "place_order", {"item": "tea", "amount": 2}, principal=ACME)).is_error
    first = await call_tool(server, "sales_report", {}, principal=ACME)
    after = first.structured_content["next_after"]
    last = await call_tool(server, "sales_report", {"after": after}, principal=ACME)

    assert (len(first.structured_content["sales"]), first.structured_content["total"]) == (50, 102)
    assert (len(last.structured_content["sales"]), last.structured_content["next_after"]) == (1, None)
