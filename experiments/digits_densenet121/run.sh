#!/usr/bin/env bash
# Train DenseNet121 and what each technique makes of it on digits, then measure them: the headline first.
#
#   experiments/digits_densenet121/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#
# Trainings go on from their last epoch. Weights lie in checkpoints/ (32 MB for the unmodified network): where the machine
# is lost between two calls, carry that folder and mlruns/ over, or the quartets are of other trainings.
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
started=$SECONDS

learn() { # learn ARCH: every epoch, however good the first ones look; trained weights that are there stay
  python3 -m harness.train experiment=digits_densenet121 hw=none arch="$1" train.epochs=40 train.patience=40 $more
  [ $? != 130 ] || exit 130
}
both() { # both NAME ARCH [OVERRIDE...]: train and measure what is not measured yet
  [ ! -e "mlruns/$1.done" ] || return 0
  learn "$2"
  sweep "$1" experiment=digits_densenet121 arch="${@:2}"
}
unmodified() { learn none; }
pruned() {
  both digits_headline pruned hw.fusion.dense_blocks=true
  both digits_pruned pruned
}
early_exit() { both digits_early_exit early_exit; }
reduced_growth() { both digits_reduced_growth reduced_growth; }
factored() {
  both digits_low_rank low_rank
  both digits_grouped grouped
}
export -f learn both
lanes "${1:-100000}" unmodified # the others start from it and learn from its answers
compgen -G 'checkpoints/densenet121-none-digits-*/model.safetensors' > /dev/null || exit 1
lanes $((${1:-100000} - (SECONDS - started))) ${LANES:-pruned early_exit factored reduced_growth}
collect experiments/digits_densenet121 digits_{headline,pruned,early_exit,low_rank,grouped,reduced_growth}
