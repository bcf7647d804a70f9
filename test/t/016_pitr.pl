# Recovery to a point in time: a base backup and the WAL since, replayed up to
# points before, between and after dictionaries were made, used for new values,
# and spread by maintenance.
#
# At each point, the primary notes the text of every row.  A server recovered
# to there must have the same, no value that refers to an object that is not
# there, and must be able to go on: to write, to train and to maintain.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	has_archiving => 1,
	allows_streaming => 1,
	conf => "max_connections = 30\nshared_buffers = 16MB\nfsync = off\n"
	  . "max_prepared_transactions = 5\nclient_min_messages = warning\n");
my $records = 400;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', $records);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE memory (n int PRIMARY KEY, tenant text, body nbmf) WITH (fillfactor = 10);
	CREATE TABLE parts (n int, body nbmf) PARTITION BY RANGE (n);
	CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (200);
	CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (200) TO (MAXVALUE);
	CREATE TABLE copied (n int, body nbmf);
	SELECT nbmf.attach('memory', 'body', class => 'legal', tenant_by => 'tenant');
	SELECT nbmf.attach('parts', 'body');
	INSERT INTO memory SELECT n, tenant, d FROM record;
	INSERT INTO parts SELECT n, d FROM record});
my @tables = ('memory', 'parts', 'copied');

sub state_of
{
	my ($server) = @_;

	return $server->safe_psql('postgres',
		join(' UNION ALL ', map { "SELECT '$_', n, nbmf_kind(body), md5(body::text) FROM $_" } @tables)
		  . ' ORDER BY 1, 2, 4');
}

sub objects_of
{
	my ($server) = @_;

	return $server->safe_psql('postgres',
		'SELECT id, attachment, tenant, checksum, md5(payload) FROM nbmf.object ORDER BY id') . "\n";
}

my %point;
my @points;

sub mark
{
	my ($name) = @_;

	$node->safe_psql('postgres', "SELECT pg_create_restore_point('$name')");
	$point{$name} = { state => state_of($node), objects => objects_of($node) };
	push @points, $name;
	return;
}

$node->backup('base');
mark('untrained');
$node->safe_psql('postgres', q{CALL nbmf.train('memory', 'body')});
mark('trained');
$node->safe_psql('postgres', q{
	INSERT INTO memory SELECT n + 10000, tenant, d FROM record;
	INSERT INTO copied SELECT n, body FROM memory WHERE n > 10000});
mark('written');

# A pass in the middle: some batches are done
my $worker = open_session($node, 'postgres');
my $pid = ask($worker, 'SELECT pg_backend_pid()');
request($worker, q{SET nbmf.maintain_wal_rate = 10; CALL nbmf.maintain('memory')});
$node->poll_query_until('postgres',
	q{SELECT count(*) > 0 FROM nbmf.pass WHERE relation = 'memory'::regclass AND next_block BETWEEN 1 AND blocks - 1})
  or die 'maintenance does not start';
mark('maintaining');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
await_answer($worker);
close_session($worker);
$node->safe_psql('postgres', 'CALL nbmf.maintain()');
mark('maintained');

# New dictionaries under values of the old, a transaction in progress, one that
# is prepared, and the old values gone from where they were
my $open = open_session($node, 'postgres');
ask($open, q{BEGIN; INSERT INTO memory SELECT n + 20000, tenant, d FROM record WHERE n < 50});
$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO parts SELECT n + 20000, d FROM record WHERE n < 50;
	PREPARE TRANSACTION 'p';
	UPDATE memory SET body = secret_text(n, tenant) WHERE n < 10000;
	CALL nbmf.train('memory', 'body');
	INSERT INTO memory SELECT n + 30000, tenant, secret_text(n, tenant) FROM record});
mark('retrained');
ask($open, 'COMMIT');
close_session($open);
$node->safe_psql('postgres', q{
	COMMIT PREPARED 'p';
	CALL nbmf.maintain();
	DELETE FROM memory WHERE n BETWEEN 10000 AND 19999;
	VACUUM memory;
	INSERT INTO memory SELECT n + 40000, tenant, upper(d) FROM record});
mark('last');
$node->safe_psql('postgres', q{
	SELECT nbmf.detach('memory', 'body');
	DROP TABLE memory});
my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver")
  or die 'the WAL is not archived';

cmp_ok(length $point{retrained}->{objects}, '>', length $point{trained}->{objects},
	'there are dictionaries from before and after');
is($point{untrained}->{objects}, "\n", 'and none in the beginning');

foreach my $name (@points)
{
	my $server = PostgreSQL::Test::Cluster->new($name);

	$server->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
	$server->append_conf('postgresql.conf',
		"recovery_target_name = '$name'\nrecovery_target_action = promote\n"
		  . "recovery_target_timeline = current\narchive_mode = off\n");
	$server->start;
	$server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
	  or die 'recovery does not end';
	is_same(state_of($server), $point{$name}->{state}, "$name: rows are what they were");
	is_same(objects_of($server), $point{$name}->{objects}, "$name: so are objects");
	is( $server->safe_psql('postgres',
			join(' UNION ALL ', map {
				"SELECT '$_', n FROM $_ WHERE (nbmf_info(body)).object <> ALL (ARRAY(SELECT id FROM nbmf.object))"
				  . ' AND (nbmf_info(body)).object IS NOT NULL'
			} @tables)),
		'',
		"$name: nothing refers to what is not there");
	is_deeply([ verify_columns($server, 'postgres') ], ['4'], "$name: all values verify");
	is($server->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_nbmf'),
		'0', "$name: nobody is at work");

	# ids go on after the highest that any value may refer to
	my $highest = $server->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM nbmf.object');
	$server->safe_psql('postgres', q{ROLLBACK PREPARED 'p'}) if $name eq 'retrained';
	$server->safe_psql('postgres', q{
		UPDATE memory SET body = lower(md5(n::text) || d) FROM (SELECT n AS r, d FROM record) AS s WHERE r = n AND n % 2 = 0;
		CALL nbmf.train('memory', 'body');
		INSERT INTO memory SELECT n + 50000, tenant, d FROM record;
		CALL nbmf.maintain()});
	is( $server->safe_psql('postgres', qq{
			SELECT count(*) > 0, count(*) = count(DISTINCT id) FROM nbmf.object;
			SELECT count(*) FROM memory WHERE n > 50000 AND body::text <> record_text(n - 50000, tenant);
			SELECT count(*) FROM nbmf.object WHERE id <= $highest}),
		"t|t\n0\n" . ($point{$name}->{objects} =~ tr/\n// - ($highest == 0)),
		"$name: it goes on from there");
	is( $server->safe_psql('postgres', q{
			SELECT count(*) FROM memory AS m JOIN nbmf.object AS o ON o.id = (nbmf_info(body)).object
			WHERE o.tenant <> m.tenant}),
		'0', "$name: and tenants stay apart");
	is_deeply([ verify_columns($server, 'postgres') ], ['4'], "$name: then all values verify as well");
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal/, "$name: without a crash");
	$server->stop('fast');
	$server->clean_node;
}

$node->stop;
done_testing();
