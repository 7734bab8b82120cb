"""A port for a server of this machine."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on now; another process may still take it before it is used."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
