# The server as an image: `docker build --tag huoji .`, then see docs/deployment.md.
#
# Two stages: one installs exactly what requirements.lock names, checked by its hashes, the other holds only the result.
# No step needs root or the operating system's packages, so `make check-image` can run every one of them without an engine.

# The tag moves with Python's and Debian's security fixes. For builds that never differ give a digest of your own registry:
# --build-arg PYTHON_IMAGE=registry.example.com/python@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG VENV=/opt/huoji
ARG DATA=/data
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src

# Dependencies by themselves, so that a change of the program doesn't install them anew. Only wheels: nothing foreign is
# built or run here.
COPY requirements.lock ./
RUN python -m venv "$VENV"
RUN "$VENV/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY scripts/hatch_build.py scripts/
COPY knowledge knowledge
COPY app app
RUN "$VENV/bin/pip" install --quiet --no-index --no-deps --no-build-isolation .

# What only building needs stays behind, pip itself last.
RUN "$VENV/bin/pip" uninstall --quiet --yes editables hatchling pathspec pluggy tomlkit trove-classifiers uv \
    && "$VENV/bin/pip" check \
    && "$VENV/bin/pip" uninstall --quiet --yes setuptools pip
RUN "$VENV/bin/huoji" --version
RUN install -d -m 0750 "$DATA"

FROM ${PYTHON_IMAGE}
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Huoji" \
      org.opencontainers.image.description="Customer-service assistant for e-commerce shops" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/huoji /opt/huoji
COPY --from=build --chown=10001:10001 /data /var/lib/huoji

# Production from the first start on: without HUOJI_SECRET_KEY it says so and ends. Secrets come at run time only.
ENV PATH=/opt/huoji/bin:$PATH \
    HOME=/var/lib/huoji \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HUOJI_ENV=production \
    HUOJI_DATABASE_URL=sqlite:////var/lib/huoji/huoji.db \
    HUOJI_MEDIA_DIR=/var/lib/huoji/media \
    HUOJI_LOG_FORMAT=json
WORKDIR /var/lib/huoji
VOLUME /var/lib/huoji
# A number, so that Kubernetes can see that it isn't root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Whether the process lives. Whether it can take traffic is /readyz: a database that is away must not have it restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["huoji"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
