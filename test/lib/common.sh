# What check and demo share: packages, a scratch copy of the tree, a user that may run PostgreSQL,
# and an end that leaves no process and no file. To be sourced by bash, with $ROOT set to the tree.
# shellcheck shell=bash

# Debian's own PostgreSQL, unless the environment says another.
# shellcheck disable=SC1091
case $(. /etc/os-release && echo "${VERSION_ID:-}") in
	12) PG_MAJOR=${PG_MAJOR:-15} ;;
	13) PG_MAJOR=${PG_MAJOR:-17} ;;
	*) PG_MAJOR=${PG_MAJOR:-18} ;;
esac
PACKAGES="build-essential pkg-config postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR
	libcurl4-openssl-dev libssl-dev libipc-run-perl python3 python3-h2 python3-jsonschema openssl ca-certificates"

USER_SETTINGS=()	# NAME=VALUE for the environment of what the user runs
SCRATCH=	# everything is written below this
KEEP=		# not empty: the scratch directory stays
PRIVATE=	# not empty: install into a copy of PostgreSQL
ON_DEATH=:	# what die runs after its message
JOB=		# the process group under way, see run_job
FOLLOW=		# the process that shows its output
RUN_AS=		# root only: the user that runs PostgreSQL
MADE_USER=	# not empty: that user is ours, and goes at the end
CLEAN_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	"$ON_DEATH"
	exit 1
}

is_root()
{
	[ "$(id -u)" -eq 0 ]
}

can_be_root()
{
	is_root || command -v sudo >/dev/null
}

as_root()
{
	if is_root; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root, or sudo: $*"
	fi
}

# Packages

missing_packages()
{
	local package
	for package in $PACKAGES; do
		if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
			echo "$package"
		fi
	done
}

apt_get()
{
	as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

# Debian makes and starts a cluster on installing the server, unless this file says otherwise. It
# belongs to postgresql-common, which has to come first; afterwards the file is as it was.
install_server_without_cluster()
{
	local conf=/etc/postgresql-common/createcluster.conf
	apt_get install --no-install-recommends postgresql-common
	as_root cp -p "$conf" "$conf.webhooks-saved"
	as_root sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' "$conf"
	local failed=
	apt_get install --no-install-recommends "postgresql-$PG_MAJOR" || failed=1
	as_root mv "$conf.webhooks-saved" "$conf"
	[ -z "$failed" ] || die "could not install postgresql-$PG_MAJOR"
}

install_packages()
{
	local missing
	command -v dpkg-query >/dev/null || die "this script knows Debian's packages only; needed are: ${PACKAGES//$'\n'/}"
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0

	say "Installing packages: ${missing//$'\n'/ }"
	can_be_root || die "these packages are missing, and installing them needs root or sudo"
	# apt's chatter is of interest only when it fails.
	# shellcheck disable=SC2086
	if ! { apt_get update && case $missing in *postgresql-$PG_MAJOR*) install_server_without_cluster ;; esac &&
		apt_get install --no-install-recommends $missing; } >"$SCRATCH/apt.log" 2>&1; then
		tail -n 40 "$SCRATCH/apt.log"
		die "installing the packages failed"
	fi
}

# Node comes from wherever it is there already; Debian's is for a machine that has none.
need_node()
{
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		PACKAGES+=" nodejs npm"
	fi
}

# Installs the libraries of test/interop into the scratch copy, with the environment of whoever called, which may
# tell how to reach the registry. Without them only the test that needs them fails.
install_interop()
{
	local dir=$SCRATCH/tree/test/interop
	run_quietly "$SCRATCH/npm.log" npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --cache "$SCRATCH/npm" ||
		say "npm ci failed in test/interop"
	USER_SETTINGS+=(PATH="$BINDIR:$(dirname "$(command -v node)"):$CLEAN_PATH")
	give_to_user "$dir"
}

# PostgreSQL refuses to run as root

choose_user()
{
	is_root || return 0
	RUN_AS=postgres
	if ! id "$RUN_AS" >/dev/null 2>&1; then
		RUN_AS=webhooks-test
		id "$RUN_AS" >/dev/null 2>&1 || { useradd --system --no-create-home "$RUN_AS" && MADE_USER=1; }
	fi
	give_to_user "$SCRATCH"
}

give_to_user()
{
	[ -z "$RUN_AS" ] || chown -R "$RUN_AS:" "$@"
}

# Sets COMMAND to what runs its arguments as that user in an environment known beforehand.
user_command()
{
	COMMAND=()
	if [ -n "$RUN_AS" ]; then
		COMMAND=(setpriv --reuid="$RUN_AS" --regid="$(id -g "$RUN_AS")" --init-groups)
	fi
	# shellcheck disable=SC2054
	# The shell ignores SIGINT and SIGQUIT in what it starts in the background; PostgreSQL needs them.
	COMMAND+=(env -i --default-signal=INT,QUIT HOME="$SCRATCH" TMPDIR="$SCRATCH/tmp" PATH="$BINDIR:$CLEAN_PATH"
		USER="${RUN_AS:-$(id -un)}" LOGNAME="${RUN_AS:-$(id -un)}" LC_ALL=C.UTF-8 LANG=C.UTF-8
		PG_CONFIG="$PG_CONFIG" TESTDIR="$SCRATCH" TESTDATADIR="$SCRATCH/tmp_check"
		TESTLOGDIR="$SCRATCH/tmp_check/log" "${USER_SETTINGS[@]}" "$@")
}

as_user()
{
	user_command "$@"
	(cd "$SCRATCH/tree" && "${COMMAND[@]}")
}

# Runs a command as that user in a process group of its own, shows its output as it comes, and
# keeps it in the file LOG. A signal to this shell is served at once, not after the command's end.
run_job()
{
	local log=$1 status=0
	shift
	: >"$log"
	user_command "$@"
	cd "$SCRATCH/tree" || exit 1
	setsid "${COMMAND[@]}" </dev/null >"$log" 2>&1 &
	JOB=$!
	tail -n +1 -s 0.2 -f --pid="$JOB" "$log" 2>/dev/null &
	FOLLOW=$!
	wait "$JOB" || status=$?
	wait "$FOLLOW" || true
	stop_job
	FOLLOW=
	return "$status"
}

# Scratch directory, copy of the tree, build

make_scratch()
{
	# Short, because sockets stand below it and their paths may have 107 bytes.
	SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/webhooks.XXXXXX")
	mkdir "$SCRATCH/tmp" "$SCRATCH/tree"
}

copy_tree()
{
	# What was built elsewhere stays there: it may be of another compiler or another PostgreSQL.
	tar -C "$ROOT" --exclude=./.git --exclude=tmp_check --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		-cf - . | tar -C "$SCRATCH/tree" --no-same-owner -xf -
	give_to_user "$SCRATCH"
}

find_postgres()
{
	# Debian's pg_config in /usr/bin is for whatever version is the newest.
	if [ -z "${PG_CONFIG:-}" ]; then
		PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
		[ -x "$PG_CONFIG" ] || PG_CONFIG=$(command -v pg_config) || die "there is no pg_config"
	fi
	BINDIR=$("$PG_CONFIG" --bindir)
}

# A PostgreSQL of our own to install into: its programs find their files relative to themselves, so
# copies of the programs and links to all else make a second installation.
make_private_postgres()
{
	local dir copy=$SCRATCH/postgres name
	mkdir -p "$copy$BINDIR"
	cp -a "$BINDIR/." "$copy$BINDIR/"
	for name in --pkglibdir --sharedir; do
		dir=$("$PG_CONFIG" "$name")
		mkdir -p "$copy$dir"
		cp -rs "$dir/." "$copy$dir/"
	done
	for name in --includedir --pkgincludedir --includedir-server; do
		dir=$("$PG_CONFIG" "$name")
		mkdir -p "$copy${dir%/*}"
		[ -e "$copy$dir" ] || ln -s "$dir" "$copy$dir"
	done
	rm -rf "$copy$("$PG_CONFIG" --pkglibdir)"/{webhooks.so,bitcode/webhooks*} \
		"$copy$("$PG_CONFIG" --sharedir)"/extension/webhooks{.control,--*}
	PG_CONFIG=$copy$BINDIR/pg_config
	BINDIR=$copy$BINDIR
	[ "$("$PG_CONFIG" --bindir)" = "$BINDIR" ] || die "a copied PostgreSQL does not find its files"
	give_to_user "$copy"
}

build()
{
	local log=$SCRATCH/build.log
	run_quietly "$log" as_user make -j"$(nproc)" PG_CONFIG="$PG_CONFIG" || die "the build failed"
}

install_extension()
{
	local log=$SCRATCH/install.log
	if [ -n "$PRIVATE" ]; then
		run_quietly "$log" as_user make install PG_CONFIG="$PG_CONFIG" || die "the installation failed"
	else
		run_quietly "$log" as_root make -C "$SCRATCH/tree" install PG_CONFIG="$PG_CONFIG" ||
			die "the installation failed"
	fi
}

run_quietly()
{
	local log=$1
	shift
	"$@" >"$log" 2>&1 </dev/null && return
	tail -n 60 "$log"
	return 1
}

# The end

group_lives()
{
	kill -0 -- "-$1" 2>/dev/null
}

wait_for_group()
{
	local tries=$2
	while group_lives "$1" && [ "$tries" -gt 0 ]; do
		sleep 0.1
		tries=$((tries - 1))
	done
}

stop_job()
{
	[ -n "$JOB" ] || return 0
	# The tests stop their own servers and receivers when they are told to end.
	kill -TERM -- "-$JOB" 2>/dev/null && wait_for_group "$JOB" 150
	stop_servers
	kill -KILL -- "-$JOB" 2>/dev/null && wait_for_group "$JOB" 50
	JOB=
}

# Servers live in sessions of their own; their data directories tell of them.
stop_servers()
{
	local file
	find "$SCRATCH" -name postmaster.pid 2>/dev/null | while read -r file; do
		as_user pg_ctl stop -D "${file%/*}" -m immediate -t 20 >/dev/null 2>&1 || true
	done
}

clean_up()
{
	local status=$?
	trap '' INT TERM HUP
	trap - EXIT
	set +e
	if [ -n "$SCRATCH" ]; then
		cd /
		stop_job
		stop_servers
		[ -z "$FOLLOW" ] || kill "$FOLLOW" 2>/dev/null
		[ -n "$KEEP" ] || rm -rf "$SCRATCH"
	fi
	[ -z "$MADE_USER" ] || userdel "$RUN_AS"
	exit "$status"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
