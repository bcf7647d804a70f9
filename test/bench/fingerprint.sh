#!/bin/bash
# fingerprint.sh: how well fingerprints find near documents, and what they cost.
#
#   test/bench/fingerprint.sh [quality|hits|speed ...]
#
# Prints Markdown.  Documents are the corpora in ../shared/corpora or in the
# folder that NBMF_CORPORA names.  Needs a C compiler and zstd, no server.

set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
corpora=${NBMF_CORPORA:-$top/../shared/corpora}
program=$(mktemp)
trap 'rm -f "$program"' EXIT

if ! compgen -G "$corpora/*.jsonl.zst" >/dev/null; then
	printf 'Skipped: no corpora.\n\n'
	exit 0
fi
cc -std=c99 -O2 -I"$top/src" -o "$program" "$top/test/bench/fingerprint.c" "$top"/src/codec/*.c -lzstd

# each MODE: a row of every corpus that is no vectors
each()
{
	local file name

	for file in "$corpora"/*.zst; do
		name=$(basename "$file" .zst)
		case $name in
		emb.*) ;;
		*.text.jsonl) zstd -dcq --long=27 -- "$file" | "$program" "$1" "${name%.text.jsonl}" text ;;
		*) zstd -dcq --long=27 -- "$file" | "$program" "$1" "${name%.*}" ;;
		esac
	done
	echo
}

[ $# -gt 0 ] || set -- quality hits speed
for mode in "$@"; do
	case $mode in
	quality)
		cat <<-'TEXT'
			Precision / recall (F1) over all pairs of at most 2,000 different documents. Truly near: two
			texts whose pairs of words have a Jaccard similarity of 0.8 or more; two JSON documents whose
			leaves have, or whose pairs of words. "both words": simhash within two bits more, and both words
			together within twice the distance and one. "digits masked": every digit read as 0. "sums": the
			textbook simhash of the same features, a sum of signs weighted by the logarithm of how often
			each occurs.

			| documents | count | near pairs | by | 0.85 (9 bits) | 0.88 (7 bits) | 0.90 (6 bits) | 0.95 (3 bits) |
			|--|--:|--:|--|--:|--:|--:|--:|
		TEXT
		;;
	hits)
		cat <<-'TEXT'
			Share of documents, in per cent, that occurred before, byte by byte; that did not, but with an
			earlier document within so many bits of simhash; and of those within 7 bits, as a share of all,
			where the nearest one's content has a similarity of at least 0.7.

			| documents | count | exact | near 0.85 | near 0.88 | near 0.90 | near 0.95 | near 0.88, checked |
			|--|--:|--:|--:|--:|--:|--:|--:|
		TEXT
		;;
	speed)
		cat <<-'TEXT'
			Microseconds of processor time, the least of 50 runs of each 64 documents: per document, by
			the best way that the processor has; then per KB, by each way.

			| documents | count | mean bytes | us / document | AVX-512 | AVX2 | portable |
			|--|--:|--:|--:|--:|--:|--:|
		TEXT
		;;
	*)
		echo 'usage: test/bench/fingerprint.sh [quality|hits|speed ...]' >&2
		exit 2
		;;
	esac
	each "$mode"
done
