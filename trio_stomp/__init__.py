"""trio-stomp: a structured-concurrency STOMP server over WebSocket, on Trio.

Everything public is here or in `trio_stomp.testing`.

Rule: importing the package loads none of its parts; a module is loaded when a name of it is first asked for
(PEP 562), so that a client pays for no server and a server for no client (bench/import_time.py).
A public name stands three times: for type checkers, in `_HOMES`, in `__all__`; tests/test_supply.py compares.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from trio_stomp.version import __version__

if TYPE_CHECKING:
    from trio_stomp.app.application import StompApp
    from trio_stomp.app.handlers import Header
    from trio_stomp.app.router import Router
    from trio_stomp.app.session import ConnectRequest, Session
    from trio_stomp.channels.pools import Pool, PoolStatistics
    from trio_stomp.client.client import Client, Subscription, open_client
    from trio_stomp.client.events import (
        ClientEvent,
        ClientEvents,
        Connected,
        Disconnected,
        Draining,
        GaveUp,
        Retrying,
    )
    from trio_stomp.client.received import ReceivedMessage
    from trio_stomp.client.reconnect import Reconnect
    from trio_stomp.client.transaction import Transaction
    from trio_stomp.config import (
        AcceptConfig,
        BrokerConfig,
        ClientConfig,
        DrainConfig,
        HttpConfig,
        OutboxConfig,
        PoolConfig,
        ProxyConfig,
        ServerConfig,
        StatisticsConfig,
        StompConfig,
        WebSocketConfig,
    )
    from trio_stomp.errors import (
        AccessDenied,
        ConfigError,
        ConnectionLost,
        ConnectRefused,
        ConversionError,
        DestinationError,
        HandlerSignatureError,
        HandlerTimeout,
        HandshakeRefused,
        LocalProtocolError,
        OverloadedError,
        ProtocolError,
        ReceiptTimeout,
        RemoteProtocolError,
        ServerError,
        TrioStompError,
    )
    from trio_stomp.histogram import HistogramStatistics
    from trio_stomp.messages.conversion import Converter
    from trio_stomp.messages.message import Message, User
    from trio_stomp.server.lifecycle import State
    from trio_stomp.server.serve import Server, open_server, serve
    from trio_stomp.server.statistics import ProcessStatistics, ServerStatistics
    from trio_stomp.settings import load_config
    from trio_stomp.stomp.frames import Version

__all__ = [
    "AcceptConfig",
    "AccessDenied",
    "BrokerConfig",
    "Client",
    "ClientConfig",
    "ClientEvent",
    "ClientEvents",
    "ConfigError",
    "ConnectRefused",
    "ConnectRequest",
    "Connected",
    "ConnectionLost",
    "ConversionError",
    "Converter",
    "DestinationError",
    "Disconnected",
    "DrainConfig",
    "Draining",
    "GaveUp",
    "HandlerSignatureError",
    "HandlerTimeout",
    "HandshakeRefused",
    "Header",
    "HistogramStatistics",
    "HttpConfig",
    "LocalProtocolError",
    "Message",
    "OutboxConfig",
    "OverloadedError",
    "Pool",
    "PoolConfig",
    "PoolStatistics",
    "ProcessStatistics",
    "ProtocolError",
    "ProxyConfig",
    "ReceiptTimeout",
    "ReceivedMessage",
    "Reconnect",
    "RemoteProtocolError",
    "Retrying",
    "Router",
    "Server",
    "ServerConfig",
    "ServerError",
    "ServerStatistics",
    "Session",
    "State",
    "StatisticsConfig",
    "StompApp",
    "StompConfig",
    "Subscription",
    "Transaction",
    "TrioStompError",
    "User",
    "Version",
    "WebSocketConfig",
    "__version__",
    "load_config",
    "open_client",
    "open_server",
    "serve",
]

_HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "app.application": ("StompApp",),
    "app.handlers": ("Header",),
    "app.router": ("Router",),
    "app.session": ("ConnectRequest", "Session"),
    "channels.pools": ("Pool", "PoolStatistics"),
    "client.client": ("Client", "Subscription", "open_client"),
    "client.events": (
        "ClientEvent",
        "ClientEvents",
        "Connected",
        "Disconnected",
        "Draining",
        "GaveUp",
        "Retrying",
    ),
    "client.received": ("ReceivedMessage",),
    "client.reconnect": ("Reconnect",),
    "client.transaction": ("Transaction",),
    "config": (
        "AcceptConfig",
        "BrokerConfig",
        "ClientConfig",
        "DrainConfig",
        "HttpConfig",
        "OutboxConfig",
        "PoolConfig",
        "ProxyConfig",
        "ServerConfig",
        "StatisticsConfig",
        "StompConfig",
        "WebSocketConfig",
    ),
    "errors": (
        "AccessDenied",
        "ConfigError",
        "ConnectionLost",
        "ConnectRefused",
        "ConversionError",
        "DestinationError",
        "HandlerSignatureError",
        "HandlerTimeout",
        "HandshakeRefused",
        "LocalProtocolError",
        "OverloadedError",
        "ProtocolError",
        "ReceiptTimeout",
        "RemoteProtocolError",
        "ServerError",
        "TrioStompError",
    ),
    "histogram": ("HistogramStatistics",),
    "messages.conversion": ("Converter",),
    "messages.message": ("Message", "User"),
    "server.lifecycle": ("State",),
    "server.serve": ("Server", "open_server", "serve"),
    "server.statistics": ("ProcessStatistics", "ServerStatistics"),
    "settings": ("load_config",),
    "stomp.frames": ("Version",),
}
"""Module, less the package's name, and the public names that it has."""


def __getattr__(name: str) -> Any:
    """Load the module that has a public name, once: from then on the name is the package's own."""
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
