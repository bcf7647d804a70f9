# nbmf_cas on a hot standby: replay makes the same pages
# (wal_consistency_checking), answers are the primary's while it replays, and
# after promotion the index takes inserts.  No deadlock of readers with replay.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node(
	'primary',
	allows_streaming => 1,
	conf => "wal_consistency_checking = 'generic'\nmax_connections = 40\n"
	  . "shared_buffers = 32MB\nmax_wal_size = 4GB\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($primary, 'postgres');
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE before (id int, key nbmf_key NOT NULL);
	INSERT INTO before SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 5000) AS i;
	CREATE INDEX before_key ON before USING nbmf_cas (key)});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# splits, chains, directory pages, removal, reuse, builds
my $writer = start_session(
	$primary, 'postgres', q{
	CREATE TABLE after (id int, tenant int, key nbmf_key NOT NULL);
	CREATE INDEX after_key ON after USING nbmf_cas (tenant, key);
	CREATE UNLOGGED TABLE fleeting (id int, key nbmf_key);
	CREATE INDEX fleeting_key ON fleeting USING nbmf_cas (key);
	INSERT INTO fleeting SELECT i, key_of(i, i) FROM generate_series(1, 100) AS i;
	INSERT INTO before SELECT i, key_of(i, mixed(i)) FROM generate_series(5001, 20000) AS i;
	INSERT INTO before SELECT i, key_of(i, mixed(i) & x'ffffffffffff'::bigint) FROM generate_series(20001, 26000) AS i;
	INSERT INTO after SELECT i, i % 3, key_of(i, CASE WHEN i % 2 = 0 THEN 7 ELSE mixed(i) END) FROM generate_series(1, 8000) AS i;
	DELETE FROM after WHERE id % 3 > 0;
	DELETE FROM before WHERE id > 15000 AND id % 5 > 0;
	VACUUM (INDEX_CLEANUP on) after;
	VACUUM (INDEX_CLEANUP on) before;
	INSERT INTO after SELECT i, i % 3, key_of(i, CASE WHEN i % 2 = 0 THEN 7 ELSE mixed(i) END) FROM generate_series(8001, 12000) AS i;
	REINDEX INDEX before_key;
	});
my $rounds = 0;
my $wrong = '';
while ($writer->{run}->pumpable)
{
	$writer->{run}->pump_nb;
	$wrong .= $standby->safe_psql(
		'postgres', q{
		SET enable_seqscan = off;
		SELECT q.i, count(b.id) FROM generate_series(1, 5000, 250) AS q (i) LEFT JOIN before AS b ON b.key = key_of(q.i, mixed(q.i)) AND b.id <= 5000
		GROUP BY q.i HAVING count(b.id) <> 1;
		SELECT q.i, count(b.id) FROM generate_series(1, 5000, 250) AS q (i) LEFT JOIN before AS b ON b.key ~= key_of(0, mixed(q.i)) AND b.id <= 5000
		GROUP BY q.i HAVING count(b.id) <> 1});
	$rounds++;
	last if $rounds > 500;
}
finish_session($writer);
is($writer->{err}, '', 'the primary works');
is($wrong, '', "the standby finds all rows while it replays, in $rounds rounds");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

my @queries = map {
	(   "SELECT count(*), sum(id) FROM before WHERE key ~= $_",
		"SELECT count(*), sum(id) FROM before WHERE key <@ nbmf_ball($_, 0.75)",
		"SELECT count(*), sum(id) FROM after WHERE key ~= $_ AND tenant = 1",
		"SELECT array_agg(d) FROM (SELECT key <~> $_ AS d FROM before ORDER BY key <~> $_ LIMIT 20) AS s")
} 'key_of(0, 7)', 'key_of(1, mixed(77))', 'key_of(0, 0)';
foreach my $query (@queries)
{
	my $expected = $primary->safe_psql('postgres',
		"SET enable_indexscan = off; SET enable_bitmapscan = off; $query");
	is($standby->safe_psql('postgres', "SET enable_seqscan = off; $query"),
		$expected, "standby: $query");
}
foreach my $node ($primary, $standby)
{
	foreach my $index ('before_key', 'after_key')
	{
		my ($ret, $out, $err) = $node->psql('postgres', "SELECT nbmf_index_check('$index', true)");
		is($err, '', $node->name . ": $index is whole and complete");
	}
}

$standby->promote;
$standby->safe_psql(
	'postgres', q{
	INSERT INTO before SELECT i, key_of(i, mixed(i)) FROM generate_series(30001, 33000) AS i;
	INSERT INTO after SELECT i, 1, key_of(i, 7) FROM generate_series(30001, 31000) AS i;
	DELETE FROM before WHERE id % 2 = 0;
	VACUUM (INDEX_CLEANUP on) before;
	INSERT INTO fleeting SELECT i, key_of(i, i) FROM generate_series(1, 100) AS i});
foreach my $index ('before_key', 'after_key', 'fleeting_key')
{
	my ($ret, $out, $err) = $standby->psql('postgres', "SELECT nbmf_index_check('$index', true)");
	is($err, '', "promoted: $index is whole and complete");
}
unlike(slurp_file($standby->logfile), qr/PANIC|TRAP|inconsistent page|signal 11/, 'replay is consistent');
$standby->stop;
$primary->stop;
done_testing();
