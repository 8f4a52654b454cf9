#!/usr/bin/env bash
# The coursework's own grid on TensorRT: five architectures by three accelerations, a batch size at a time, 32 first.
#
#   experiments/coursework_h200/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   PARTS='b32 b32_engine b16 b64' FOLDER=experiments/coursework_h200      # which parts, and where they go
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
export parts=${PARTS:-b32 b32_engine b16 b64}
known_timings

questions() {
  local part size
  for part in $parts; do
    size=${part#b}
    sweep "coursework_$part" experiment=coursework engine=tensorrt batch_size="${size%_engine}" \
      protocol.builds=1 engine.build_jobs=4 $([[ $part == *_engine ]] && echo reference=engine)
  done
}
lanes "${1:-100000}" questions
for part in $parts; do names+=("coursework_$part"); done
collect "${FOLDER:-experiments/coursework_h200}" "${names[@]}"
