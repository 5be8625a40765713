"""A PostgreSQL server of the tests' own, from the machine's programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Server:
    """A running server; `database()` makes an empty one and returns its URL."""

    def __init__(self, port: int) -> None:
        self.port = port

    def database(self) -> str:
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


@contextmanager
def serving() -> Iterator[Server]:
    """Start a server in a temporary folder; stop it and remove the folder in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    programs, cluster = FOUND[-1].parent, folder / "data"
    owner = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if owner:
        shutil.chown(folder, owner)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"

    def call(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", cluster, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=owner, group=owner, cwd=folder)

    try:
        call("initdb", "--no-sync", "-A", "trust", "-U", "postgres")
        call("pg_ctl", "-l", str(folder / "log"), "-w", "-o", options, "start")
        yield Server(port)
        call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
