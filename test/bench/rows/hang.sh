# Healthy endpoints beside one that never answers and has a long queue.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

HANG_ROWS=${BENCH_HANG_ROWS:-200000}
HANG_RATE=${BENCH_HANG_RATE:-2000}
HANG_SECONDS=${BENCH_HANG_SECONDS:-20}
HANG_HEALTHY=100

# Sets HANGING to the address of an endpoint that takes requests and does not answer.
start_hanging_receiver()
{
	start_process "$SCRATCH/hanging.log" "$SCRATCH/tree/test/receiver" --log "$SCRATCH/hanging.requests" \
		--port-file "$SCRATCH/hanging.port" --max-seconds 3600
	HANGING_PROCESS=$STARTED
	WAIT_SECONDS=10 wait_until "the hanging receiver" test -s "$SCRATCH/hanging.port"
	HANGING=http://127.0.0.1:$(cat "$SCRATCH/hanging.port")/hang
}

hangs()
{
	[ "$(value 'SELECT count(*) >= 32 FROM webhooks.in_flight')" = t ]
}

# Sets RATE, in deliveries/s, and P99, in ms from dispatch to request, of the healthy endpoints.
measure_healthy()
{
	local with_hanging=$1 began
	make_database bench "$HANG_HEALTHY" "$HTTP"
	if [ -n "$with_hanging" ]; then
		value "SELECT webhooks.register_endpoint('$HANGING', '{bench.hang}')" >/dev/null
		value "SELECT count(webhooks.dispatch('bench.hang', payload(n))) FROM generate_series(1, $HANG_ROWS) n" >/dev/null
	fi
	settle bench
	enable >/dev/null
	WAIT_SECONDS=20 wait_until "a worker" workers_run bench 1
	[ -z "$with_hanging" ] || WAIT_SECONDS=20 wait_until "requests that hang" hangs
	began=$(value 'SELECT clock_timestamp()')
	pgbench_run bench "$(dispatch_script "$HANG_HEALTHY")" -c 4 -j 2 -R "$HANG_RATE" -T "$HANG_SECONDS"
	read -r RATE P99 < <(value "SELECT round(count(*) / $HANG_SECONDS.0),
			round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 2)
		FROM (SELECT 1e3 * extract(epoch FROM attempted_at - created_at) AS ms
			FROM webhooks.attempts JOIN webhooks.events USING (event_id)
			WHERE outcome = 'succeeded' AND attempted_at < '$began'::timestamptz + interval '$HANG_SECONDS s') a")
	disable
}

row_hang()
{
	local run rate=() rate_alone=() p99=() p99_alone=()
	start_hanging_receiver
	for ((run = 1; run <= RUNS; run++)); do
		measure_healthy ''
		rate_alone+=("$RATE") p99_alone+=("$P99")
		measure_healthy 1
		rate+=("$RATE") p99+=("$P99")
		progress "run $run: $RATE/s, p99 $P99 ms; alone ${rate_alone[-1]}/s, p99 ${p99_alone[-1]} ms"
	done
	stop_process "$HANGING_PROCESS"
	OURS=("${rate[@]}") THEIRS=("${rate_alone[@]}")
	add_ratio "hang, throughput" "deliveries/s of the others" "without it" ">= 0.9"
	OURS=("${p99[@]}") THEIRS=("${p99_alone[@]}")
	add_ratio "hang, p99" "ms from dispatch to request" "ms without it" "<= 1.5"
}
