"""A proxy before Postgres that loses the connection at COMMIT: before the server has it, or after."""

from typing import Literal

from tests.support.tcp_proxy import Strike, TcpProxy

Loss = Literal["before", "after"]


class CommitProxy(TcpProxy):
    """Stands before the Postgres at `port`."""

    def __init__(self, port: int) -> None:
        self._losses: list[Loss] = []
        self.lost: list[Loss] = []
        super().__init__(port)

    def lose(self, *losses: Loss) -> None:
        """Lose the connections of the next commits in these ways, one each."""
        self._losses.extend(losses)

    def lose_no_more(self) -> None:
        """Let the next commits pass, whatever was to become of them."""
        self._losses.clear()

    def strike(self, chunk: bytes) -> Strike:
        if not self._losses or not _is_commit(chunk):
            return Strike.PASS
        self.lost.append(self._losses.pop(0))
        return Strike.CUT if self.lost[-1] == "before" else Strike.DROP_REPLY


def _is_commit(chunk: bytes) -> bool:
    return b"COMMIT;" in chunk and b"READ COMMITTED" not in chunk
