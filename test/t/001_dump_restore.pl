# Dump and restore, in every format of pg_dump, of a database that has nbmf
# wherever a type can be: plain columns with each type modifier, domains,
# arrays, composites, a partition key, generated columns, defaults, indexes,
# constraints and views, with the extension in a schema of its own.
#
# A dump holds the text of a value and nothing of its frame.  So this proves
# that text and modifiers say everything: kind, content, frames as small as
# before, rows in the same hash partitions.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "fsync = off\nmax_wal_size = 4GB\n");
$node->start;

my $path = '"Agent data", "nbmf home", public';

$node->safe_psql('postgres', 'CREATE DATABASE origin');
create_documents($node, 'origin', @unicode_any);
$node->safe_psql(
	'origin', qq{
	CREATE SCHEMA "nbmf home";
	CREATE SCHEMA "Agent data";
	CREATE EXTENSION nbmf SCHEMA "nbmf home";
	ALTER TABLE document SET SCHEMA "Agent data";
	SET search_path = $path;

	-- every modifier, and every way to store
	CREATE TABLE modifier (
		id int PRIMARY KEY,
		plain nbmf,
		lossless nbmf(lossless),
		semantic nbmf(semantic),
		level nbmf(lossless, 17),
		"Both Said" nbmf(semantic, 1) NOT NULL,
		extended nbmf(lossless, 9),
		main nbmf);
	ALTER TABLE modifier ALTER extended SET STORAGE extended, ALTER main SET STORAGE main;
	INSERT INTO modifier
		SELECT id, body, body, body, body, body, body, body FROM document;
	INSERT INTO modifier ("Both Said", id) VALUES ('only this', 0);

	-- domains
	CREATE DOMAIN note AS nbmf CHECK (nbmf_kind(VALUE) IN ('json', 'text'));
	CREATE DOMAIN packed AS nbmf(lossless, 22) DEFAULT '{"by": "domain"}' NOT NULL;
	CREATE DOMAIN packed_json AS packed CHECK (VALUE ->> 'by' IS NOT NULL);
	CREATE TABLE of_domain (id int, n note, p packed, j packed_json, a note[]);
	INSERT INTO of_domain
		SELECT id, body, body, format('{"by": %s}', id),
			ARRAY[body::nbmf::note, NULL, 'second'::nbmf::note]
		FROM document WHERE kind IN ('json', 'text') AND length(body) < 300000;
	INSERT INTO of_domain (id) VALUES (-1);

	-- arrays
	CREATE TABLE of_array (id int, a nbmf[], l nbmf(lossless, 17)[]);
	INSERT INTO of_array
		SELECT id, ARRAY[body, NULL, 'x']::nbmf[], ARRAY[[body, '1'], ['{}', body]]::nbmf(lossless, 17)[]
		FROM document WHERE length(body) < 300000;
	INSERT INTO of_array VALUES (-1, '{}', NULL);

	-- composites
	CREATE TYPE turn AS (speaker text, said nbmf(semantic), tags nbmf[]);
	CREATE TABLE of_composite (id int, t turn, ts turn[]);
	INSERT INTO of_composite
		SELECT id, ROW(kind, body, ARRAY[body]::nbmf[])::turn,
			ARRAY[ROW(NULL, body, NULL)::turn, NULL]
		FROM document WHERE length(body) < 300000;

	-- a partition key
	CREATE TABLE partitioned (id int, v nbmf) PARTITION BY HASH (v);
	CREATE TABLE partition_0 PARTITION OF partitioned FOR VALUES WITH (MODULUS 3, REMAINDER 0);
	CREATE TABLE partition_1 PARTITION OF partitioned FOR VALUES WITH (MODULUS 3, REMAINDER 1);
	CREATE TABLE partition_2 PARTITION OF partitioned FOR VALUES WITH (MODULUS 3, REMAINDER 2);
	INSERT INTO partitioned SELECT id, body FROM document;

	-- generated columns, defaults, constraints, indexes
	CREATE TABLE generated (
		id int,
		body text,
		v nbmf(lossless, 5) GENERATED ALWAYS AS (nbmf_encode(body, 'lossless', 5)) STORED,
		kind text GENERATED ALWAYS AS (nbmf_kind(nbmf_encode(body))) STORED,
		d nbmf(lossless, 17) DEFAULT '{"a": [1, "\\u00e9"], "b": null}',
		e nbmf DEFAULT '{0.1,2}',
		f nbmf DEFAULT nbmf_encode(repeat('generated ', 50)),
		CHECK (d ? 'a'),
		CHECK (e <> 'never'));
	CREATE INDEX ON generated USING hash (v);
	CREATE INDEX ON generated ((d ->> 'a'), (d #>> '{a,1}'));
	CREATE INDEX ON generated USING gin ((d::jsonb)) WHERE e = '{0.1,2}';
	INSERT INTO generated (id, body) SELECT id, body FROM document;
	CREATE TABLE excluded (id int, v nbmf, EXCLUDE USING hash (v WITH =));
	INSERT INTO excluded SELECT id, body FROM document ON CONFLICT DO NOTHING;

	-- queries kept as such
	CREATE MATERIALIZED VIEW once AS
		SELECT v, count(*) AS n, min(id) AS id FROM partitioned GROUP BY v;
	CREATE VIEW looked AS
		SELECT id, d -> 'a' AS a, d #>> '{a,0}' AS b, v::text AS t, (e::real[])[1] AS f
		FROM generated
		WHERE d @> '{"b": null}' AND e = '{0.1,2}' AND nbmf_verify(v);
	CREATE FUNCTION said(turn) RETURNS nbmf LANGUAGE sql IMMUTABLE
		BEGIN ATOMIC SELECT (\$1).said; END;
});

# What the catalogs say about types, defaults and definitions
my $definitions = q{
	SELECT a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attstorage
	FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
	WHERE c.relnamespace = '"Agent data"'::regnamespace AND a.attnum > 0
	ORDER BY a.attrelid::regclass::text, a.attnum;
	SELECT typname, format_type(typbasetype, typtypmod),
		pg_get_expr(typdefaultbin, 0)
	FROM pg_type WHERE typtype = 'd' AND typnamespace = '"Agent data"'::regnamespace
	ORDER BY typname;
	SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE connamespace = '"Agent data"'::regnamespace ORDER BY 1, 2;
	SELECT adrelid::regclass, adnum, pg_get_expr(adbin, adrelid)
	FROM pg_attrdef ORDER BY adrelid::regclass::text, adnum;
	SELECT pg_get_indexdef(indexrelid) FROM pg_index
	WHERE indrelid IN (SELECT oid FROM pg_class
					   WHERE relnamespace = '"Agent data"'::regnamespace)
	ORDER BY 1;
	SELECT pg_get_viewdef('looked'), pg_get_viewdef('once');
	SELECT pg_get_functiondef('said'::regproc);
};

# What the rows hold
my %rows = (
	(   map {
			my $column = $_;
			(   "modifier.$column" => qq{
				SELECT id, nbmf_kind("$column"), length("$column"::text),
					md5("$column"::text), md5(nbmf_send("$column")),
					md5(public.frame_of("$column"))
				FROM modifier ORDER BY id})
		} ( 'plain', 'lossless', 'semantic', 'level',
			'Both Said', 'extended', 'main')),
	of_domain => q{
		SELECT id, nbmf_kind(n), md5(n::text), nbmf_kind(p), md5(p::text),
			md5(public.frame_of(p)), nbmf_kind(j), j::text, md5(a::text), array_length(a, 1)
		FROM of_domain ORDER BY id},
	of_array => q{
		SELECT o.id, array_dims(a), array_dims(l), x.i, nbmf_kind(x.e), md5(x.e::text),
			nbmf_kind(x.f), md5(x.f::text), md5(public.frame_of(x.f))
		FROM of_array AS o
			LEFT JOIN unnest(a, l) WITH ORDINALITY AS x (e, f, i) ON true
		ORDER BY o.id, x.i},
	of_composite => q{
		SELECT id, (t).speaker, nbmf_kind((t).said), md5((t).said::text),
			nbmf_kind((t).tags[1]), md5((t).tags[1]::text), md5(said(t)::text),
			nbmf_kind((ts[1]).said), md5((ts[1]).said::text), ts[2] IS NULL, md5(ts::text)
		FROM of_composite ORDER BY id},
	partitioned => q{
		SELECT tableoid::regclass, id, nbmf_kind(v), md5(v::text), nbmf_hash(v)
		FROM partitioned ORDER BY id},
	generated => q{
		SELECT id, md5(body), nbmf_kind(v), md5(v::text), md5(public.frame_of(v)), kind,
			nbmf_kind(d), d::text, nbmf_kind(e), e::text, f::text
		FROM generated ORDER BY id},
	excluded =>
	  q{SELECT id, nbmf_kind(v), md5(v::text) FROM excluded ORDER BY id},
	once => q{SELECT id, n, nbmf_kind(v), md5(v::text) FROM once ORDER BY id},
	looked => q{SELECT id, a, b, md5(t), f FROM looked ORDER BY id},);

# frame_of lives in public, beside the schema of the extension
my $alias = q{
	CREATE FUNCTION public.frame_of("nbmf home".nbmf) RETURNS bytea
		LANGUAGE internal IMMUTABLE STRICT AS 'byteasend'};
$node->safe_psql('origin', $alias);

# The origin itself is right: all else is compared with it
is( list_table(
		$node, 'origin', $path, q{
		SELECT format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'modifier'::regclass AND attnum > 1 ORDER BY attnum}),
	'nbmf
nbmf(lossless)
nbmf(semantic)
nbmf(lossless,17)
nbmf(semantic,1)
nbmf(lossless,9)
nbmf',
	'modifiers are shown as written');
is( list_table(
		$node, 'origin', 'pg_catalog', q{
		SELECT format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = '"Agent data".modifier'::regclass AND attname = 'level'}),
	'"nbmf home".nbmf(lossless,17)',
	'with the schema where that is not in the path');
foreach my $column ('plain', 'level', '"Both Said"', 'main')
{
	is_same(
		list_table(
			$node, 'origin', $path, qq{
			SELECT id, nbmf_kind($column), md5($column\::text) FROM modifier
			WHERE id > 0 ORDER BY id}),
		list_table(
			$node, 'origin',
			$path, 'SELECT id, kind, md5(body) FROM document ORDER BY id'),
		"column $column holds the documents");
}
cmp_ok(
	list_table(
		$node, 'origin', $path,
		'SELECT sum(length(public.frame_of(plain))) - sum(length(public.frame_of(level)))
		 FROM modifier'),
	'>',
	0,
	'the level of a modifier shows in the frames');
is( list_table(
		$node, 'origin',
		$path, 'SELECT count(DISTINCT tableoid) FROM partitioned'),
	'3',
	'rows are in every partition');

# Rows with their frames, which are as before when the values come through the
# type's input function with its modifier, and without them
my %expected;
foreach my $table (keys %rows)
{
	(my $plain = $rows{$table}) =~ s/,\s*md5\(public\.frame_of\([^)]*\)\)//g;

	$rows{$table} = { frames => $rows{$table}, plain => $plain };
	$expected{$table}->{$_} =
	  list_table($node, 'origin', $path, $rows{$table}->{$_})
	  foreach ('frames', 'plain');
}
my $expected_definitions = list_table($node, 'origin', $path, $definitions);

# Each way to dump, and to restore
my $dir = $node->basedir;
my @connection = connection($node);
my %way = dump_ways($dir, '--inserts',
	'--rows-per-insert=7', '--load-via-partition-root');

foreach my $name (sort keys %way)
{
	my @dump = @{ $way{$name}->{dump} };
	my @restore = @{ $way{$name}->{restore} };

	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
	command_ok([ @dump, @connection, 'origin' ], "$name: dumped");
	command_ok([ @restore, @connection, '-d', $name ], "$name: restored");

	is_same(list_table($node, $name, $path, $definitions),
		$expected_definitions, "$name: definitions are the same");
	foreach my $table (sort keys %rows)
	{
		# an INSERT of a literal encodes at the default level, then again at
		# that of the modifier, and keeps the smaller frame
		my $what = $name eq 'inserts' ? 'plain' : 'frames';

		is_same(
			list_table($node, $name, $path, $rows{$table}->{$what}),
			$expected{$table}->{$what},
			"$name: rows of $table are the same");
	}
	is_deeply([ verify_columns($node, $name) ],
		['19'], "$name: all columns verify");

	# what was restored also works: defaults, indexes, constraints
	is( list_table(
			$node, $name, $path, q{
			INSERT INTO generated (body) VALUES ('new row')
			RETURNING nbmf_kind(v), v::text, d::text, e::text, nbmf_kind(e)}),
		'text|new row|{"a": [1, "\u00e9"], "b": null}|{0.1,2}|vector',
		"$name: defaults and generated columns work");
	is( list_table(
			$node, $name, $path, q{
			SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
			SELECT string_agg(d.id::text, ' ' ORDER BY d.id)
			FROM document AS d
			WHERE NOT EXISTS (SELECT FROM generated AS g
							  WHERE g.v = d.body::nbmf AND g.id = d.id)}),
		'',
		"$name: every document is found by the hash index");
	is( sqlstate_of(
			$node,
			$name,
			qq{SET search_path = $path; INSERT INTO excluded VALUES (1, 'null')}
		),
		'23P01',
		"$name: the exclusion constraint holds");
	is( sqlstate_of(
			$node,
			$name,
			qq{SET search_path = $path; INSERT INTO of_domain (id, n) VALUES (1, '{1}')}
		),
		'23514',
		"$name: the domain's constraint holds");

	$node->safe_psql('postgres', "DROP DATABASE $name");
}

$node->stop;
done_testing();
