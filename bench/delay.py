"""`python -m bench.delay PORT SECONDS`: a proxy that makes each round trip to a server longer; says its port.

It sleeps in threads: an event loop's timers would be a millisecond late.
"""

import socket
import sys
import threading
import time

_CHUNK = 65536


def main(port: int, seconds: float) -> None:
    """Relay until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=_accept, args=(listener, port, seconds), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, port: int, seconds: float) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target, wait_s in ((client, server, seconds), (server, client, 0.0)):
            threading.Thread(target=_relay, args=(source, target, wait_s), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, wait_s: float) -> None:
    try:
        while chunk := source.recv(_CHUNK):
            if wait_s:
                time.sleep(wait_s)
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
