"""A PostgreSQL server for tests: its own data, its own port, and it is stopped and started as they like."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from ports import free_port
from required_tools import required_tool

USER = "iscl"
_PATIENCE_SECONDS = 60
_ACCOUNT = "postgres"
"""Of Debian's package; PostgreSQL refuses to run as root."""


class PostgresqlServer:
    """Started when it is made; its databases are made by whoever connects.

    The data lie outside pytest's folder, which the server's account may not enter when the tests run as root.
    """

    def __init__(self) -> None:
        folders = [str(each) for each in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
        self._postgres, initdb = required_tool("postgres", folders), required_tool("initdb", folders)
        self._folder = Path(tempfile.mkdtemp(prefix="iscl-postgresql-"))
        self._account = _ACCOUNT if os.geteuid() == 0 else None
        if self._account is not None:
            shutil.chown(self._folder, self._account)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run([initdb, "--pgdata", "data", "--username", USER, "--auth", "trust", "--no-sync"]).wait(
            _PATIENCE_SECONDS
        )
        self.start()

    def url(self, database: str) -> str:
        """Of one of its databases, as the settings have it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, with recovery if it was not shut down, and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self._options().items()]
        self._process = self._run([self._postgres, "-D", "data", *options])
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _options(self) -> dict[str, str]:
        sockets = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        # What a process wrote outlives it without fsync, and only a machine could lose it.
        return {**sockets, "fsync": "off", "max_connections": "60"}

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it in the middle of whatever it does ("immediate"): connections are cut, nothing is finished."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_PATIENCE_SECONDS)
            self._process = None

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                user=self._account,
                group=self._account,
                extra_groups=[] if self._account else None,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )
