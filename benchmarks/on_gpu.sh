#!/usr/bin/env bash
# Everything that has to be seen on a GPU, in three calls of less than 9 minutes each:
#   benchmarks/on_gpu.sh tests  OUT WHEELS              the tests marked cuda, a profile of one epoch
#   benchmarks/on_gpu.sh speed  OUT WHEELS IMAGES       python -m benchmarks gpu, the default recipe by run.py
#   benchmarks/on_gpu.sh search OUT WHEELS IMAGES       40 trials, one at a time and 8 in turns; the confirmation; the test set
# WHEELS: a folder of wheels, installed where Python lacks them, without an index. IMAGES: DIR/{train,test}/<class>/*, or
# an archive of that (.tar.xz). The output of each step is in OUT/<step>.log as it comes; a step that fails stops no other.
# DEVICE=cpu and SMALL=1 try the script itself where there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=${1:?tests, speed or search} out=$(realpath -m "${2:?a folder for the output}") wheels=${3:?a folder of wheels} images=${4:-}
device=${DEVICE:-cuda} trials=40 epochs=10 options=()
if [ -n "${SMALL:-}" ]; then trials=2 epochs=1 options=(model.width=4 'model.depths=[1,1]' data.limit=400); fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CIFAR_CACHE="$work/cache"
failed=()

step() {  # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    timeout -k 10 "$seconds" "$@" >"$out/$name.log" 2>&1
    local code=$?
    if [ $code -ne 0 ]; then failed+=("$name"); fi
    printf '%-22s exit %3d  %4d s\n' "$name" $code $((SECONDS - start)) | tee -a "$out/steps.txt"
}

install() {  # what is missing, and nothing that is there: the machine's own torch is the one for its driver
    for wheel in "$wheels"/*.whl; do
        local name
        name=$(basename "$wheel" | cut -d- -f1)
        python3 -m pip show -q "$name" || python3 -m pip install -q --no-index --no-deps --target "$work/site" "$wheel"
    done
    python3 -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())'
}

keep() {  # keep NAME FOLDER: the small files of the runs below a folder
    (cd "$2" && find . -name '*.csv' -o -name 'result.json' -o -name '*.yaml' -o -name '*.log' | tar -czf "$out/$1.tgz" -T -)
}

export PYTHONPATH="$work/site:$PWD"
install >"$out/$stage-install.log" 2>&1
if [ -f "$images" ]; then
    mkdir "$work/images" && tar -xJf "$images" -C "$work/images"
    images=$(dirname "$(find "$work/images" -type d -name train | head -1)")
fi
run=(python3 run.py device="$device" cuda_graph=auto data=image_folder data.root="$images" epochs=$epochs "${options[@]}")

case $stage in
tests)
    step cuda-tests 330 python3 -m pytest -m cuda -p no:cacheprovider -q --durations=15 tests
    step profile-eager 60 python3 -m benchmarks profile --out "$out/profile-eager.txt"
    step profile-graph 60 python3 -m benchmarks profile --graph --out "$out/profile-graph.txt"
    step host-time 60 python3 -m benchmarks host
    ;;
speed)
    step speed 390 python3 -m benchmarks gpu --data "$images"
    step recipe 120 "${run[@]}" test=true hydra.run.dir="$work/recipe"
    keep recipe-files "$work/recipe"
    ;;
search)
    search=(-m hydra/sweeper=optuna hydra.sweeper.n_trials=$trials hydra.sweeper.sampler.seed=1)
    step search-1 210 "${run[@]}" "${search[@]}" hydra.sweep.dir="$work/one"
    step search-8 120 "${run[@]}" "${search[@]}" hydra.sweeper.trials_per_worker=8 hydra.sweep.dir="$work/eight"
    step confirm 150 python3 run.py -m hydra/sweeper=confirm hydra.sweeper.study="$work/eight" hydra.sweeper.trials_per_worker=8
    step answer 60 python3 -m analysis.summary "$work/eight"
    keep search-files "$work"
    ;;
*)
    echo "error: $stage: allowed: tests, speed, search" >&2
    exit 2
    ;;
esac
cp -r benchmarks/results "$out/"
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}; see $out/<step>.log"
    exit 1
fi
