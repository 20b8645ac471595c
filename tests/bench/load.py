"""A load: prepared HTTP requests over connections that stay open, and how long each answer took."""

import asyncio
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop
from tests.client import Call


@dataclass(frozen=True, slots=True)
class Measured:
    """`rate`: answers a second. `p50`, `p99`: milliseconds."""

    rate: float
    p50: float
    p99: float


def as_bytes(call: Call) -> bytes:
    head = [f"{call.method} {call.path} HTTP/1.1", *(f"{name}: {value}" for name, value in call.headers.items())]
    return "\r\n".join([*head, f"content-length: {len(call.body)}", "", ""]).encode() + call.body


def drive(port: int, requests: Sequence[bytes], connections: int, trust: ssl.SSLContext | None = None) -> Measured:
    """Send all requests to a loopback port, one after the other on each connection. An answer but 2xx is an error.

    `trust`: speak TLS, to a server that it takes.
    """
    return uvloop.run(_drive(port, requests, connections, trust))


async def _drive(port: int, requests: Sequence[bytes], connections: int, trust: ssl.SSLContext | None) -> Measured:
    waiting, took = iter(requests), list[float]()
    streams = [await asyncio.open_connection("127.0.0.1", port, ssl=trust) for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*(_worker(reader, writer, waiting, took) for reader, writer in streams))
    elapsed = time.perf_counter() - began
    for _, writer in streams:
        writer.close()
    took.sort()
    return Measured(len(took) / elapsed, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000)


async def _worker(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: Iterator[bytes], took: list[float]
) -> None:
    for request in waiting:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
        body = await reader.readexactly(length)
        took.append(time.perf_counter() - began)
        if head[9:10] != b"2":
            raise AssertionError(f"{head.decode()}{body.decode()}")
