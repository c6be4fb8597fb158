# Many sessions that dispatch and several workers, with capacity to spare: how long does a delivery
# wait that is due?
# shellcheck shell=bash

CONTENTION_SECONDS=${BENCH_CONTENTION_SECONDS:-60}
CONTENTION_RATE=${BENCH_CONTENTION_RATE:-1000}
CONTENTION_WARM_UP=${BENCH_CONTENTION_WARM_UP:-5}	# seconds in which sessions connect, not judged
CONTENTION_SESSIONS=50
CONTENTION_WORKERS=4

log_count()
{
	grep -c -E "$1" "$SCRATCH/server.log" || true
}

# The end of a commit, fsync included, is not to be had from the database: so each session notes, in
# a table that is not logged and costs no fsync, when its commit has returned.
contention_script()
{
	printf '\\set e random(0, %d)\n' $((ENDPOINTS - 1))
	printf '%s\n' "SELECT webhooks.dispatch('bench.e' || :e::text, :payload) AS event \\gset" \
		"INSERT INTO commits VALUES (:event, clock_timestamp());"
}

# Prints how many deliveries there are; of those after the warm-up the largest wait, p99.9 and how
# many waited more than 100 ms, from the commit's return; and the largest from dispatch.
contention_figures()
{
	value "SELECT count(*), round(max(ms) FILTER (WHERE judged), 1),
			round(percentile_cont(0.999) WITHIN GROUP (ORDER BY ms) FILTER (WHERE judged)::numeric, 1),
			count(*) FILTER (WHERE judged AND ms > 100),
			round(max(from_dispatch) FILTER (WHERE judged), 1)
		FROM (
			SELECT 1e3 * greatest(extract(epoch FROM a.attempted_at - c.at), 0) AS ms,
				1e3 * extract(epoch FROM a.attempted_at - e.created_at) AS from_dispatch,
				e.created_at > min(e.created_at) OVER () + interval '$CONTENTION_WARM_UP s' AS judged
			FROM webhooks.attempts a JOIN webhooks.events e USING (event_id) JOIN commits c USING (event_id)
			WHERE a.outcome = 'succeeded') w"
}

row_contention()
{
	local sent recorded largest p999 late from_dispatch deadlocks
	configure webhooks.workers "$CONTENTION_WORKERS"
	make_database bench "$ENDPOINTS" "$HTTP"
	value 'CREATE UNLOGGED TABLE commits (event_id uuid, at timestamptz)'
	deadlocks=$(log_count 'deadlock detected')
	enable >/dev/null
	WAIT_SECONDS=20 wait_until "$CONTENTION_WORKERS workers" workers_run bench "$CONTENTION_WORKERS"
	pgbench_run bench "$(contention_script)" -c "$CONTENTION_SESSIONS" -j 2 -R "$CONTENTION_RATE" -T "$CONTENTION_SECONDS"
	sent=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$SCRATCH/pgbench.out")
	open_session bench
	WAIT_SECONDS=30 await_empty_queue >/dev/null
	close_session
	disable
	unconfigure webhooks.workers

	deadlocks=$(($(log_count 'deadlock detected') - deadlocks))
	read -r recorded largest p999 late from_dispatch < <(contention_figures)
	add_row "contention, lost" "deliveries lost of $sent" "" "$((sent - recorded))" "" "<= 0"
	add_row "contention, deadlocks" "deadlocks" "" "$deadlocks" "" "<= 0"
	add_row "contention, largest wait" "ms from the commit's return to the request" \
		"$from_dispatch ms from dispatch" "$largest" "" "<= 100"
	add_row "contention, p99.9" "ms from the commit's return to the request" "" "$p999" "" ""
	add_row "contention, late" "deliveries that waited more than 100 ms" "" "$late" "" "<= 0"
}
