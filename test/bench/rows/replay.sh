# A million dead letters of one endpoint replayed in one call, while others are delivered to.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

REPLAY_ROWS=${BENCH_REPLAY_ROWS:-1000000}
REPLAY_RATE=${BENCH_REPLAY_RATE:-500}
REPLAY_HEALTHY=10
REPLAY_BASELINE_SECONDS=10

# Dead letters of an endpoint that answers again.
make_dead_letters()
{
	sql bench -v receiver="$HTTP" -v rows="$REPLAY_ROWS" <<-'END'
		SELECT count(webhooks.register_endpoint(:'receiver' || '/dead', '{bench.dead}')) \g /dev/null
		SELECT count(webhooks.dispatch('bench.dead', payload(n))) FROM generate_series(1, :rows) n \g /dev/null
		WITH ended AS (DELETE FROM webhooks.queue RETURNING *)
		INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at)
		SELECT delivery_id, event_id, endpoint_id, '', 'exhausted', 10, now() FROM ended;
	END
	settle bench
}

# The healthy endpoints' deliveries dispatched in a span: their number, the median and the largest, in ms.
replay_figures()
{
	value "SELECT count(*), round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1),
			round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1), round(max(ms)::numeric, 1)
		FROM (SELECT 1e3 * extract(epoch FROM a.attempted_at - e.created_at) AS ms
			FROM webhooks.attempts a JOIN webhooks.events e USING (event_id)
			WHERE e.event_type <> 'bench.dead' AND e.created_at >= '$1' AND e.created_at < '$2') a"
}

row_replay()
{
	local load began ended pid mib most=0 replayed count median p99 largest count_before median_before p99_before largest_before start
	make_database bench "$REPLAY_HEALTHY" "$HTTP"
	progress "making $REPLAY_ROWS dead letters"
	make_dead_letters
	enable >/dev/null
	WAIT_SECONDS=20 wait_until "a worker" workers_run bench 1
	pgbench_run bench "$(dispatch_script "$REPLAY_HEALTHY")" -c 4 -j 1 -R "$REPLAY_RATE" -T 120 &
	load=$!
	sleep 3	# until they have connected
	start=$(value 'SELECT clock_timestamp()')
	sleep "$REPLAY_BASELINE_SECONDS"
	began=$(value 'SELECT clock_timestamp()')
	value "SELECT webhooks.replay_failed(endpoint_id, '-infinity') FROM webhooks.endpoints WHERE url LIKE '%/dead'" >"$SCRATCH/replayed" &
	replayed=$!
	while kill -0 "$replayed" 2>/dev/null; do
		pid=$(value "SELECT pid FROM pg_stat_activity WHERE query LIKE '%replay_failed%' AND pid <> pg_backend_pid()")
		mib=$(awk '/^RssAnon:/ { printf "%.1f", $2 / 1024 }' "/proc/$pid/status" 2>/dev/null)
		most=$(largest "$most" "${mib:-0}")
		sleep 0.2
	done
	wait "$replayed"
	ended=$(value 'SELECT clock_timestamp()')
	wait "$load"
	WAIT_SECONDS=300 wait_until "the queue to be empty" drained_of_replay
	read -r count_before median_before p99_before largest_before < <(replay_figures "$start" "$began")
	read -r count median p99 largest < <(replay_figures "$began" "$ended")
	progress "before: $count_before deliveries, $median_before, $p99_before, $largest_before ms; meanwhile: $count, $median, $p99, $largest ms"
	add_row "replay" "s for $(cat "$SCRATCH/replayed") dead letters in one call" "" \
		"$(value "SELECT round(extract(epoch FROM '$ended'::timestamptz - '$began'), 1)")" "" ""
	add_row "replay, memory" "MiB of the session" "" "$most" "" "<= 64"
	OURS=("$p99") THEIRS=("$p99_before")
	add_ratio "replay, p99 of others" "ms from dispatch to request meanwhile" "ms before" ""
	add_row "replay, largest" "ms from dispatch to request meanwhile" "$largest_before before" "$largest" "" ""
	read -r count median p99 largest < <(replay_figures "$ended" infinity)
	add_row "replay, afterwards" "ms p99 of others while the replays are delivered" "" "$p99" "" ""
	disable
}

drained_of_replay()
{
	[ "$(value 'SELECT NOT EXISTS (SELECT FROM webhooks.queue)')" = t ]
}
