#!/bin/bash
# shellcheck disable=SC1091,SC2317  # files of the job are not here; a trap calls `stop`
#@# Template of a Slurm job's batch script. `script.render` fills it in: `@NAME@` is a value, a line `@NAME@` several lines,
#@# `#@if NAME` to `#@end` an optional part. Lines that begin as this one are not in the script.
@OPTIONS@

@SETUP@
folder=@FOLDER@
attempt=$((${SLURM_RESTART_COUNT:-0} + 1)) task=${SLURM_ARRAY_TASK_ID:--}
export REPRISE_JOB=@JOB@ REPRISE_ATTEMPT=$attempt PYTHONUNBUFFERED=1
#@if array
[ "$task" = - ] || export REPRISE_TASK=$task REPRISE_TASKS=@TASKS@
#@end
#@if words
. "$folder/words"
#@end
set -- @COMMAND@
run() {  # PROGRAM ARGUMENT...: replaces this process, with the job's variables
#@if secrets
  . "$folder/secrets"
#@end
@EXPORTS@
  exec "$@"
}

note() { printf '%s %s %s %s %s\n' "$task" "$attempt" "$(date +%s)" "$1" "$2" >> "$folder/record"; }
attempts=@ATTEMPTS@ child='' asked='' again=''
stop() {  # the command saves its work; a command that ignores SIGTERM is killed after the grace period
  again=1
  [ -n "$asked" ] && return
  asked=1
  [ -z "$child" ] && return
  kill -TERM -- "-$child" 2> /dev/null
  (sleep @GRACE@; kill -KILL -- "-$child") 2> /dev/null &
}
trap stop USR1 TERM

#@if ray
python=@PYTHON@
log=$folder/ray-${SLURM_JOB_ID} temp=$(mktemp -d "/tmp/rp-$SLURM_JOB_ID-XXXXXX")  # a name that nobody can take before
limit=300  # seconds in which the Ray cluster must be up
all_there='import sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
last = time.monotonic() + float(sys.argv[2])
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.monotonic() < last or sys.exit(1)
    time.sleep(0.2)
'
reprise_steps=()
node_step() {  # NODE NAME ARGUMENT...: starts Ray on one node, as a step of the job
  local node=$1 name=$2 ip
  ip=$(scontrol show node --oneliner "$node" | sed -E 's/.* NodeAddr=([^ ]+).*/\1/')
  run srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" @SHARE@ --input=none --output="$log-$name.txt" \
    "$python" -P -m ray.scripts.scripts start --block --node-ip-address="$ip" @SIZE@ --disable-usage-stats \
    --min-worker-port=0 --max-worker-port=0 "${@:3}" 2>> "$log-steps.txt" &
  reprise_steps+=($!)
}
start_ray() {
  local head base=$((12000 + SLURM_JOB_ID % 1000 * 20)) i
  mapfile -t reprise_nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  head=$(scontrol show node --oneliner "${reprise_nodes[0]}" | sed -E 's/.* NodeAddr=([^ ]+).*/\1/')
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
  node_step "${reprise_nodes[0]}" head --head --port=$base --ray-client-server-port=$((base + 1)) \
    --dashboard-agent-listen-port=$((base + 2)) --include-dashboard=false --temp-dir="$temp"
  until (exec 3<> "/dev/tcp/$head/$base") 2> /dev/null; do
    kill -0 "${reprise_steps[0]}" 2> /dev/null || { tail -n 5 "$log"-*.txt; echo "Ray's head did not start."; return 1; }
    [ -z "$asked" ] || return 1
    sleep 0.2
  done
  for ((i = 1; i < ${#reprise_nodes[@]}; i++)); do
    node_step "${reprise_nodes[i]}" "$i" --address="$head:$base" --dashboard-agent-listen-port=$((base + 2 + i % 18))
  done
  export RAY_ADDRESS="$head:$base"
  "$python" -P -c "$all_there" "${#reprise_nodes[@]}" "$limit" ||
    { tail -n 5 "$log"-*.txt; echo "Ray did not come up on ${#reprise_nodes[@]} nodes within $limit s."; return 1; }
}
end_ray() {
  [ "${#reprise_steps[@]}" = 0 ] && return
  kill -TERM "${reprise_steps[@]}" 2> /dev/null
  (sleep 20; kill -KILL "${reprise_steps[@]}") 2> /dev/null &
  wait "${reprise_steps[@]}"
  rm -rf "$temp"
}

#@end
code=0
if [ -e "$folder/cancel" ]; then asked=1; fi
note start "$(hostname)"
cd -- @WORKDIR@ || code=1
#@if ray
[ "$code" = 0 ] && [ -z "$asked" ] && { start_ray || code=1; }
#@end
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

#@if ray
end_ray
#@end
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
