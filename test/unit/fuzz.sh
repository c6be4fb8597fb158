#!/bin/sh
#
# What holds for every input of the fuzz targets holds for those of their corpora.

cd "$(dirname "$0")/../fuzz" || exit 1
cases=0
failed=0
for target in $(make -s list); do
	cases=$((cases + 1))
	if output=$(make -s "check_$target" 2>&1) && echo "$output" | grep -q '^[1-9][0-9]* inputs$'; then
		echo "ok $cases - $target"
	else
		echo "not ok $cases - $target"
		echo "$output" | sed 's/^/# /'
		failed=1
	fi
done
[ "$cases" -gt 0 ] || failed=1
echo "1..$cases"
exit $failed
