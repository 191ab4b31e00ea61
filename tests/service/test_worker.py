"""What a worker does with its listening socket."""

import asyncio
import socket

import uvloop

from service.worker import AT_A_TIME, taken_together


def turns_to_take(num_clients: int, *, together: bool) -> int:
    """Turns of the event loop until all clients that wait are connected."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        taken: list[asyncio.BaseTransport] = []

        class Taking(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.append(transport)

        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(num_clients)
            clients = [socket.create_connection(listening.getsockname()) for _ in range(num_clients)]
            sockets = taken_together(listening) if together else [listening]
            servers = [await loop.create_server(Taking, sock=each) for each in sockets]
            turns = 0
            while len(taken) < num_clients:
                await asyncio.sleep(0)
                turns += 1
            for server in servers:
                server.close()
            for client, transport in zip(clients, taken, strict=True):
                client.close()
                transport.close()
        await asyncio.sleep(0.01)
        return turns

    return uvloop.run(run())


def test_many_new_clients_are_taken_in_few_turns() -> None:
    num_clients = 64
    assert turns_to_take(num_clients, together=True) < num_clients / AT_A_TIME * 2 + 10
    assert turns_to_take(num_clients, together=False) >= num_clients, "what it is for"
