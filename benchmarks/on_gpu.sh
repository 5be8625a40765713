#!/usr/bin/env bash
# Everything that has to be seen on a GPU, in two calls, for a machine that is lent by the minute:
#   benchmarks/on_gpu.sh try      OUT WHEELS IMAGES    the tests marked cuda, profiles, and each measurement in small: 4 minutes
#   benchmarks/on_gpu.sh measure  OUT WHEELS IMAGES    speed, trials in turns, the recipe, a search with its test: 9 minutes
# WHEELS: a folder of wheels, installed where Python lacks them, without an index. IMAGES: DIR/{train,test}/<class>/*, or
# an archive of that (.tar.xz). The output of each step is in OUT/<step>.log as it comes; a step that fails stops no other.
# DEVICE=cpu and SMALL=1 try the script itself where there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=${1:?try or measure} out=$(realpath -m "${2:?a folder for the output}") wheels=${3:?a folder of wheels} images=${4:?images}
small=('model.width=4' 'model.depths=[1,1]' data.limit=400 epochs=1) options=()
if [ -n "${SMALL:-}" ]; then options=("${small[@]}"); fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CIFAR_CACHE="$work/cache" PYTHONPATH="$work/site:$PWD" PYTHONUNBUFFERED=1

step() {  # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    timeout -k 10 "$seconds" "$@" >"$out/$name.log" 2>&1
    printf '%-22s exit %3d  %4d s\n' "$name" $? $((SECONDS - start)) | tee -a "$out/steps.txt"
}

install() {  # what is missing, and nothing that is there: the machine's own torch is the one for its driver
    local missing
    mapfile -t missing < <(python3 - "$wheels"/*.whl <<'PYTHON'
import sys
from importlib.metadata import distributions
there = {distribution.name.lower().replace("-", "_") for distribution in distributions()}
print("\n".join(path for path in sys.argv[1:] if path.split("/")[-1].split("-")[0].lower() not in there), end="")
PYTHON
    )
    if [ ${#missing[@]} -gt 0 ]; then
        python3 -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "${missing[@]}"
    fi
    python3 -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())'
}

install >"$out/install.log" 2>&1
if [ -f "$images" ]; then
    mkdir "$work/images" && tar -xJf "$images" -C "$work/images"
    images=$(dirname "$(find "$work/images" -type d -name train | head -1)")
fi
settings=(device="${DEVICE:-cuda}" cuda_graph=auto "${options[@]}")
mapfile -t marked < <(grep -rl 'mark\.cuda' tests)

# For accuracy: a wide ResNet-9 in few epochs. The best settings become a recipe once the test set has been seen, once.
accurate=(data=image_folder data.root="$images" model=resnet9 model.width=128 scheduler=onecycle ema.decay=0.99 batch_size=256)
space=('optimizer.lr=tag(log,interval(0.05,0.8))' 'optimizer.weight_decay=tag(log,interval(1e-4,2e-3))'
    'augment.erase=interval(0,0.6)' 'loss.label_smoothing=interval(0,0.2)' 'augment=choice(crop_flip,trivial)')

case $stage in
try)  # images are decoded once: the first to come keeps them in the cache
    step decode 90 python3 run.py data=image_folder data.root="$images" "${settings[@]}" "${small[@]}" hydra.run.dir="$work/one"
    step cuda-tests 150 python3 -m pytest -m cuda -p no:cacheprovider -q -n 6 --durations=10 "${marked[@]}" &
    step whole-small 120 python3 -m benchmarks whole --data "$images" --out "$work/small" --trials 4 --name whole-small \
        "${settings[@]}" "${small[@]}" hydra.sweeper.trials_per_worker=2
    wait
    step profile-eager 40 python3 -m benchmarks profile
    step profile-graph 40 python3 -m benchmarks profile --graph
    ;;
measure)
    step speed 240 python3 -m benchmarks gpu --minutes 3 --data "$images"
    step accurate 150 python3 run.py -m hydra/sweeper=optuna hydra.sweeper.n_trials=10 hydra.sweep.dir="$work/accurate" \
        "${accurate[@]}" "${space[@]}" "${settings[@]}" epochs=16
    step accurate-test 60 python3 run.py from_study="$work/accurate" test=true hydra.run.dir="$work/accurate-test"
    step whole 300 python3 -m benchmarks whole --data "$images" --out "$work/whole" --name whole-gpu \
        "${settings[@]}" hydra.sweeper.trials_per_worker=8
    ;;
*)
    echo "error: $stage: allowed: try, measure" >&2
    exit 2
    ;;
esac
(cd benchmarks/results && find . -newer "$out/install.log" -name '*.json' -print0 | tar -czf "$out/results.tgz" --null -T -)
if failed=$(grep -v 'exit   0' "$out/steps.txt"); then
    printf 'failed; see %s/<step>.log\n%s\n' "$out" "$failed"
    exit 1
fi
