"""The batch script that Slurm is given: pure functions from a job and its place to text.

The script runs the command, on several nodes beside a Ray cluster of its own, and says in a record file how each attempt
began and ended. Told to stop (a time limit comes near, a job of higher priority needs the nodes) it passes SIGTERM on to
the command, which saves its work, and puts itself back into the queue. Every word that a user wrote is quoted; secret
ones are not in the script but in files beside it that only the user may read.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.job import Job, hide_command, is_secret

WORDS, SECRETS, TOKEN, RECORD, CANCEL = "words", "secrets", "token", "record", "cancel"
"""Files in a job's folder: secret words and variables, its Ray's token, how each attempt went, that it was told to end."""
REQUEUE = 75
"""Exit code by which a command asks to be started again (EX_TEMPFAIL of sysexits.h)."""
RAY_LIMIT = 300
"""Seconds that the job's own Ray cluster may take to come up."""


@dataclass(frozen=True)
class Script:
    """What a script is made of beside the job: the folder that all nodes see, Slurm's options, and what follows from the place."""

    folder: Path
    options: tuple[tuple[str, str], ...]
    """sbatch's long options without their dashes; a flag has the value ''."""
    setup: tuple[str, ...] = ()
    grace: int = 120
    attempts: int = 10
    tasks: int = 0
    """Tasks of the array; 0 where it is none."""
    python: str = ""

    def text(self, job: Job) -> str:
        """The whole script."""
        parts = [_directives(self.options), _head(self, job), STOPPING.replace("@GRACE@", str(self.grace))]
        if job.resources.nodes > 1:
            parts += [_ray(self, job)]
        parts += [_run(self, job), _end(self, job)]
        return "\n".join(parts)


def options(
    job: Job, folder: Path, place: Sequence[tuple[str, str]], min_nodes: int = 0
) -> tuple[tuple[str, str], ...]:
    """sbatch's options for a job: what it needs, then what its place asks for.

    Args:
        min_nodes: the fewest to begin with; 0 is all.
    """
    wanted = job.resources
    asked = {
        "job-name": job.name,
        "nodes": f"{min_nodes}-{wanted.nodes}" if min_nodes else str(wanted.nodes),
        # of a range Slurm would then take the fewest nodes, and not all that are free
        "ntasks-per-node": None if min_nodes else "1",
        "cpus-per-task": str(max(1, math.ceil(wanted.cpus))),
        "gpus-per-node": str(math.ceil(wanted.gpus)) if wanted.gpus else None,
        "mem": f"{math.ceil(wanted.memory / 2**20)}M" if wanted.memory else None,
        "output": str(folder / "log.txt").replace("%", "%%"),
        "open-mode": "append",
    }
    return (*((name, value) for name, value in asked.items() if value is not None), *place)


def private_files(job: Job) -> dict[str, str]:
    """What nobody else should read, as files for the shell: secret words of the command, and secret variables."""
    words = _assigned("", {f"word_{i}": job.command[i] for i in _secret(job)})
    variables = _assigned("export ", {name: value for name, value in job.env.items() if is_secret(name)})
    return {name: text for name, text in ((WORDS, words), (SECRETS, variables)) if text}


def _secret(job: Job) -> list[int]:
    """The words of the command that are hidden where it is shown."""
    shown = hide_command(job.command)
    return [i for i, (word, seen) in enumerate(zip(job.command, shown, strict=True)) if word != seen]


def _assigned(before: str, values: Mapping[str, str]) -> str:
    return "".join(f"{before}{name}={shlex.quote(value)}\n" for name, value in values.items())


def _directives(options: Sequence[tuple[str, str]]) -> str:
    lines = [f"#SBATCH --{name}" + (f"={_word(value)}" if value else "") for name, value in options]
    return "\n".join(["#!/bin/bash", *lines, ""])


def _word(value: str) -> str:
    """A word of an #SBATCH line, which is no shell's: only quotes and backslashes mean something between quotes."""
    plain = all(c.isalnum() or c in "%+,-./:=@_" for c in value)
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _head(script: Script, job: Job) -> str:
    secret, private = _secret(job), private_files(job)
    words = [f'"$word_{i}"' if i in secret else shlex.quote(word) for i, word in enumerate(job.command)]
    lines = [
        *script.setup,
        f"folder={shlex.quote(str(script.folder))}",
        "attempt=$((${SLURM_RESTART_COUNT:-0} + 1)) task=${SLURM_ARRAY_TASK_ID:--}",
        f"export REPRISE_JOB={shlex.quote(script.folder.name)} REPRISE_ATTEMPT=$attempt PYTHONUNBUFFERED=1",
    ]
    if script.tasks:
        lines.append(f'[ "$task" = - ] || export REPRISE_TASK=$task REPRISE_TASKS={script.tasks}')
    lines += [f'. "$folder/{WORDS}"'] * (WORDS in private)
    lines += [
        f"set -- {' '.join(words)}",
        "run() {  # PROGRAM ARGUMENT...: in place of this process, with the job's variables",
    ]
    lines += [f'  . "$folder/{SECRETS}"'] * (SECRETS in private)
    lines += [_assigned("  export ", {k: v for k, v in job.env.items() if not is_secret(k)}) + '  exec "$@"', "}", ""]
    return "\n".join(lines)


STOPPING = """\
note() { printf '%s %s %s %s %s\\n' "$task" "$attempt" "$(date +%s)" "$1" "$2" >> "$folder/record"; }
child= asked= again=
stop() {  # the command saves its work; what is deaf is ended after the grace period
  again=1
  [ -n "$asked" ] && return
  asked=1
  [ -z "$child" ] && return
  kill -TERM -- "-$child" 2> /dev/null
  (sleep @GRACE@; kill -KILL -- "-$child") 2> /dev/null &
}
trap stop USR1 TERM
"""

RUN = """\
code=0
if [ -e "$folder/cancel" ]; then asked=1; fi
note start "$(hostname)"
@ENTER@
if [ "$code" = 0 ] && [ -z "$asked" ]; then
  set -m  # a process group of its own, which hears of Ctrl-C's signal as it does at a terminal
  run "$@" < /dev/null &
  child=$!
  set +m
  again=1
  while [ -n "$again" ]; do again=; wait "$child"; code=$?; done
  kill -KILL -- "-$child" 2> /dev/null  # workers that outlived the command
elif [ "$code" = 0 ]; then
  code=@REQUEUE@  # told to stop before it began
fi
"""

END = """\
why=done
if [ -e "$folder/cancel" ]; then
  why=cancelled
elif [ -n "$asked" ] && [ "$code" != 0 ] || [ "$code" = @REQUEUE@ ]; then
  why=stopped  # Slurm, or whoever used scancel, has the last word
  ask() { squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T; }
  if [ "$(ask || { sleep 5; ask; })" = RUNNING ]; then
    why=again
    if [ "$attempt" -gt @ATTEMPTS@ ]; then
      why=done
      echo "Stopped for the last time: it was to be started again at most @ATTEMPTS@ times."
    fi
  fi
fi
note "$why" "$code"
if [ "$why" = again ] && ! scontrol requeue "$SLURM_JOB_ID"; then note done "$code"; fi
if [ "$task" = - ] && [[ $why = done || $why = cancelled ]]; then rm -f -- "$folder"/{@PRIVATE@}; fi
exit "$code"
"""


def _run(script: Script, job: Job) -> str:
    enter = f"cd -- {shlex.quote(str(job.workdir.absolute()))} || code=1"
    if job.resources.nodes > 1:
        enter += '\n[ "$code" = 0 ] && [ -z "$asked" ] && { start_ray || code=1; }'
    return RUN.replace("@ENTER@", enter).replace("@REQUEUE@", str(REQUEUE))


def _end(script: Script, job: Job) -> str:
    body = END.replace("@REQUEUE@", str(REQUEUE)).replace("@ATTEMPTS@", str(script.attempts))
    body = body.replace("@PRIVATE@", ",".join((WORDS, SECRETS, TOKEN)))
    return "end_ray\n" + body if job.resources.nodes > 1 else body


RAY = """\
reprise_steps=()
node_step() {  # NODE NAME ARGUMENT...: Ray on one node, as a step of the job
  local node=$1 name=$2 ip
  ip=$(scontrol show node --oneliner "$node" | sed -E 's/.* NodeAddr=([^ ]+).*/\\1/')
  run srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" @SHARE@ --input=none --output="$log-$name.txt" \\
    "$python" -m ray.scripts.scripts start --block --node-ip-address="$ip" @SIZE@ --disable-usage-stats \\
    --min-worker-port=0 --max-worker-port=0 "${@:3}" 2>> "$log-steps.txt" &
  reprise_steps+=($!)
}
start_ray() {
  local head base=$((12000 + SLURM_JOB_ID % 1000 * 20)) i
  mapfile -t reprise_nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  head=$(scontrol show node --oneliner "${reprise_nodes[0]}" | sed -E 's/.* NodeAddr=([^ ]+).*/\\1/')
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
  node_step "${reprise_nodes[0]}" head --head --port=$base --ray-client-server-port=$((base + 1)) \\
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
  "$python" -c "$all_there" "${#reprise_nodes[@]}" "$limit" ||
    { tail -n 5 "$log"-*.txt; echo "Ray did not come up on ${#reprise_nodes[@]} nodes within $limit s."; return 1; }
}
end_ray() {
  [ "${#reprise_steps[@]}" = 0 ] && return
  kill -TERM "${reprise_steps[@]}" 2> /dev/null
  (sleep 20; kill -KILL "${reprise_steps[@]}") 2> /dev/null &
  wait "${reprise_steps[@]}"
  rm -rf "$temp"
}
"""

ALL_THERE = """\
import sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
last = time.monotonic() + float(sys.argv[2])
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.monotonic() < last or sys.exit(1)
    time.sleep(0.2)
"""


def _ray(script: Script, job: Job) -> str:
    wanted = job.resources
    cpus, gpus = max(1, math.ceil(wanted.cpus)), math.ceil(wanted.gpus)
    share = f"--cpus-per-task={cpus}" + f" --gpus-per-node={gpus}" * bool(gpus)
    lines = [
        f"python={shlex.quote(script.python or job.command[0])}",
        "log=$folder/ray-${SLURM_JOB_ID} temp=/tmp/reprise-$SLURM_JOB_ID",
        f"limit={RAY_LIMIT}",
        f"all_there={shlex.quote(ALL_THERE)}",
    ]
    return "\n".join([*lines, RAY.replace("@SHARE@", share).replace("@SIZE@", f"--num-cpus={cpus} --num-gpus={gpus}")])
