# docker build .                     the image
# docker build --target minimal .    the same without shell, package manager and other tools
#
# --build-arg VERSION=… names the version, for the context has no git to ask; --build-arg BASE=… another base;
# --build-arg OTEL=1 adds what sends traces.

# What is not in uv.lock is pinned here; uv in deploy/image/requirements.txt. The digest is that of the index for
# all architectures.
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b


FROM ${BASE} AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
COPY deploy/image/requirements.txt /
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /requirements.txt
WORKDIR /app

# Dependencies first: they change rarely, and their layer stays the same while they do not.
COPY pyproject.toml uv.lock ./
ARG OTEL
RUN uv sync --frozen --no-dev --extra postgres --extra s3 --extra sqs --extra http --extra webhooks --extra turbo ${OTEL:+--extra otel} --no-install-project
COPY deploy/image/prune.py /
RUN python3 /prune.py .venv

COPY README.md LICENSE ./
COPY storage storage
COPY pipelines pipelines
COPY worker worker
COPY scripts scripts
COPY media_worker.py ./
ARG VERSION
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION}" \
    uv pip install --python .venv/bin/python --no-deps --prefix /project .


# What the image without shell has of the system.
FROM build AS system
COPY deploy/image/collect.py /
RUN python3 /collect.py /system /app/.venv


FROM scratch AS minimal
COPY --from=system /system /
COPY --from=build /app/.venv /app/.venv
COPY --from=build /project /app/.venv
ENV PATH=/app/.venv/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    MEDIA_METRICS=0.0.0.0:8469 \
    MEDIA_STORAGE_URL=file:/data/media \
    MEDIA_CATALOG_URL=sqlite+aiosqlite:////data/catalog.db
ARG VERSION
LABEL org.opencontainers.image.title="media-worker" \
      org.opencontainers.image.description="Turns uploaded pictures into JPEG variants, from a Redis stream" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
WORKDIR /data
VOLUME /data
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8469 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["media", "health", "--live"]
CMD ["media", "worker"]


FROM ${BASE} AS worker
# A fixed number, so that whoever else mounts the volume knows whom the files belong to. The base has no bytecode
# of the standard library, and who runs here may write none: each probe would compile what it imports.
RUN groupadd --gid 10001 media \
    && useradd --uid 10001 --gid media --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin media \
    && install --directory --owner=media --group=media /data \
    && python3 -m compileall -q -x "/(site-packages|ensurepip|idlelib|pydoc_data|turtledemo)/" "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /app/.venv /app/.venv
COPY --from=build /project /app/.venv

# glibc gives every thread an arena of its own and keeps them; with few arenas the budget holds.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    MEDIA_METRICS=0.0.0.0:8469 \
    MEDIA_STORAGE_URL=file:/data/media \
    MEDIA_CATALOG_URL=sqlite+aiosqlite:////data/catalog.db
ARG VERSION
LABEL org.opencontainers.image.title="media-worker" \
      org.opencontainers.image.description="Turns uploaded pictures into JPEG variants, from a Redis stream" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
WORKDIR /data
VOLUME /data
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8469 8080
# Whether the worker is hung, and no more: what restarts the unhealthy must not do so in an outage of Redis.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["media", "health", "--live"]
CMD ["media", "worker"]
