"""No request of a call reaches the inside, however it is spelt, led or resolved."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpcore2
import pytest
from live import ENVIRONMENT, settings_from

from hardening.outbound.addresses import GuardedBackend, is_outside
from hardening.settings.environment import InvalidSettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).with_name("in_a_namespace.py")
# Every address is this machine, so no packet leaves it, whatever the guard lets through.
SETUP = """
set -e
mount --bind "$1" /etc/resolv.conf
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
exec "$2" "$3"
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each attempt has come to, in a namespace of its own."""
    resolver = tmp_path_factory.mktemp("dns") / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    unshare = shutil.which("unshare")
    assert unshare is not None, "unshare (util-linux) is needed"
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        [unshare, *rights, "--net", "--mount", "sh", "-c", SETUP, "sh", str(resolver), sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_inside_is_never_reached(outcomes: Mapping[str, str]) -> None:
    """Loopback, private, link-local and special addresses by 45 spellings: refused, and nothing has arrived."""
    cases = {"outside", "redirect", "allowed name", "allowed network", "beside the allowed"}
    inside = {name: outcome for name, outcome in outcomes.items() if name not in cases}

    assert len(inside) == 45
    assert {name: outcome for name, outcome in inside.items() if not outcome.endswith(", 0 reached")} == {}
    refused = [name for name, outcome in inside.items() if outcome.startswith("permission_denied")]
    assert len(refused) >= 40


def test_the_outside_is_reached(outcomes: Mapping[str, str]) -> None:
    """A public address that the DNS gives is connected to."""
    assert outcomes["outside"] == "200, 1 reached"


def test_a_redirect_to_the_inside_is_refused(outcomes: Mapping[str, str]) -> None:
    """The first request arrives, the one it is sent on to does not."""
    assert outcomes["redirect"] == "permission_denied, 1 reached"


def test_the_operator_opens_names_and_networks(outcomes: Mapping[str, str]) -> None:
    """`MCP_HTTP_ALLOW` opens what it names, and nothing beside it."""
    assert outcomes["allowed name"] == "200, 1 reached"
    assert outcomes["allowed network"] == "200, 1 reached"
    assert outcomes["beside the allowed"] == "permission_denied, 0 reached"


@pytest.mark.parametrize(
    "text",
    [
        *("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"),
        # Beside an address that is not: no bit of it is lost.
        *("168.63.129.17", "64:ff9b::168.63.129.17"),
    ],
)
def test_public_addresses_are_outside(text: str) -> None:
    """The guard stands in the way of the inside alone."""
    assert is_outside(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.0.0.1", "100.64.0.1", "168.63.129.16", "192.0.0.192", "192.88.99.1", "224.0.0.1"),
        *("::1", "fd00::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "4000::1", "::7f00:1"),
        *("192.0.0.9", "2001:4:112::1", "2001:20::1", "64:ff9b::192.168.1.1"),
        *("::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::"),
    ],
)
def test_special_addresses_are_inside(text: str) -> None:
    """Neither IPv4 within IPv6 nor an IPv6 address that is not of the public Internet is outside."""
    assert not is_outside(ipaddress.ip_address(text))


async def test_a_name_that_cannot_be_resolved_in_time_is_a_timeout() -> None:
    """No connection is what comes of it, said in the words of the library: a GET is safe to repeat after it."""
    with pytest.raises(httpcore2.ConnectTimeout):
        await GuardedBackend(["127.0.0.1"]).connect_tcp("127.0.0.1", 9, timeout=0)


@pytest.mark.parametrize(
    "entry", ["http://a.internal", "10.0.0.1/8", "a b", "300.1.1.1", "*.internal", "bücher.internal"]
)
def test_what_opens_nothing_is_refused_at_start(entry: str) -> None:
    """An entry that is neither name nor network ends the start."""
    with pytest.raises(InvalidSettingsError) as raised:
        settings_from(ENVIRONMENT | {"MCP_HTTP_ALLOW": entry})

    assert raised.value.problems == ["MCP_HTTP_ALLOW: write names and networks, e.g. billing.internal,10.20.0.0/16"]
