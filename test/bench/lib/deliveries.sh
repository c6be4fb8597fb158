# What is done to the server: databases, dispatches, deliveries. To be sourced by bash.
# shellcheck shell=bash
# shellcheck disable=SC2034	# what is set here is used by the rows

DELIVERIES=${BENCH_DELIVERIES:-200000}
ENDPOINTS=${BENCH_ENDPOINTS:-1000}
PAYLOAD_BYTES=150

# An empty database with the extension and endpoints e0, e1, … of the receiver, each of which takes
# the event type bench.eN. Nothing is delivered until enable.
make_database()
{
	local database=$1 endpoints=$2 receiver=$3
	sql postgres <<-END
		DROP DATABASE IF EXISTS $database;
		CREATE DATABASE $database;
	END
	sql "$database" -v receiver="$receiver" -v endpoints="$endpoints" -v bytes="$PAYLOAD_BYTES" <<-'END'
		CREATE EXTENSION webhooks;
		SELECT count(webhooks.register_endpoint(:'receiver' || '/e' || n, ARRAY['bench.e' || n]))
		FROM generate_series(0, :endpoints - 1) n \g /dev/null
		CREATE TABLE payload AS
		SELECT '{"n": "' AS before, '", "text": "' || repeat('x', :bytes - 28) || '"}' AS after;
		CREATE FUNCTION payload(n bigint) RETURNS jsonb LANGUAGE sql STABLE AS
			$$SELECT (before || lpad(n::text, 7, '0') || after)::jsonb FROM payload$$;
		DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
	END
}

# A payload as the function payload makes it.
payload_text()
{
	local text
	printf -v text '%*s' $((PAYLOAD_BYTES - 28)) ''
	printf '{"n": "0000001", "text": "%s"}' "${text// /x}"
}

# dispatch DATABASE COUNT ENDPOINTS: that many events, for each endpoint in turn.
dispatch()
{
	local to_do=$2 n
	while [ "$to_do" -gt 0 ]; do
		n=$((to_do < 500000 ? to_do : 500000))
		value "SELECT count(webhooks.dispatch('bench.e' || n % $3, payload(n))) FROM generate_series(1, $n) n" "$1" >/dev/null
		to_do=$((to_do - n))
	done
	settle "$1"
}

# Does at once what autovacuum and the checkpointer would do at a moment of their own.
settle()
{
	sql "$1" <<-'END'
		VACUUM (ANALYZE);
		CHECKPOINT;
	END
}

# Prints the server's time at which the queue was found empty. The last ones dispatched are the last ones
# sent: this looks at no dead row before the end. The COMMIT lets go of the snapshot.
await_empty_queue()
{
	ask "DO \$\$ BEGIN
		WHILE EXISTS (SELECT FROM (SELECT FROM webhooks.queue ORDER BY delivery_id DESC LIMIT 1) q) LOOP
			PERFORM pg_sleep(0.02);
			COMMIT;
		END LOOP;
	END \$\$;
	SELECT extract(epoch FROM clock_timestamp())"
}

# CPU time of a process so far, of all its threads.
cpu_ms()
{
	cat "/proc/$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.1f", ns / 1e6 }'
}

# Enables delivery until the queue is empty, and sets RATE to deliveries/s from the moment at which it
# was enabled, RATE_RUNNING to those from the start of the first request, and CPU_US to the workers' CPU
# time for each. Every delivery must be recorded as succeeded, at its first attempt.
drain()
{
	local database=$1 wanted=$2 began ended count first pid cpu=0
	open_session "$database"
	began=$(enable)
	ended=$(await_empty_queue)
	close_session
	for pid in $(worker_pids "$database"); do
		cpu+=" + $(cpu_ms "$pid")"
	done
	CPU_US=$(calc 2 "($cpu) * 1000 / $wanted")
	read -r count first < <(value "SELECT count(*) FILTER (WHERE outcome = 'succeeded' AND attempt = 1),
		extract(epoch FROM min(attempted_at)) FROM webhooks.attempts" "$database")
	disable
	[ "$count" -eq "$wanted" ] || fail "$count deliveries of $wanted are recorded as succeeded"
	RATE=$(calc 0 "$count / ($ended - $began)")
	RATE_RUNNING=$(calc 0 "$count / ($ended - $first)")
}

# measure_deliveries COUNT ENDPOINTS RECEIVER: sets what drain sets.
measure_deliveries()
{
	make_database bench "$2" "$3"
	dispatch bench "$1" "$2"
	drain bench "$1"
}

# pgbench_run DATABASE SCRIPT [OPTION…]: its output is left in $SCRATCH/pgbench.out.
pgbench_run()
{
	local database=$1 script=$2
	shift 2
	printf '%s\n' "$script" >"$SCRATCH/tmp/script.sql"
	as_user pgbench -n -M prepared -D payload="$(payload_text)" -f "$SCRATCH/tmp/script.sql" "$@" "$database" \
		>"$SCRATCH/pgbench.out" 2>&1 || { cat "$SCRATCH/pgbench.out"; fail "pgbench failed"; }
}

# The script that dispatches to one of that many endpoints.
dispatch_script()
{
	printf '\\set e random(0, %d)\n%s\n' $(($1 - 1)) "SELECT webhooks.dispatch('bench.e' || :e::text, :payload);"
}
