"""An installation that was prepared once, for each test to go on from a copy of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.damage import settle
from tests.support.workplace import Workplace


@dataclass(frozen=True)
class Prepared:
    """The files of an installation, and each key of its Redis with how many ms it lasts yet (0: for ever)."""

    home: Path
    keys: Mapping[bytes, tuple[bytes, int]]

    @classmethod
    def of(cls, place: Workplace) -> "Prepared":
        """That workplace as it is now; nobody may work there, and none goes on there."""
        settle(place.catalog)
        redis: Any = place.redis
        keys = {key: (redis.dump(key), max(0, redis.pttl(key))) for key in redis.scan_iter()}
        place.close()
        return cls(place.home, keys)

    def copy_to(self, place: Workplace) -> Workplace:
        """Have a workplace that nobody has used be like it; returns it."""
        shutil.copytree(self.home, place.home, dirs_exist_ok=True)
        for key, (content, lasts_ms) in self.keys.items():
            place.redis.restore(key, lasts_ms, content)
        return place
