"""Runs the application of a collector or controller on uvicorn."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from heliotrope.errors import UsageError


def serve(
    app: Any,
    host: str,
    port: int,
    listening: Callable[[str], None],
    who: str = "collector",
) -> None:
    """Serve until SIGTERM or SIGINT; requests that were taken are answered first.

    Args:
        app: ASGI.
        host: address.
        port: 0 takes a free one.
        listening: told the URL once connections are accepted.
        who: listens, for the message where it cannot.

    Raises:
        UsageError: the address cannot be listened on.
    """
    import uvicorn

    try:
        listener = socket.create_server((host, port), backlog=1024, reuse_port=False)
    except OSError as error:
        raise UsageError(
            f"The {who} must have an address it can listen on. Got {host}:{port}: {error.strerror}."
        ) from error
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        server_header=False,
        proxy_headers=False,
    )
    # uvicorn raises the signal again once everything is answered; a stop that was asked for is
    # no failure.
    with listener, suppress(KeyboardInterrupt):
        listening(f"http://{host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])
