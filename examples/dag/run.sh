#!/usr/bin/env bash
# Runs the three steps, and then the report alone. Starts from scratch each time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rm -rf out .highwater
mkdir out
sqlite3 out/source.db < source.sql
sqlite3 out/target.db < target.sql
run() { highwater run pipeline.yaml "$@" --param here="$PWD" --allow-exec "$PWD/report" >&2; }

run
echo "the report:"
cat out/report-*.txt

rm out/report-*.txt
run report
echo "the report of a run of that step alone:"
cat out/report-*.txt
