#!/usr/bin/env bash
# Exchanges a table twice: once for a good one, and once for one that must not be published.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${SOURCE_URL:?an empty PostgreSQL database}" "${TARGET_URL:?another one}"
rm -rf .highwater
psql -q -v ON_ERROR_STOP=1 "$SOURCE_URL" -f source.sql
psql -q -v ON_ERROR_STOP=1 "$TARGET_URL" -f target.sql
read_by() { psql -qAt -v ON_ERROR_STOP=1 "$TARGET_URL" -c "select country, customers from customers_by_country order by country"; }

echo "before:"
read_by
highwater run pipeline.yaml >&2
echo "after the exchange, through the same view:"
read_by

psql -q -v ON_ERROR_STOP=1 "$SOURCE_URL" -c "delete from customers where customer_id % 4 = 3"
echo "a source that has lost a country:"
highwater run pipeline.yaml >&2 && status=0 || status=$?
echo "exit code $status, and the table is as it was:"
read_by
