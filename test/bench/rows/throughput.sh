# Deliveries a second beside a bare libcurl loop.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

# Sets LOOP_OPTIONS to those with which the loop is the fastest at this receiver.
choose_loop()
{
	local receiver=$1 drive in_flight best=0
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

# Sets LOOP_RATE and LOOP_CPU_US.
run_loop()
{
	local receiver=$1 requests=$2
	shift 2
	as_user test/bench/loop -u "$receiver" -c "$HTTPS_CA" -p "$(payload_text)" -n "$requests" \
		-e "$ENDPOINTS" "$@" >"$SCRATCH/loop.out" || die "the loop failed"
	read -r LOOP_RATE LOOP_CPU_US <"$SCRATCH/loop.out"
}

# measure_throughput NAME RECEIVER GOAL
measure_throughput()
{
	local name=$1 receiver=$2 goal=$3 run cpu=() loop_cpu=()
	OURS=() THEIRS=()
	wait_for_quiet
	choose_loop "$receiver"
	for ((run = 1; run <= RUNS; run++)); do
		undisturbed measure_deliveries "$DELIVERIES" "$ENDPOINTS" "$receiver"
		undisturbed run_loop "$receiver" "$DELIVERIES" "${LOOP_OPTIONS[@]}"
		OURS+=("$RATE_RUNNING") THEIRS+=("$LOOP_RATE")
		cpu+=("$CPU_US") loop_cpu+=("$LOOP_CPU_US")
		progress "run $run: $RATE_RUNNING, the loop $LOOP_RATE; us of CPU $CPU_US, the loop $LOOP_CPU_US"
	done
	add_ratio "$name" "deliveries/s" "requests/s of a libcurl loop" "$goal"
	OURS=("${cpu[@]}") THEIRS=("${loop_cpu[@]}")
	add_ratio "$name, CPU" "us of workers' CPU a delivery" "us a request of the loop" ""
}

row_throughput()
{
	measure_throughput throughput "$HTTP" ">= 0.65"
}

row_throughput_2_workers()
{
	configure webhooks.workers 2
	measure_throughput throughput-2-workers "$HTTP" ">= 0.9"
	unconfigure webhooks.workers
}

row_throughput_https()
{
	measure_throughput throughput-https "$HTTPS" ">= 0.65"
}
