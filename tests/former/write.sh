#!/bin/sh
# Writes VERSION.tar.gz with what the checkout at hand writes: sh write.sh CHECKOUT VERSION, in an empty directory.
set -eu
run="python $1/run.py"
tiny="data=digits data.limit=120 device=cpu threads=1"
small="$tiny model.depths=[1] model.width=2"
confirmed="data=digits data.limit=240 model.depths=[1] model.width=4 device=cpu threads=1 epochs=6"
backbone="transfer.weights=random transfer.image_size=32 +transfer.backbone.depths=[1] +transfer.backbone.width=2
    +transfer.backbone.num_classes=10 transfer.backbone._target_=cifar.models.resnet.BottleneckResNet"

# Stops the command that follows the file once that has four lines: in epoch 4, or in the second trial.
interrupt() {
    file=$1
    shift
    "$@" &
    until [ "$(wc -l < "$file" 2> /dev/null || echo 0)" -ge 4 ]; do sleep 0.05; done
    kill -INT $!
    wait $! || true
}

$run $small epochs=3 seed=1 test=true hydra.run.dir=run
interrupt interrupted/metrics.csv $run $small epochs=200 optimizer=adam hydra.run.dir=interrupted
$run transfer=finetune optimizer=adam $tiny $backbone epochs=2 hydra.run.dir=finetuned
$run transfer=frozen optimizer=adam $tiny $backbone epochs=2 hydra.run.dir=frozen
search="-m hydra/sweeper=optuna hydra.sweeper.sampler.seed=1"
interrupt sweeps/stopped/1/metrics.csv $run $search hydra/sweeper/pruner=none hydra.sweeper.study_name=stopped \
    hydra.sweeper.n_trials=3 $small epochs=40 optimizer=adamw
$run $search hydra.sweeper.study_name=confirmed hydra.sweeper.n_trials=9 $confirmed
$run -m hydra/sweeper=confirm hydra.sweeper.study=sweeps/confirmed hydra.sweeper.top=2 hydra.sweeper.seeds=2 $confirmed
tar czf "$2.tar.gz" run interrupted finetuned frozen sweeps
