# Building nbmf_cas indexes: with parallel workers what is built without them, whatever
# the index is like; errors and cancels in the leader and in workers; a full disk.
#
# NBMF_SMALL_DISK is a directory on a file system of 24 MB that the server may fill;
# without one that part is left out.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main',
	conf => "max_parallel_maintenance_workers = 2\nmax_parallel_workers = 8\nmin_parallel_table_scan_size = 0\n"
	  . "maintenance_work_mem = 128MB\nshared_buffers = 64MB\nfsync = off\n"
	  . "client_min_messages = warning\nlog_min_messages = debug1\n");

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');

# How many workers built what was built since the last call
my $read = 0;
sub workers
{
	my $log = slurp_file($node->logfile, $read);

	$read += length $log;
	return join(',', $log =~ /is built with (\d+) of \d+ parallel workers/g);
}

#
# What is built in parallel is what is built without.  Contents need dictionaries, a
# quarter of the keys has the same fingerprint.
#
create_records($node, 'postgres', 8000);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE body (id int, tenant int, body nbmf, key nbmf_key);
	INSERT INTO body SELECT n, n % 3, CASE WHEN n % 50 > 0 THEN d::nbmf END,
			key_of(n, CASE n % 4 WHEN 0 THEN 5 ELSE mixed(n) END) FROM record;
	SELECT nbmf.attach('body', 'body', class => 'chat')});
$node->safe_psql('postgres', $_)
  foreach ("CALL nbmf.train('body', 'body')", "CALL nbmf.maintain('body')", 'VACUUM ANALYZE body');
isnt($node->safe_psql('postgres', 'SELECT count((nbmf_info(body)).object) FROM body'), '0', 'values have dictionaries');

my %index = (
	'two columns' => 'INDEX one ON body USING nbmf_cas (tenant, body)',
	'keys' => 'INDEX one ON body USING nbmf_cas (key)',
	'expression' => 'INDEX one ON body USING nbmf_cas ((nbmf_key(body)))',
	'partial' => 'INDEX one ON body USING nbmf_cas (body) WHERE tenant = 1 AND id % 2 = 0',
	'concurrently' => 'INDEX CONCURRENTLY one ON body USING nbmf_cas (body)');
my $scan = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;';
my %query = (
	'two columns' => 'a.tenant = b.tenant AND a.body ~= b.body',
	'keys' => 'a.key ~= b.key',
	'expression' => 'nbmf_key(a.body) ~= nbmf_key(b.body)',
	'partial' => 'a.body ~= b.body AND a.tenant = 1 AND a.id % 2 = 0',
	'concurrently' => 'a.body ~= b.body');
foreach my $name (sort keys %index)
{
	my %got;

	workers();
	foreach my $workers (0, 2)
	{
		$node->safe_psql('postgres', "SET max_parallel_maintenance_workers = $workers; CREATE $index{$name}");
		is(workers(), $workers ? '2' : '', "$name: built with $workers workers");
		$got{$workers} = $node->safe_psql(
			'postgres', qq{
			SELECT nbmf_index_check('one', true), (SELECT reltuples FROM pg_class WHERE relname = 'body');
			SELECT "table", sum(entries) FROM generate_series(0, pg_relation_size('one') / 8192 - 1) AS i, nbmf_index_page('one', i)
				GROUP BY 1 ORDER BY 1;
			$scan SELECT b.id, count(*), sum(a.id) FROM body AS b, body AS a WHERE $query{$name} AND b.id % 500 = 1 GROUP BY b.id ORDER BY b.id});
		$node->safe_psql('postgres', 'DROP INDEX one') if !$workers;
	}
	is_same($got{2}, $got{0}, "$name: workers make no difference");
	$node->safe_psql('postgres', 'REINDEX INDEX one');
	is(workers(), '2', "$name: REINDEX has workers");
	is($node->safe_psql('postgres', "SELECT nbmf_index_check('one', true)"),
		(split /\|/, $got{0})[0], "$name: whole after REINDEX");
	$node->safe_psql('postgres', 'DROP INDEX one');
}

# more rows than maintenance_work_mem has room for; what nobody committed; constraints
$node->safe_psql(
	'postgres', q{
	CREATE UNLOGGED TABLE many (id int, key nbmf_key) WITH (parallel_workers = 2);
	INSERT INTO many SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 100000) AS i;
	DELETE FROM many WHERE id > 99000;
	SET maintenance_work_mem = '1MB';
	CREATE INDEX many_key ON many USING nbmf_cas (key)});
is(workers(), '2', 'little memory: built with workers');
is($node->safe_psql('postgres', "SELECT nbmf_index_check('many_key', true)"), '99000', 'little memory: all is there');
is($node->safe_psql('postgres', "ALTER TABLE many ADD CONSTRAINT once EXCLUDE USING nbmf_cas (key WITH =); SELECT nbmf_index_check('once', true)"),
	'99000', 'constraint: all is there');
is(workers(), '2', 'constraint: built with workers');
is( sqlstate_of($node, 'postgres',
		"INSERT INTO many SELECT * FROM many WHERE id = 77; ALTER TABLE many DROP CONSTRAINT once; INSERT INTO many SELECT * FROM many WHERE id = 77"),
	'23P01', 'constraint: holds');
is( sqlstate_of($node, 'postgres',
		"ALTER TABLE many DROP CONSTRAINT once; INSERT INTO many SELECT * FROM many WHERE id = 77; ALTER TABLE many ADD CONSTRAINT once EXCLUDE USING nbmf_cas (key WITH =)"),
	'23P01', 'constraint: is checked');
workers();
is( $node->safe_psql('postgres',
		"BEGIN; CREATE TABLE young AS SELECT * FROM body; CREATE INDEX young_body ON young USING nbmf_cas (body); SELECT nbmf_index_check('young_body', true); COMMIT; SELECT nbmf_index_check('young_body', true) FROM young LIMIT 1"),
	"7840\n7840", 'a table of the same transaction');
is(workers(), '2', 'it has workers');

#
# Who may not run in a worker does not
#
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION unsafe(nbmf_key) RETURNS nbmf_key LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED AS 'BEGIN RETURN $1; END';
	CREATE FUNCTION unsafe(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS 'BEGIN RETURN true; END';
	CREATE INDEX restricted ON body USING nbmf_cas (unsafe(key));
	CREATE INDEX unsafe ON body USING nbmf_cas (key) WHERE unsafe(id);
	CREATE TEMP TABLE own AS SELECT * FROM body;
	CREATE INDEX own_key ON own USING nbmf_cas (key);
	SELECT nbmf_index_check('restricted', true), nbmf_index_check('unsafe', true), nbmf_index_check('own_key', true);
	DROP INDEX restricted, unsafe});
is(workers(), '', 'no workers where functions are not parallel safe, nor for temporary tables');

#
# Errors: the leader is slow, so that there are rows left for workers
#
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION role() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
		SELECT backend_type FROM pg_stat_get_activity(pg_backend_pid()) $$;
	CREATE FUNCTION failing(key nbmf_key) RETURNS nbmf_key LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
		BEGIN
			IF role() = 'parallel worker' THEN
				RAISE EXCEPTION 'failed in a worker';
			END IF;
			PERFORM pg_sleep(0.02);
			RETURN key;
		END $$;
	CREATE FUNCTION slow(key nbmf_key) RETURNS nbmf_key LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
		BEGIN
			PERFORM pg_sleep(0.02);
			RETURN key;
		END $$});
my ($ret, $out, $err) = $node->psql('postgres', 'CREATE INDEX broken ON body USING nbmf_cas (failing(key))');
like($err, qr/ERROR:  failed in a worker/, 'the error of a worker is that of the build');

sub await
{
	my ($sql) = @_;

	$node->poll_query_until('postgres', $sql) or die "never true: $sql";
	return;
}

my $crew = q{SELECT count(*) = 3 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX broken%'};
foreach my $who ('client backend', 'parallel worker')
{
	my $session = start_session($node, 'postgres', "CREATE INDEX broken ON body USING nbmf_cas (slow(key));\n");

	await($crew);
	await(q{SELECT phase = 'building index: scanning table' AND blocks_total > 0 FROM pg_stat_progress_create_index});
	my $how = $who eq 'client backend' ? 'pg_cancel_backend' : 'pg_terminate_backend';
	$node->safe_psql('postgres', "SELECT $how(pid) FROM pg_stat_activity WHERE backend_type = '$who' AND query LIKE 'CREATE INDEX broken%' LIMIT 1");
	isnt(finish_session($session), 0, "$how of $who ends the build");
	like($session->{err}, qr/ERROR:  (canceling statement|terminating background worker|lost connection to parallel worker)/, 'and it says why');
	await(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX broken%' AND state = 'active'});
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 'broken'"), '0', 'nothing is left of it');

#
# A full disk
#
SKIP:
{
	my $disk = $ENV{NBMF_SMALL_DISK};
	skip 'NBMF_SMALL_DISK names no small file system', 8 if !$disk;

	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk'");
	$node->safe_psql(
		'postgres', q{
		CREATE TABLE big (id int, key nbmf_key);
		INSERT INTO big SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 500000) AS i});
	workers();
	foreach my $workers (0, 2)
	{
		my $create = "SET max_parallel_maintenance_workers = $workers; CREATE INDEX big_key ON big USING nbmf_cas (key) TABLESPACE small";

		is(sqlstate_of($node, 'postgres', $create), '53100', "$workers workers: the disk is full");
		is(workers(), $workers ? '2' : '', "$workers workers");
		is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 'big_key'"),
			'0', "$workers workers: nothing is left of the index");
		is($node->safe_psql('postgres', "$create WHERE id <= 100000; SELECT nbmf_index_check('big_key', true)"),
			'100000', "$workers workers: a smaller one can be built");
		$node->safe_psql('postgres', 'DROP INDEX big_key; CHECKPOINT');
		workers();
	}
	$node->safe_psql('postgres', 'DROP TABLESPACE small');
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal 11|signal 6/, 'no crash');
$node->stop;
done_testing();
