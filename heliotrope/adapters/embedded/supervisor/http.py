"""Just enough of HTTP to ask a child of this machine how it is, without a thread."""

import asyncio
from urllib.parse import urlsplit

_LARGEST = 64 << 20


async def ask(url: str, seconds: float = 5.0, method: str = "GET") -> tuple[int, bytes] | None:
    """Status and body; None where nothing answers within the time."""
    try:
        return await asyncio.wait_for(_ask(url, method), seconds)
    except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
        return None


async def _ask(url: str, method: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LARGEST)
    try:
        # HTTP/1.1, as Envoy refuses 1.0.
        head = f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        writer.write(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        line, _, headers = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        words = line.split()
        if len(words) < 2:
            raise ValueError("no HTTP answer")
        body = await reader.read()
        chunked = b"transfer-encoding: chunked" in headers.lower()
        return int(words[1]), _joined(body) if chunked else body
    finally:
        writer.close()


def _joined(body: bytes) -> bytes:
    """The chunks of a chunked body (RFC 9112, section 7.1)."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + size + 4
