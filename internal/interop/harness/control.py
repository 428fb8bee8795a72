"""Lets a scenario stop, end and start servers: lines like "kill prosody.example" over a socket, each answered."""

import socketserver
import threading
from pathlib import Path

from harness.servers import Server


class Control:
    """All commands run in one thread that lives as long as the world: the kernel ends a server with the thread that started it."""

    def __init__(self, path: Path, servers: dict[str, Server], succeed):
        self.path, self._servers, self._succeed = path, servers, succeed
        control = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(control._obey(line.decode()).encode() + b"\n")

        # One connection at a time.
        self._listener = socketserver.UnixStreamServer(str(path), Handler)
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def _obey(self, line: str) -> str:
        verb, _, domain = line.strip().partition(" ")
        server = self._servers[domain]
        actions = {"freeze": server.freeze, "thaw": server.thaw, "kill": server.kill, "stop": server.stop, "start": server.restart,
                   "succeed": lambda: self._succeed(domain)}
        try:
            actions[verb]()
        except Exception as error:  # the scenario is to fail, not this thread
            return f"failed: {error!r}"
        return "ok"
