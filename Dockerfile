# syntax=docker/dockerfile:1
# Three images of one build: `component` runs pipeline steps, `predictor` answers requests, `service`
# is the collector, the controller and MLflow's server. Each holds the packages of its own extras.
#
#   docker build --target service --build-arg COMMIT=$(git rev-parse HEAD) .
#
# The base is named by tag, once: put its digest after it to pin it.
FROM python:3.11-slim-bookworm AS python

# ---- what builds; nothing of it is in an image but /venv
FROM python AS build
ARG SOURCE_DATE_EPOCH=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/venv
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /app
RUN python -m pip install --only-binary :all: uv==0.13.9
COPY pyproject.toml requirements.lock README.md LICENSE ./
# The package itself is found in /app by a .pth file, so that what lies beside it (compiled
# pipelines, the live page) is where a checkout has it.
COPY heliotrope/__init__.py heliotrope/__init__.py
RUN uv venv /venv --python /usr/local/bin/python \
    && uv pip install --require-hashes --constraints requirements.lock \
         -r pyproject.toml --extra build \
    && /venv/bin/python -m hatchling build -t wheel:editable -d /wheel \
    && uv venv --clear /venv --python /usr/local/bin/python \
    && uv pip install --no-deps /wheel/*.whl

# What is installed is what the lock holds, by hash; a target takes the part that its extras need.
FROM build AS predictor-packages
RUN uv pip install --require-hashes --constraints requirements.lock \
      -r pyproject.toml --extra serve

FROM build AS service-packages
RUN uv pip install --require-hashes --constraints requirements.lock \
      -r pyproject.toml --extra service --extra cluster --extra notify

FROM build AS component-packages
RUN uv pip install --require-hashes --constraints requirements.lock \
      -r pyproject.toml --extra train --extra monitor --extra cluster

# ---- what runs
FROM python AS runtime
ARG SOURCE_DATE_EPOCH=0
ARG COMMIT=""
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Heliotrope" \
      org.opencontainers.image.description="Keeps a deployed model right" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
# A user with a name, for what asks who it is; no installer of packages stays. Some of them also ask
# where home is, and only /tmp can be written.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin heliotrope \
    && rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
       /usr/local/bin/pip* /usr/local/bin/wheel
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HELIOTROPE_HOME=/tmp/heliotrope \
    USER=heliotrope \
    MPLCONFIGDIR=/tmp/matplotlib \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    HELIOTROPE_CODE_COMMIT=${COMMIT} \
    HELIOTROPE_CODE_DIRTY=false
WORKDIR /app
USER 10001:10001

# checkov:skip=CKV_DOCKER_2: Kubernetes asks by the probes in manifests/, and steps of a pipeline end
FROM runtime AS predictor
COPY --from=predictor-packages /venv /venv
COPY heliotrope heliotrope
COPY predictors predictors
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "predictors"]

FROM runtime AS service
COPY --from=service-packages /venv /venv
COPY requirements.lock ./
COPY dashboards/web dashboards/web
COPY pipelines pipelines
COPY components components
COPY predictors predictors
COPY heliotrope heliotrope
EXPOSE 8200 8300 5000
ENTRYPOINT ["heliotrope"]

FROM runtime AS component
COPY --from=component-packages /venv /venv
COPY requirements.lock ./
COPY pipelines pipelines
COPY components components
COPY predictors predictors
COPY heliotrope heliotrope
# KFP gives the command of each step.
CMD ["python", "-c", "import heliotrope; print(heliotrope.__version__)"]
