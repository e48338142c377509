# syntax=docker/dockerfile:1
# multigrain on CPU. From the repository's root:
#   docker build --tag multigrain:0.1.0 .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" multigrain:0.1.0 run config.yaml
# PyTorch's default build for Linux brings CUDA, about 4 GB. For its CPU build pass the options of PyTorch's own page:
#   docker build --build-arg TORCH_OPTIONS="…" --tag multigrain:0.1.0 .

ARG PYTHON=3.12-slim-bookworm
FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/multigrain
ENV PATH=/opt/multigrain/bin:$PATH
COPY requirements/lock.txt requirements/lock.txt
ARG TORCH_OPTIONS=""
# The options are several words; without any, none may be there.
# hadolint ignore=SC2086,DL3013
RUN pip install --constraint requirements/lock.txt ${TORCH_OPTIONS} torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
ARG EXTRAS=local,documents
RUN pip install --constraint requirements/lock.txt ".[${EXTRAS}]"

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="multigrain" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/multigrain /opt/multigrain
ENV PATH=/opt/multigrain/bin:$PATH \
    HF_HOME=/tmp/hub \
    XDG_CACHE_HOME=/tmp/cache \
    PYTHONUNBUFFERED=1
# xllamacpp, the embedded writer, needs the system's OpenMP; the slim image has none.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin multigrain
USER 10001
WORKDIR /work
# A training that is stopped finishes its step and writes a checkpoint.
STOPSIGNAL SIGTERM
ENTRYPOINT ["multigrain"]
CMD ["--help"]
