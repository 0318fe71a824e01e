#!/usr/bin/env bash
# What `make demo` does, by programs that are on the path: `highwater`, and `flights` of this repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rm -rf out .highwater
mkdir out
flights make-source flights-2013-01.csv.gz out/flights-source.db >&2
highwater run pipeline.yaml --workers 4 >&2
flights compare out/flights-source.db out/flights-target.db
