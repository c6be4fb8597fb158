# One delivery to each of many endpoints beside many deliveries to each of few.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

MANY_ENDPOINTS=${BENCH_MANY_ENDPOINTS:-200000}
FEW_ENDPOINTS=${BENCH_FEW_ENDPOINTS:-1000}

# measure_each ENDPOINTS TIMES: that many rows for each endpoint; sets RATE.
measure_each()
{
	make_database bench "$1" "$HTTP"
	sql bench >/dev/null <<-END
		SELECT count(webhooks.dispatch('bench.each', payload(n), endpoint_ids => ARRAY[endpoint_id]))
		FROM (SELECT n, endpoint_id FROM generate_series(1, $2) n, webhooks.endpoints ORDER BY n OFFSET 0) each;
	END
	settle bench
	drain bench $(($1 * $2))
}

row_many_endpoints()
{
	local run
	OURS=() THEIRS=()
	for ((run = 1; run <= RUNS; run++)); do
		measure_each "$MANY_ENDPOINTS" 1
		OURS+=("$RATE")
		measure_each "$FEW_ENDPOINTS" $((MANY_ENDPOINTS / FEW_ENDPOINTS))
		THEIRS+=("$RATE")
		progress "run $run: ${OURS[-1]}, few ${THEIRS[-1]}"
	done
	add_ratio many-endpoints "deliveries/s to $MANY_ENDPOINTS endpoints" "to $FEW_ENDPOINTS" ">= 0.7"
}
