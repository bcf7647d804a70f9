# pg_stat_nbmf_cas: counters shared by sessions and kept over a clean restart
# with nbmf preloaded, of one session without; gone after a crash, and with
# their index.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'nbmf'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE seen (id int, key nbmf_key);
	CREATE INDEX seen_key ON seen USING nbmf_cas (key);
	INSERT INTO seen SELECT i, key_of(i % 5, mixed(i % 5)) FROM generate_series(1, 10) AS i;
	CREATE DATABASE other});
my $counts = 'SELECT exact_hits, near_hits, unverified_hits, misses, preloaded FROM pg_stat_nbmf_cas';
is($node->safe_psql('postgres', $counts), '5|0|0|5|t', 'another session sees the counts');

my $lookup = 'SET enable_seqscan = off; SELECT count(*) FROM seen WHERE key = key_of(1, mixed(1))';
append_to_file($node->basedir . '/lookup.sql', "SET enable_seqscan = off;\nSELECT count(*) FROM seen WHERE key = key_of(1, mixed(1));\n");
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', '50', connection($node), '-f', $node->basedir . '/lookup.sql', 'postgres' ],
	'lookups of several sessions');
is($node->safe_psql('postgres', $counts), '205|0|0|5|t', 'all of them count');

# by content: one that differs in a capital is near; by fingerprint it is not verified
$node->safe_psql(
	'postgres', q{
	CREATE TABLE said (id int PRIMARY KEY, body nbmf);
	CREATE INDEX said_body ON said USING nbmf_cas (body);
	SELECT nbmf_put('said', 'body', 'a row is said to be there', '{"id": 1}');
	SELECT nbmf_put('said', 'body', 'A row is said to be there', '{"id": 2}');
	SET enable_seqscan = off;
	SELECT count(*) FROM said WHERE body ~= 'A row is said to be there'});
my $said = "SELECT exact_hits, near_hits, unverified_hits, misses, hit_rate > unverified_rate FROM pg_stat_nbmf_cas WHERE indexrelname = 'said_body'";
is($node->safe_psql('postgres', $said), '0|1|1|1|f', 'hits by content and by fingerprint are apart');
$counts .= " WHERE indexrelname = 'seen_key'";

$node->restart;
is($node->safe_psql('postgres', $counts), '205|0|0|5|t', 'a restart keeps the counts');
is($node->safe_psql('postgres', $said), '0|1|1|1|f', 'of every kind');
kill_postmaster($node);
$node->start;
is($node->safe_psql('postgres', $counts), '0|0|0|0|', 'a crash does not');
$node->safe_psql('postgres', $lookup);
is($node->safe_psql('postgres', $counts), '1|0|0|0|t', 'and they go on');

# a file that is not whole is ignored
$node->stop;
my $file = $node->data_dir . '/pg_stat/nbmf_cas.stat';
ok(-s $file, 'the counts are in their file');
truncate $file, (-s $file) - 3;
$node->start;
like(slurp_file($node->logfile), qr/ignoring invalid data in file "pg_stat\/nbmf_cas.stat"/, 'a damaged file is reported');
$node->safe_psql('postgres', $counts);

# an index that is gone leaves its slot
$node->safe_psql('postgres', $lookup);
$node->safe_psql('postgres', 'DROP INDEX seen_key');
is($node->safe_psql('postgres', "SELECT count(*) FROM nbmf_cas_stat() WHERE indexrelid <> 'said_body'::regclass"), '0', 'no counts without an index');
$node->safe_psql('postgres', 'CREATE INDEX seen_key ON seen USING nbmf_cas (key)');
is($node->safe_psql('postgres', $counts), '0|0|0|0|', 'a new index begins at zero');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($node->safe_psql('postgres', "$lookup; $counts"), "2\n1|0|0|0|f", 'without preloading a session counts for itself');
is($node->safe_psql('postgres', $counts), '0|0|0|0|', 'and for nobody else');
$node->stop;
done_testing();
