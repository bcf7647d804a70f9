# Logical replication of nbmf columns: to nbmf as text and as binary, to jsonb
# and to text, and from jsonb, json and text to nbmf, which is how a table
# moves to nbmf while it is in use.
#
# Rows are found by REPLICA IDENTITY DEFAULT and FULL.  FULL compares whole
# rows, so values must be equal by content where their frames differ; and
# toasted values that an UPDATE left alone are not sent at all.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "max_worker_processes = 20\nmax_logical_replication_workers = 12\n"
  . "max_connections = 40\nshared_buffers = 16MB\n";
my $publisher =
  new_node('publisher', allows_streaming => 'logical', conf => $conf);
my $subscriber =
  new_node('subscriber', allows_streaming => 'logical', conf => $conf);

foreach my $node ($publisher, $subscriber)
{
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
}
create_documents($publisher, 'postgres', @unicode_any);

# Tables of the publisher.  "extra" changes while v stays as it is.  In
# by_full there are nulls and duplicates.  bin.by_full has a hash index on v,
# which the subscriber uses to find rows from PostgreSQL 17 on; that index knows
# no nulls, and the server does not mind, so there are none.
my $tables = q{
	CREATE TABLE by_key (id int PRIMARY KEY, v nbmf%1$s, extra text);
	CREATE TABLE by_full (id int, v nbmf%1$s, extra text);
	ALTER TABLE by_full REPLICA IDENTITY FULL;
	CREATE TABLE bin.by_key (LIKE public.by_key INCLUDING ALL);
	CREATE TABLE bin.by_full (LIKE public.by_full);
	ALTER TABLE bin.by_full REPLICA IDENTITY FULL;
};
$publisher->safe_psql('postgres',
	'CREATE SCHEMA bin; ' . sprintf($tables, '(lossless, 19)'));
$subscriber->safe_psql('postgres',
	'CREATE SCHEMA bin; ' . sprintf($tables, '(semantic, 1)'));
$subscriber->safe_psql(
	'postgres', q{
	CREATE INDEX ON bin.by_full USING hash (v)});

# Tables whose type differs between the two
my %other = (
	to_text => [ 'nbmf', 'text' ],
	to_json => [ 'nbmf', 'json' ],
	to_jsonb => [ 'nbmf', 'jsonb' ],
	from_text => [ 'text', 'nbmf(lossless, 5)' ],
	from_json => [ 'json', 'nbmf' ],
	from_jsonb => [ 'jsonb', 'nbmf(semantic)' ],);
foreach my $table (sort keys %other)
{
	my ($from, $to) = @{ $other{$table} };

	$publisher->safe_psql('postgres',
		"CREATE TABLE $table (id int PRIMARY KEY, v $from, extra text)");
	$subscriber->safe_psql('postgres',
		"CREATE TABLE $table (id int PRIMARY KEY, v $to, extra text)");
}

# The first half of the documents is there before the subscriptions are, the
# other half comes after them.
sub insert_documents
{
	my ($condition) = @_;
	my $sql = '';

	foreach my $table (
		'by_key', 'by_full', 'bin.by_key', 'bin.by_full',
		'to_text', 'from_text')
	{
		my $cast = $table eq 'from_text' ? '' : '::nbmf';

		$sql .= "INSERT INTO $table SELECT id, body$cast, 'as inserted'"
		  . " FROM document WHERE $condition;\n";
	}
	# not every JSON is jsonb: no numbers or nesting without end
	foreach my $table ('to_json', 'to_jsonb', 'from_json', 'from_jsonb')
	{
		my $cast = $table =~ /^from_(.*)/ ? "::$1" : '';

		$sql .= "INSERT INTO $table SELECT id, body$cast, 'as inserted'"
		  . " FROM document WHERE kind = 'json' AND $condition;\n";
	}
	$publisher->safe_psql('postgres', "BEGIN; $sql COMMIT;");
	return;
}

insert_documents('id % 2 = 0');

my $connstr = $publisher->connstr . ' dbname=postgres';
$publisher->safe_psql(
	'postgres', q{
	CREATE PUBLICATION by_text FOR TABLE by_key, by_full;
	CREATE PUBLICATION by_binary FOR TABLE bin.by_key, bin.by_full;
	CREATE PUBLICATION others FOR TABLE
	} . join(', ', sort keys %other));
$subscriber->safe_psql(
	'postgres', qq{
	CREATE SUBSCRIPTION by_text CONNECTION '$connstr' PUBLICATION by_text;
	CREATE SUBSCRIPTION by_binary CONNECTION '$connstr' PUBLICATION by_binary
		WITH (binary = true);
	CREATE SUBSCRIPTION others CONNECTION '$connstr' PUBLICATION others});
$subscriber->wait_for_subscription_sync($publisher, $_)
  foreach ('by_text', 'by_binary', 'others');

# All rows of a table, whatever the type of v is there.  jsonb is compared as
# jsonb, which is what becomes of the text.
sub rows_of
{
	my ($node, $table) = @_;
	my $v = $table =~ /jsonb$/ ? 'v::jsonb::text' : 'v::text';
	my $kind =
		$table =~ /^by|^bin/                      ? 'nbmf_kind(v)'
	  : $table =~ /^from/ && $node == $subscriber ? "nbmf_kind(v) = 'json'"
	  :          "nbmf_kind(v::text::nbmf) = 'json'";

	return $node->safe_psql(
		'postgres', qq{
		SELECT id, $kind, length($v), md5($v), extra
		FROM $table ORDER BY id, 2, 3, 4, 5});
}

sub compare_all
{
	my ($what) = @_;

	$publisher->wait_for_catchup($_)
	  foreach ('by_text', 'by_binary', 'others');
	foreach my $table ('by_key', 'by_full', 'bin.by_key', 'bin.by_full',
		sort keys %other)
	{
		is_same(
			rows_of($subscriber, $table),
			rows_of($publisher, $table),
			"$what: $table is the same");
	}
	is_deeply([ verify_columns($subscriber, 'postgres') ],
		['7'], "$what: all columns verify");
	return;
}

compare_all('initial copy');
is_same(
	$subscriber->safe_psql(
		'postgres',
		q{SELECT id, nbmf_kind(v), md5(v::text) FROM bin.by_key ORDER BY id}),
	$publisher->safe_psql(
		'postgres',
		q{SELECT id, kind, md5(body) FROM document WHERE id % 2 = 0 ORDER BY id}
	),
	'initial copy: the documents are there');

insert_documents('id % 2 = 1');
compare_all('insert');
is_same(
	$subscriber->safe_psql(
		'postgres',
		q{SELECT id, nbmf_kind(v), md5(v::text) FROM by_full ORDER BY id}),
	$publisher->safe_psql(
		'postgres', q{SELECT id, kind, md5(body) FROM document ORDER BY id}),
	'insert: the documents are there');
isnt(
	$subscriber->safe_psql(
		'postgres',
		'SELECT string_agg(md5(nbmf_info(v)::text), $$ $$ ORDER BY id) FROM by_full'
	),
	$publisher->safe_psql(
		'postgres',
		'SELECT string_agg(md5(nbmf_info(v)::text), $$ $$ ORDER BY id) FROM by_full'
	),
	'the frames are not the same, so rows are found by content');
cmp_ok(
	$publisher->safe_psql(
		'postgres',
		q{SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'by_full'::regclass}
	),
	'>', 1000000,
	'there are toasted values');

# null values, and one value in many rows
foreach my $table ('by_full', 'bin.by_full')
{
	$publisher->safe_psql('postgres',
		'INSERT INTO by_full VALUES (NULL, NULL, $$null$$), (NULL, NULL, NULL)'
	) if $table eq 'by_full';
	$publisher->safe_psql(
		'postgres', qq{
		INSERT INTO $table SELECT NULL, 'twice', 'same' FROM generate_series(1, 5);
		INSERT INTO $table
			SELECT NULL, body, 'same' FROM document, generate_series(1, 2)
			WHERE length(body) BETWEEN 20000 AND 200000});
}
compare_all('insert of nulls and duplicates');

# v stays: of toasted ones nothing is sent
foreach my $table ('by_key', 'by_full', 'bin.by_key', 'bin.by_full',
	sort keys %other)
{
	$publisher->safe_psql('postgres',
		"UPDATE $table SET extra = extra || ', kept' WHERE id % 3 = 0");
}
compare_all('update beside v');

# v changes: to another document, to null and from it
foreach my $table (
	'by_key', 'by_full', 'bin.by_key', 'bin.by_full',
	'to_text', 'from_text')
{
	my $cast = $table eq 'from_text' ? '' : '::nbmf';

	$publisher->safe_psql(
		'postgres', qq{
		UPDATE $table AS t SET v = d.body$cast, extra = 'moved'
			FROM document AS d WHERE d.id = t.id + 7 AND t.id % 4 = 1});
	next if $table eq 'bin.by_full';
	$publisher->safe_psql(
		'postgres', qq{
		UPDATE $table SET v = NULL WHERE id % 10 = 3;
		UPDATE $table SET v = '{"was": "null"}' WHERE v IS NULL AND id % 20 = 3});
}
foreach my $table ('to_json', 'to_jsonb', 'from_json', 'from_jsonb')
{
	$publisher->safe_psql(
		'postgres', qq{
		UPDATE $table SET v = '{"new": [1, 2.50]}', extra = 'new' WHERE id % 4 = 1;
		UPDATE $table SET v = NULL WHERE id % 10 = 3});
}
compare_all('update of v');

# the key changes, of rows whose toasted v is then sent again
foreach my $table ('by_key', 'by_full', 'bin.by_key', 'bin.by_full')
{
	$publisher->safe_psql('postgres',
		"UPDATE $table SET id = id + 10000 WHERE id % 5 = 2");
}
compare_all('update of the key');

foreach my $table ('by_full', 'bin.by_full')
{
	$publisher->safe_psql(
		'postgres', qq{
		DELETE FROM $table WHERE ctid = (SELECT min(ctid) FROM $table WHERE v = 'twice');
		DELETE FROM $table WHERE v IS NULL AND extra IS NULL});
}
foreach my $table ('by_key', 'by_full', 'bin.by_key', 'bin.by_full',
	sort keys %other)
{
	$publisher->safe_psql('postgres', "DELETE FROM $table WHERE id % 6 = 0");
}
compare_all('delete');
is( $subscriber->safe_psql(
		'postgres', "SELECT count(*) FROM by_full WHERE v = 'twice'"),
	'4',
	'delete: one of five equal rows is gone');

# What cannot be jsonb stops that subscription alone, and says why
my $log = -s $subscriber->logfile;
$publisher->safe_psql('postgres',
	"INSERT INTO to_jsonb VALUES (-1, 'not JSON', 'bad')");
ok($subscriber->wait_for_log(qr/invalid input syntax for type json/, $log),
	'text in a jsonb column is an error of the subscriber');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION others');
$publisher->safe_psql('postgres',
	q{INSERT INTO by_key VALUES (-1, 'goes on', NULL)});
$publisher->wait_for_catchup('by_text');
is( $subscriber->safe_psql('postgres', 'SELECT v FROM by_key WHERE id = -1'),
	'goes on',
	'the other subscriptions go on');

foreach my $node ($publisher, $subscriber)
{
	unlike(
		slurp_file($node->logfile),
		qr/PANIC|TRAP|terminated by signal/,
		$node->name . ' has not crashed');
	$node->stop('fast');
}
done_testing();
