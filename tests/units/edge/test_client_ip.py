"""A client cannot choose the address that it is counted by."""

from __future__ import annotations

import pytest
from live import live
from wire import Wire

from hardening.edge.client_ip import ClientIp, fold
from hardening.exchange import Exchange, open_exchange


def exchange(client: str, forwarded: str = "") -> Exchange:
    """Return a request from this address with this header."""
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers, "client": (client, 1)}
    return open_exchange(scope, None, None)  # type: ignore[arg-type] - neither is used


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "203.0.113.9", "10.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        (1, "", "10.0.0.1"),
        (2, "203.0.113.9", "10.0.0.1"),
        # What is no address counts as the proxy that wrote it.
        (1, "nonsense", "10.0.0.1"),
        (1, "unknown", "10.0.0.1"),
        (1, "_hidden", "10.0.0.1"),
        (1, "203.0.113.9:", "10.0.0.1"),
        (1, "203.0.113.9:99:1", "10.0.0.1"),
        (1, "203.0.113.009", "10.0.0.1"),
        (1, "[2001:db8::1", "10.0.0.1"),
        (1, "[203.0.113.9]:x", "10.0.0.1"),
        # As Azure, IIS and RFC 7239 write it.
        (1, "203.0.113.9:51007", "203.0.113.9"),
        (1, "203.0.113.9:80", "203.0.113.9"),
        (1, '"203.0.113.9:51007"', "203.0.113.9"),
        (1, "6.6.6.6, [2001:db8::9]:443", "2001:db8::/64"),
        (1, '"[2001:db8::9]:443"', "2001:db8::/64"),
        (1, '"[2001:db8::9]"', "2001:db8::/64"),
        (1, "[2001:db8::9]", "2001:db8::/64"),
        (1, "2001:db8::9", "2001:db8::/64"),
        (1, "2001:db8::9%eth0", "2001:db8::/64"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "[::ffff:203.0.113.9]:80", "203.0.113.9"),
        (1, "2001:DB8::9", "2001:db8::/64"),
        (1, "[2001:db8::9%25eth0]:443", "2001:db8::/64"),
        (1, "2001:db8::9:51007", "2001:db8::/64"),
        (1, "2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2::/64"),
        (1, "2001:db8::", "2001:db8::/64"),
        (1, "2001:db8::51007", "10.0.0.1"),
        (1, "1:2:3:4:5:6:7:8:9:443", "10.0.0.1"),
        (1, "2001:db8::9%" + "x" * 60_000, "2001:db8::/64"),
        # Empty entries are none (RFC 9110, 5.6.1).
        (1, "6.6.6.6 ,\t203.0.113.9 , ", "203.0.113.9"),
        # The entry beside it is the address of the proxy that wrote it.
        (2, "6.6.6.6, unknown, 10.0.0.7", "10.0.0.7"),
        (3, "6.6.6.6, _hidden, unknown, 10.0.0.7", "10.0.0.7"),
        (2, "6.6.6.6, unknown, nonsense", "10.0.0.1"),
    ],
)
async def test_takes_off_its_own_proxies_only(hops: int, forwarded: str, address: str) -> None:
    """Entries that no proxy of ours has written have no effect."""
    asked = exchange("10.0.0.1", forwarded)

    await ClientIp(hops)(asked)

    assert asked.address == address


async def test_without_a_proxy_of_yours_a_stated_address_counts_for_nothing() -> None:
    """Whoever writes another address into each request is refused as soon as anybody else."""
    with live(MCP_RATE_ADDRESS_BURST="3", MCP_RATE_ADDRESS_PER_MINUTE="3") as server:
        async with Wire(server.url) as stranger:
            stated = [{"x-forwarded-for": f"192.0.2.{number}"} for number in range(4)]
            replies = [await stranger.ask("modern", "tools/list", headers=headers) for headers in stated]

    assert [reply.status for reply in replies] == [401, 401, 401, 429]


def test_an_ipv6_network_is_one_caller() -> None:
    """Two addresses of one /64 count together, of two they do not."""
    assert fold("2001:db8::1") == fold("2001:db8::ffff:1")
    assert fold("2001:db8::1") != fold("2001:db8:0:1::1")


async def test_several_lines_are_one_list() -> None:
    """HAProxy adds a line of its own below the client's."""
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.9")]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers, "client": ("10.0.0.1", 1)}
    asked = open_exchange(scope, None, None)  # type: ignore[arg-type] - neither is used

    await ClientIp(1)(asked)

    assert asked.address == "203.0.113.9"


@pytest.mark.parametrize(
    "written",
    [
        *("192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]", "::FFFF:C000:201", "[::ffff:192.0.2.1]:51007"),
        # As translators write it, for servers that have IPv6 alone.
        *("64:ff9b::192.0.2.1", "64:ff9b::c000:201", "[64:FF9B::C000:201]:443", "::ffff:0:192.0.2.1"),
    ],
)
def test_one_address_is_counted_once_however_it_is_written(written: str) -> None:
    """IPv4 in IPv6 is IPv4."""
    assert fold(written) == "192.0.2.1"
