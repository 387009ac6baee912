#!/usr/bin/env bash
# Everything that wants an NVIDIA GPU, in one go: parity tests, speed beside peers, stage profiles, the latency of
# diffusion policies, a short training.
# Leaves JSON and logs in $OUT, or in benchmarks/results/gpu. PEERS lists Pythons of environments that hold mjlab and
# MJX; PYTHON is one with fermo[cuda]; BUDGET=smoke runs seconds of everything on Warp's CPU device, to try the script.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-.venv/bin/python}
out=${OUT:-benchmarks/results/gpu}
read -r -a peers <<< "${PEERS:-}"
failed=()

say() { printf '\n== %s\n' "$*"; }

# One failing part must not cost the others their time on a rented machine.
part() {
  local name=$1
  shift
  say "$name: $*"
  "$@" 2>&1 | tee "$out/$name.log" || failed+=("$name")
}

command -v "$python" > /dev/null || {
  echo "no Python at $python; set PYTHON to one that has fermo[cuda]" >&2
  exit 2
}
mkdir -p "$out"

if [ "${BUDGET:-full}" = smoke ]; then
  device=cpu
  tasks=(HalfCheetah)
  worlds=(2)
  turns=(--rounds 1 --seconds 0.05)
  latency=(--sizes block_push --batches 2 --evaluations 1 --contenders fermo "fermo, compiled" --rounds 1 --seconds 0.05)
  steps=3
  rounds=2
else
  device=cuda
  "$python" - << 'PY' || exit 2
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("no CUDA device here: this needs a machine with an NVIDIA GPU, and a torch built for CUDA "
             f"(this one is {torch.__version__}); BUDGET=smoke tries the script without one")
PY
  tasks=(HalfCheetah Ant Humanoid SO101-PickCube)
  worlds=(1024 4096 16384)
  turns=()
  latency=()
  steps=200
  rounds=100
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv | tee "$out/gpu.csv"
  part parity "$python" -m pytest -m cuda -p no:cacheprovider --timeout=1800
fi

peer_options=()
if [ "${#peers[@]}" -gt 0 ]; then peer_options=(--peer-python "${peers[@]}"); fi
part speed "$python" -m fermo bench-speed "${tasks[@]}" --backend warp --device "$device" --num-envs "${worlds[@]}" \
  "${turns[@]}" "${peer_options[@]}" --json "$out/speed.json"
for task in "${tasks[@]}"; do
  part "profile-$task" "$python" -m fermo profile "$task" --backend warp --device "$device" --num-envs "${worlds[-1]}" \
    --steps "$steps" --json "$out/profile-$task.json"
done
part latency "$python" -m fermo.benchmarks.policy_latency --device "$device" "${latency[@]}" --json "$out/policy-latency.json"
part training "$python" -m fermo.benchmarks.gpu.train --device "$device" --num-envs "${worlds[-1]}" --rounds "$rounds" \
  --json "$out/training.json"

if [ "${#failed[@]}" -gt 0 ]; then
  say "failed: ${failed[*]}; their logs are in $out"
  exit 1
fi
say "all done: $out"
