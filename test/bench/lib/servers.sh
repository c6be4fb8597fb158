# The processes of the benchmark: packages, the receiver, the server and its settings. To be sourced by
# bash after test/lib/common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2034	# what is set here is used by the rows and by test/lib/common.sh

HTTP=		# the receiver
HTTPS=
HTTPS_CA=
PIDS=()		# process groups that were started here
WAIT_SECONDS=600	# for anything to end
WAIT_STEP=0.1	# seconds between two looks

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
	restore_huge_pages
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
		sleep "$WAIT_STEP"
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
	as_user sh -c "printf 'subjectAltName=IP:127.0.0.1\n' >$dir/san"
	as_user openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=bench CA" \
		-keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null &&
		as_user openssl req -newkey rsa:2048 -nodes -subj /CN=localhost \
			-keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null &&
		as_user openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
			-CAcreateserial -days 2 -extfile "$dir/san" -out "$dir/server.crt" 2>/dev/null
	[ -s "$dir/server.crt" ] || die "could not make certificates"
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

HUGE_PAGES_SETTING=/proc/sys/vm/nr_hugepages
HUGE_PAGES_BEFORE=	# what the machine had, when it was changed

set_huge_pages()
{
	as_root sh -c "echo $1 >$HUGE_PAGES_SETTING" 2>/dev/null
}

# Has the machine keep huge pages for the server's shared memory, as one does for a server that is used in
# earnest; in the end the machine has what it had before. BENCH_HUGE_PAGES=off does without.
reserve_huge_pages()
{
	local needed=0 free=0 use=off
	if [ "${BENCH_HUGE_PAGES:-on}" = on ] && can_be_root && [ -e "$HUGE_PAGES_SETTING" ]; then
		needed=$(as_user postgres -D "$SCRATCH/data" -C shared_memory_size_in_huge_pages 2>/dev/null)
		free=$(free_huge_pages)
		if [ "${needed:-0}" -gt "$free" ]; then
			HUGE_PAGES_BEFORE=$(<"$HUGE_PAGES_SETTING")
			set_huge_pages $((HUGE_PAGES_BEFORE + needed - free))
		fi
		[ "${needed:-0}" -lt 1 ] || [ "$(free_huge_pages)" -lt "$needed" ] || use=on
	fi
	progress "shared memory in huge pages: $use"
	echo "huge_pages = $use" >>"$SCRATCH/data/postgresql.conf"
}

free_huge_pages()
{
	awk '$1 == "HugePages_Free:" { print $2 }' /proc/meminfo
}

restore_huge_pages()
{
	[ -z "$HUGE_PAGES_BEFORE" ] || set_huge_pages "$HUGE_PAGES_BEFORE"
}

# A server that has been used for a while need not make new files for its WAL.
make_wal_files()
{
	sql postgres <<-'END'
		\o /dev/null
		SELECT format('SELECT pg_logical_emit_message(false, %L, %L), pg_switch_wal()', 'bench', n)
		FROM generate_series(1, 60) n \gexec
		CHECKPOINT;
	END
}

# What sends takes libcurl from the directory BENCH_LIBCURL, when there is one, instead of the system's.
use_libcurl()
{
	[ -n "${BENCH_LIBCURL:-}" ] || return 0
	USER_SETTINGS+=(LD_LIBRARY_PATH="$BENCH_LIBCURL")
	as_user test -r "$BENCH_LIBCURL/libcurl.so.4" || die "BENCH_LIBCURL: $BENCH_LIBCURL/libcurl.so.4 cannot be read"
}

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
	use_libcurl
	reserve_huge_pages
	as_user pg_ctl start -w -D "$SCRATCH/data" -l "$SCRATCH/server.log" >/dev/null || fail "the server did not start"
	make_wal_files
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
	read -r -t "$WAIT_SECONDS" answer <&"${SESSION[0]}" || fail "no answer to: $1"
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

# unconfigure SETTING: takes back what configure did.
unconfigure()
{
	value "ALTER SYSTEM RESET $1" postgres
	value "SELECT pg_reload_conf()" postgres >/dev/null
	WAIT_SECONDS=20 wait_until "$1" setting_was_taken_back "$1"
}

setting_is()
{
	[ "$(value "SHOW $1" postgres)" = "$2" ]
}

setting_was_taken_back()
{
	[ -z "$(value "SELECT 1 FROM pg_settings WHERE name = '$1' AND sourcefile LIKE '%/postgresql.auto.conf'" postgres)" ]
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
