#!/bin/bash
#SBATCH --job-name=ppo_cartpole
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --output=/shared/jobs/ID/log.txt
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --requeue

folder=/shared/jobs/ID
attempt=$((${SLURM_RESTART_COUNT:-0} + 1)) task=${SLURM_ARRAY_TASK_ID:--}
export REPRISE_JOB=ID REPRISE_ATTEMPT=$attempt PYTHONUNBUFFERED=1
set -- python -m ray_jobs.cli reproduce ppo_cartpole --seeds 10
run() {  # PROGRAM ARGUMENT...: in place of this process, with the job's variables
  exec "$@"
}

note() { printf '%s %s %s %s %s\n' "$task" "$attempt" "$(date +%s)" "$1" "$2" >> "$folder/record"; }
child= asked= again=
stop() {  # the command saves its work; what is deaf is ended after the grace period
  again=1
  [ -n "$asked" ] && return
  asked=1
  [ -z "$child" ] && return
  kill -TERM -- "-$child" 2> /dev/null
  (sleep 120; kill -KILL -- "-$child") 2> /dev/null &
}
trap stop USR1 TERM

code=0
if [ -e "$folder/cancel" ]; then asked=1; fi
note start "$(hostname)"
cd -- /home/me/work || code=1
if [ "$code" = 0 ] && [ -z "$asked" ]; then
  set -m  # a process group of its own, which hears of Ctrl-C's signal as it does at a terminal
  run "$@" < /dev/null &
  child=$!
  set +m
  again=1
  while [ -n "$again" ]; do again=; wait "$child"; code=$?; done
  kill -KILL -- "-$child" 2> /dev/null  # workers that outlived the command
elif [ "$code" = 0 ]; then
  code=75  # told to stop before it began
fi

why=done
if [ -e "$folder/cancel" ]; then
  why=cancelled
elif [ -n "$asked" ] && [ "$code" != 0 ] || [ "$code" = 75 ]; then
  why=stopped  # Slurm, or whoever used scancel, has the last word
  ask() { squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T; }
  if [ "$(ask || { sleep 5; ask; })" = RUNNING ]; then
    why=again
    if [ "$attempt" -gt 10 ]; then
      why=done
      echo "Stopped for the last time: it was to be started again at most 10 times."
    fi
  fi
fi
note "$why" "$code"
if [ "$why" = again ] && ! scontrol requeue "$SLURM_JOB_ID"; then note done "$code"; fi
if [ "$task" = - ] && [[ $why = done || $why = cancelled ]]; then rm -f -- "$folder"/{words,secrets,token}; fi
exit "$code"

# sbatch --parsable script
