#!/usr/bin/env bash
# Resolve the two universal locks. They name versions and no index, so that any registry or mirror serves them.
# torch and what only torch pulls in (CUDA runtime wheels, triton) are left out: scripts/setup.sh chooses the
# torch build for the machine (CPU, CUDA, ROCm), and a CPU machine downloads no gigabytes of CUDA libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
torch_only=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand
  nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink
  nvidia-nvshmem-cu13 nvidia-nvtx)
skip=()
for name in "${torch_only[@]}"; do skip+=(--no-emit-package "$name"); done
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links "$@"; }

compile --extra ray --extra sky --extra runner --extra quantization --extra preference --extra demo --extra dev \
  --constraint locks/torch.txt "${skip[@]}" pyproject.toml --output-file locks/dev.txt
# The launcher's lock is the same resolution restricted to the base dependencies: one set of versions everywhere.
compile --constraint locks/dev.txt pyproject.toml --output-file locks/launcher.txt
