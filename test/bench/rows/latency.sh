# From an event's commit to its request, while nothing else is to do.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

LATENCY_EVENTS=${BENCH_LATENCY_EVENTS:-1000}

row_latency()
{
	local run p50=() p99=() p50_before=() p99_before=() figures
	for ((run = 1; run <= RUNS; run++)); do
		make_database bench 1 "$HTTP"
		enable >/dev/null
		as_user test/bench/latency dbname=bench "$LATENCY_EVENTS" "$(payload_text)" >"$SCRATCH/latency.out" ||
			fail "measuring the latency failed"
		disable
		read -r -a figures <"$SCRATCH/latency.out"
		p50+=("${figures[0]}") p99+=("${figures[1]}") p50_before+=("${figures[2]}") p99_before+=("${figures[3]}")
		progress "run $run: ${figures[*]}"
	done
	OURS=("${p50[@]}")
	add_value "latency, p50" "ms from the commit's return to the request" "<= 1"
	OURS=("${p99[@]}")
	add_value "latency, p99" "ms from the commit's return to the request" "<= 5"
	OURS=("${p50_before[@]}")
	add_value "latency, p50, commit included" "ms from before dispatch to the request" ""
	OURS=("${p99_before[@]}")
	add_value "latency, p99, commit included" "ms from before dispatch to the request" ""
}
