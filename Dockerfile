# codecbench in a container. The wheels of torch on PyPI bring CUDA with them, so the default image serves CPUs, and the GPUs that
# `docker run --gpus all` hands over. Arguments, by `make image`:
#   BASE         any Debian or Ubuntu; where it has no Python, its own is installed (3.11 or newer is needed)
#   TORCH_INDEX  where torch comes from, such as https://download.pytorch.org/whl/cpu, without CUDA (make image TORCH=cpu)
#   EXTRAS       optional parts of codecbench, see pyproject.toml
ARG BASE=python:3.11-slim
FROM ${BASE}

# A C compiler and Python's headers build PESQ; libsndfile and ffmpeg read audio; curl reads shards on web servers.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends build-essential libsndfile1 ffmpeg git curl ca-certificates \
 && { python3 -c 'import ensurepip' || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-dev python3-venv; } \
 && rm -rf /var/lib/apt/lists/*

# An environment of its own: distributions refuse packages in theirs.
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# torch is the largest part and changes least, so it has a layer of its own.
ARG TORCH_INDEX=
RUN pip install --no-cache-dir 'torch>=2.11' 'torchaudio>=2.11' ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"}

ARG EXTRAS=search,webdataset,datasets,soundstream
WORKDIR /opt/codecbench
COPY pyproject.toml README.md LICENSE ./
COPY quantizers quantizers
COPY codec codec
COPY experiments experiments
COPY analysis analysis
RUN pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}" && codecbench --version

# Studies, runs, results and the tracking store live in the folder that is mounted here.
WORKDIR /data
# `docker run --user` has no home folder; what is kept there otherwise goes into the mounted one.
ENV CODECBENCH_CACHE=/data/.cache HOME=/data
ENTRYPOINT ["codecbench"]
CMD ["--help"]
