# Two stages: the first one installs what uv.lock says, the second one runs it, as a user without rights.
FROM python:3.13-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv>=0.8"
WORKDIR /app

# Dependencies first: they change rarely, and this layer stays cached while they do not.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --extra postgres --extra s3 --extra sqs --no-install-project

COPY README.md LICENSE ./
COPY storage storage
COPY pipelines pipelines
COPY worker worker
COPY scripts scripts
COPY media_worker.py ./
# The context has no git to ask; docker build --build-arg names the version where it matters.
ARG SETUPTOOLS_SCM_PRETEND_VERSION
RUN uv sync --frozen --no-dev --extra postgres --extra s3 --extra sqs --no-editable


FROM python:3.13-slim
# A fixed number, so that whoever else mounts the volume knows whom the files belong to.
RUN groupadd --gid 10001 media \
    && useradd --uid 10001 --gid media --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin media \
    && install --directory --owner=media --group=media /data
COPY --from=build /app/.venv /app/.venv

# glibc gives every thread an arena of its own and keeps them; with few arenas the budget holds.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    MEDIA_METRICS=0.0.0.0:8469 \
    MEDIA_STORAGE_URL=file:/data/media \
    MEDIA_CATALOG_URL=sqlite+aiosqlite:////data/catalog.db

WORKDIR /data
VOLUME /data
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8469
# Whether the worker is hung, and no more: what restarts the unhealthy must not do so in an outage of Redis.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["media", "health", "--live"]
CMD ["media", "worker"]
