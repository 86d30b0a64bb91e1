#!/usr/bin/env bash
# The demo: a real model, real data, the full launch path. Everything it writes goes to .demo/ and ftl's state folder.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/${1:-.venv}/bin
export PATH="$bin:$PATH" HF_HUB_OFFLINE=1

echo "[demo] model: SmolLM2-135M-Instruct"
python -m ftl_runner demo-model .demo/models/SmolLM2-135M-Instruct >/dev/null

mkdir -p .demo
python scripts/s3_server.py ftl-demo > .demo/s3.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 120); do
  endpoint=$(grep -m1 -o 'http://127.0.0.1:[0-9]*' .demo/s3.log || true)
  [ -n "$endpoint" ] && break
  kill -0 $server 2>/dev/null || { cat .demo/s3.log; exit 1; }
  sleep 0.5
done
export AWS_ENDPOINT_URL=$endpoint AWS_ACCESS_KEY_ID=ftl AWS_SECRET_ACCESS_KEY=ftl AWS_DEFAULT_REGION=us-east-1
echo "[demo] S3 server: $endpoint, bucket ftl-demo"

echo "[demo] ftl launch templates/examples/smollm2-lora.yml"
ftl launch templates/examples/smollm2-lora.yml
