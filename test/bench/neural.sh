#!/bin/bash
# neural.sh: the neural codec next to zstd, on every corpus; a table in Markdown.
#
#   test/bench/neural.sh [SUBSTRING ...]
#
# Needs no server.  Documents are the corpora in ../shared/corpora or in the folder
# that NBMF_CORPORA names; test/bench/neural.c says how they are divided.  The
# geometric mean leaves out what repeats itself from document to document
# (growing states, revisions), which is for deltas.

set -euo pipefail
export LC_ALL=C.UTF-8
top=$(cd "$(dirname "$0")/../.." && pwd)
corpora=${NBMF_CORPORA:-$top/../shared/corpora}
documents=${NBMF_DOCUMENTS:-1500}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -x "$corpora/stream.py" ]; then
	echo "$corpora: no corpora" >&2
	exit 1
fi
cc -O2 -std=c99 -I"$top/src" -o "$work/neural" "$top/test/bench/neural.c" "$top"/src/codec/*.c -lzstd

cat <<'TABLE'
| corpus | held-out documents | mean bytes | zstd -3 | zstd -22 + 110 KB dictionary | neural | neural : dictionary | MB/s encode / decode | us encode p50 / p95 | us decode p50 / p95 | model MB stored / in memory | training s | load ms |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
TABLE
for file in "$corpora"/*.zst; do
	name=$(basename "$file")
	name=${name%.zst}
	case $name in emb.*) continue ;; esac
	if [ $# -gt 0 ]; then
		wanted=
		for part in "$@"; do [[ $name == *$part* ]] && wanted=1; done
		[ -n "$wanted" ] || continue
	fi
	"$corpora/stream.py" "$name" | python3 -c '
import json, struct, sys
for line in sys.stdin:
    document = json.loads(line)["doc"].encode()
    sys.stdout.buffer.write(struct.pack("<I", len(document)) + document)
' >"$work/documents"
	"$work/neural" "${name%.jsonl}" "$work/documents" "$documents"
done | tee "$work/table"
grep -vE '^\| (growing|neardup)' "$work/table" | tr -d '*' | awk -F ' *[|] *' '
	NF > 8 { d += log($6); n += log($7); r += log($8); c++ }
	END { if (c) printf "\nGeometric mean of %d corpora: dictionary %.2f, neural %.2f, neural : dictionary %.2f\n",
		c, exp(d / c), exp(n / c), exp(r / c) }'
