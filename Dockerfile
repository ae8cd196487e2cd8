# The server for amd64 and arm64, as upstream's image is used:
#
#   docker build -t model-server .
#   docker build -t model-server:latest-gpu --build-arg VARIANT=gpu .
#   docker build -t model-server:latest-tables --build-arg VARIANT=tables .
#   docker run -p 8500:8500 -p 8501:8501 -v /path/to/m:/models/m -e MODEL_NAME=m model-server
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG VARIANT=cpu
WORKDIR /src
RUN python3 -m venv /opt/model_server
COPY deploy/docker/requirements-${VARIANT}.txt ./
# Every version is in the file; tensorflow-serving-api asks for a tensorflow under that name alone.
# The headers are for compilers, and a sixth of the image.
RUN /opt/model_server/bin/pip install --no-cache-dir --no-deps \
    --requirement requirements-${VARIANT}.txt \
    && rm -r /opt/model_server/lib/python3*/site-packages/tensorflow/include
COPY pyproject.toml README.md LICENSE ./
COPY serving serving
RUN /opt/model_server/bin/pip install --no-cache-dir --no-deps . \
    && /opt/model_server/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON_IMAGE}
ARG VARIANT=cpu
LABEL org.opencontainers.image.title="Model Server" \
      org.opencontainers.image.description="A prediction server with TensorFlow Serving's API (${VARIANT})" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/model_server /opt/model_server
# Some packages are under the same licence and bring no copy of it.
COPY LICENSE /opt/model_server/LICENSE
COPY deploy/docker/entrypoint.sh /usr/bin/model_server_entrypoint.sh
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin model_server \
    && mkdir /models \
    && ln -s /opt/model_server/bin/tensorflow_model_server /usr/bin/
ENV PATH=/opt/model_server/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    MODEL_BASE_PATH=/models \
    MODEL_NAME=model
USER 10001
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/healthz/live', timeout=4)"]
ENTRYPOINT ["/usr/bin/model_server_entrypoint.sh"]
