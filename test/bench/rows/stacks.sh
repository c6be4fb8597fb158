# A worker beside the job queues that Node applications send webhooks with.
# shellcheck shell=bash

STACK_DELIVERIES=${BENCH_STACK_DELIVERIES:-50000}
STACKS=(bullmq pg-boss graphile-worker)

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

run_stack()
{
	as_user env PGDATABASE=bench_stack STACK_URL="$HTTP" STACK_COUNT="$STACK_DELIVERIES" STACK_ENDPOINTS="$ENDPOINTS" \
		STACK_PAYLOAD="$(payload_text)" STACK_REDIS="$REDIS" \
		timeout "$WAIT_SECONDS" node "test/bench/stacks/$1.js" "$2" >"$SCRATCH/stack.out" 2>"$SCRATCH/stack.err" ||
		{ tail -n 20 "$SCRATCH/stack.err"; die "$1 failed to $2"; }
}

# Sets RATE.
measure_stack()
{
	local stack=$1
	sql postgres <<<'DROP DATABASE IF EXISTS bench_stack; CREATE DATABASE bench_stack'
	run_stack "$stack" enqueue
	sql bench_stack <<<'ANALYZE; CHECKPOINT'
	run_stack "$stack" drain
	RATE=$(cat "$SCRATCH/stack.out")
	[ "$stack" = bullmq ] ||
		[ "$(value 'SELECT count(*) FROM stack_attempts' bench_stack)" -eq "$STACK_DELIVERIES" ] ||
		die "$stack recorded too few attempts"
}

row_stacks()
{
	local run stack best=0 fastest
	declare -A rates=()
	OURS=()
	install_stacks
	start_redis
	for ((run = 1; run <= RUNS; run++)); do
		measure_deliveries "$STACK_DELIVERIES" "$ENDPOINTS" "$HTTP"
		OURS+=("$RATE")
		for stack in "${STACKS[@]}"; do
			measure_stack "$stack"
			rates[$stack]+=" $RATE"
			progress "run $run: $stack $RATE, ours ${OURS[-1]}"
		done
	done
	stop_process "$REDIS_PROCESS"
	value 'DROP DATABASE bench_stack' postgres

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
