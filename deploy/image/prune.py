"""Removes from an environment what a worker never reads: three tenths of it.

python3 prune.py ENVIRONMENT
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = (
    "aiosqlite/tests",
    "alembic/testing",
    "click/testing.py",
    "fastapi/testclient.py",
    "greenlet/tests",
    "mako/testing",
    "sqlalchemy/testing",
    "starlette/testclient.py",
)
# Other ways to do what we do once: websockets without asyncio, the parsers of uvicorn that `media serve` does
# not choose, templates that strangers write. What reads declarations of C: a compiled binding has none.
ALTERNATIVES = (
    "anyio/_backends/_trio.py",
    "jinja2/constants.py",
    "jinja2/ext.py",
    "jinja2/meta.py",
    "jinja2/nativetypes.py",
    "jinja2/sandbox.py",
    "pycparser",
    "pydantic/mypy.py",
    "uvicorn/protocols/http/h11_impl.py",
    "uvicorn/protocols/websockets/websockets_impl.py",
    "uvicorn/protocols/websockets/wsproto_impl.py",
    "websockets/cli.py",
    "websockets/legacy",
    "websockets/sync",
    "websockets/trio",
)
# Nobody writes into pictures: what draws letters, and the libraries that nothing else needs.
FONTS = (
    "PIL/_imagingft.*.so",
    "pillow.libs/libbrotli*",
    "pillow.libs/libfreetype-*",
    "pillow.libs/libharfbuzz-*",
    "pillow.libs/libpng16-*",
)
DATABASES = ("mssql", "mysql", "oracle")
SERVICES = ("sqs", "sso", "sso-oidc", "sts")  # of AWS; all but the first are asked for keys
LEXERS = ("__init__.py", "_mapping.py", "python.py", "special.py")  # rich shows nothing but Python
STYLES = ("__init__.py", "_mapping.py", "default.py", "monokai.py")  # and has formatters of its own
# Of NumPy the worker has arrays and the little algebra that `import numpy` brings.
NUMPY = (
    *("distutils", "f2py", "fft", "ma", "polynomial", "random", "testing", "typing"),
    *("_core/include", "_core/lib"),
)
SOURCES = (".c", ".h", ".pxd", ".pyi", ".pyx")
# With symbols. Libraries that were copied into a wheel do not survive strip: these have none.
STRIPPED = ("asyncpg", "greenlet", "hiredis", "httptools", "obstore", "sqlalchemy")


def main(environment: Path) -> None:
    """Prune an environment."""
    [packages] = environment.glob("lib/python3*/site-packages")
    for path in unused(packages):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    modules = [module for package in STRIPPED for module in (packages / package).rglob("*.so")]
    subprocess.run(["strip", "--strip-unneeded", *modules], check=True)


def unused(packages: Path) -> Iterator[Path]:
    """What can go, of the packages in this folder."""
    for name in (*TESTS, *ALTERNATIVES):
        path = packages / name
        yield path
        yield from path.parent.glob(f"__pycache__/{path.stem}.*.pyc")
    yield from (path for pattern in FONTS for path in packages.glob(pattern))
    yield packages / "boto3/data"
    yield from (packages / "sqlalchemy/dialects" / name for name in DATABASES)
    data = (packages / "botocore/data").iterdir()
    yield from [path for path in data if path.is_dir() and path.name not in SERVICES]
    for folder in NUMPY:
        yield from packages.glob(f"numpy/{folder}")  # not each version has them all
    kept = [packages / "numpy" / folder for folder in NUMPY]
    yield from [path for path in packages.glob("numpy/**/tests") if not {*path.parents} & {*kept}]
    yield packages / "pygments/formatters"
    for folder, kept in (("lexers", LEXERS), ("styles", STYLES)):
        modules = (packages / "pygments" / folder).rglob("*.py*")
        yield from [path for path in modules if f"{path.name.partition('.')[0]}.py" not in kept]
    yield from [path for path in packages.rglob("*.*") if path.suffix in SOURCES]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
