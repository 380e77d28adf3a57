"""Ray nodes in network namespaces of this machine: each has an address, a host name and processes of its own.

The nodes see one another over a switch in a namespace of its own and nothing else; files are shared. A node is killed
with all of its processes by one signal, or cut off by taking its link down. Needs root, and `ip` of iproute2.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PORT = 6379
STARTS = 4  # tries: Ray gives a node half a minute, which a busy machine may need longer for
STARTED = "Ray runtime started"
# Its own name, and where all others are. The shell outlives Ray, as a machine does: the driver would end with it.
NODE = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && "$@"; echo ray has ended; exec sleep infinity'
ENDED = "ray has ended"
RAY = Path(sys.executable).parent / "ray"


@cache
def why_not() -> str:
    """Why there can be no such nodes here; empty where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if not all(shutil.which(tool) for tool in ("ip", "unshare", "nsenter")):
        return "needs ip (iproute2), unshare and nsenter (util-linux)"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    link = ["ip", "-n", name, "link", "add", "left", "type", "veth", "peer", "name", "right"]
    linked = subprocess.run(link, capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], check=True)
    return f"no veth link can be made: {linked.stderr.strip()}" if linked.returncode else ""


class Nodes:
    """A Ray cluster of some nodes, the first of them its head. Use as a context manager."""

    def __init__(self, cores: Sequence[int], environment: dict[str, str]) -> None:
        """cores: that each node claims."""
        self._cores = cores
        ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self._environment = {**os.environ, **environment, **ray}
        self._name = f"r{uuid.uuid4().hex[:6]}"
        self._folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))  # Ray's sockets want a short path
        self._processes: list[subprocess.Popen] = []
        self.address = f"{self.ip(0)}:{PORT}"

    def ip(self, index: int) -> str:
        """A node's address."""
        return f"10.77.0.{index + 1}"

    def host(self, index: int) -> str:
        """A node's host name."""
        return f"{self._name}n{index}"

    def __enter__(self) -> "Nodes":
        try:
            self._ip("netns", "add", self._name)
            self._ip("-n", self._name, "link", "add", "switch", "type", "bridge")
            self._ip("-n", self._name, "link", "set", "switch", "up")
            hosts = [f"{self.ip(index)} {self.host(index)}" for index in range(len(self._cores))]
            (self._folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
            for index in range(len(self._cores)):
                self.start(index)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for index in range(len(self._processes)):
            self.kill(index)
        for name in (self._name, *(self.host(index) for index in range(len(self._cores)))):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, index: int) -> None:
        """Make a node and wait until it runs."""
        host, ip = self.host(index), self.ip(index)
        self._ip("netns", "add", host)
        self._ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", self._name)
        self._ip("-n", self._name, "link", "set", host, "master", "switch", "up")
        self._ip("-n", host, "addr", "add", f"{ip}/24", "dev", "eth0")
        self._ip("-n", host, "link", "set", "eth0", "up")
        self._ip("-n", host, "link", "set", "lo", "up")
        role = ["--head", f"--port={PORT}"] if index == 0 else [f"--address={self.address}"]
        ray = [
            *(os.fspath(RAY), "start", "--block", *role, f"--node-ip-address={ip}"),
            *(f"--num-cpus={self._cores[index]}", f"--object-store-memory={100 * 2**20}"),
            *(("--include-dashboard=false", f"--temp-dir={self._folder / 't'}") if index == 0 else ()),
        ]
        # The first process of its own process namespace: when it is killed, all in there are.
        own = ["unshare", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]
        command = ["ip", "netns", "exec", host, *own, "sh", "-c", NODE, host, os.fspath(self._folder / "hosts"), *ray]
        said = ""
        for _ in range(STARTS):
            process, said = self._launch(command, self._folder / f"{index}.log")
            if STARTED in said:
                self._processes.append(process)
                return
            process.kill()
            process.wait()
        raise RuntimeError(f"Node {index} did not start: {said}")

    def _launch(self, command: Sequence[str], path: Path) -> tuple[subprocess.Popen, str]:
        """A process, and what it says until it runs or ends."""
        environment = {**self._environment, "RAY_TMPDIR": os.fspath(self._folder)}
        with path.open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        try:
            while process.poll() is None and not any(word in path.read_text() for word in (STARTED, ENDED)):
                time.sleep(0.2)
        except BaseException:  # Ctrl-C: nobody else knows of it yet
            process.kill()
            raise
        return process, path.read_text()

    def popen(self, index: int, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen:
        """Start a program on a node."""
        inside = ["nsenter", "--target", str(self.pid(index)), "--net", "--uts", "--pid", "--mount", *command]
        pipe = subprocess.PIPE
        everything = {**self._environment, "RAY_TMPDIR": os.fspath(self._folder), **environment}
        return subprocess.Popen(inside, env=everything, stdout=pipe, stderr=pipe, text=True)

    def pid(self, index: int) -> int:
        """The first process of a node, as seen from outside."""
        unshare = self._processes[index].pid
        return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0])

    def kill(self, index: int) -> None:
        """The node loses its power."""
        if self._processes[index].poll() is None:
            self._processes[index].send_signal(signal.SIGKILL)
            self._processes[index].wait()

    def cut_off(self, index: int) -> None:
        """The node's link goes down; its processes go on."""
        self._ip("-n", self.host(index), "link", "set", "eth0", "down")

    def kill_process(self, index: int, name: str) -> None:
        """One kind of process of a node is killed, such as raylet."""
        inside = ["nsenter", "--target", str(self.pid(index)), "--pid", "--mount"]
        subprocess.run([*inside, "pkill", "-KILL", "--exact", name], check=True)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
