# codecbench in a container. CPU by default; the wheels of torch on PyPI bring CUDA with them, so the same image uses the GPUs
# that `docker run --gpus all` hands over. Another base, such as one with a CUDA toolkit and Python 3.11 or newer:
#   make image BASE=your/cuda-python-image
ARG BASE=python:3.11-slim
FROM ${BASE}

# A C compiler builds PESQ; libsndfile and ffmpeg read audio.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential libsndfile1 ffmpeg git \
 && rm -rf /var/lib/apt/lists/*

ARG EXTRAS=search,webdataset,soundstream
COPY . /opt/codecbench
RUN pip install --no-cache-dir "/opt/codecbench${EXTRAS:+[${EXTRAS}]}"

# Studies, runs, results and the tracking store live in the folder that is mounted here.
WORKDIR /data
ENV CODECBENCH_CACHE=/data/.cache
ENTRYPOINT ["codecbench"]
CMD ["--help"]
