"""The client's side of a STOMP session as a state machine (sans-I/O).

Rule 1: an illegal move of ours raises LocalProtocolError and changes nothing; one of the
server's raises RemoteProtocolError.
Rule 2: what real brokers leave out is forgiven (CONNECTED without session, RabbitMQ's ERROR
without message); what would lose a message is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.frames import Frame, FrameDecoder, Limits, Version, encode
from trio_stomp.stomp.protocol import SUPPORTED, HeartBeat, State, read_heart_beat

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"MESSAGE": ("destination", "message-id"), "RECEIPT": ("receipt-id",), "ERROR": ()}
)
"""Headers without which a server's frame means nothing."""


class ClientProtocol:
    """What we may send next, and what the server may.

    Args:
        limits: of a server's frame.
        heart_beat: what we can do and want, in seconds.

    Attributes:
        state: where the session is.
        version: agreed on; 1.2 until CONNECTED.
        heart_beat: agreed on, once CONNECTED was given out.
        session, server: what CONNECTED said, if it did.
        subscriptions: destination by id.
    """

    def __init__(self, *, limits: Limits, heart_beat: HeartBeat = HeartBeat(10.0, 10.0)) -> None:  # noqa: B008
        self._decoder = FrameDecoder(limits)
        self._offer = heart_beat
        self._transactions: set[str] = set()
        self.state = State.AWAITING_CONNECT
        self.version = Version.V1_2
        self.heart_beat = HeartBeat(0.0, 0.0)
        self.session: str | None = None
        self.server: str | None = None
        self.subscriptions: dict[str, str] = {}

    # What we send.

    def connect(
        self,
        *,
        host: str,
        login: str | None = None,
        passcode: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """CONNECT; the first frame and only once."""
        self._require(State.AWAITING_CONNECT, "CONNECT")
        said = {"accept-version": SUPPORTED, "host": host, "heart-beat": self._offer.header()}
        if login is not None:
            said["login"] = login
        if passcode is not None:
            said["passcode"] = passcode
        said.update(headers or {})
        frame = encode(Frame("CONNECT", said), Version.V1_0)
        self.state = State.CONNECTING
        return frame

    def send(self, destination: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """SEND; with a ``transaction`` header it must have begun."""
        self._require(State.CONNECTED, "SEND")
        self._check_transaction(headers)
        return encode(Frame("SEND", {"destination": destination, **(headers or {})}, body), self.version)

    def subscribe(
        self, id: str, destination: str, *, ack: str = "auto", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """SUBSCRIBE; the id must not be in use."""
        self._require(State.CONNECTED, "SUBSCRIBE")
        if id in self.subscriptions:
            raise LocalProtocolError(f"subscription {id!r} exists already")
        frame = self._encode("SUBSCRIBE", {"id": id, "destination": destination, "ack": ack}, headers)
        self.subscriptions[id] = destination
        return frame

    def unsubscribe(self, id: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """UNSUBSCRIBE; the id must be in use."""
        self._require(State.CONNECTED, "UNSUBSCRIBE")
        if id not in self.subscriptions:
            raise LocalProtocolError(f"there is no subscription {id!r}")
        frame = self._encode("UNSUBSCRIBE", {"id": id}, headers)
        del self.subscriptions[id]
        return frame

    def ack(self, message: Frame, *, headers: Mapping[str, str] | None = None) -> bytes:
        """ACK of a MESSAGE, by the headers that the version wants."""
        return self._answer("ACK", message, headers)

    def nack(self, message: Frame, *, headers: Mapping[str, str] | None = None) -> bytes:
        """NACK of a MESSAGE; there is none in STOMP 1.0."""
        if self.version is Version.V1_0:
            raise LocalProtocolError("there is no NACK in STOMP 1.0")
        return self._answer("NACK", message, headers)

    def begin(self, transaction: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """BEGIN; the name must not be in use."""
        self._require(State.CONNECTED, "BEGIN")
        if transaction in self._transactions:
            raise LocalProtocolError(f"transaction {transaction!r} has begun already")
        frame = self._encode("BEGIN", {"transaction": transaction}, headers)
        self._transactions.add(transaction)
        return frame

    def commit(self, transaction: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """COMMIT of a transaction that has begun."""
        return self._end_transaction("COMMIT", transaction, headers)

    def abort(self, transaction: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """ABORT of a transaction that has begun."""
        return self._end_transaction("ABORT", transaction, headers)

    def disconnect(self, receipt: str | None = None) -> bytes:
        """DISCONNECT; nothing can be sent after it."""
        self._require(State.CONNECTED, "DISCONNECT")
        frame = self._encode("DISCONNECT", {} if receipt is None else {"receipt": receipt}, None)
        self.state = State.DISCONNECTING
        return frame

    def close(self) -> None:
        """The connection is over: nothing can be sent any more."""
        self.state = State.CLOSED

    # What comes.

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes; `next_frame` makes frames of them."""
        self._decoder.receive_data(data)

    def next_frame(self) -> Frame | None:
        """The server's next frame; None when more bytes are needed. After ERROR there is none.

        Raises:
            RemoteProtocolError: the bytes are no frame, or the frame is not legal here.
        """
        if self.state is State.CLOSED:
            return None
        frame = self._decoder.next_frame()
        if frame is None:
            return None
        if frame.command == "ERROR":
            self.state = State.CLOSED
        elif self.state is State.CONNECTING:
            self._welcome(frame)
        else:
            self._check(frame)
        return frame

    def _welcome(self, frame: Frame) -> None:
        if frame.command != "CONNECTED":
            raise RemoteProtocolError(f"{frame.command} before CONNECTED", frame=frame)
        named = frame.headers.get("version", "1.0")
        try:
            self.version = Version(named)
        except ValueError:
            raise RemoteProtocolError(f"version {named!r}, offered were {SUPPORTED}", frame=frame) from None
        self._decoder.version = self.version
        if self.version is not Version.V1_0:
            self.heart_beat = self._offer.agree(read_heart_beat(frame))
        self.session = frame.headers.get("session")
        self.server = frame.headers.get("server")
        self.state = State.CONNECTED

    def _check(self, frame: Frame) -> None:
        if self.state is State.AWAITING_CONNECT:
            raise RemoteProtocolError(f"{frame.command} before CONNECT", frame=frame)
        needs = _NEEDS.get(frame.command)
        if needs is None:
            text = (
                "a second CONNECTED"
                if frame.command == "CONNECTED"
                else f"{frame.command} is for clients to send"
            )
            raise RemoteProtocolError(text, frame=frame)
        if frame.command == "MESSAGE" and self.version is not Version.V1_0:
            needs = (*needs, "subscription")
        for name in needs:
            if name not in frame.headers:
                raise RemoteProtocolError(f"{frame.command} has no {name!r} header", frame=frame)

    # Helpers of what we send.

    def _require(self, state: State, command: str) -> None:
        if self.state is not state:
            raise LocalProtocolError(f"{command} in state {self.state.name}, expected {state.name}")

    def _encode(self, command: str, own: Mapping[str, str], headers: Mapping[str, str] | None) -> bytes:
        return encode(Frame(command, {**own, **(headers or {})}), self.version)

    def _answer(self, command: str, message: Frame, headers: Mapping[str, str] | None) -> bytes:
        self._require(State.CONNECTED, command)
        self._check_transaction(headers)
        known = message.headers
        try:
            if self.version is Version.V1_2:
                own = {"id": known["ack"]}
            else:
                own = {"message-id": known["message-id"]}
                if "subscription" in known:
                    own["subscription"] = known["subscription"]
        except KeyError as error:
            raise LocalProtocolError(
                f"the message cannot be acknowledged: it has no {error} header"
            ) from None
        return self._encode(command, own, headers)

    def _end_transaction(self, command: str, transaction: str, headers: Mapping[str, str] | None) -> bytes:
        self._require(State.CONNECTED, command)
        self._check_transaction({"transaction": transaction})
        frame = self._encode(command, {"transaction": transaction}, headers)
        self._transactions.remove(transaction)
        return frame

    def _check_transaction(self, headers: Mapping[str, str] | None) -> None:
        name = (headers or {}).get("transaction")
        if name is not None and name not in self._transactions:
            raise LocalProtocolError(f"there is no transaction {name!r}")
