#!/bin/bash
# shellcheck disable=SC1091,SC2317  # files of the job are not here; a trap calls `stop`
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
run() {  # PROGRAM ARGUMENT...: replaces this process, with the job's variables
  exec "$@"
}

note() { printf '%s %s %s %s %s\n' "$task" "$attempt" "$(date +%s)" "$1" "$2" >> "$folder/record"; }
attempts=10 child='' asked='' again=''
stop() {  # the command saves its work; a command that ignores SIGTERM is killed after the grace period
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
  set -m  # a process group of its own, in which SIGINT is not ignored
  run "$@" < /dev/null &
  child=$!
  set +m
  again=1
  while [ -n "$again" ]; do again=''; wait "$child"; code=$?; done
  kill -KILL -- "-$child" 2> /dev/null  # workers that are still there after the command
elif [ "$code" = 0 ]; then
  code=75  # asked to stop before the command started; 75 (EX_TEMPFAIL) asks for another attempt
fi

why='done'
if [ -e "$folder/cancel" ]; then
  why=cancelled
elif [ -n "$asked" ] && [ "$code" != 0 ] || [ "$code" = 75 ]; then
  why=stopped  # stays so where Slurm or scancel ended the job
  ask() { squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T; }
  if [ "$(ask || { sleep 5; ask; })" = RUNNING ]; then
    why=again
    if [ "$attempt" -gt "$attempts" ]; then
      why='done'
      echo "Stopped for the last time: it may be restarted at most $attempts times."
    fi
  fi
fi
note "$why" "$code"
if [ "$why" = again ] && ! scontrol requeue "$SLURM_JOB_ID"; then note 'done' "$code"; fi
if [ "$task" = - ] && [[ $why = 'done' || $why = cancelled ]]; then rm -f -- "$folder"/{words,secrets,token}; fi
exit "$code"

# sbatch --parsable script
