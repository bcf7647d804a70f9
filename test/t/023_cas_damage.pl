# Damaged pages of nbmf_cas indexes: whatever the bytes are, everything that
# reads or writes the index ends, with an answer or with an error that says
# that the index is corrupted; no server process crashes or hangs.
#
# NBMF_FUZZ_INDEXES is how many indexes are damaged, 60 if not set.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main',
	conf => "shared_buffers = 64MB\nfsync = off\nstatement_timeout = 60s\nclient_min_messages = error\n");
my $indexes = $ENV{NBMF_FUZZ_INDEXES} || 60;
my $block = 8192;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');
my @files;
foreach my $i (1 .. $indexes)
{
	# buckets that are split, also inside a value, a chain, free pages, directory pages
	push @files, $node->safe_psql(
		'postgres', qq{
		CREATE TABLE t$i (id int, key nbmf_key);
		CREATE INDEX i$i ON t$i USING nbmf_cas (key);
		INSERT INTO t$i SELECT n, key_of(n, CASE WHEN n < 900 THEN 7 WHEN n < 3200 THEN mixed(n) & 1023 | (1::bigint << 62) ELSE mixed(n) END) FROM generate_series(1, 4000) AS n;
		DELETE FROM t$i WHERE id BETWEEN 700 AND 800;
		VACUUM (INDEX_CLEANUP on) t$i;
		SELECT pg_relation_filepath('i$i')});
}
$node->stop;

srand($ENV{NBMF_FUZZ_SEED} || 42);
my @damage;
foreach my $i (1 .. $indexes)
{
	my $path = $node->data_dir . '/' . $files[ $i - 1 ];
	my $pages = (-s $path) / $block;
	my $n = 1 + int(rand(3));

	open my $handle, '+<:raw', $path or die "$path: $!";
	foreach (1 .. $n)
	{
		# the first pages are what most queries need
		my $page = int(rand() < 0.5 ? rand(9) : rand($pages));
		my $what = int(rand(6));
		my ($offset, $bytes);

		if ($what == 0)    # header
		{
			$offset = 12 + int(rand(12));
			$bytes = pack('C', rand(256));
		}
		elsif ($what == 1)    # what a page begins with
		{
			$offset = 24 + int(rand(32));
			$bytes = pack('C', rand(256));
		}
		elsif ($what == 2)    # a link to some page that there is
		{
			$offset = 24 + 12 + 4 * int(rand(3));
			$bytes = pack('V', rand($pages));
		}
		elsif ($what == 3)    # contents
		{
			$offset = 56 + int(rand($block - 60));
			$bytes = pack('V', rand(2**32));
		}
		elsif ($what == 4)    # a block number in a directory
		{
			$offset = 56 + 264 + 4 * int(rand(1024));
			$bytes = pack('V', rand($pages));
		}
		else                  # another page in its place
		{
			my $other = int(rand($pages));

			sysseek $handle, $other * $block, 0;
			sysread $handle, $bytes, $block;
			$offset = 0;
			$bytes = "\0" x $block if rand() < 0.3;
		}
		push @{ $damage[$i] }, "page $page, offset $offset, " . length($bytes) . ' bytes';
		sysseek $handle, $page * $block + $offset, 0;
		syswrite $handle, $bytes;
	}
	close $handle;
}
$node->start;

my @work = (
	"SELECT nbmf_index_check('%s', true)",
	'SELECT count(*) FROM %t WHERE key = key_of(3600, mixed(3600))',
	'SELECT count(*) FROM %t WHERE key = key_of(100, 7)',
	'SELECT count(*) FROM %t WHERE key = key_of(2000, mixed(2000) & 1023 | (1::bigint << 62))',
	'SELECT count(*) FROM %t WHERE key ~= key_of(0, 7)',
	'SELECT count(*) FROM %t WHERE key ~= key_of(0, mixed(3700))',
	'SELECT count(*) FROM %t WHERE key <@ nbmf_ball(key_of(0, mixed(3800)), 0.6)',
	'SELECT count(*) FROM (SELECT FROM %t WHERE key IS NOT NULL ORDER BY key <~> key_of(0, 1) LIMIT 2000) AS s',
	'SELECT count(*) FROM nbmf_cas_lookup(\'%s\', \'x\', 0.5)',
	'SELECT count(*) FROM generate_series(0, pg_relation_size(\'%s\') / 8192 - 1) AS b, nbmf_index_page(\'%s\', b)',
	'INSERT INTO %t SELECT n, key_of(n, CASE WHEN n %% 2 = 0 THEN 7 ELSE mixed(n) END) FROM generate_series(5001, 6500) AS n',
	'DELETE FROM %t WHERE id %% 3 = 0',
	'VACUUM (INDEX_CLEANUP on) %t',
	'REINDEX INDEX %s',
	"SELECT nbmf_index_check('%s', true)");
my %states;
my $noticed = 0;
foreach my $i (1 .. $indexes)
{
	my @sql = map { s/%t/t$i/gr =~ s/%s/i$i/gr =~ s/%%/%/gr } @work;
	my ($ret, $out, $err) = $node->psql('postgres',
		join(";\n", 'SET enable_seqscan = off', @sql) . ";\nSELECT 'alive'",
		on_error_stop => 0,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	my @found = $err =~ /ERROR:\s+([0-9A-Z]{5})/g;

	$states{$_}++ foreach @found;
	$noticed++ if @found;
	like($out, qr/alive\z/, "index $i answers") or diag(join("\n", @{ $damage[$i] }));
	# a damaged TID may be of a block that the table does not have: XX001, 58P01
	my @other = grep { !/^(XX002|XX001|0A000|58P01)$/ } @found;
	is("@other", '', "index $i: errors are of damage") or diag(join("\n", @{ $damage[$i] }, $err));
	# what REINDEX has made is whole
	like($out, qr/^\d+\nalive\z/m, "index $i: whole again") or diag($out, $err);
}
diag("SQLSTATEs: " . join(', ', map { "$_ $states{$_} times" } sort keys %states));
cmp_ok($noticed, '>', $indexes / 4, 'damage is noticed');

# the error names the index and the block
my $path = $node->data_dir . '/'
  . $node->safe_psql('postgres', "CHECKPOINT; SELECT pg_relation_filepath('i1')");
$node->stop;
open my $handle, '+<:raw', $path or die "$path: $!";
sysseek $handle, $block * 7, 0;
syswrite $handle, "\0" x $block;
close $handle;
$node->start;
my ($ret, $out, $err) = $node->psql('postgres', "SELECT nbmf_index_check('i1')");
like($err, qr/index "i1" is corrupted at block 7/, 'the error names index and block');

# a page of one table in the directory of another: an insert, which locks pages of
# all tables together, must not wait for itself
$path = $node->data_dir . '/' . $node->safe_psql(
	'postgres', q{
	CREATE TABLE twice (key nbmf_key);
	CREATE INDEX twice_key ON twice USING nbmf_cas (key);
	CHECKPOINT;
	SELECT pg_relation_filepath('twice_key')});
$node->stop;
open $handle, '+<:raw', $path or die "$path: $!";
sysseek $handle, $block * 4 + 56 + 520, 0;
syswrite $handle, pack('V', 5) x 1024;
close $handle;
$node->start;
my $hangs = 0;
($ret, $out, $err) = $node->psql('postgres', 'INSERT INTO twice VALUES (key_of(1, 1))',
	timeout => 60, timed_out => \$hangs);
ok(!$hangs, 'an insert does not wait for itself');
like($err, qr/index "twice_key" is corrupted at block 5/, 'and says what is wrong');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal 11|signal 6|statement timeout/, 'no crash, no hang');
$node->stop($hangs ? 'immediate' : 'fast');
done_testing();
