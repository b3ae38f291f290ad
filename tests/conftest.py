"""How the tests are given to two workers (``make test``): those of tests/network/ to one of them, in turn.

They start servers, browsers and proxies, and load them: two at a time would disturb each other.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class NetworkInTurn(LoadScopeScheduling):  # type: ignore[misc]
    """File by file, but for one folder."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/network" if nodeid.startswith("tests/network/") else nodeid.split("::")[0]


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> NetworkInTurn:
    return NetworkInTurn(config, log)
