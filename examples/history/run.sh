#!/usr/bin/env bash
# Copies a table's history, and then what is written to it. Starts from scratch each time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rm -rf out .highwater
mkdir out
copied() { sqlite3 out/new.db "select count(*) || ' orders, ' || sum(amount) || ' in all' from orders"; }

sqlite3 out/old.db < source.sql
echo "the history:"
highwater run pipeline.yaml >&2
copied

echo "two orders more, and one that was changed:"
sqlite3 out/old.db "
  insert into orders values (361, '2024-04-02T08:00:00Z', 1000), (362, '2024-04-02T09:00:00Z', 1000);
  update orders set amount = 500, changed_at = '2024-04-02T10:00:00Z' where order_id = 1;"
highwater run pipeline.yaml >&2
copied

echo "nothing more:"
highwater run pipeline.yaml >&2
copied
