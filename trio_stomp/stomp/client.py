"""The client's side of a STOMP session as a state machine (sans-I/O).

Rule 1: an illegal move of ours raises LocalProtocolError and changes nothing; one of the
server's raises RemoteProtocolError.
Rule 2: what we have agreed to or track (versions, heart-beat, ids, transactions) cannot be
contradicted by the headers of a call.
Rule 3: after an error, as after ERROR, nothing more is given out or sent.
Rule 4: what real brokers leave out is forgiven (CONNECTED without session, RabbitMQ's ERROR
without message); what would lose a message is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.stomp.protocol import ACK_MODES, SUPPORTED, HeartBeat, State, read_heart_beat

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
        transactions: names of those that are open.
    """

    def __init__(self, *, limits: Limits, heart_beat: HeartBeat = HeartBeat(10.0, 10.0)) -> None:  # noqa: B008
        self._decoder = FrameDecoder(limits)
        self._offer = heart_beat
        self._offered: frozenset[str] = frozenset()
        self._error: RemoteProtocolError | None = None
        self.state = State.AWAITING_CONNECT
        self.version = Version.V1_2
        self.heart_beat = HeartBeat(0.0, 0.0)
        self.session: str | None = None
        self.server: str | None = None
        self.subscriptions: dict[str, str] = {}
        self.transactions: set[str] = set()
        self._modes: dict[str, str] = {}

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be given out, and nothing can be sent."""
        return self.state is State.CLOSED

    # What we send.

    def connect(
        self,
        *,
        host: str,
        login: str | None = None,
        passcode: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """CONNECT; the first frame and only once.

        An ``accept-version`` in ``headers`` offers less than all versions.

        Raises:
            LocalProtocolError: it offers one that is not ours, or there is a ``heart-beat`` in ``headers``:
                that is the constructor's.
        """
        self._require(State.AWAITING_CONNECT, "CONNECT")
        said = {"accept-version": SUPPORTED, "host": host, "heart-beat": self._offer.header()}
        if login is not None:
            said["login"] = login
        if passcode is not None:
            said["passcode"] = passcode
        if headers is not None and headers.get("heart-beat", said["heart-beat"]) != said["heart-beat"]:
            raise LocalProtocolError(
                f"heart-beat {headers['heart-beat']!r} in the headers, expected {said['heart-beat']!r}"
            )
        said.update(headers or {})
        offered = frozenset(said["accept-version"].split(","))
        if not offered <= frozenset(SUPPORTED.split(",")):
            raise LocalProtocolError(
                f"accept-version {said['accept-version']!r}, expected some of {SUPPORTED}"
            )
        frame = encode(Frame("CONNECT", said), Version.V1_0)
        self._offered = offered
        self.state = State.CONNECTING
        return frame

    def send(self, destination: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """SEND; with a ``transaction`` header it must have begun."""
        self._require(State.CONNECTED, "SEND")
        self._check_transaction(headers)
        return self._encode("SEND", {"destination": destination}, headers, body)

    def subscribe(
        self, id: str, destination: str, *, ack: str = "auto", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """SUBSCRIBE; the id must not be in use. An ``ack`` in ``headers`` is as good as the argument."""
        self._require(State.CONNECTED, "SUBSCRIBE")
        if id in self.subscriptions:
            raise LocalProtocolError(f"subscription {id!r} exists already")
        said = {"ack": ack, **(headers or {})}
        if said["ack"] not in ACK_MODES[self.version]:
            expected = ", ".join(sorted(ACK_MODES[self.version]))
            raise LocalProtocolError(f"ack {said['ack']!r}, expected one of {expected}")
        frame = self._encode("SUBSCRIBE", {"id": id, "destination": destination}, said)
        self.subscriptions[id] = destination
        self._modes[id] = said["ack"]
        return frame

    def unsubscribe(self, id: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """UNSUBSCRIBE; the id must be in use. MESSAGEs that are on their way may still come."""
        self._require(State.CONNECTED, "UNSUBSCRIBE")
        if id not in self.subscriptions:
            raise LocalProtocolError(f"there is no subscription {id!r}")
        frame = self._encode("UNSUBSCRIBE", {"id": id}, headers)
        del self.subscriptions[id], self._modes[id]
        return frame

    def ack(self, message: Frame, *, headers: Mapping[str, str] | None = None) -> bytes:
        """ACK of a MESSAGE, by the headers that the version wants.

        Raises:
            LocalProtocolError: the message lacks them, its subscription has ended or acknowledges by itself.
        """
        return self._answer("ACK", message, headers)

    def nack(self, message: Frame, *, headers: Mapping[str, str] | None = None) -> bytes:
        """NACK of a MESSAGE; there is none in STOMP 1.0."""
        if self.version is Version.V1_0:
            raise LocalProtocolError("there is no NACK in STOMP 1.0")
        return self._answer("NACK", message, headers)

    def begin(self, transaction: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """BEGIN; the name must not be in use."""
        self._require(State.CONNECTED, "BEGIN")
        if transaction in self.transactions:
            raise LocalProtocolError(f"transaction {transaction!r} has begun already")
        frame = self._encode("BEGIN", {"transaction": transaction}, headers)
        self.transactions.add(transaction)
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
        """The connection is over: nothing can be sent any more, and nothing is given out."""
        self.state = State.CLOSED

    # What comes.

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes; `next_frame` makes frames of them. After the end they are not kept."""
        if self.state is not State.CLOSED:
            self._decoder.receive_data(data)

    def next_frame(self) -> Frame | None:
        """The server's next frame; None when more bytes are needed. After ERROR there is none.

        Raises:
            RemoteProtocolError: the bytes are no frame, or the frame is not legal here; from then on
                always.
        """
        if self._error is not None:
            raise self._error
        if self.state is State.CLOSED:
            return None
        try:
            frame = self._decoder.next_frame()
            if frame is not None:
                self._take(frame)
        except RemoteProtocolError as error:
            self._error = error
            self.state = State.CLOSED
            raise
        return frame

    def _take(self, frame: Frame) -> None:
        if frame.command == "ERROR":
            self.state = State.CLOSED
        elif self.state is State.CONNECTING:
            self._welcome(frame)
        else:
            self._check(frame)

    def _welcome(self, frame: Frame) -> None:
        if frame.command != "CONNECTED":
            raise RemoteProtocolError(f"{frame.command} before CONNECTED", frame=frame)
        named = frame.headers.get("version", "1.0")
        if named not in self._offered:
            offered = ",".join(sorted(self._offered))
            raise RemoteProtocolError(f"version {named[:40]!r}, offered were {offered}", frame=frame)
        self.version = Version(named)
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

    def _encode(
        self, command: str, own: Mapping[str, str], headers: Mapping[str, str] | None, body: bytes = b""
    ) -> bytes:
        said = {**own, **(headers or {})}
        for name, value in own.items():
            if said[name] != value:
                raise LocalProtocolError(f"{name} {said[name]!r} in the headers of a {command} for {value!r}")
        return encode(Frame(command, said, body), self.version)

    def _answer(self, command: str, message: Frame, headers: Mapping[str, str] | None) -> bytes:
        self._require(State.CONNECTED, command)
        self._check_transaction(headers)
        known = message.headers
        self._check_mode(command, known.get("subscription"))
        try:
            if self.version is Version.V1_2:
                own = {"id": known["ack"]}
            else:
                own = {"message-id": known["message-id"]}
                if "subscription" in known or self.version is Version.V1_1:
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
        self.transactions.remove(transaction)
        return frame

    def _check_mode(self, command: str, id: str | None) -> None:
        if id is None:  # which STOMP 1.0 may leave out, and whose absence 1.1 and 1.2 refuse on receipt
            return
        if id not in self.subscriptions:
            raise LocalProtocolError(f"{command} for subscription {id!r}, which there is not any more")
        if self._modes[id] == "auto":
            raise LocalProtocolError(
                f"{command} for subscription {id!r} to {self.subscriptions[id]!r}, which acknowledges by "
                "itself (ack 'auto'), expected 'client' or 'client-individual'"
            )

    def _check_transaction(self, headers: Mapping[str, str] | None) -> None:
        name = (headers or {}).get("transaction")
        if name is not None and name not in self.transactions:
            raise LocalProtocolError(f"there is no transaction {name!r}")
