# Deliveries a second beside a bare libcurl loop.
# shellcheck shell=bash

# Sets LOOP_OPTIONS to those with which the loop is the fastest at this receiver.
choose_loop()
{
	local receiver=$1 drive in_flight rate best=0
	for drive in socket perform; do
		for in_flight in 4 8 16 32 64; do
			run_loop "$receiver" 20000 -d "$drive" -i "$in_flight"
			if [ "$LOOP_RATE" -gt "$best" ]; then
				best=$LOOP_RATE
				LOOP_OPTIONS=(-d "$drive" -i "$in_flight")
			fi
		done
	done
	progress "the loop is the fastest with ${LOOP_OPTIONS[*]}"
}

# Sets LOOP_RATE.
run_loop()
{
	local receiver=$1 requests=$2 cpu_us
	shift 2
	as_user test/bench/loop -u "$receiver" -c "$HTTPS_CA" -p "$(payload_text)" -n "$requests" \
		-e "$ENDPOINTS" "$@" >"$SCRATCH/loop.out" || die "the loop failed"
	read -r LOOP_RATE cpu_us <"$SCRATCH/loop.out"
}

# measure_throughput NAME RECEIVER GOAL
measure_throughput()
{
	local name=$1 receiver=$2 goal=$3 run
	OURS=() THEIRS=()
	choose_loop "$receiver"
	for ((run = 1; run <= RUNS; run++)); do
		measure_deliveries "$DELIVERIES" "$ENDPOINTS" "$receiver"
		run_loop "$receiver" "$DELIVERIES" "${LOOP_OPTIONS[@]}"
		OURS+=("$RATE") THEIRS+=("$LOOP_RATE")
		progress "run $run: $RATE, the loop $LOOP_RATE"
	done
	add_ratio "$name" "deliveries/s" "requests/s of a libcurl loop" "$goal"
}

row_throughput()
{
	measure_throughput throughput "$HTTP" ">= 0.65"
}

row_throughput_2_workers()
{
	configure webhooks.workers 2
	measure_throughput throughput-2-workers "$HTTP" ">= 0.9"
	configure webhooks.workers 1
}

row_throughput_https()
{
	measure_throughput throughput-https "$HTTPS" ">= 0.65"
}
