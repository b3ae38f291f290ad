"""The server's side of a STOMP session as a state machine (sans-I/O).

Rule 1: what is legal is data: a table of state and command, and one of the headers a command needs.
Rule 2: everything that changes a session's state is here: its version, its subscription ids, its end.
Rule 3: after CONNECT nothing more is given out until it is accepted; after DISCONNECT or an
error nothing at all.
Rule 4: STOMP's milliseconds become seconds here and nowhere else.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import (
    CLIENT_COMMANDS,
    Frame,
    Limits,
    Version,
    encode,
    expressible,
)

SUPPORTED: Final = ",".join(version.value for version in Version)
"""What an ERROR for want of a common version lists (STOMP 1.2, Protocol Negotiation)."""

_QUOTED: Final = 60
"""Characters of a peer's text that an ERROR repeats: a header may be 16 KiB, and clients have limits too."""

_HEART_BEAT: Final = re.compile(r"([0-9]{1,10}),([0-9]{1,10})\Z")
ACK_MODES: Final[Mapping[Version, frozenset[str]]] = MappingProxyType(
    {
        Version.V1_0: frozenset(("auto", "client")),
        Version.V1_1: frozenset(("auto", "client", "client-individual")),
        Version.V1_2: frozenset(("auto", "client", "client-individual")),
    }
)

Needs = Mapping[str, tuple[str, ...]]


def _needs(subscribe: str, unsubscribe: str, ack: str) -> Needs:
    """Headers that each command needs; those that differ by version are arguments."""
    return MappingProxyType(
        {
            "SEND": ("destination",),
            "SUBSCRIBE": tuple(subscribe.split()),
            "UNSUBSCRIBE": tuple(unsubscribe.split()),
            "ACK": tuple(ack.split()),
            "NACK": tuple(ack.split()),
            "BEGIN": ("transaction",),
            "COMMIT": ("transaction",),
            "ABORT": ("transaction",),
            "DISCONNECT": (),
        }
    )


_NEEDS: Final[Mapping[Version, Needs]] = MappingProxyType(
    {
        Version.V1_0: MappingProxyType(
            {name: needs for name, needs in _needs("destination", "", "message-id").items() if name != "NACK"}
        ),
        Version.V1_1: _needs("destination id", "id", "message-id subscription"),
        Version.V1_2: _needs("destination id", "id", "id"),
    }
)
"""A command that is not here does not exist in that version."""


class State(enum.Enum):
    """Where a session is."""

    AWAITING_CONNECT = enum.auto()
    CONNECTING = enum.auto()  # CONNECT is with the server's owner, who accepts or refuses
    CONNECTED = enum.auto()
    DISCONNECTING = enum.auto()  # a client's, between its DISCONNECT and the end
    CLOSED = enum.auto()


@attrs.frozen
class HeartBeat:
    """What one side can do and wants, or what was agreed; seconds, 0.0 for never."""

    send: float
    receive: float

    def header(self) -> str:
        """As the ``heart-beat`` header, in milliseconds."""
        return f"{round(self.send * 1000)},{round(self.receive * 1000)}"

    def agree(self, theirs: HeartBeat) -> HeartBeat:
        """What comes of our offer and theirs: the slower of what one can and the other wants.

        STOMP 1.2, Heart-beating: "if <cx> is 0 or <sy> is 0 then there will be none, otherwise
        there will be heart-beats every MAX(<cx>,<sy>) milliseconds".
        """
        return HeartBeat(
            max(self.send, theirs.receive) if self.send and theirs.receive else 0.0,
            max(self.receive, theirs.send) if self.receive and theirs.send else 0.0,
        )


def read_heart_beat(frame: Frame) -> HeartBeat:
    """The peer's ``heart-beat`` header; none is ``0,0``.

    Raises:
        RemoteProtocolError: it is not two non-negative integers.
    """
    text = frame.headers.get("heart-beat", "0,0")
    found = _HEART_BEAT.match(text)
    if found is None:
        raise RemoteProtocolError(
            f"heart-beat {_quoted(text)} is not two numbers of milliseconds (STOMP 1.2, Heart-beating)",
            frame=frame,
        )
    return HeartBeat(int(found[1]) / 1000, int(found[2]) / 1000)


def subscription_key(frame: Frame, version: Version) -> str:
    """What a SUBSCRIBE or UNSUBSCRIBE calls its subscription: the id.

    STOMP 1.0 lets a client leave it out and name the destination instead; such a key begins
    with a NUL, which no header can have, so it cannot be mistaken for an id.
    """
    key = frame.headers.get("id")
    if key is None and version is Version.V1_0:
        return "\0" + frame.headers.get("destination", "")
    return key or ""


class ServerProtocol:
    """What one client may send next, and what it is sent.

    Args:
        limits_before: of a frame before CONNECTED.
        limits: of a frame after it.
        max_subscriptions: how many a session may hold.
        max_transactions: how many of its transactions may be open.
        heart_beat: what we can do and want, in seconds.
        server_name: for CONNECTED's ``server`` header, as ``trio-stomp/0.1.0``.

    Attributes:
        state: where the session is.
        version: agreed on; 1.2 until CONNECT.
        heart_beat: agreed on, once CONNECT was given out.
        subscriptions: the session's, destination by `subscription_key`.
        transactions: names of those that are open.
    """

    __slots__ = (
        "_decoder",
        "_error",
        "_limits",
        "_max_subscriptions",
        "_max_transactions",
        "_needs",
        "_offer",
        "_server_name",
        "heart_beat",
        "state",
        "subscriptions",
        "transactions",
        "version",
    )

    def __init__(
        self,
        *,
        limits_before: Limits,
        limits: Limits,
        max_subscriptions: int = 1000,
        max_transactions: int = 16,
        heart_beat: HeartBeat = HeartBeat(10.0, 10.0),
        server_name: str = "trio-stomp",
    ) -> None:
        self._decoder = FrameDecoder(limits_before)
        self._limits = limits
        self._max_subscriptions = max_subscriptions
        self._max_transactions = max_transactions
        self._offer = heart_beat
        self._server_name = server_name
        self._error: RemoteProtocolError | None = None
        self._needs: Needs = {}
        self.state = State.AWAITING_CONNECT
        self.version = Version.V1_2
        self.heart_beat = HeartBeat(0.0, 0.0)
        self.subscriptions: dict[str, str] = {}
        self.transactions: set[str] = set()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be given out."""
        return self.state is State.CLOSED

    @property
    def is_within(self) -> bool:
        """Whether a frame has begun and not come to its end; to be asked when `next_frame` gave None."""
        return self._decoder.is_within

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes; `next_frame` makes frames of them. After the end they are not kept."""
        if self.state is not State.CLOSED:
            self._decoder.receive_data(data)

    def next_frame(self) -> Frame | None:
        """The next frame that is legal here; None when more bytes, or `accept`, are needed.

        Raises:
            RemoteProtocolError: the bytes are no frame, or the frame is not legal; from then on
                always.
        """
        if self.state is State.CONNECTED:
            try:
                frame = self._decoder.next_frame()
                if frame is not None:
                    self._check(frame)
            except RemoteProtocolError as error:
                self._fail(error)
                raise
            return frame
        if self._error is not None:
            raise self._error
        if self.state is not State.AWAITING_CONNECT:
            return None
        try:
            frame = self._decoder.next_frame()
            if frame is not None:
                self._negotiate(frame)
        except RemoteProtocolError as error:
            self._fail(error)
            raise
        return frame

    def accept(
        self, *, session: str, user_name: str | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The CONNECTED frame; frames that follow CONNECT are given out from now on.

        Raises:
            LocalProtocolError: there is no CONNECT to accept.
        """
        if self.state is not State.CONNECTING:
            raise LocalProtocolError(f"accept() in state {self.state.name}, expected CONNECTING")
        self.state = State.CONNECTED
        self._decoder.version = self.version
        self._decoder.limits = self._limits
        self._needs = _NEEDS[self.version]
        said = {"version": self.version.value, "session": session, "server": self._server_name}
        if self.version is Version.V1_0:
            del said["version"]  # 1.0 clients know of none
        else:
            said["heart-beat"] = self._offer.header()
        if user_name is not None:
            said["user-name"] = user_name
        said.update(headers or {})
        sayable = _sayable(said, Version.V1_0).items()
        # A CR is not escaped here, and a client that does not know the version yet takes it for a line's end.
        clean = {name: value.replace("\r", " ") for name, value in sayable if "\r" not in name}
        return encode(Frame("CONNECTED", clean), Version.V1_0)

    def receipt(self, receipt_id: str) -> bytes:
        """The RECEIPT frame that answers a ``receipt`` header."""
        return encode(Frame("RECEIPT", {"receipt-id": receipt_id}), self.version)

    def error(
        self,
        message: str,
        *,
        receipt_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> bytes:
        """An ERROR frame, well formed whatever it quotes; legal in every state, and the last one."""
        said = {"message": message, **(headers or {})}
        if receipt_id is not None:
            said["receipt-id"] = receipt_id
        if body:
            said["content-type"] = "text/plain;charset=utf-8"
        frame = Frame("ERROR", _sayable(said, self.version), body.encode("utf-8", "replace"))
        self.state = State.CLOSED
        return encode(frame, self.version)

    def _fail(self, error: RemoteProtocolError) -> None:
        self._error = error
        self.state = State.CLOSED

    def _negotiate(self, frame: Frame) -> None:
        """Settle version and heart-beat of a CONNECT."""
        if frame.command not in ("CONNECT", "STOMP"):
            text = (
                f"{frame.command} before CONNECT"
                if frame.command in CLIENT_COMMANDS
                else _only_servers(frame)
            )
            raise RemoteProtocolError(text, frame=frame)
        if "receipt" in frame.headers:
            # "Any client frame other than CONNECT MAY specify a receipt header": not to be answered.
            frame.headers.pop("receipt")
        offered = {text.strip() for text in frame.headers.get("accept-version", "1.0").split(",")}
        common = [version for version in Version if version.value in offered]
        if not common:
            raise RemoteProtocolError(
                f"no common version, supported are {SUPPORTED} (STOMP 1.2, Protocol Negotiation)",
                frame=frame,
                headers={"version": SUPPORTED},
            )
        self.version = common[-1]
        if frame.body:
            self._refuse_body(frame)
        if self.version is not Version.V1_0:  # which has no heart-beats: the header is one like any other
            self.heart_beat = self._offer.agree(read_heart_beat(frame))
        self.state = State.CONNECTING

    def _check(self, frame: Frame) -> None:
        """Raise unless the frame is legal in a connected session; note what it changes."""
        command, headers = frame.command, frame.headers
        needs = self._needs.get(command)
        if needs is None:
            raise RemoteProtocolError(self._why_not(frame), frame=frame)
        for name in needs:
            if name not in headers:
                raise RemoteProtocolError(
                    f"{command} has no {name!r} header (STOMP {self.version.value}, {command})", frame=frame
                )
        if command == "SEND":
            if "transaction" in headers:
                self._check_transaction(frame)
            return
        if frame.body:
            self._refuse_body(frame)
        match command:
            case "SUBSCRIBE":
                self._check_subscribe(frame)
            case "UNSUBSCRIBE":
                self._check_unsubscribe(frame)
            case "BEGIN":
                name = headers["transaction"]
                if name in self.transactions:
                    raise RemoteProtocolError(f"transaction {_quoted(name)} has begun already", frame=frame)
                if len(self.transactions) >= self._max_transactions:
                    raise RemoteProtocolError(
                        f"more than {self._max_transactions} open transactions",
                        frame=frame,
                        close_code=1008,
                        limit="stomp.transactions",
                    )
                self.transactions.add(name)
            case "COMMIT" | "ABORT":
                self._check_transaction(frame)
                self.transactions.remove(headers["transaction"])
            case "ACK" | "NACK":
                if "transaction" in headers:
                    self._check_transaction(frame)
            case "DISCONNECT":
                self.state = State.CLOSED

    def _refuse_body(self, frame: Frame) -> None:
        if self.version is not Version.V1_0:
            raise RemoteProtocolError(
                f"a {frame.command} frame has no body (STOMP {self.version.value}, Body)", frame=frame
            )
        frame.body = b""  # 1.0: "the body of the SUBSCRIBE command is ignored"

    def _why_not(self, frame: Frame) -> str:
        if frame.command in ("CONNECT", "STOMP"):
            return "a second CONNECT"
        if frame.command == "NACK":
            return "there is no NACK in STOMP 1.0"
        return _only_servers(frame)

    def _check_subscribe(self, frame: Frame) -> None:
        headers, version = frame.headers, self.version
        ack = headers.get("ack", "auto")
        if ack not in ACK_MODES[version]:
            expected = ", ".join(sorted(ACK_MODES[version]))
            raise RemoteProtocolError(f"ack {_quoted(ack)}, expected one of {expected}", frame=frame)
        key = subscription_key(frame, version)
        if key in self.subscriptions:
            shown = _quoted(key.removeprefix("\0"))
            raise RemoteProtocolError(
                f"subscription {shown} exists already (STOMP 1.2, SUBSCRIBE)", frame=frame
            )
        if len(self.subscriptions) >= self._max_subscriptions:
            raise RemoteProtocolError(
                f"more than {self._max_subscriptions} subscriptions",
                frame=frame,
                close_code=1008,
                limit="stomp.subscriptions",
            )
        self.subscriptions[key] = headers["destination"]

    def _check_unsubscribe(self, frame: Frame) -> None:
        if "id" not in frame.headers and "destination" not in frame.headers:
            raise RemoteProtocolError(
                "UNSUBSCRIBE has neither 'id' nor 'destination' (STOMP 1.0)", frame=frame
            )
        key = subscription_key(frame, self.version)
        if key not in self.subscriptions:
            shown = _quoted(key.removeprefix("\0"))
            raise RemoteProtocolError(f"there is no subscription {shown}", frame=frame)
        del self.subscriptions[key]

    def _check_transaction(self, frame: Frame) -> None:
        name = frame.headers["transaction"]
        if name not in self.transactions:
            raise RemoteProtocolError(f"there is no transaction {_quoted(name)}", frame=frame)


def _only_servers(frame: Frame) -> str:
    return f"{frame.command} is for servers to send"


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= _QUOTED else f"{text[:_QUOTED]!r}…"


def _sayable(headers: Mapping[str, str], version: Version) -> dict[str, str]:
    """Our own headers, whatever an application or a peer has put into them.

    JSON can hold half a surrogate pair, which UTF-8 cannot: it becomes a ``?``.
    """
    said = expressible(headers, version)
    return {name: value.encode("utf-8", "replace").decode() for name, value in said.items()}
