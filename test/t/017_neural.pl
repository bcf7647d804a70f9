# Values that a model has encoded, where they leave their table: a standby and
# its promotion, logical replication, dump and restore; and what must not harm
# them: small caches, cancelled and killed training and maintenance.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(
	'main',
	allows_streaming => 'logical',
	conf => "fsync = off\nrestart_after_crash = on\nclient_min_messages = warning\n");

$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION nbmf;
	CREATE FUNCTION turn_text(n bigint, tenant text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
		SELECT format('{"role": "%s", "model": "large", "content": "%s asks %s about%s", "tokens": %s}',
			CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, tenant, n,
			(SELECT string_agg((ARRAY[' orders', ' invoices', ' refunds', ' letters', ' parcels',
				' prices', ' returns', ' dates'])[(hashint8(n * 10 + i) & 7) + 1], '')
			FROM generate_series(1, 10) AS i), n * 31 % 977) $$;
	INSERT INTO nbmf.class (name, codec, share, edge_only) VALUES
		('deep', 'neural', 'tenant', false), ('edge', 'neural', 'column', true);
	CREATE TABLE turn (n int PRIMARY KEY, tenant text, body nbmf);
	INSERT INTO turn SELECT n, 't' || n % 2, turn_text(n, 't' || n % 2) FROM generate_series(1, 16000) n;
	SELECT nbmf.attach('turn', 'body', class => 'deep', tenant_by => 'tenant');
	CREATE TABLE secret (n int PRIMARY KEY, body nbmf);
	INSERT INTO secret SELECT n, turn_text(n, 'nobody') FROM generate_series(1, 8000) n;
	SELECT nbmf.attach('secret', 'body', class => 'edge');
	CREATE TABLE moved (n int, body nbmf);
	ALTER TABLE moved REPLICA IDENTITY FULL;
	CREATE PUBLICATION moved FOR TABLE moved});

# How many values a model has encoded, and whether all say what they must
my $cold = q{SELECT count(*) > 15000 FROM turn, nbmf_info(body) WHERE codec = 'neural'};
my $whole = q{
	SELECT count(*) FILTER (WHERE body::text = turn_text(n, tenant)),
		count(*) FILTER (WHERE body = turn_text(n, tenant)::nbmf),
		count(*) FILTER (WHERE nbmf_hash(body) = nbmf_hash(turn_text(n, tenant)::nbmf)) FROM turn};

# cancelled while it learns, and while it writes: at once, and nothing is lost
foreach my $ms (200, 1500, 4000)
{
	my $start = time();
	my ($ret, $out, $err) =
	  $node->psql('postgres',
		"SET statement_timeout = $ms; CALL nbmf.maintain('turn')");

	cmp_ok(time() - $start, '<', $ms / 1000 + 5, "cancelled after $ms ms");
	like($err, qr/^$|statement timeout/, 'and for no other reason');
	is($node->safe_psql('postgres', $whole),
		'16000|16000|16000', 'values are whole');
}

# killed, likewise
foreach my $phase ('training', 're-encoding')
{
	my $session = open_session($node, 'postgres');
	my $pid = ask($session, 'SELECT pg_backend_pid()');

	request($session, "CALL nbmf.maintain('secret')");
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_progress_nbmf WHERE phase = '$phase'"
	) or die "no $phase";
	kill 'KILL', $pid;
	close_session($session);
	ok(answers_again($node, 'postgres'), "recovered from a kill in $phase");
	is( $node->safe_psql(
			'postgres', q{
			SELECT count(*) FROM secret WHERE body::text = turn_text(n, 'nobody');
			SELECT count(*) FROM nbmf_verify_table('secret', 'body')}),
		"8000\n0",
		"and values are whole");
}
$node->safe_psql('postgres', 'CALL nbmf.maintain()');
is($node->safe_psql('postgres', $cold), 't', 'a model encodes values');
is($node->safe_psql('postgres', $whole), '16000|16000|16000',
	'and they are whole');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM turn, nbmf_info(body) i JOIN nbmf.object o ON o.id = i.object
		WHERE o.tenant IS DISTINCT FROM turn.tenant}),
	'0',
	'each tenant has its own objects');

# no memory for models, and parallel workers
is( $node->safe_psql('postgres', "SET nbmf.model_cache = 0; $whole"),
	'16000|16000|16000', 'without a cache');
is( $node->safe_psql(
		'postgres', qq{
		SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0; $whole}),
	'16000|16000|16000',
	'in parallel workers');

# a standby, with less shared memory than a model takes, and its promotion
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf',
	"shared_preload_libraries = 'nbmf'\nnbmf.shared_cache = '300kB'\n");
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $whole),
	'16000|16000|16000', 'a standby reads them');

# logical decoding of old and new values
my $subscriber = new_node('subscriber', conf => "fsync = off\n");

$subscriber->start;
$subscriber->safe_psql(
	'postgres', q{
	CREATE EXTENSION nbmf;
	CREATE TABLE moved (n int, body nbmf)});
$node->safe_psql('postgres',
	'INSERT INTO moved SELECT n, body FROM turn WHERE n <= 100');
$subscriber->safe_psql('postgres',
	    "CREATE SUBSCRIPTION moved CONNECTION '"
	  . $node->connstr
	  . " dbname=postgres' PUBLICATION moved");
$subscriber->wait_for_subscription_sync($node, 'moved');
$node->safe_psql(
	'postgres', q{
	INSERT INTO moved SELECT n, body FROM turn WHERE n BETWEEN 101 AND 200;
	UPDATE moved SET n = -n WHERE n % 10 = 0;
	UPDATE moved SET body = turn.body FROM turn WHERE moved.n = 7 AND turn.n = 8;
	DELETE FROM moved WHERE n % 10 = 1});
$node->wait_for_catchup('moved');
is_same(
	list_table(
		$subscriber, 'postgres', 'public', 'SELECT * FROM moved ORDER BY n'),
	list_table($node, 'postgres', 'public', 'SELECT * FROM moved ORDER BY n'),
	'a subscriber has the same values');
$subscriber->stop;

# dump and restore: the models of classes that are not for the edge alone, too
my $dump = $node->basedir . '/neural.dump';

command_ok(
	[ 'pg_dump', connection($node), '-Fc', '-f', $dump, 'postgres' ],
	'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
command_ok([ 'pg_restore', '-e', connection($node), '-d', 'restored', $dump ],
	'restored');
is($node->safe_psql('restored', $whole),
	'16000|16000|16000', 'the restored values are whole');
is( $node->safe_psql(
		'restored', q{SELECT class, count(*) FROM nbmf.object WHERE kind = 'model' GROUP BY class}
	),
	'deep|2',
	'with their models');
$node->safe_psql('restored',
	q{SET nbmf.auto_train = off; CALL nbmf.maintain('turn')});
is($node->safe_psql('restored', $cold), 't', 'which encode them anew');
is($node->safe_psql('restored', $whole),
	'16000|16000|16000', 'and keep them whole');

$standby->promote;
is($standby->safe_psql('postgres', $whole),
	'16000|16000|16000', 'a promoted standby reads them');
is( $standby->safe_psql(
		'postgres',
		q{UPDATE turn SET body = body WHERE n <= 10;
		  INSERT INTO turn SELECT n, 't1', turn_text(n, 't1') FROM generate_series(16001, 16100) n;
		  CALL nbmf.maintain('turn');
		  SELECT count(*) > 90 FROM turn, nbmf_info(body) WHERE n > 16000 AND codec = 'neural'}),
	't',
	'and goes on with its models');
$standby->stop;
$node->stop;
done_testing();
