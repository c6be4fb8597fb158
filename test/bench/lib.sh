# What the rows of the benchmark share: sizes, the server and the receiver, loads, figures. To be
# sourced by bash after test/lib/common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2034	# what is set here is used by the rows

BENCH=$ROOT/test/bench
RUNS=${BENCH_RUNS:-3}
DELIVERIES=${BENCH_DELIVERIES:-200000}
ENDPOINTS=${BENCH_ENDPOINTS:-1000}
PAYLOAD_BYTES=150
WAIT_SECONDS=600	# for anything to end

RESULTS=	# the file of the rows, a line each
HTTP=		# the receiver
HTTPS=
HTTPS_CA=
PIDS=()		# process groups that were started here

# The program of apt's package is enough, whoever installed it.
need_program()
{
	command -v "$1" >/dev/null || PACKAGES+=" $2"
}

# Debian's packages start what they install, unless this file forbids it.
install_bench_packages()
{
	local policy=/usr/sbin/policy-rc.d made=
	PACKAGES+=" libpq-dev"
	need_program nginx nginx-light
	if [ -n "$WITH_STACKS" ]; then
		need_program redis-server redis-server
		need_program node nodejs
		need_program npm npm
	fi
	[ -n "$(missing_packages)" ] || return 0
	if [ ! -e "$policy" ] && can_be_root; then
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
		made=1
	fi
	(install_packages)
	local status=$?
	[ -z "$made" ] || as_root rm -f "$policy"
	[ "$status" -eq 0 ] || exit 1
}

# Processes

# Starts a command as the user, in the background and in a process group of its own; sets STARTED.
start_process()
{
	local log=$1
	shift
	user_command "$@"
	cd "$SCRATCH/tree" || exit 1
	setsid "${COMMAND[@]}" </dev/null >"$log" 2>&1 &
	STARTED=$!
	PIDS+=("$STARTED")
}

stop_process()
{
	local pid=$1 other left=()
	for other in "${PIDS[@]}"; do
		[ "$other" = "$pid" ] || left+=("$other")
	done
	PIDS=("${left[@]}")
	kill -TERM -- "-$pid" 2>/dev/null && wait_for_group "$pid" 50
	kill -KILL -- "-$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
}

finish()
{
	local status=$?
	local pid
	trap '' INT TERM HUP
	for pid in "${PIDS[@]}"; do
		stop_process "$pid"
	done
	(exit "$status")
	clean_up
}

free_port()
{
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Runs the command until it is true, a bounded time.
wait_until()
{
	local what=$1 deadline=$((SECONDS + WAIT_SECONDS))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
		sleep 0.1
	done
}

fail()
{
	tail -n 30 "$SCRATCH/server.log" 2>/dev/null
	die "$*"
}

# The receiver

make_certificates()
{
	local dir=$SCRATCH/tls
	as_user mkdir "$dir"
	as_user openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=bench CA" \
		-keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null &&
		as_user openssl req -newkey rsa:2048 -nodes -subj /CN=localhost \
			-keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null &&
		as_user sh -c "printf 'subjectAltName=IP:127.0.0.1\n' >$dir/san" &&
		as_user openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
			-CAcreateserial -days 2 -extfile "$dir/san" -out "$dir/server.crt" 2>/dev/null ||
		die "could not make certificates"
	HTTPS_CA=$dir/ca.crt
}

start_receiver()
{
	local http_port https_port
	make_certificates
	http_port=$(free_port)
	https_port=$(free_port)
	sed -e "s|@SCRATCH@|$SCRATCH|; s/@HTTP_PORT@/$http_port/; s/@HTTPS_PORT@/$https_port/" \
		"$BENCH/nginx.conf" >"$SCRATCH/nginx.conf"
	start_process "$SCRATCH/nginx.log" nginx -p "$SCRATCH" -c "$SCRATCH/nginx.conf" -e stderr
	HTTP=http://127.0.0.1:$http_port
	HTTPS=https://127.0.0.1:$https_port
	WAIT_SECONDS=10 wait_until "nginx" port_answers "$http_port"
}

port_answers()
{
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The server

start_server()
{
	as_user initdb -D "$SCRATCH/data" -A trust -N -U bench --no-locale --encoding=UTF8 >"$SCRATCH/initdb.log" 2>&1 ||
		{ tail -n 20 "$SCRATCH/initdb.log"; die "initdb failed"; }
	{
		cat "$BENCH/postgresql.conf"
		cat <<-END
			shared_preload_libraries = 'webhooks'
			listen_addresses = ''
			unix_socket_directories = '$SCRATCH/tmp'
			webhooks.enabled = off
			webhooks.allow_http = on
			webhooks.allowed_networks = '127.0.0.0/8'
			webhooks.ca_file = '$HTTPS_CA'
		END
	} >>"$SCRATCH/data/postgresql.conf"
	USER_SETTINGS=(PGHOST="$SCRATCH/tmp" PGUSER=bench PGOPTIONS="-c client_min_messages=warning")
	as_user pg_ctl start -w -D "$SCRATCH/data" -l "$SCRATCH/server.log" >/dev/null || fail "the server did not start"
}

# sql DATABASE [ARGUMENT…]: runs SQL from standard input, prints bare values.
sql()
{
	as_user psql -X -A -t -q -F ' ' -v ON_ERROR_STOP=1 -d "$@" || fail "SQL failed"
}

value()
{
	sql "${2:-bench}" <<<"$1"
}

# A session that stays, in which a question costs no new connection: while something is measured.
open_session()
{
	user_command psql -X -A -t -q -d "$1"
	coproc SESSION { exec "${COMMAND[@]}" 2>&1; }
}

ask()
{
	local answer
	printf '%s;\n' "$1" >&"${SESSION[1]}"
	read -r -t 60 answer <&"${SESSION[0]}" || fail "no answer to: $1"
	printf '%s\n' "$answer"
}

close_session()
{
	local pid=$SESSION_PID
	eval "exec ${SESSION[1]}>&-"
	wait "$pid" 2>/dev/null
}

# Changes a setting of the server, and waits until it applies.
configure()
{
	local name=$1 wanted=$2
	value "ALTER SYSTEM SET $name = '$wanted'" postgres
	value "SELECT pg_reload_conf()" postgres >/dev/null
	WAIT_SECONDS=20 wait_until "$name" setting_is "$name" "$wanted"
}

setting_is()
{
	[ "$(value "SHOW $1" postgres)" = "$2" ]
}

# Delivery begins; prints the server's time just before.
enable()
{
	sql postgres <<-'END'
		ALTER SYSTEM SET webhooks.enabled = on;
		SELECT extract(epoch FROM clock_timestamp()) FROM (SELECT pg_reload_conf()) r;
	END
}

disable()
{
	configure webhooks.enabled off
	WAIT_SECONDS=20 wait_until "the workers' end" no_worker
}

no_worker()
{
	[ "$(value "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhooks worker'" postgres)" -eq 0 ]
}

workers_run()
{
	[ "$(worker_pids "$1" | wc -w)" -eq "$2" ]
}

worker_pids()
{
	value "SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhooks worker' AND datname = '$1'" postgres
}

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
	local left=$2 n
	while [ "$left" -gt 0 ]; do
		n=$((left < 500000 ? left : 500000))
		value "SELECT count(webhooks.dispatch('bench.e' || n % $3, payload(n))) FROM generate_series(1, $n) n" "$1" >/dev/null
		left=$((left - n))
	done
	sql "$1" <<<'ANALYZE webhooks.events, webhooks.queue; CHECKPOINT;'
}

drained()
{
	# the last ones dispatched are the last ones sent: this looks at no dead row before the end
	[ "$(ask 'SELECT NOT EXISTS (SELECT FROM (SELECT FROM webhooks.queue ORDER BY delivery_id DESC LIMIT 1) q)')" = t ]
}

# Enables delivery until the queue is empty, and sets RATE to deliveries/s. Every delivery must be
# recorded as succeeded, at its first attempt.
drain()
{
	local database=$1 wanted=$2 began count seconds
	open_session "$database"
	began=$(enable)
	wait_until "the queue to be empty" drained
	close_session
	read -r count seconds < <(value "SELECT count(*) FILTER (WHERE outcome = 'succeeded' AND attempt = 1),
		extract(epoch FROM max(attempted_at + duration_ms * interval '1 ms')) - $began FROM webhooks.attempts" "$database")
	disable
	[ "$count" -eq "$wanted" ] || fail "$count deliveries of $wanted are recorded as succeeded"
	RATE=$(calc 0 "$count / $seconds")
}

# measure_deliveries COUNT ENDPOINTS RECEIVER: sets RATE.
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

# Figures

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

# meets VALUE GOAL, where a goal is ">= N" or "<= N"
meets()
{
	awk "BEGIN { exit !($1 $2) }"
}

# add_row NAME MEASURED BESIDE RESULT NOISE GOAL: the result is held against the goal.
add_row()
{
	local name=$1 measured=$2 beside=$3 result=$4 noise=$5 goal=$6 verdict=
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
