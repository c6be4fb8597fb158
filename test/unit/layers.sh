#!/bin/sh
#
# Who may include whom. The core knows neither PostgreSQL, nor the clock, the heap or a file: it
# includes its own headers and those named here. The worker and the SQL functions know the core
# and not each other.
#
# usage: layers.sh [the directory of the sources]

cd "${1:-$(dirname "$0")/../../src}" && [ -d core ] && [ -d worker ] && [ -d sql ] || exit 1

core_may_use='"core/[a-z0-9_]+\.h"'
core_may_use="$core_may_use|<(limits|stdbool|stddef|stdint|string)\.h>"
core_may_use="$core_may_use|<(arpa/inet|netinet/in|sys/socket)\.h>"
core_may_use="$core_may_use|<openssl/[a-z0-9_]+\.h>"

cases=0
failed=0

# includes DIRECTORY: prints its #include lines as file:line:"header" or file:line:<header>
includes()
{
	directive='[[:space:]]*#[[:space:]]*include[[:space:]]*'

	grep -rnE --include='*.[ch]' "^$directive" "$1" |
		sed -E "s/:$directive([\"<][^\">]*[\">]).*/:\1/"
}

# is_empty NAME: standard input holds what breaks the rule
is_empty()
{
	cases=$((cases + 1))
	offenders=$(cat)
	if [ -z "$offenders" ]; then
		echo "ok $cases - $1"
	else
		echo "not ok $cases - $1"
		echo "$offenders" | sed 's/^/# /'
		failed=1
	fi
}

# Here-documents, not pipes: a pipe's last command is a shell of its own and would count there.
is_empty "the core includes only itself and a few system headers" <<EOF
$(includes core | grep -vE ":[0-9]+:($core_may_use)$")
EOF

is_empty "the worker does not include the SQL functions" <<EOF
$(includes worker | grep -E '[:"</]sql/')
EOF

is_empty "the SQL functions do not include the worker" <<EOF
$(includes sql | grep -E '[:"</]worker/')
EOF

echo "1..$cases"
exit $failed
