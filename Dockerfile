# Three images: service (answers), pipelines (trains, upgrades the database), mlflow (keeps runs and models).
#   docker build --target service -t forecast-service .
# Packages lie in /opt/venv, torch in /opt/torch, our code in /opt/app and /opt/bin: a change of code is a small layer.

FROM python:3.11-slim-bookworm AS base
ENV LANG=C.UTF-8
# users are named by number below: an engine that refuses root can tell by it
RUN useradd --uid 10001 --no-create-home --home-dir /tmp forecast \
    && install -d -o forecast -g forecast /data /artifacts /answers

# What runs has no installer: its packages are in /opt
FROM base AS runtime
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib \
    PATH=/opt/bin:/opt/app/bin:/opt/venv/bin:$PATH \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false RAY_USAGE_STATS_ENABLED=0 GIT_PYTHON_REFRESH=quiet \
    FORECAST_HOME=/data

# Installs by pins alone: every package is listed, so nothing is resolved, and what installs stays outside of the environment.
FROM base AS pip
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/image/install-packages deploy/image/trim /usr/local/bin/
RUN pip install "uv>=0.8" && python -m venv --without-pip /opt/venv

FROM pip AS service-packages
COPY deploy/constraints-service.txt .
RUN install-packages constraints-service.txt && trim

FROM pip AS pipelines-packages
COPY deploy/constraints-pipelines.txt .
RUN install-packages constraints-pipelines.txt && trim

FROM pip AS mlflow-packages
COPY deploy/constraints-mlflow.txt .
RUN install-packages constraints-mlflow.txt && trim

# TORCH=cpu, cuda (as the package index has it, with its libraries: several GB) or none
FROM pip AS torch
ARG TORCH=cpu
ARG TORCH_VERSION=2.13.0
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/constraints-pipelines.txt .
COPY deploy/image/install-torch /usr/local/bin/
RUN install-torch "$TORCH" "$TORCH_VERSION" "$TORCH_CPU_INDEX" constraints-pipelines.txt

# What ONNX Runtime serves needs no torch; SERVICE_TORCH=cpu is for models that have no graph for it
FROM pip AS service-torch
ARG SERVICE_TORCH=none
ARG TORCH_VERSION=2.13.0
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/constraints-pipelines.txt .
COPY deploy/image/install-torch /usr/local/bin/
RUN install-torch "$SERVICE_TORCH" "$TORCH_VERSION" "$TORCH_CPU_INDEX" constraints-pipelines.txt

FROM pip AS app
COPY pyproject.toml README.md LICENSE ./
COPY forecast forecast
COPY pipelines pipelines
COPY service service
RUN pip --python /opt/venv/bin/python install --no-deps --target /opt/app . \
    && echo /opt/app > /forecast.pth && echo /opt/torch > /torch.pth

FROM runtime AS service
COPY --from=service-packages /opt/venv /opt/venv
COPY --from=service-torch /opt/torch /opt/torch
COPY --from=app /forecast.pth /torch.pth /opt/venv/lib/python3.11/site-packages/
COPY --from=app /opt/app /opt/app
COPY deploy/image/entrypoint deploy/image/forecast deploy/image/first_start.py /opt/bin/
USER 10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["forecast"]
CMD ["serve", "--host", "0.0.0.0"]

FROM runtime AS pipelines
COPY --from=torch /opt/torch /opt/torch
COPY --from=pipelines-packages /opt/venv /opt/venv
COPY --from=app /forecast.pth /torch.pth /opt/venv/lib/python3.11/site-packages/
COPY --from=app /opt/app /opt/app
COPY deploy/image/entrypoint deploy/image/forecast deploy/image/first_start.py /opt/bin/
USER 10001
WORKDIR /data
ENTRYPOINT ["forecast"]
CMD ["--help"]

FROM runtime AS mlflow
COPY --from=mlflow-packages /opt/venv /opt/venv
COPY deploy/image/entrypoint deploy/image/mlflow_server.py deploy/image/json_lines.py deploy/image/sitecustomize.py deploy/image/mlflow_logs.json /opt/bin/
ENV PYTHONPATH=/opt/bin MLFLOW_CONFIGURE_LOGGING=false
USER 10001
WORKDIR /artifacts
EXPOSE 5000
ENTRYPOINT ["entrypoint", "python", "/opt/bin/mlflow_server.py"]
