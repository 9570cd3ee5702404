"""Several Valkey servers that belong together: a primary with a replica and sentinels, or a cluster. From the
wheel alone, in two or three seconds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis

from ..waiting import until
from .conftest import valkey_binary

SERVICE = "live"
PASSWORD = "pass,w@rd"
SLOTS = 16384

_used: set[int] = set()


class Server:
    """One process on a TCP port. `options` are those of its command line."""

    def __init__(self, directory: Path, *options: str, config: str | None = None) -> None:
        self.port, self.bus = free_ports(2)
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        self._options = options
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None

    def start(self) -> None:
        assert self._process is None
        command = [valkey_binary()]
        if self._config is not None:
            path = self.directory / "sentinel.conf"
            path.write_text(self._config)
            command += [str(path), "--sentinel"]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if self._config is None:
            command += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", *self._options]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._listens, "the server to listen", 10)

    def kill(self) -> None:
        """SIGKILL, also when it is frozen."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/stat")
        until(lambda: path.read_text().rpartition(")")[2].split()[0] == "T", "the server to stop")

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def admin(self) -> Any:
        """A client of redis-py's own, for the test's commands. It types hardly anything."""
        if self._admin is None:
            password = None if self._config is not None or "--requirepass" not in self._options else PASSWORD
            self._admin = redis.Redis(port=self.port, password=password, socket_timeout=5)
        return self._admin

    def stop(self) -> None:
        """Kill it and close what the test had open."""
        if self._admin is not None:
            self._admin.close()
        self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class SentinelGroup:
    """A primary with a password, a replica, three sentinels."""

    def __init__(self, directory: Path) -> None:
        secret = ("--requirepass", PASSWORD, "--primaryauth", PASSWORD)
        self.servers = [Server(directory, *secret), Server(directory, *secret)]
        config = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2\n"
            f'sentinel auth-pass {SERVICE} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        self.sentinels = [Server(directory, config=config) for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:pass%2Cw%40rd@{hosts}/{SERVICE}/0"

    def start(self) -> None:
        for server in self.servers:
            server.start()
        self.servers[1].admin.replicaof("127.0.0.1", self.servers[0].port)
        until(self.linked, "the replica to have everything")
        for sentinel in self.sentinels:
            sentinel.start()
        until(self._known, "the sentinels to know each other and the replica")

    def linked(self) -> bool:
        """Whether the replica has all of its primary."""
        return bool(self.replica.admin.info("replication")["master_link_status"] == "up")

    @property
    def primary(self) -> Server:
        """What the sentinels say."""
        _, port = self.sentinels[0].admin.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> Server:
        """The first server that calls itself one."""
        return next(server for server in self.servers if server.admin.role()[0] == b"slave")

    def _known(self) -> bool:
        states = [sentinel.admin.sentinel_master(SERVICE) for sentinel in self.sentinels]
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 for state in states)


class ClusterGroup:
    """Three primaries, with a replica each when `replicas`."""

    def __init__(self, directory: Path, *, replicas: bool) -> None:
        self.servers: list[Server] = []
        for _ in range(6 if replicas else 3):
            port_options: tuple[str, ...] = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            port_options = (*port_options, "--enable-debug-command", "yes")
            server = Server(directory, *port_options)
            server._options = (*port_options, "--cluster-port", str(server.bus))
            self.servers.append(server)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def start(self) -> None:
        for server in self.servers:
            server.start()
        first, *others = self.servers
        for number, server in enumerate(self.servers[:3]):
            server.admin.execute_command(
                "CLUSTER ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            )
            # Else the nodes would have to settle it among themselves.
            server.admin.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in others:
            first.admin.execute_command("CLUSTER MEET", "127.0.0.1", server.port, server.bus)
        until(
            lambda: (
                {int(self._info(each)["cluster_known_nodes"]) for each in self.servers} == {len(self.servers)}
            ),
            "the nodes to know each other",
        )
        for replica, primary in zip(self.servers[3:], self.servers[:3], strict=False):
            name = primary.admin.execute_command("CLUSTER MYID")
            # The two may not know that they are of one cluster yet.
            until(partial(_done, replica, "CLUSTER REPLICATE", name), "a replica to be taken")
        until(
            lambda: all(self._info(server)["cluster_state"] == "ok" for server in self.servers), "the cluster"
        )
        until(
            lambda: all(
                server.admin.info("replication")["master_link_status"] == "up" for server in self.servers[3:]
            ),
            "the replicas to have everything",
        )

    def owner(self, slot: int) -> Server:
        """The server that serves this slot, as the first that answers says."""
        for server in self.servers:
            try:
                ranges = server.admin.execute_command("CLUSTER SLOTS")
            except redis.RedisError:
                continue
            for first, last, primary, *_ in ranges:
                if first <= slot <= last:
                    return next(server for server in self.servers if server.port == primary[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def move(self, slot: int, to: Server) -> None:
        """Give a slot with all its keys to another primary."""
        source = self.owner(slot)
        names = {server.port: server.admin.execute_command("CLUSTER MYID") for server in (source, to)}
        to.admin.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source.port])
        source.admin.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[to.port])
        while found := source.admin.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            source.admin.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *found)
        for server in (to, source):
            server.admin.execute_command("CLUSTER SETSLOT", slot, "NODE", names[to.port])

    @staticmethod
    def _info(server: Server) -> dict[str, str]:
        info: dict[str, str] = server.admin.execute_command("CLUSTER INFO")
        return info


def _done(server: Server, *command: Any) -> bool:
    try:
        server.admin.execute_command(*command)
    except redis.ResponseError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that the system gives to nobody by itself."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            if port not in _used and probe.connect_ex(("127.0.0.1", port)) != 0:
                _used.add(port)
                found.append(port)
    return found


@contextmanager
def sentinel_group() -> Iterator[SentinelGroup]:
    """Running, stopped at the end."""
    with _directory() as directory:
        group = SentinelGroup(directory)
        try:
            group.start()
            yield group
        finally:
            for server in group.sentinels + group.servers:
                server.stop()


@contextmanager
def cluster_group(*, replicas: bool) -> Iterator[ClusterGroup]:
    """Running, stopped at the end."""
    with _directory() as directory:
        group = ClusterGroup(directory, replicas=replicas)
        try:
            group.start()
            yield group
        finally:
            for server in group.servers:
                server.stop()


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="rsg-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
