FROM python:3.11-slim-bookworm
WORKDIR /app
ARG TORCH_VERSION=2.13.0
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 VENV=/opt/venv PATH=/opt/venv/bin:$PATH
COPY . .
RUN TORCH_VERSION=$TORCH_VERSION TORCH_CPU_INDEX=$TORCH_CPU_INDEX sh scripts/install.sh pipelines,service \
    && useradd --uid 10001 --create-home forecast \
    && install -d -o forecast /data
USER forecast
ENV FORECAST_HOME=/data MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
ENTRYPOINT ["forecast"]
CMD ["--help"]
