#!/usr/bin/env bash
# Measures one GPU with vLLM: an MoE model, then a dense one with and without the batch-limit
# plug-in. It never sets a power cap, a clock or another mode of the GPU, and ends within ten
# minutes. Needs an environment with vLLM, aiohttp and nvidia-ml-py, 80 GB of GPU memory and no
# other work on the GPU:
#
#     PYTHON=/path/to/vllm-environment/bin/python experiments/measure_gpu/recipe.sh results
#
# On an H100 the MoE part took six minutes, two of them to start the server, so the dense part
# that follows is cut short after the comparison; MOE= gives it all of the time.
# Weights are vLLM's dummy ones, so nothing is downloaded. Environment variables:
#   GPU            NVML index (0)
#   MOE, DENSE     names known to dummy_model.py; empty leaves that part out
#   MOE_PLAN, DENSE_PLAN      changes to the plan, as JSON
#   MOE_PHASES, DENSE_PHASES  phases
#   MOE_ARGS, DENSE_ARGS      further arguments for vLLM
#   TOKEN_IDS      two numbers between which the prompts' tokens are drawn
#   PERIOD         seconds between two samples of the sensors (0.02)
#   BARE_S         seconds to look at the GPU without a server (6)
#   START_S        seconds a server may take to start
#   BUDGET_S       seconds for everything
#   CHECKPOINT     a file: the results so far are packed into it after every part
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${1:?name a folder for the results}")
python=${PYTHON:-python3}
gpu=${GPU:-0}
moe=${MOE-qwen3-30b-a3b}
dense=${DENSE-llama-3.1-8b}
budget=${BUDGET_S:-570}
graphs=1,2,4,8,16,24,32,40,48,56,64,80,96,112,128,160,192,224,256,320,384,448,512
compiled="{\"cudagraph_capture_sizes\":[$graphs]}"
eager_graphs="{\"mode\":0,\"cudagraph_mode\":\"FULL_DECODE_ONLY\","
eager_graphs+="\"cudagraph_capture_sizes\":[$graphs]}"
plugin=(--scheduler-cls pals_batch_limit.scheduler.BatchLimitScheduler
    --middleware pals_batch_limit.route.BatchLimitRoute)
export PYTHONPATH=$root:$root/envs/live/vllm_plugin${PYTHONPATH:+:$PYTHONPATH}
# The plug-in accepts releases it was tested with; here the release is what is at hand.
export PALS_BATCH_LIMIT_ANY_VLLM=1
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_HOST_IP=127.0.0.1
mkdir -p "$out"
cd "$root" || exit 1 # whatever is in the folder it is called from
groups=()

now() { "$python" -c 'import time; print(time.monotonic())'; }
began=$(now)
left() { "$python" -c "import time; print(int($began + $budget - time.monotonic()))"; }
mark() { # phase begin
    echo "{\"phase\": \"$1\", \"begin_s\": $2, \"end_s\": $(now)}" >>"$out/windows.jsonl"
}
checkpoint() {
    if [ -n "${CHECKPOINT:-}" ]; then
        tar -czf "$CHECKPOINT.new" -C "$out" . && mv "$CHECKPOINT.new" "$CHECKPOINT"
    fi
}
end_groups() {
    for group in "${groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null; done
    for _ in $(seq 50); do
        local alive=0
        for group in "${groups[@]}"; do kill -0 -- "-$group" 2>/dev/null && alive=1; done
        [ "$alive" = 0 ] && break
        sleep 0.2
    done
    for group in "${groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done
    groups=()
}
serve() { # name port model arguments...
    local name=$1 port=$2 model=$3
    shift 3
    setsid "$python" -m vllm.entrypoints.openai.api_server --model "$out/models/$model" \
        --served-model-name "$model" --load-format dummy --dtype bfloat16 --host 127.0.0.1 \
        --port "$port" --no-enable-prefix-caching --generation-config vllm \
        --disable-uvicorn-access-log "$@" >"$out/$name.log" 2>&1 &
    groups+=($!)
}
healthy() { # port
    "$python" - "$1" <<'END' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=5)
END
}
ready() { # port seconds: whether the server answers in time; fails at once when a process ended
    local most until
    most=$(left)
    until=$((SECONDS + ($2 < most ? $2 : most)))
    while [ "$SECONDS" -lt "$until" ]; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && healthy "$1" && return 0
        for group in "${groups[@]}"; do kill -0 "$group" 2>/dev/null || return 1; done
        sleep 0.5
    done
    return 1
}
measure() { # name arguments...
    local name=$1
    shift
    "$python" -m experiments.measure_gpu --gpu "$gpu" --telemetry off --output "$out/$name" "$@" \
        2>&1 | tee "$out/$name.measure.log"
}

# vLLM is started with compiled code and CUDA graphs, as it would be by default; should that fail,
# with graphs of decoding alone and uncompiled code.
start() { # name seconds arguments for serve...
    local name=$1 seconds=$2 since
    shift 2
    for variant in compiled eager_graphs; do
        since=$(now)
        serve "$name.$variant" 8000 "$@" --compilation-config "${!variant}"
        if ready 8000 "$seconds"; then
            mark "start_$name.$variant" "$since"
            echo "$name: $variant" | tee -a "$out/servers.txt"
            return 0
        fi
        mark "failed_start_$name.$variant" "$since"
        tail -n 40 "$out/$name.$variant.log"
        end_groups
        checkpoint
    done
    return 1
}

"$python" -m experiments.measure_gpu.telemetry --gpu "$gpu" --period "${PERIOD:-0.02}" \
    --output "$out/telemetry.csv" --seconds "$((budget + 30))" &
telemetry=$!
trap 'end_groups; kill "$telemetry" 2>/dev/null; wait' EXIT
for model in $moe $dense; do
    "$python" -m experiments.measure_gpu.dummy_model "$model" "$out/models/$model"
done
since=$(now)
sleep "${BARE_S:-6}"
mark idle_bare "$since"

if [ -n "$moe" ] && start moe "${START_S:-180}" "$moe" --max-model-len 20480 --max-num-seqs 256 \
    --max-num-batched-tokens 8192 --gpu-memory-utilization 0.93 "${plugin[@]}" ${MOE_ARGS:-}; then
    # shellcheck disable=SC2086 # phases are words
    measure moe --url http://127.0.0.1:8000 --budget "$(left)" --plan "${MOE_PLAN:-{\}}" \
        ${TOKEN_IDS:+--token-ids $TOKEN_IDS} ${MOE_PHASES:+--phases $MOE_PHASES} \
        --note "dummy weights, $(tail -n 1 "$out/servers.txt")"
fi
since=$(now)
end_groups
mark stop_moe "$since"
since=$(now)
sleep "${BARE_S:-6}"
mark idle_bare_after "$since"
checkpoint

if [ -n "$dense" ] && [ "$(left)" -gt 60 ]; then
    other=()
    memory=(--max-model-len 20480 --max-num-seqs 256 --max-num-batched-tokens 8192
        --gpu-memory-utilization 0.45 --kv-cache-memory-bytes 19327352832)
    # The second server starts once the first has left its compiled code in vLLM's cache.
    if start dense "${START_S:-120}" "$dense" "${memory[@]}" "${plugin[@]}" ${DENSE_ARGS:-}; then
        variant=$(tail -n 1 "$out/servers.txt" | cut -d' ' -f2)
        if [ "$(left)" -gt 120 ]; then
            serve dense_stock 8001 "$dense" "${memory[@]}" ${DENSE_ARGS:-} \
                --compilation-config "${!variant}"
            ready 8001 "${START_S:-120}" && other=(--other-url http://127.0.0.1:8001)
        fi
        # shellcheck disable=SC2086 # phases are words
        measure dense --url http://127.0.0.1:8000 "${other[@]}" --budget "$(left)" \
            --plan "${DENSE_PLAN:-{\}}" ${TOKEN_IDS:+--token-ids $TOKEN_IDS} \
            --phases ${DENSE_PHASES:-warm_up idle compare decode prefill} \
            --note "dummy weights, $(tail -n 1 "$out/servers.txt")"
    fi
    end_groups
    checkpoint
fi

kill "$telemetry"
wait "$telemetry"
rm -rf "$out/models"
for folder in "$out" "$out/moe" "$out/dense"; do
    [ -d "$folder" ] && "$python" -m experiments.measure_gpu.summary "$folder" \
        --telemetry "$out/telemetry.csv"
done
checkpoint
