# A hot standby: what replay makes of tables, TOAST and hash indexes with nbmf
# is what the primary has, page by page (wal_consistency_checking) and row by
# row.  Everything that only reads works there, nbmf_verify_table included,
# and after promotion so does everything that writes.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node(
	'primary',
	allows_streaming => 1,
	conf => "wal_consistency_checking = all\n"
	  . "shared_preload_libraries = 'nbmf'\n"
	  . "max_connections = 40\nshared_buffers = 16MB\nmax_wal_size = 4GB\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_documents($primary, 'postgres', @unicode_any);
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE before (id int PRIMARY KEY, v nbmf);
	CREATE INDEX before_v ON before USING hash (v);
	INSERT INTO before SELECT id, body FROM document});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# The same table by way of WAL: built, filled, changed, emptied and filled
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE after (id int PRIMARY KEY, v nbmf(lossless, 5));
	CREATE INDEX after_v ON after USING hash (v);
	INSERT INTO after SELECT id, body FROM document WHERE id % 2 = 0;
	INSERT INTO after SELECT id, 'for ' || id FROM generate_series(100001, 103000) AS id;
	UPDATE after SET v = 'of ' || id WHERE id > 100000 AND id % 3 = 0;
	DELETE FROM after WHERE id > 100000;
	VACUUM after;
	INSERT INTO after SELECT id, body FROM document WHERE id % 2 = 1;
	UPDATE after SET v = 'for a while' WHERE id % 5 = 0;
	UPDATE after SET v = d.body FROM document AS d WHERE d.id = after.id AND d.id % 5 = 0;
	CREATE TABLE parts (id int, v nbmf) PARTITION BY HASH (v);
	CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	INSERT INTO parts SELECT id, body FROM document;
	VACUUM before});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

my $oracle = oracle_of($primary, 'postgres');

# Look every document up in the hash index
my $search = q{
	SET enable_seqscan = off; SET enable_hashjoin = off;
	SET enable_mergejoin = off; SET enable_material = off;
	SET enable_bitmapscan = off;
	%s SELECT d.id, t.id FROM document AS d JOIN %s AS t ON t.v = d.body::nbmf
	ORDER BY d.id, t.id};

sub check_reads
{
	my ($node) = @_;
	my $name = $node->name;

	foreach my $table ('before', 'after', 'parts')
	{
		is_same(list_documents($node, 'postgres', $table, 'v'),
			$oracle, "$name: $table holds the documents");
	}
	is_deeply([ verify_columns($node, 'postgres') ],
		['4'], "$name: all columns verify");

	foreach my $table ('before', 'after')
	{
		like(
			$node->safe_psql(
				'postgres', sprintf($search, 'EXPLAIN (COSTS off)', $table)),
			qr/Index Scan using ${table}_v/,
			"$name: $table is searched by its hash index");
		is_same(
			$node->safe_psql('postgres', sprintf($search, '', $table)),
			$primary->safe_psql(
				'postgres',
				'SELECT d.id, e.id FROM document AS d JOIN document AS e USING (body) ORDER BY 1, 2'
			),
			"$name: every document is found in $table, and no other");
	}

	# what else reads: operators, casts, grouping, header and digest
	is_same(
		$node->safe_psql(
			'postgres', q{
			SELECT id, nbmf_info(v), nbmf_digest(v), nbmf_hash(v), md5(nbmf_send(v)),
				CASE WHEN nbmf_kind(v) = 'json' AND id > 60 THEN md5((v::jsonb)::text) END,
				CASE WHEN nbmf_kind(v) = 'json' AND id > 60 THEN v ->> 'oid' END,
				CASE WHEN nbmf_kind(v) = 'vector' THEN md5((v::real[])::text) END,
				CASE WHEN nbmf_kind(v) = 'bytea' THEN md5(v::bytea) END
			FROM before ORDER BY id}),
		$primary->safe_psql(
			'postgres', q{
			SELECT id, nbmf_info(v), nbmf_digest(v), nbmf_hash(v), md5(nbmf_send(v)),
				CASE WHEN nbmf_kind(v) = 'json' AND id > 60 THEN md5(v::text::jsonb::text) END,
				CASE WHEN nbmf_kind(v) = 'json' AND id > 60 THEN v::text::jsonb ->> 'oid' END,
				CASE WHEN nbmf_kind(v) = 'vector' THEN md5(v::text) END,
				CASE WHEN nbmf_kind(v) = 'bytea' THEN md5(v::text::bytea) END
			FROM before ORDER BY id}),
		"$name: operators and casts give the same");
	is( $node->safe_psql(
			'postgres', q{
			SELECT count(*), sum(n) FROM (
				SELECT v, count(*) AS n
				FROM (SELECT v FROM before UNION ALL SELECT v FROM after) AS u
				GROUP BY v) AS g}),
		$primary->safe_psql(
			'postgres',
			q{SELECT count(DISTINCT body), 2 * count(*) FROM document}),
		"$name: grouping puts equal values together");
	return;
}

check_reads($primary);
check_reads($standby);

# the standby counts for itself
is( $standby->safe_psql(
		'postgres',
		'SELECT preloaded, values_encoded > 0, values_decoded > 0, decode_errors FROM pg_stat_nbmf'
	),
	't|t|t|0',
	'standby: has its own statistics');
is( sqlstate_of($standby, 'postgres', q{INSERT INTO before VALUES (0, 'no')}),
	'25006',
	'standby: refuses to write');

# a long transaction of the primary, cut off by the promotion, leaves nothing
my $open = IPC::Run::start(
	[
		'psql',
		'-XAtq',
		connection($primary),
		'-d',
		'postgres',
		'-c',
		q{BEGIN; UPDATE after SET v = 'never committed'; SELECT pg_sleep(600)}
	],
	'>',
	\my $out,
	'2>',
	\my $err);
$primary->poll_query_until(
	'postgres',
	q{SELECT count(*) = 1 FROM pg_stat_activity
	  WHERE wait_event = 'PgSleep' AND query LIKE 'BEGIN; UPDATE%'});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->stop('immediate');
$open->finish;

$standby->promote;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'),
	'f', 'promoted');
is_same(list_documents($standby, 'postgres', 'after', 'v'),
	$oracle, 'promoted: after holds the documents');
$standby->safe_psql(
	'postgres', q{
	UPDATE after SET v = 'new ' || id WHERE id % 2 = 0;
	UPDATE after SET v = d.body FROM document AS d WHERE d.id = after.id;
	INSERT INTO before SELECT id + 10000, v FROM after;
	VACUUM FULL before;
	REINDEX TABLE after});
is_same(list_documents($standby, 'postgres', 'after', 'v'),
	$oracle, 'promoted: after is changed and changed back');
is_same(
	list_documents(
		$standby, 'postgres',
		'(SELECT id - 10000 AS id, v FROM before WHERE id > 10000) AS b', 'v'
	),
	$oracle,
	'promoted: before is larger');
is_deeply([ verify_columns($standby, 'postgres') ],
	['4'], 'promoted: all columns verify');

unlike(
	slurp_file($standby->logfile),
	qr/PANIC|TRAP|terminated by signal|inconsistent page/,
	'the standby found every page as the primary made it');
$standby->stop;
done_testing();
