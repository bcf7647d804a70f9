# documents.sh: real documents, put into a table of a private server.
#
# Sourced by ./quickstart and test/bench/run, after test/tools/setup.sh.
#
# Documents come from a file (one a line), from what every machine has (catalog
# rows, package texts, logs), or from the folder of corpora.  They end up in
#
#   documents (source, id, doc, json)
#
# where json is doc if that is valid jsonb and doc as a JSON string if not, so
# that the same documents can be stored as text, jsonb and nbmf.

# sql [PSQL ARGUMENT ...]: run psql, bare output
sql()
{
	"$NBMF_BIN/psql" -XqAt -v ON_ERROR_STOP=1 "$@"
}

# Bytes of documents that are taken from one source at most
DOCUMENTS_MAX=$((256 * 1024 * 1024))

documents_create()
{
	sql <<-'SQL'
		SET client_min_messages = error;
		DROP TABLE IF EXISTS documents, lines;
		-- EXTERNAL: reading a document must not cost decompression, and a value
		-- that is compressed already would be copied as it is
		CREATE UNLOGGED TABLE documents (source text, id integer, doc text, json text);
		ALTER TABLE documents ALTER doc SET STORAGE EXTERNAL, ALTER json SET STORAGE EXTERNAL;
		CREATE UNLOGGED TABLE lines (n integer GENERATED ALWAYS AS IDENTITY, line text);
		ALTER TABLE lines ALTER line SET STORAGE EXTERNAL;

		-- the bytes of a line read as LATIN1; null if they are not UTF-8
		CREATE OR REPLACE FUNCTION documents_utf8(line text) RETURNS text
		LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			IF octet_length(line) = length(line) THEN
				RETURN line;
			END IF;
			RETURN convert_from(convert_to(line, 'LATIN1'), 'UTF8');
		EXCEPTION WHEN data_exception THEN
			RETURN NULL;
		END $$;

		CREATE OR REPLACE FUNCTION documents_json(doc text) RETURNS text
		LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			PERFORM doc::jsonb;
			RETURN doc;
		EXCEPTION WHEN OTHERS THEN
			RETURN to_jsonb(doc);
		END $$;
	SQL
}

# The lines of a file, plain or compressed
documents_open()
{
	case $1 in
	*.zst) zstd -dcq --long=27 -- "$1" ;;
	*.gz) gzip -dc -- "$1" ;;
	*) cat -- "$1" ;;
	esac
}

# Lines to lines of COPY's text format.  A zero byte, which no text can hold,
# becomes one that no UTF-8 text holds, so that its line is counted as invalid.
documents_escape()
{
	LC_ALL=C tr '\000' '\377' |
		LC_ALL=C awk -v max="$DOCUMENTS_MAX" \
			'{ bytes += length($0) + 1 } bytes <= max
			END { if (bytes > max) print "taking only the first " max " bytes" >"/dev/stderr" }' |
		LC_ALL=C sed 's/\r$//; s/\\/\\\\/g; s/\t/\\t/g; s/\r/\\r/g'
}

# Files split at blank lines, to lines of COPY's text format
documents_paragraphs()
{
	LC_ALL=C awk -v max="$DOCUMENTS_MAX" \
		'BEGIN { RS = "" } { bytes += length($0); gsub("\n", "\036") } bytes <= max' "$@" |
		LC_ALL=C tr '\000' '\377' |
		LC_ALL=C sed 's/\\/\\\\/g; s/\t/\\t/g; s/\r/\\r/g; s/\o036/\\n/g'
}

# documents_load SOURCE [EXPRESSION]: lines of COPY's text format from standard
# input to documents; EXPRESSION makes the document of "line".  Prints how many
# documents, their bytes, blank lines left out, invalid lines left out.
documents_load()
{
	sql -c "COPY lines (line) FROM STDIN (ENCODING 'LATIN1')" || return 1
	sql -v source="$1" -v expression="${2:-line}" <<-'SQL'
		WITH utf8 AS MATERIALIZED (
			SELECT n, documents_utf8(line) AS line FROM lines
		), added AS (
			INSERT INTO documents
			SELECT :'source', coalesce((SELECT max(id) FROM documents), 0) +
				row_number() OVER (ORDER BY n), doc, documents_json(doc)
			FROM (SELECT n, :expression AS doc FROM utf8 WHERE line ~ '[^[:space:]]') AS d
			RETURNING octet_length(doc) AS bytes
		)
		SELECT count(*), coalesce(sum(bytes), 0),
			(SELECT count(*) FROM utf8 WHERE line !~ '[^[:space:]]'),
			(SELECT count(*) FROM utf8 WHERE line IS NULL)
		FROM added;
		TRUNCATE lines RESTART IDENTITY;
	SQL
}

# documents_found REPORT: load what is found on any machine, at most 8 MB a
# source; calls REPORT SOURCE COUNT BYTES BLANK INVALID after each
documents_found()
{
	local report=$1 DOCUMENTS_MAX=$((8 * 1024 * 1024)) table file counts

	counts=$(for table in pg_proc pg_attribute pg_type pg_operator pg_amop pg_class \
		pg_collation pg_description pg_settings pg_views; do
		sql -c "COPY (SELECT row_to_json(t) FROM $table t) TO STDOUT"
	done | documents_load 'catalog rows')
	$report 'catalog rows' ${counts//|/ }

	if compgen -G '/usr/share/doc/*/copyright' >/dev/null; then
		counts=$(documents_paragraphs /usr/share/doc/*/copyright | documents_load 'package licences')
		$report 'package licences' ${counts//|/ }
	fi
	if [ -r /var/lib/dpkg/status ]; then
		counts=$(documents_paragraphs /var/lib/dpkg/status | documents_load 'package records')
		$report 'package records' ${counts//|/ }
	fi
	counts=$(for file in /var/log/dpkg.log /var/log/alternatives.log /var/log/syslog /var/log/messages; do
		[ ! -r $file ] || cat $file
	done | documents_escape | documents_load 'log lines')
	$report 'log lines' ${counts//|/ }
}

# documents_corpora: the folder of corpora, if there is one
documents_corpora()
{
	local folder=${NBMF_CORPORA:-$1/../shared/corpora}

	compgen -G "$folder/*.jsonl.zst" >/dev/null && (cd "$folder" && pwd)
}

# documents_corpus FILE: load a corpus: its lines, or the "text" in them
documents_corpus()
{
	local name=${1##*/} expression=line

	name=${name%.zst}
	[[ $name != *.text.jsonl ]] || expression="line::json ->> 'text'"
	documents_open "$1" | documents_escape | documents_load "${name%.jsonl}" "$expression"
}
