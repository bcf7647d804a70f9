# nbmf_cas among many: exclusion constraints that nobody gets around, rows that
# are all found while others insert, delete and vacuum, indexes built beside
# writers, and cancels at any point.
#
# NBMF_SOAK_SECONDS is how long the part with pgbench takes, 20 if not set.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main',
	conf => "min_parallel_table_scan_size = 0\nmaintenance_work_mem = 128MB\nmax_connections = 60\nshared_buffers = 64MB\nfsync = off\n"
	  . "max_wal_size = 4GB\nclient_min_messages = warning\n");
my $seconds = $ENV{NBMF_SOAK_SECONDS} || 20;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');

sub check_indexes
{
	my ($what, @indexes) = @_;

	foreach my $index (@indexes)
	{
		my ($ret, $out, $err) =
		  $node->psql('postgres', "SELECT nbmf_index_check('$index', true)");
		is($err, '', "$what: $index is whole and complete");
	}
	return;
}

#
# 8 clients insert what is near or equal to what others insert, and delete;
# VACUUM and checks beside them; afterwards no two rows are too near
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE near (id bigserial, key nbmf_key, CONSTRAINT near_once EXCLUDE USING nbmf_cas (key WITH ~=));
	CREATE TABLE same (id bigserial, tenant int, key nbmf_key,
		CONSTRAINT same_once EXCLUDE USING nbmf_cas (tenant WITH =, key WITH =));
	CREATE TABLE body (id bigserial, body nbmf, CONSTRAINT body_once EXCLUDE USING nbmf_cas (body WITH =));
	CREATE INDEX ON near (id)});
my $insert = <<'SQL';
\set c random(1, 2000)
\set b random(0, 63)
\set d random(0, 63)
\set t random(1, 3)
\set e random(1, 1000000)
INSERT INTO near (key) VALUES (key_of(:c, mixed(:c) # (1::bigint << :b) # (1::bigint << :d) # (mixed(:e) & mixed(:e + 1) & mixed(:e + 2) & mixed(:e + 3)))) ON CONFLICT DO NOTHING;
INSERT INTO same (tenant, key) VALUES (:t, key_of(:c, :c % 2)) ON CONFLICT DO NOTHING;
INSERT INTO body (body) VALUES ('note ' || :c) ON CONFLICT ON CONSTRAINT body_once DO NOTHING;
SQL
my $delete = <<'SQL';
\set c random(1, 1000)
DELETE FROM near WHERE id % 1000 = :c;
DELETE FROM same WHERE id % 1000 = :c;
DELETE FROM body WHERE id % 1000 = :c;
SQL
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/insert.sql", $insert);
append_to_file("$dir/delete.sql", $delete);
my $vacuum = start_session($node, 'postgres',
	q{VACUUM (INDEX_CLEANUP on) near; VACUUM (INDEX_CLEANUP on) same; VACUUM (INDEX_CLEANUP on) body;
	  SELECT nbmf_index_check('near_once', true), nbmf_index_check('same_once', true), nbmf_index_check('body_once', true);
	  SELECT pg_sleep(0.3);} x (2 * $seconds));
my ($out, $err) = run_command(
	[
		'pgbench', '-n', '-c', '8', '-j', '2', '-T', $seconds, '-M', 'prepared',
		connection($node), '-f', "$dir/insert.sql\@100", '-f', "$dir/delete.sql\@1",
		'postgres'
	]);
like($out, qr/transactions actually processed: [1-9]/, 'clients work');
unlike($err, qr/aborted|ERROR/, 'no client has an error');
$vacuum->{run}->kill_kill;
unlike($vacuum->{err}, qr/ERROR/, 'nor VACUUM and checks');
my $oracle = q{SET enable_indexscan = off; SET enable_bitmapscan = off;};
is( $node->safe_psql('postgres',
		"$oracle SELECT a.id, b.id FROM near AS a JOIN near AS b ON a.id < b.id AND a.key ~= b.key"),
	'', 'no two rows are near');
is( $node->safe_psql('postgres',
		"$oracle SELECT tenant, key, count(*) FROM same GROUP BY tenant, key HAVING count(*) > 1"),
	'', 'no two rows of a tenant are equal');
is( $node->safe_psql('postgres',
		"$oracle SELECT body, count(*) FROM body GROUP BY body HAVING count(*) > 1"),
	'', 'no two bodies are equal');
check_indexes('after the soak', 'near_once', 'same_once', 'body_once');

#
# Many sessions extend the same chains: no entry is lost, none is found twice
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE chain (id bigserial, key nbmf_key);
	CREATE INDEX chain_key ON chain USING nbmf_cas (key)});
append_to_file("$dir/chain.sql",
	"INSERT INTO chain (key) SELECT key_of(i, CASE WHEN i % 4 = 0 THEN 5 ELSE mixed(i) & 65535 END) FROM generate_series(1, 40) AS i;\n"
);
($out, $err) = run_command(
	[
		'pgbench', '-n', '-c', '8', '-j', '2', '-t', '60', connection($node), '-f',
		"$dir/chain.sql", 'postgres'
	]);
unlike($err, qr/aborted|ERROR/, 'chains grow');
check_indexes('chains', 'chain_key');
is( $node->safe_psql('postgres',
		"SET enable_seqscan = off; SELECT count(*), count(DISTINCT id) FROM chain WHERE key ~= key_of(0, 5)"),
	$node->safe_psql('postgres',
		"$oracle SELECT count(*), count(DISTINCT id) FROM chain WHERE key ~= key_of(0, 5)"),
	'every entry is found, once');

#
# Readers beside writers: what was there before and stays is always found
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE flow (id bigint, key nbmf_key NOT NULL);
	CREATE INDEX flow_key ON flow USING nbmf_cas (key);
	INSERT INTO flow SELECT i, key_of(i, mixed(i % 300) # (1::bigint << (i % 61)::int)) FROM generate_series(1, 3000) AS i});
my $writer = start_session(
	$node, 'postgres', join(
		"\n",
		map {
			my $from = 10000 + $_ * 3000;
			(   "INSERT INTO flow SELECT i, key_of(i, mixed(i % 300) # mixed(i) & mixed(i + 1)) FROM generate_series($from, $from + 2999) AS i;",
				"DELETE FROM flow WHERE id >= 10000 AND id < $from;",
				'VACUUM (INDEX_CLEANUP on) flow;')
		} 1 .. 30));
my $wrong = '';
my $rounds = 0;
while ($writer->{run}->pumpable && $rounds < 60 && $wrong eq '')
{
	$writer->{run}->pump_nb;
	$rounds++;
	$wrong = $node->safe_psql(
		'postgres', qq{
		SET enable_seqscan = off;
		SELECT q.id, count(f.id), count(DISTINCT f.id) FROM generate_series($rounds, 299, 20) AS q (id)
			LEFT JOIN flow AS f ON f.key <@ nbmf_ball(key_of(0, mixed(q.id)), 0.98) AND f.id <= 3000
		GROUP BY q.id HAVING count(f.id) <> 10 OR count(DISTINCT f.id) <> 10});
}
is($wrong, '', "all old rows are found, once, in $rounds rounds beside a writer");
$writer->{run}->kill_kill;
unlike($writer->{err}, qr/ERROR/, 'the writer has no error');
check_indexes('after flow', 'flow_key');

#
# CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY beside writers
#
append_to_file("$dir/write.sql", <<'SQL');
\set i random(1, 1000000)
INSERT INTO flow VALUES (:i + 1000000, key_of(:i, mixed(:i)));
DELETE FROM flow WHERE id = :i;
UPDATE flow SET key = key_of(:i, mixed(:i)) WHERE id = :i % 3000;
SQL
my $bench_out = '';
my $bench = IPC::Run::start(
	[
		'pgbench', '-n', '-c', '4', '-T', '8', connection($node), '-f',
		"$dir/write.sql", 'postgres'
	],
	'>', \$bench_out, '2>&1');
foreach my $round (1 .. 3)
{
	$node->safe_psql('postgres', "CREATE INDEX CONCURRENTLY flow_$round ON flow USING nbmf_cas (key)");
}
$node->safe_psql('postgres', 'REINDEX INDEX CONCURRENTLY flow_key');
$bench->finish;
unlike($bench_out, qr/aborted|ERROR/, 'writers go on while indexes are built');
check_indexes('built concurrently', 'flow_key', 'flow_1', 'flow_2', 'flow_3');

#
# Cancels: of builds, scans, inserts and VACUUM, wherever they are
#
foreach my $sql (
	'REINDEX INDEX flow_key',
	'INSERT INTO flow SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 100000) AS i',
	'SELECT count(*) FROM flow AS a JOIN flow AS b ON a.key ~= b.key',
	'SELECT sum(a.id) FROM (SELECT id FROM flow ORDER BY key <~> key_of(0, 1)) AS a')
{
	foreach my $ms (1, 20, 100, 300)
	{
		my ($ret, $o, $e) = $node->psql('postgres',
			"SET enable_seqscan = off; SET enable_hashjoin = off; SET statement_timeout = $ms; $sql");
		ok($ret == 0 || $e =~ /statement timeout/, "cancelled or done: $ms ms of $sql");
	}
}
check_indexes('after cancels', 'flow_key');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal 11|signal 6|self tuple/, 'no crash');
$node->stop;
done_testing();
