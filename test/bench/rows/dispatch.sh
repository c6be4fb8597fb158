# What dispatch costs the application.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

DISPATCH_SECONDS=${BENCH_DISPATCH_SECONDS:-8}

# Sets TPS.
pgbench_tps()
{
	pgbench_run "$@"
	TPS=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$SCRATCH/pgbench.out")
}

DISPATCH_ONE="SELECT webhooks.dispatch('bench.e0', :payload);"

row_dispatch()
{
	local run options delivering=() tps
	options=(-c 4 -j 2 -T "$DISPATCH_SECONDS")
	OURS=() THEIRS=()
	USER_SETTINGS+=(PGOPTIONS="-c synchronous_commit=off")
	for ((run = 1; run <= RUNS; run++)); do
		make_database bench 1 "$HTTP"
		value "CREATE TABLE plain_events (event_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id text NOT NULL,
			event_type text NOT NULL, payload jsonb NOT NULL, occurred_at timestamptz NOT NULL,
			created_at timestamptz NOT NULL)"
		pgbench_tps bench "$DISPATCH_ONE" "${options[@]}"
		tps=$TPS
		pgbench_tps bench "INSERT INTO plain_events (tenant_id, event_type, payload, occurred_at, created_at)
			VALUES ('', 'bench.e0', :payload, now(), now());" "${options[@]}"
		OURS+=("$tps") THEIRS+=("$TPS")

		make_database bench 1 "$HTTP"
		enable >/dev/null
		pgbench_tps bench "$DISPATCH_ONE" "${options[@]}"
		disable
		delivering+=("$TPS")
		progress "run $run: $tps, plain INSERT ${THEIRS[-1]}, while delivering $TPS"
	done
	unset 'USER_SETTINGS[-1]'
	add_ratio dispatch "dispatches/s" "INSERTs/s of the same event" ">= 0.7"
	OURS=("${delivering[@]}")
	add_ratio "dispatch, while delivering" "dispatches/s" "INSERTs/s of the same event" ""
}

# Sets MICROSECONDS to what a dispatch of that many in one transaction takes, its commit included.
bulk_dispatch()
{
	MICROSECONDS=$(sql bench -v n="$1" <<-'END'
		SELECT webhooks.dispatch('bench.e0', payload(0)) \g /dev/null
		SELECT clock_timestamp() AS began \gset
		SELECT count(webhooks.dispatch('bench.e0', p.payload))
		FROM (SELECT payload(1) OFFSET 0) p, generate_series(1, :n) \g /dev/null
		SELECT round((extract(epoch FROM clock_timestamp() - :'began'::timestamptz) * 1e6 / :n)::numeric, 1);
	END
	)
}

row_bulk_dispatch()
{
	local run few=() many=()
	for ((run = 1; run <= RUNS; run++)); do
		make_database bench "$ENDPOINTS" "$HTTP"
		bulk_dispatch 10000
		few+=("$MICROSECONDS")
		bulk_dispatch 100000
		many+=("$MICROSECONDS")
	done
	OURS=("${few[@]}")
	add_value "bulk-dispatch" "us a dispatch, 10,000 in a transaction" "<= 10"
	OURS=("${many[@]}")
	add_value "bulk-dispatch, 100,000" "us a dispatch, 100,000 in a transaction" "<= 10"
}
