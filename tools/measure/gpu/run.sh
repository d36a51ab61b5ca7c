#!/usr/bin/env bash
# Builds, tests and measures on a machine with an NVIDIA GPU and no network; see the package's docstring.
#
#     tools/measure/gpu/run.sh CARRIED RESULTS [--cpu] [--only build|tests|bench] [--layers N] [--rounds N] [--level LEVEL]
#         [--limit SECONDS] [--deadline SECONDS] [--threads N]
#
# Steps go on after a failure, unless nothing was built, so that one call brings back all that can be had. BUILD_S, TESTS_S and
# BENCH_S limit the steps in seconds; WORK is where it builds: what is built there stays, and a build that ran out of time goes on.
set -uo pipefail
cd "$(dirname "$0")/../../.."
if [ $# -lt 2 ]; then
    sed -n '4,5p' "$0" | cut -c3- >&2
    exit 2
fi
carried=$(realpath "$1") || exit 2
results=$2
shift 2
cpu=() bench=() only=""
while [ $# -gt 0 ]; do
    case $1 in
        --cpu) cpu=(--cpu); shift ;;
        --layers | --rounds | --level | --limit | --deadline | --threads) bench+=("$1" "$2"); shift 2 ;;
        --only) only=$2; shift 2 ;;
        *) echo "error: unknown argument $1" >&2; exit 2 ;;
    esac
done
mkdir -p "$results"
results=$(realpath "$results")
work=${WORK:-/tmp/archroute-gpu}
python=${PYTHON:-python3}
failed=0

step() { # NAME SECONDS COMMAND...: whether it is wanted, and what became of it
    local name=$1 limit=$2 begun=$SECONDS
    shift 2
    if [ -n "$only" ] && [ "$only" != "$name" ]; then return; fi
    timeout --kill-after=10 "$limit" "$@"
    local status=$?
    echo "$name: status $status, $((SECONDS - begun)) s" | tee -a "$results/steps.txt" >&2
    [ $status = 0 ] || failed=1
}

nvidia-smi >"$results/nvidia-smi.txt" 2>&1 || echo "no nvidia-smi here" >&2
if [ -e "$work/site/llama_cpp" ]; then
    echo "build: taken from $work" | tee -a "$results/steps.txt" >&2
else
    step build "${BUILD_S:-570}" "$python" -m tools.measure.gpu.build "$carried" "$work" ${cpu[@]+"${cpu[@]}"} >"$results/build.json"
    [ ! -e "$work/build.log" ] || gzip -c "$work/build.log" >"$results/build.log.gz"
    if [ ! -e "$work/site/llama_cpp" ]; then exit 1; fi
fi
export PYTHONPATH="$work/site:$PWD" LD_LIBRARY_PATH="$(cat "$work/libraries" 2>/dev/null):${LD_LIBRARY_PATH:-}"
export ARCHROUTE_CACHE_DIR="$work/cache"
"$python" -c "from archroute_edge.cli import main; main()" doctor >"$results/doctor.txt" 2>&1 || failed=1
step bench "${BENCH_S:-400}" "$python" -m tools.measure.gpu.bench --programs "$work/build/bin" \
    --vocabulary "$work/source/vendor/llama.cpp/models/ggml-vocab-qwen2.gguf" --models "$work/models" --out "$results/bench.json" \
    ${bench[@]+"${bench[@]}"}
step tests "${TESTS_S:-400}" "$python" -m pytest -p no:cacheprovider --junit-xml="$results/tests.xml" >"$results/tests.txt" 2>&1
tail -n 3 "$results/tests.txt" >&2
exit $failed
