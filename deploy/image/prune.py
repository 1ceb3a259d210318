"""Removes from an environment what a worker never reads: a quarter of it.

python3 prune.py ENVIRONMENT
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = ("aiosqlite/tests", "alembic/testing", "greenlet/tests", "mako/testing", "sqlalchemy/testing")
DATABASES = ("mssql", "mysql", "oracle")
SERVICES = ("sqs", "sso", "sso-oidc", "sts")  # of AWS; all but the first are asked for keys
LEXERS = ("__init__.py", "_mapping.py", "python.py", "special.py")  # rich shows nothing but Python
SOURCES = (".c", ".h", ".pxd", ".pyi", ".pyx")
# With debug information. Libraries that were copied into a wheel do not survive strip: these have none.
STRIPPED = ("asyncpg", "greenlet", "hiredis", "sqlalchemy")


def main(environment: Path) -> None:
    """Prune an environment."""
    [packages] = environment.glob("lib/python3*/site-packages")
    for path in unused(packages):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    modules = [module for package in STRIPPED for module in (packages / package).rglob("*.so")]
    subprocess.run(["strip", "--strip-debug", *modules], check=True)


def unused(packages: Path) -> Iterator[Path]:
    """What can go, of the packages in this folder."""
    yield from (packages / folder for folder in TESTS)
    yield packages / "boto3/data"
    yield from (packages / "sqlalchemy/dialects" / name for name in DATABASES)
    data = (packages / "botocore/data").iterdir()
    yield from [path for path in data if path.is_dir() and path.name not in SERVICES]
    lexers = packages / "pygments/lexers"
    yield from [path for path in lexers.rglob("*.py*") if f"{path.name.partition('.')[0]}.py" not in LEXERS]
    yield from [path for path in packages.rglob("*.*") if path.suffix in SOURCES]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
