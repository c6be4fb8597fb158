# The extension beside the job queues that Node applications send webhooks with.
# shellcheck shell=bash

STACK_DELIVERIES=${BENCH_STACK_DELIVERIES:-$DELIVERIES}
STACK_TRIAL=${BENCH_STACK_TRIAL:-40000}
# The fastest stands first: the machine has the least time to change between it and ours.
STACKS=(graphile-worker bullmq pg-boss)

# The settings of which each stack gets those with which it is the fastest here: jobs at a time
# (pg-boss: loops), and jobs fetched at once; each with one process and with two. So is the
# extension, with what one worker may have in flight.
declare -A STACK_SETTINGS=(
	[bullmq]="50,1 100,1 200,1 400,1"
	[pg-boss]="1,1000 2,500 2,1000 2,2000 3,1000"
	[graphile-worker]="100,500 200,1000 500,1000 500,2000"
)
OUR_SETTINGS=(512 2048)
STACK_PROCESSES=(1 2)
declare -A STACK_CHOICE=()

node_is_new_enough()
{
	node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major * 100 + +minor < 2018 ? 1 : 0)'
}

install_stacks()
{
	local dir=$SCRATCH/tree/test/bench/stacks
	# With the environment of whoever called, which may tell how to reach the registry.
	run_quietly "$SCRATCH/npm.log" npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --cache "$SCRATCH/npm" ||
		die "npm ci failed"
	give_to_user "$dir"
}

start_redis()
{
	REDIS=$SCRATCH/tmp/redis.sock
	start_process "$SCRATCH/redis.log" redis-server --port 0 --unixsocket "$REDIS" --save '' --appendonly no
	REDIS_PROCESS=$STARTED
	WAIT_SECONDS=10 wait_until "redis" test -S "$REDIS"
}

# run_stack STACK ACTION COUNT SETTINGS
run_stack()
{
	local stack=$1 action=$2 count=$3 jobs batch processes
	IFS=, read -r jobs batch processes <<<"$4"
	as_user env PGDATABASE=bench_stack STACK_URL="$HTTP" STACK_COUNT="$count" STACK_ENDPOINTS="$ENDPOINTS" \
		STACK_PAYLOAD="$(payload_text)" STACK_REDIS="$REDIS" STACK_CONCURRENCY="$jobs" STACK_BATCH="$batch" \
		STACK_PROCESSES="$processes" \
		timeout "$WAIT_SECONDS" node "test/bench/stacks/$stack.js" "$action" >"$SCRATCH/stack.out" 2>"$SCRATCH/stack.err" ||
		{ tail -n 20 "$SCRATCH/stack.err"; die "$stack failed to $action"; }
}

# measure_stack STACK COUNT SETTINGS: sets RATE.
measure_stack()
{
	local stack=$1 count=$2 settings=$3
	sql postgres <<<'DROP DATABASE IF EXISTS bench_stack; CREATE DATABASE bench_stack'
	run_stack "$stack" enqueue "$count" "$settings"
	settle bench_stack
	run_stack "$stack" drain "$count" "$settings"
	RATE=$(cat "$SCRATCH/stack.out")
	[ "$stack" = bullmq ] || [ "$(value 'SELECT count(*) FROM stack_attempts' bench_stack)" -eq "$count" ] ||
		die "$stack did not record all attempts"
}

choose_settings()
{
	local stack=$1 processes settings best=0
	for processes in "${STACK_PROCESSES[@]}"; do
		for settings in ${STACK_SETTINGS[$stack]}; do
			wait_for_quiet
			measure_stack "$stack" "$STACK_TRIAL" "$settings,$processes"
			progress "$stack with $settings,$processes (jobs at a time, fetched at once, processes): $RATE"
			if [ "$RATE" -gt "$best" ]; then
				best=$RATE
				STACK_CHOICE[$stack]=$settings,$processes
			fi
		done
	done
	progress "$stack is the fastest with ${STACK_CHOICE[$stack]}"
}

# Leaves the extension with the settings with which it is the fastest.
choose_ours()
{
	local workers in_flight best=0 best_workers best_in_flight
	for workers in "${STACK_PROCESSES[@]}"; do
		for in_flight in "${OUR_SETTINGS[@]}"; do
			configure webhooks.workers "$workers"
			configure webhooks.max_in_flight "$in_flight"
			undisturbed measure_deliveries "$STACK_DELIVERIES" "$ENDPOINTS" "$HTTP"
			progress "the extension with $workers worker(s), max_in_flight $in_flight: $RATE_RUNNING"
			if [ "$RATE_RUNNING" -gt "$best" ]; then
				best=$RATE_RUNNING
				best_workers=$workers
				best_in_flight=$in_flight
			fi
		done
	done
	configure webhooks.workers "$best_workers"
	configure webhooks.max_in_flight "$best_in_flight"
	progress "the extension is the fastest with $best_workers worker(s), max_in_flight $best_in_flight"
}

# Adds a row for each stack; the goal is of the fastest. From the array OURS and rates, by stack.
add_stacks()
{
	local stack best=0 fastest
	for stack in "${STACKS[@]}"; do
		read -r -a THEIRS <<<"${rates[$stack]}"
		if meets "$(median "${THEIRS[@]}")" "> $best"; then
			best=$(median "${THEIRS[@]}")
			fastest=$stack
		fi
	done
	for stack in "${STACKS[@]}"; do
		read -r -a THEIRS <<<"${rates[$stack]}"
		if [ "$stack" = "$fastest" ]; then
			add_ratio "stacks, $stack" "deliveries/s" "of $stack, the fastest" ">= 3"
		else
			add_ratio "stacks, $stack" "deliveries/s" "of $stack" ""
		fi
	done
}

row_stacks()
{
	local run stack
	local -A rates=()
	OURS=()
	if ! node_is_new_enough; then
		progress "skipped: the stacks need Node 20.18 or later"
		return
	fi
	install_stacks
	start_redis
	for stack in "${STACKS[@]}"; do
		choose_settings "$stack"
	done
	choose_ours
	for ((run = 1; run <= RUNS; run++)); do
		undisturbed measure_deliveries "$STACK_DELIVERIES" "$ENDPOINTS" "$HTTP"
		OURS+=("$RATE_RUNNING")
		for stack in "${STACKS[@]}"; do
			undisturbed measure_stack "$stack" "$STACK_DELIVERIES" "${STACK_CHOICE[$stack]}"
			rates[$stack]+=" $RATE"
			progress "run $run: $stack $RATE, ours ${OURS[-1]}"
		done
	done
	unconfigure webhooks.workers
	unconfigure webhooks.max_in_flight
	stop_process "$REDIS_PROCESS"
	value 'DROP DATABASE bench_stack' postgres
	add_stacks
}
