# What a worker costs that has nothing to do.
# shellcheck shell=bash

IDLE_SECONDS=${BENCH_IDLE_SECONDS:-60}
IDLE_ENDPOINTS=${BENCH_IDLE_ENDPOINTS:-10000}

# Asked from another database, so that the question is not counted.
transactions()
{
	value "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'bench'" postgres
}

row_idle()
{
	local pid cpu count
	configure autovacuum off
	make_database bench "$IDLE_ENDPOINTS" "$HTTP"
	enable >/dev/null
	WAIT_SECONDS=20 wait_until "a worker" workers_run bench 1
	pid=$(worker_pids bench)
	sleep 10	# for what it does at its start
	count=$(transactions)
	cpu=$(cpu_ms "$pid")
	sleep "$IDLE_SECONDS"
	cpu=$(calc 1 "$(cpu_ms "$pid") - $cpu")
	count=$(($(transactions) - count))
	disable
	configure autovacuum on
	add_row "idle, queries" "transactions in $IDLE_SECONDS s with $IDLE_ENDPOINTS endpoints" "" "$count" "" ""
	add_row "idle, CPU" "ms of CPU in $IDLE_SECONDS s" "" "$cpu" "" ""
}
