"""trio-stomp: a structured-concurrency STOMP server over WebSocket, on Trio.

Everything public is here or in `trio_stomp.testing`.
"""

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
from trio_stomp.version import __version__

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
