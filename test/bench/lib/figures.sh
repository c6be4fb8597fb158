# Figures and the table of them. To be sourced by bash, with $RESULTS set to a file for the rows.
# shellcheck shell=bash
# shellcheck disable=SC2153	# OURS and THEIRS are arrays that rows fill

# calc DECIMALS EXPRESSION
calc()
{
	awk "BEGIN { printf \"%.$1f\", $2 }"
}

rounded()
{
	awk "BEGIN { printf(($1 >= 100 ? \"%.0f\" : \"%.2f\"), $1) }"
}

sorted()
{
	printf '%s\n' "$@" | sort -g
}

median()
{
	sorted "$@" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

smallest()
{
	sorted "$@" | head -n 1
}

largest()
{
	sorted "$@" | tail -n 1
}

spread()
{
	[ $# -lt 2 ] || printf ' (%s..%s)' "$(smallest "$@")" "$(largest "$@")"
}

progress()
{
	printf '%s\n' "  $*" >&2
}

# Noise

QUIET_SECONDS=${BENCH_QUIET_SECONDS:-120}	# the most that is waited for it, each time
FASTEST=0	# rounds of the fastest processor so far

# Whether all processors are about as fast as any of them has been.
is_quiet()
{
	local slowest fastest
	read -r slowest fastest < <("$BENCH/speed")
	[ "$fastest" -le "$FASTEST" ] || FASTEST=$fastest
	[ $((slowest * 100)) -ge $((FASTEST * 85)) ]
}

wait_for_quiet()
{
	local deadline=$((SECONDS + QUIET_SECONDS))
	until is_quiet; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 1
	done
}

# Runs the command while nobody else uses the machine's processors, as far as can be seen before and
# after it; otherwise once more, and then it is as it is.
undisturbed()
{
	wait_for_quiet
	"$@"
	is_quiet && return
	progress "disturbed, and so measured again: $*"
	wait_for_quiet || progress "the machine is not quiet"
	"$@"
}

# meets VALUE GOAL, where a goal is ">= N" or "<= N"
meets()
{
	awk "BEGIN { exit !($1 $2) }"
}

# add_row NAME MEASURED BESIDE RESULT NOISE GOAL: the result is held against the goal.
add_row()
{
	local name=$1 measured=$2 beside=$3 result=$4 noise=$5 goal=$6 verdict=
	[[ $result =~ ^-?[0-9.]+$ ]] || fail "$name has no result"
	if [ -n "$goal" ]; then
		verdict=missed
		! meets "$result" "$goal" || verdict=met
	fi
	printf '%s\t' "$name" "$measured" "$beside" "$result" "$noise" "$goal" >>"$RESULTS"
	printf '%s\n' "$verdict" >>"$RESULTS"
	progress "$name: $measured${beside:+, beside $beside}: $result${noise:+ ($noise)}${goal:+, goal $goal}${verdict:+: $verdict}"
}

# add_ratio NAME UNIT BESIDE GOAL: from the arrays OURS and THEIRS, of pairs measured in turn.
add_ratio()
{
	local ratios=() i
	local ours theirs
	ours=$(rounded "$(median "${OURS[@]}")")
	theirs=$(rounded "$(median "${THEIRS[@]}")")
	for i in "${!OURS[@]}"; do
		ratios+=("$(calc 2 "${OURS[i]} / ${THEIRS[i]}")")
	done
	add_row "$1" "$ours $2$(spread "${OURS[@]}")" "$theirs $3$(spread "${THEIRS[@]}")" \
		"$(calc 2 "$ours / $theirs")" \
		"$(smallest "${ratios[@]}")..$(largest "${ratios[@]}")" "$4"
}

# add_value NAME UNIT GOAL: from the array OURS.
add_value()
{
	add_row "$1" "$2" "" "$(median "${OURS[@]}")" "$(smallest "${OURS[@]}")..$(largest "${OURS[@]}")" "$3"
}

show_results()
{
	if [ -n "$MARKDOWN" ]; then
		awk -F '\t' 'BEGIN {
				print "| row | measured | beside | result | min..max | goal | |"
				print "|---|---|---|---|---|---|---|"
			}
			{ gsub(">=", "≥"); gsub("<=", "≤"); print "| " $1 " | " $2 " | " $3 " | " $4 " | " $5 " | " $6 " | " $7 " |" }' "$RESULTS"
		return
	fi
	awk -F '\t' '
		function put(   i, line) {
			for (i = 1; i <= 7; i++)
				line = line sprintf("%-" width[i] + 2 "s", cell[r, i])
			sub(/ +$/, "", line)
			print line
		}
		BEGIN { n = split("row\tmeasured\tbeside\tresult\tmin..max\tgoal\t", head); for (i = 1; i <= n; i++) cell[0, i] = head[i] }
		{ for (i = 1; i <= 7; i++) cell[NR, i] = $i }
		END {
			for (r = 0; r <= NR; r++)
				for (i = 1; i <= 7; i++)
					if (length(cell[r, i]) > width[i])
						width[i] = length(cell[r, i])
			for (r = 0; r <= NR; r++)
				put()
		}' "$RESULTS"
}
