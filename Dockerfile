# One image for every service of datarun; docker-compose.yml says which command runs in which.

FROM debian:trixie-slim AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements.lock ./
# Two environments: what builds the wheel is not in the image.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /build \
    && /build/bin/pip install --constraint requirements.lock setuptools
COPY pyproject.toml MANIFEST.in README.md LICENSE ./
COPY schemas schemas
COPY broker broker
COPY producer producer
COPY consumer consumer
COPY storage storage
COPY gateway gateway
COPY datarun datarun
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
# The lock file also pins what only tests need: here it says which version, not what.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/datarun \
    && wheel=$(ls /wheels/datarun-*.whl) \
    && /opt/datarun/bin/pip install --constraint requirements.lock "datarun[all] @ file://$wheel" \
    && /opt/datarun/bin/pip check \
    && /opt/datarun/bin/pip uninstall --yes pip

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="datarun" \
    org.opencontainers.image.licenses="BSD-3-Clause"
# bubblewrap and libseccomp: level `strict` is made with them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap libseccomp2 python3 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 datarun \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/datarun datarun \
    && install --directory --owner 10001 --group 10001 --mode 0700 \
        /var/lib/datarun /var/lib/datarun/tmp
COPY --from=builder /opt/datarun /opt/datarun
# DATARUN_PULSE is on a tmpfs, what waits on disk (TMPDIR) on a volume.
ENV PATH=/opt/datarun/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/var/lib/datarun/tmp \
    DATARUN_HOME=/var/lib/datarun \
    DATARUN_SECRETS=/run/secrets \
    DATARUN_PULSE=/tmp/datarun-pulse
USER 10001:10001
WORKDIR /var/lib/datarun
STOPSIGNAL SIGTERM
CMD ["datarun", "--help"]
