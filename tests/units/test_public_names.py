"""The names that an author builds on are a promise."""

from __future__ import annotations

import hardening
import hardening.settings


def test_the_seam_is_these_names() -> None:
    """A name taken away or added here is a major release."""
    assert hardening.__all__ == [
        "Context",
        "HardenedServer",
        "HardeningSettings",
        "Principal",
        "connection",
        "errors",
        "harden",
        "log",
        "tool",
    ]


def test_the_types_of_settings_are_these_names() -> None:
    """What an author's class of settings is made of."""
    assert hardening.settings.__all__ == ["DatabaseUrl", "HardeningSettings", "Names", "Pairs", "RedisUrl", "SecretUrl"]
    for name in hardening.settings.__all__:
        assert hasattr(hardening.settings, name)


def test_every_name_is_there() -> None:
    """What the seam lists can be imported, and is no module by accident."""
    for name in hardening.__all__:
        assert hasattr(hardening, name)

    assert callable(hardening.tool)
    assert callable(hardening.harden)
