# The image of the workers, on Dataflow and beside Flink on Kubernetes, and of the
# launcher of the Flex Template. Nothing is fetched when a worker starts.
#
#   docker build --tag scorer .                                  for Kubernetes
#   docker build --tag scorer:dataflow --target dataflow .       for Dataflow
#   docker build --tag scorer:cpu --build-arg TENSORFLOW_EXTRA= .    without CUDA
#
# `make image-test` replays these steps without Docker; docs/dataflow.md says how far.

FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher

FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY LICENSE README.md constraints.txt pyproject.toml setup.py ./
COPY beam_pipeline beam_pipeline
COPY trainer trainer
# Also for what pip installs to build the wheel.
ENV PIP_CONSTRAINT=/source/constraints.txt
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m zipfile -e /wheel/*.whl /unpacked \
    && sed -n '/extra ==/! s/^Requires-Dist: //p' /unpacked/*.dist-info/METADATA \
       > /wheel/requirements.txt

FROM python:3.11.14-slim-bookworm AS base
# What is installed comes without CUDA, some 3 GB less, where this is empty.
ARG TENSORFLOW_EXTRA=[and-cuda]
COPY constraints.txt /opt/scorer/
COPY --from=wheel /wheel/requirements.txt /opt/scorer/
# Gigabytes that change with the pins alone, in a layer before the few megabytes of ours.
# The variable holds for what pip installs to build a package, too; the flag does not.
RUN PIP_CONSTRAINT=/opt/scorer/constraints.txt pip install --no-cache-dir \
        --requirement /opt/scorer/requirements.txt \
        "apache-beam[aws,gcp]" "tensorflow${TENSORFLOW_EXTRA}"
COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/LICENSE \
     /opt/apache/beam/NOTICE /opt/apache/beam/
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps /wheel/*.whl \
    && pip check \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin scorer
# - Beam would make a virtual environment for each worker, below a folder that is root's.
# - Google's machines mount the driver at /usr/local/nvidia; NVIDIA's container toolkit
#   reads the NVIDIA_ variables.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    ARROW_DEFAULT_MEMORY_POOL=system \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title="radiograph-scorer" \
      org.opencontainers.image.description="Batch scoring of radiographs on Apache Beam. Research only." \
      org.opencontainers.image.version="0.4.0"
# Beam's boot leaves the job's options in the folder that it starts in.
WORKDIR /home/scorer
ENTRYPOINT ["/opt/apache/beam/boot"]

# Dataflow mounts /var/opt/google as root's and has boot write there: no other user can
# (reported in https://github.com/pangeo-data/pangeo-docker-images/pull/360).
FROM base AS dataflow
COPY --from=launcher /opt/google/dataflow/python_template_launcher \
     /opt/google/dataflow/
COPY deploy/dataflow/launch.py /opt/scorer/
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/scorer/launch.py

# Elsewhere nothing needs root. A number, so that Kubernetes sees that it is not.
FROM base AS worker
USER 10001:10001
