# One machine with NVIDIA GPUs:
#   docker build -t blendfold . && docker run --rm -it --gpus all --shm-size 8g -v "$PWD":/work blendfold blendfold run studies/pppm.yaml
FROM python:3.11-slim
WORKDIR /opt/blendfold
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY data_prep data_prep
COPY models models
COPY search search
COPY blend blend
COPY blendfold blendfold
RUN pip install --no-cache-dir -r requirements.lock && pip install --no-cache-dir --no-deps --no-build-isolation -e .
WORKDIR /work
