"""Acknowledgements and transactions: what belongs to one connection, and dies with it.

Rule 1: what names something that a connection knows, a message or a transaction, goes out on that connection
or not at all: it waits for no other.  Rule 2: LocalProtocolError says that nothing was sent; what was sent
and not answered is not known, and ConnectionLost says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import trio

from trio_stomp.client.connection import Connection
from trio_stomp.client.received import Arrival, Ledger, ReceivedMessage
from trio_stomp.client.supervisor import Supervisor, code_of
from trio_stomp.config import ClientConfig
from trio_stomp.errors import ConnectionLost, LocalProtocolError, ServerError, TrioStompError
from trio_stomp.messages.conversion import Converter


async def acknowledge(
    supervisor: Supervisor,
    connection: Connection,
    arrival: Arrival,
    *,
    is_taken: bool,
    transaction: Transaction | None = None,
    receipt: bool = False,
) -> None:
    """Send ACK, or NACK if it is not taken, as `Client.ack` and `Client.nack`.

    Args:
        connection: the only one on which it may go out.
    """
    if arrival.origin is not connection:
        raise _stale()
    with contextlib.ExitStack() as expecting:
        name = None if transaction is None else transaction.name
        said = {} if name is None else {"transaction": name}
        if receipt:
            said["receipt"] = expecting.enter_context(connection.expect_receipt())
        say = connection.protocol.ack if is_taken else connection.protocol.nack
        with arrival.ledger.settling(arrival, name):
            try:
                await connection.check()
                await connection.put(say(arrival.frame, headers=said))
            except TrioStompError as error:
                if connection.failure is None or not supervisor.comes_back:
                    raise
                raise _stale() from error
        if transaction is not None:
            transaction.holds(arrival)
        if receipt:
            await supervisor.confirm(connection, said["receipt"])


class Transaction:
    """What takes effect as a whole, or not at all; made by `Client.transaction`.

    Attributes:
        name: unique on its connection.
    """

    def __init__(
        self, name: str, connection: Connection, supervisor: Supervisor, converter: Converter
    ) -> None:
        self.name = name
        self._connection = connection
        self._supervisor = supervisor
        self._converter = converter
        self._ledgers: dict[str, Ledger] = {}  # of the subscriptions whose messages it acknowledges, by id

    async def send(
        self, destination: str, payload: object = b"", *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send one message with the transaction; the payload is as in `Client.send`.

        Raises:
            LocalProtocolError: the transaction has ended.
            ConnectionLost: the connection has, and with it the transaction.
            ServerError: the server refused, this or another frame.
        """
        body, all_headers = outgoing(self._converter, payload, headers)
        all_headers["transaction"] = self.name
        with self._bound():
            await self._connection.check()
            await self._connection.put(self._connection.protocol.send(destination, body, all_headers))

    async def ack(self, message: ReceivedMessage, *, receipt: bool = False) -> None:
        """Acknowledge a message with the transaction; as `Client.ack`, and raises as `send`."""
        await self._acknowledge(message, is_taken=True, receipt=receipt)

    async def nack(self, message: ReceivedMessage, *, receipt: bool = False) -> None:
        """Give a message back with the transaction; as `Client.nack`, and raises as `send`."""
        await self._acknowledge(message, is_taken=False, receipt=receipt)

    def holds(self, arrival: Arrival) -> None:
        """Note a message that it acknowledges; for `acknowledge`."""
        self._ledgers[arrival.frame.headers.get("subscription", "")] = arrival.ledger

    async def _acknowledge(self, message: ReceivedMessage, *, is_taken: bool, receipt: bool) -> None:
        with self._bound():
            await self._connection.check()
            await acknowledge(
                self._supervisor,
                self._connection,
                message.arrival,
                is_taken=is_taken,
                transaction=self,
                receipt=receipt,
            )

    async def _commit(self) -> None:
        connection = self._connection
        with contextlib.ExitStack() as expecting:
            with self._bound():
                await connection.check()
                self._check_subscriptions()
                receipt = expecting.enter_context(connection.expect_receipt())
                await connection.commit(self.name, receipt)
            for ledger in self._ledgers.values():
                ledger.commit(self.name)
            await self._supervisor.confirm(connection, receipt)

    async def _abort(self) -> None:
        for ledger in self._ledgers.values():
            ledger.abort(self.name)
        with contextlib.suppress(TrioStompError):  # COMMIT has gone out already, or the connection has ended
            await self._connection.abort(self.name)

    def _check_subscriptions(self) -> None:
        for key in self._ledgers.keys() - self._connection.protocol.subscriptions.keys():
            raise LocalProtocolError(
                f"transaction {self.name!r} acknowledges messages of subscription {key!r}, which has ended"
            )

    @contextlib.contextmanager
    def _bound(self) -> Iterator[None]:
        """What the end of the connection raises means the end of the transaction."""
        try:
            yield
        except TrioStompError as error:
            failure = self._connection.failure
            if failure is None:
                raise
            if isinstance(failure, ServerError):  # which may be about the transaction
                raise failure from None
            text = f"transaction {self.name!r} is lost with its connection, nothing of it was done: {failure}"
            raise ConnectionLost(text, code=code_of(failure)) from error


@contextlib.asynccontextmanager
async def open_transaction(
    name: str, supervisor: Supervisor, converter: Converter, config: ClientConfig
) -> AsyncIterator[Transaction]:
    """As `Client.transaction`, under this name, which has not been used."""

    async def begin(connection: Connection) -> None:
        await connection.begin(name)

    transaction = Transaction(name, await supervisor.put(begin, len(name)), supervisor, converter)
    try:
        yield transaction
        await transaction._commit()
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + config.close_timeout):
            await transaction._abort()
        raise


def outgoing(
    converter: Converter, payload: object, headers: Mapping[str, str] | None
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a SEND; a ``content-type`` in ``headers`` wins."""
    body, content_type = converter.encode(payload)
    return body, ({"content-type": content_type} if body else {}) | dict(headers or {})


def _stale() -> LocalProtocolError:
    return LocalProtocolError(
        "the message came on another connection than the one there is, where its id means nothing; "
        "what is not acknowledged when a connection ends, the server gives out again"
    )
