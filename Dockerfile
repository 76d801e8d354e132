# syntax=docker/dockerfile:1
# The BIDS App as an image; container/README.md says how it is built, run and tested.
#
#   docker build -t brainchop-bids .                        for CPUs
#   docker build -t brainchop-bids:gpu --build-arg VARIANT=gpu .
#
# A base with nothing but Debian: its Python is patched as long as the base is.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
ARG VARIANT=cpu
ARG PIP_INDEX_URL=https://pypi.org/simple
COPY container /src/container
RUN /src/container/install.sh system python3-pip
RUN --mount=type=secret,id=ca /src/container/install.sh dependencies ${VARIANT}
COPY pyproject.toml README.md LICENSE /src/
COPY workflows /src/workflows
COPY brainchop_bids /src/brainchop_bids
RUN /src/container/install.sh app

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="brainchop-bids" \
      org.opencontainers.image.description="BIDS App that segments brain MRI with tiny networks" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/neuroneural/brainchop-bids" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
RUN --mount=type=bind,from=build,source=/src/container,target=/src/container \
    /src/container/install.sh system
COPY --from=build /opt/brainchop /opt/brainchop
# PYTHONNOUSERSITE: where a home folder is mounted, its ~/.local is not to be mixed in.
ENV PATH=/opt/brainchop/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    BRAINCHOP_IMAGE=brainchop-bids:0.2.0
# Any --user does: nothing here belongs to anybody, and no user needs a name or a home.
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["brainchop"]
CMD ["--help"]
