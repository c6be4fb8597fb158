# Deliveries a second while another session holds an old snapshot, so that nothing dead is removed.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

SNAPSHOT_DELIVERIES=${BENCH_SNAPSHOT_DELIVERIES:-500000}

HOLDERS="FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND backend_xmin IS NOT NULL"

snapshot_is_held()
{
	[ "$(value "SELECT count(*) $HOLDERS")" -eq 1 ]
}

row_snapshot()
{
	local run
	OURS=() THEIRS=()
	for ((run = 1; run <= RUNS; run++)); do
		measure_deliveries "$SNAPSHOT_DELIVERIES" "$ENDPOINTS" "$HTTP"
		THEIRS+=("$RATE")

		make_database bench "$ENDPOINTS" "$HTTP"
		dispatch bench "$SNAPSHOT_DELIVERIES" "$ENDPOINTS"
		start_process "$SCRATCH/snapshot.log" psql -X -d bench -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' \
			-c 'SELECT count(*) FROM webhooks.endpoints' -c 'SELECT pg_sleep(600)'
		WAIT_SECONDS=20 wait_until "a snapshot" snapshot_is_held
		drain bench "$SNAPSHOT_DELIVERIES"
		snapshot_is_held || fail "the snapshot was not held to the end"
		value "SELECT pg_terminate_backend(pid) $HOLDERS" postgres >/dev/null
		stop_process "$STARTED"
		OURS+=("$RATE")
		progress "run $run: $RATE, without ${THEIRS[-1]}"
	done
	add_ratio snapshot "deliveries/s" "without the snapshot" ">= 0.9"
}
