# The first deliveries of a long queue beside those of a short one, and the worker's memory.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

BACKLOG_LONG=${BENCH_BACKLOG_LONG:-5000000}
BACKLOG_SHORT=${BENCH_BACKLOG_SHORT:-50000}
BACKLOG_SKIP=$((BACKLOG_SHORT / 10))	# deliveries of the first moments, which are not counted

# Memory of its own, without what it shares.
worker_mib()
{
	awk '/^RssAnon:/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"
}

# sample DATABASE: delivers about as many as the short queue has, and sets RATE, MIB_FIRST, MIB_MOST.
sample()
{
	local database=$1 began pid deadline=$((SECONDS + WAIT_SECONDS)) mib
	open_session "$database"
	began=$(enable)
	WAIT_SECONDS=20 wait_until "a worker" workers_run "$database" 1
	pid=$(worker_pids "$database")
	MIB_FIRST=$(worker_mib "$pid") MIB_MOST=$MIB_FIRST
	until [ "$(ask "SELECT count(*) >= $BACKLOG_SHORT FROM webhooks.attempts
			WHERE attempted_at >= to_timestamp($began)")" = t ]; do
		[ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for deliveries"
		mib=$(worker_mib "$pid")
		MIB_MOST=$(largest "$mib" "$MIB_MOST")
		sleep 0.3
	done
	close_session
	disable
	RATE=$(value "SELECT round(($BACKLOG_SHORT - $BACKLOG_SKIP) / extract(epoch FROM max(ended_at) - min(ended_at))) FROM (
			SELECT attempted_at + duration_ms * interval '1 ms' AS ended_at FROM webhooks.attempts
			WHERE attempted_at >= to_timestamp($began) ORDER BY 1 LIMIT $BACKLOG_SHORT - $BACKLOG_SKIP OFFSET $BACKLOG_SKIP) a" "$database")
}

# A paused database costs the other's worker nothing.
set_endpoints()
{
	value "UPDATE webhooks.endpoints SET state = '$1'" bench_backlog
}

row_backlog()
{
	local run mib=() mib_short=()
	OURS=() THEIRS=()
	make_database bench_backlog "$ENDPOINTS" "$HTTP"
	progress "dispatching $BACKLOG_LONG"
	dispatch bench_backlog "$BACKLOG_LONG" "$ENDPOINTS"
	for ((run = 1; run <= RUNS; run++)); do
		set_endpoints paused
		make_database bench "$ENDPOINTS" "$HTTP"
		dispatch bench "$BACKLOG_SHORT" "$ENDPOINTS"
		sample bench
		THEIRS+=("$RATE") mib_short+=("$MIB_MOST")

		value 'DROP DATABASE bench' postgres
		set_endpoints active
		sql bench_backlog <<<'CHECKPOINT'
		sample bench_backlog
		OURS+=("$RATE") mib+=("$MIB_MOST")
		progress "run $run: $RATE, $MIB_FIRST to $MIB_MOST MiB; short ${THEIRS[-1]}, ${mib_short[-1]} MiB"
	done
	value 'DROP DATABASE bench_backlog' postgres
	add_ratio backlog "deliveries/s of $BACKLOG_LONG" "of $BACKLOG_SHORT" ">= 0.9"
	OURS=("${mib[@]}")
	add_row "backlog, memory" "MiB of the worker" "$(median "${mib_short[@]}") with $BACKLOG_SHORT" \
		"$(largest "${mib[@]}")" "$(smallest "${mib[@]}")..$(largest "${mib[@]}")" "<= 64"
}
