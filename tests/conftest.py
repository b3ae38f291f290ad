"""How the tests are given to two workers (``make test``): those of tests/network/ to one of them, in turn.

They start servers, browsers and proxies, and load them: two at a time would disturb each other.
``HYPOTHESIS_PROFILE=long`` gives hypothesis twenty times its examples: some minutes.
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

hypothesis.settings.register_profile("long", max_examples=2000, deadline=None)
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    hypothesis.settings.load_profile(profile)


class NetworkInTurn(LoadScopeScheduling):  # type: ignore[misc]
    """File by file, but for one folder."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/network" if nodeid.startswith("tests/network/") else nodeid.split("::")[0]


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> NetworkInTurn:
    return NetworkInTurn(config, log)
