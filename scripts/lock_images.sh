#!/usr/bin/env bash
# Resolve what each flavour of the image installs beside torch: images/<flavour>/requirements.txt.
# Versions are those of locks/dev.txt, where both have a package, so that image, tests and launcher agree.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
# torch and what only torch pulls in are left out: matrix.toml says where a flavour's torch comes from.
torch_only=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl nvidia-cuda-cupti
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver
  nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)
skip=()
for name in "${torch_only[@]}"; do skip+=(--no-emit-package "$name"); done
lock() { # flavour python [extra requirement...]
  local flavour=$1 python=$2 extra
  shift 2
  extra=$(mktemp --suffix .in)
  printf '%s\n' "$@" > "$extra"
  "$uv" pip compile --quiet --python-platform x86_64-unknown-linux-gnu --python-version "$python" --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --constraint locks/dev.txt --constraint locks/torch.txt "${skip[@]}" \
    --extra runner --extra quantization --extra preference pyproject.toml "$extra" \
    --output-file "images/$flavour/requirements.txt"
  rm -f "$extra"
}
cp locks/torch.txt images/torch.txt # ships in the wheel, where the launcher works out the hash
lock cpu 3.11
lock cuda 3.12 liger-kernel
lock rocm 3.12 liger-kernel
