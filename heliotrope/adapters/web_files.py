"""Serves the few files of a page from memory, with tags so that nothing is sent twice."""

import hashlib
from pathlib import Path

from heliotrope.adapters.asgi import Reply, Request

_KINDS = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class WebFiles:
    """The files of one folder; what is not there when it is made is never served.

    Args:
        folder: read once, without what is below it; `/` is its index.html.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, tuple[bytes, bytes]] = {}
        for file in sorted(folder.glob("*")):
            kind = _KINDS.get(file.suffix)
            if kind is not None and file.is_file():
                self._files[f"/{file.name}"] = (kind, file.read_bytes())
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return path in self._files

    def reply(self, request: Request, path: str) -> Reply:
        """The file, or that it has not changed."""
        kind, body = self._files[path]
        headers = ((b"content-type", kind), (b"cache-control", b"no-cache"), *SECURITY)
        return self.tagged(request, body, headers)

    @staticmethod
    def tagged(request: Request, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> Reply:
        """A body, or 304 where the asker has it (RFC 9110, 13.1.2)."""
        tag = b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'
        known = request.headers.get(b"if-none-match", b"")
        headers = (*headers, (b"etag", tag))
        if tag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
            return Reply(304, headers=headers, raw=b"")
        return Reply(200, headers=headers, raw=body)
