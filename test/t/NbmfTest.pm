# What the TAP tests of nbmf share: servers, documents of every kind and size
# with their texts as an oracle, and listings that compare whole tables.
package NbmfTest;

use strict;
use warnings FATAL => 'all';

use Exporter qw(import);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  @unicode_any
  @unicode_japanese
  @unicode_latin1
  answers_again
  ask
  await_answer
  close_session
  connection
  create_aliases
  create_documents
  create_keys
  create_records
  dump_ways
  finish_session
  is_same
  kill_postmaster
  list_documents
  list_table
  new_node
  open_session
  oracle_of
  request
  sqlstate_of
  start_repeating
  start_session
  verify_columns
);

# Literals in SQL for text outside ASCII, which every encoding of a database
# that knows the characters turns into its own bytes.
our @unicode_latin1 = (
	q{U&'Gr\00fc\00dfe, na\00efve \00c5ngstr\00f6m'},
	q{U&'{"stra\00dfe": "\00e9t\00e9"}'},
	q{repeat(U&'pr\00e9f\00e8re ', 3000)});
our @unicode_japanese = (
	q{U&'\65e5\672c\8a9e\3067\3059'},
	q{U&'{"\540d\524d": "\6771\4eac"}'},
	q{repeat(U&'\4eca\65e5\306f\3002', 3000)});
our @unicode_any = (
	@unicode_latin1, @unicode_japanese,
	q{U&'\+01F600 \+01F9E0 e\0301'},
	q{U&'["\+01F600", "\feff"]'});

# A server; conf is appended to postgresql.conf, the rest goes to init().
# The locale is fixed, so that a database may have any encoding.
sub new_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $conf = delete $params{conf} // '';
	my @extra = @{ delete $params{extra} // [] };

	$node->init(extra => [ '-E', 'UTF8', '--locale=C', @extra ], %params);
	$node->append_conf('postgresql.conf',
		"log_statement = none\nautovacuum = off\n$conf");
	return $node;
}

# The arguments that make psql or pgbench connect
sub connection
{
	my ($node) = @_;

	return ('-h', $node->host, '-p', $node->port);
}

# Start psql on a script, beside the test; "finish_session" waits for its end
sub start_session
{
	my ($node, $db, $script) = @_;
	my %session = (in => $script, out => '', err => '');

	$session{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
			connection($node), '-d', $db, '-f', '-'
		],
		'<',
		\$session{in},
		'>',
		\$session{out},
		'2>',
		\$session{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$session{run}->pump while length $session{in};
	return \%session;
}

# Start a psql for each name, which does its piece of SQL many times over, until
# the server is gone.  Its application_name is the name.
sub start_repeating
{
	my ($node, $db, $times, %work) = @_;
	my %sessions;

	foreach my $name (sort keys %work)
	{
		my $session = { in => $work{$name} x $times, out => '', err => '' };

		$session->{run} = IPC::Run::start(
			[
				'psql', '-XAtq', connection($node), '-d',
				"dbname=$db application_name=$name",
				'-f', '-'
			],
			'<',
			\$session->{in},
			'>',
			\$session->{out},
			'2>',
			\$session->{err},
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		$sessions{$name} = $session;
	}
	return \%sessions;
}

# Wait for the end of psql; returns its exit code
sub finish_session
{
	my ($session) = @_;

	$session->{run}->finish;
	return $session->{run}->full_result >> 8;
}

# A psql that stays, to be asked one thing after another
sub open_session
{
	my ($node, $db, @params) = @_;
	my %session = (in => '', out => '', err => '', asked => 0);

	$session{run} = IPC::Run::start(
		[
			'psql', '-XAtq', @params, connection($node), '-d', $db, '-f', '-'
		],
		'<',
		\$session{in},
		'>',
		\$session{out},
		'2>',
		\$session{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%session;
}

# Functions that make keys of chosen bits: key_of(id, bits), whose digest is
# that of id; and mixed(seed), bits that look random
sub create_keys
{
	my ($node, $db) = @_;

	$node->safe_psql(
		$db, q{
		CREATE FUNCTION mixed(seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
			AS $$ SELECT hashint8extended(seed, 4711) $$;
		CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE
			AS $$ SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
	});
	return;
}

# Send SQL without waiting for the answer
sub request
{
	my ($session, $sql) = @_;
	my $mark = 'answered ' . ++$session->{asked};

	$session->{out} = $session->{err} = '';
	$session->{in} .= "$sql\n;\n\\echo $mark\n\\warn $mark\n";
	# "pump" would wait for something to come back
	while (length $session->{in} && $session->{run}->pumpable)
	{
		$session->{run}->pump_nb;
		usleep(1_000);
	}
	return;
}

# Wait for it; in scalar context the rows, in list context the messages too.
# A psql that has lost its server answers as far as it could.
sub await_answer
{
	my ($session) = @_;
	my $mark = "answered $session->{asked}\n";
	my @answer;

	foreach my $stream ('out', 'err')
	{
		$session->{run}->pump
		  while index($session->{$stream}, $mark) < 0
		  && $session->{run}->pumpable;
		push @answer, $session->{$stream} =~ s/\Q$mark\E\z//r;
		chomp $answer[-1];
	}
	return wantarray ? @answer : $answer[0];
}

sub ask
{
	my ($session, $sql) = @_;

	request($session, $sql);
	return await_answer($session);
}

sub close_session
{
	my ($session) = @_;

	eval { $session->{run}->finish };
	return;
}

# Superuser's aliases that copy the bytes of a varlena: frame_of shows what a
# value is on disk, frame_as_nbmf puts any bytes there.
sub create_aliases
{
	my ($node, $db) = @_;

	$node->safe_psql(
		$db, q{
		CREATE FUNCTION frame_of(nbmf) RETURNS bytea
			LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
		CREATE FUNCTION frame_as_nbmf(bytea) RETURNS nbmf
			LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
	});
	return;
}

# Table document (id, kind, body): texts of every kind and of sizes from
# nothing to megabytes, and the kind that each must have.  It is plain text:
# what nbmf returns is compared with it.
sub create_documents
{
	my ($node, $db, @unicode) = @_;
	my $unicode = join(
		'',
		map {
				"INSERT INTO document (kind, body)"
			  . " SELECT CASE WHEN b ~ '^[\\[{]' THEN 'json' ELSE 'text' END, b"
			  . " FROM (SELECT $_ AS b) AS u;\n"
		} @unicode);

	$node->safe_psql($db, <<'SQL' . $unicode);
		CREATE TABLE document (
			id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			kind text NOT NULL,
			body text NOT NULL);

		-- the first bytes of a sequence that no codec makes smaller
		CREATE FUNCTION noise(seed int, bytes int) RETURNS bytea LANGUAGE sql AS $$
			SELECT substr(string_agg(decode(md5(seed || '.' || i), 'hex'), ''
									 ORDER BY i), 1, bytes)
			FROM generate_series(0, bytes / 16) AS i
		$$;
		CREATE FUNCTION letters(seed int, chars int) RETURNS text LANGUAGE sql AS $$
			SELECT left(translate(encode(noise(seed, chars), 'base64'), E'\n', ''), chars)
		$$;
		CREATE FUNCTION numbers(seed int, n int) RETURNS real[] LANGUAGE sql AS $$
			SELECT array_agg((sin(i * seed::float8) / (1 + i % 7))::real ORDER BY i)
			FROM generate_series(1, n) AS i
		$$;

		-- what is nearly one kind is another
		INSERT INTO document (kind, body) VALUES
			('text', ''),
			('text', ' '),
			('text', 'a'),
			('text', 'NULL'),
			('text', '\N'),
			('text', '\.'),
			('text', E'tab\t nl\n cr\r back\\slash "quote" ''quote'', comma'),
			('text', E'\n'),
			('text', '-'),
			('text', '01'),
			('text', '{1, 2}'),
			('text', '{1.0}'),
			('text', '{1e39}'),
			('text', '{NULL}'),
			('text', '{1,2'),
			('text', '\xABCD'),
			('text', '\xabc'),
			('text', '"open'),
			('text', '{"a": 1,}'),
			('text', repeat('[', 4097) || '1' || repeat(']', 4097)),
			('json', repeat('[', 4096) || '1' || repeat(']', 4096)),
			('json', 'null'),
			('json', '0'),
			('json', '-1.5e+300'),
			('json', '"NaN"'),
			('json', '{}'),
			('json', '[]'),
			('json', '[1,2]'),
			('json', E' {"b" : 1,\t"a": 2,\r\n "b": 3 } '),
			('json', '"\u00e9 \ud83d\ude00 \\ \/"'),
			('json', '12345678901234567890.123456789012345678901234567890'),
			('bytea', '\x'),
			('bytea', '\x00'),
			('bytea', '\x5c786162'),
			('vector', '{1}'),
			('vector', '{-0}'),
			('vector', '{0.1,-2,3e+20,1e-45}'),
			('vector', '{NaN,Infinity,-Infinity}');

		-- sizes around those where headers change, and where TOAST begins; what
		-- cannot be compressed comes first, and must do no harm to the rest
		INSERT INTO document (kind, body)
			SELECT 'bytea', noise(n, n)::text
			FROM unnest('{1,16,121,122,2000,100000,300000}'::int[]) AS n;
		INSERT INTO document (kind, body)
			SELECT 'text', repeat('the quick brown fox ', n)
			FROM unnest('{110000,7000,826,825,100,7,6,2,1}'::int[]) AS n;
		INSERT INTO document (kind, body)
			SELECT 'text', '.' || letters(n, n - 1)
			FROM unnest('{15,16,17,120,121,122,126,127,128,500,1995,1996,1997,2030,
						  5000,20000,131072,131073,1048577,2200000}'::int[]) AS n;
		INSERT INTO document (kind, body)
			SELECT 'bytea', decode(repeat('00ff', n), 'hex')::text
			FROM unnest('{10,1000,300000}'::int[]) AS n;
		INSERT INTO document (kind, body)
			SELECT 'vector', numbers(n, n)::text
			FROM unnest('{3,4,29,30,31,384,768,1536,50000}'::int[]) AS n;
		INSERT INTO document (kind, body)
			SELECT 'vector', array_fill(0.5::real, ARRAY[n])::text
			FROM unnest('{5,4000}'::int[]) AS n;

		-- records
		INSERT INTO document (kind, body)
			SELECT 'json', row_to_json(p)::text
			FROM (SELECT oid, proname, prosrc, prorettype::regtype, proargnames, proacl
				  FROM pg_proc ORDER BY oid LIMIT 60) AS p;
		INSERT INTO document (kind, body)
			SELECT 'json', jsonb_pretty(to_jsonb(c))
			FROM (SELECT * FROM pg_class ORDER BY oid LIMIT 40) AS c;
		INSERT INTO document (kind, body)
			SELECT 'json', json_agg(a)::text
			FROM (SELECT * FROM pg_attribute ORDER BY attrelid, attnum LIMIT 1000) AS a;
		INSERT INTO document (kind, body)
			SELECT 'text', d.description
			FROM (SELECT description FROM pg_description
				  ORDER BY classoid, objoid, objsubid LIMIT 40) AS d;
SQL
	return;
}

# Table record (n, tenant, d): JSON documents with much in common, d, of three
# tenants in turn.  The function record_text makes them, and any number more;
# secret_text makes others, in which each tenant has a secret of its own, and
# which no dictionary learned from the former has a word of.
sub create_records
{
	my ($node, $db, $count) = @_;

	$node->safe_psql(
		$db, qq{
		CREATE FUNCTION record_text(n int, tenant text DEFAULT 't0') RETURNS text
			LANGUAGE sql IMMUTABLE AS \$\$
			SELECT format('{"id": %s, "tenant": "%s", '
				'"event": "%s", "message": "The agent %s has %s document %s for user %s", '
				'"digest": "%s"}',
				n, tenant,
				(ARRAY['created', 'read', 'changed', 'summarized', 'sent'])[1 + n % 5],
				'agent-' || n % 7, (ARRAY['looked at', 'written', 'forgotten'])[1 + n % 3],
				n * 31, 'user-' || n % 101, left(md5(n::text), 12))
		\$\$;
		CREATE FUNCTION secret_text(n int, tenant text DEFAULT 't0') RETURNS text
			LANGUAGE sql IMMUTABLE AS \$\$
			SELECT replace(upper(d), '"EVENT"',
				concat('"PASSWORD": "s3', 'cr3t-', tenant, '-s3', 'cr3t", "EVENT"'))
			FROM record_text(n, tenant) AS d
		\$\$;
		CREATE TABLE record AS
			SELECT n, 't' || n % 3 AS tenant, record_text(n, 't' || n % 3) AS d
			FROM generate_series(1, $count) AS n;
		ALTER TABLE record ADD PRIMARY KEY (n)});
	return;
}

# A line for each document: what list_documents must return for values that
# hold all of the document.
sub oracle_of
{
	my ($node, $db) = @_;

	return $node->safe_psql(
		$db, q{
		SELECT id, kind, length(body), md5(convert_to(body, 'UTF8'))
		FROM document ORDER BY id});
}

# The same of an nbmf column: key, kind, and text, which is too long to be
# shown whole, as its length and digest.
sub list_documents
{
	my ($node, $db, $table, $column, $key) = @_;

	$key //= 'id';
	return $node->safe_psql(
		$db, qq{
		SELECT $key, nbmf_kind($column), length($column\::text),
			md5(convert_to($column\::text, 'UTF8'))
		FROM $table ORDER BY $key});
}

# Ways to dump a database into a directory and to restore it, by name: each has
# two commands, dump and restore, that lack only the connection and database.
# The last is INSERTs with the given arguments of pg_dump.
sub dump_ways
{
	my ($dir, @inserts) = @_;
	my @psql = ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1');

	return (
		plain => {
			dump => [ 'pg_dump', '-f', "$dir/plain.sql" ],
			restore => [ @psql, '-f', "$dir/plain.sql" ],
		},
		custom => {
			dump => [ 'pg_dump', '-Fc', '-f', "$dir/custom.dump" ],
			restore => [ 'pg_restore', '-e', "$dir/custom.dump" ],
		},
		parallel => {
			dump => [ 'pg_dump', '-Fd', '-j2', '-f', "$dir/parallel" ],
			restore => [ 'pg_restore', '-e', '-j2', "$dir/parallel" ],
		},
		inserts => {
			dump => [ 'pg_dump', @inserts, '-f', "$dir/inserts.sql" ],
			restore => [ @psql, '-1', '-f', "$dir/inserts.sql" ],
		});
}

# Like "is" for listings of many lines, of which only those that differ are
# worth showing
sub is_same
{
	my ($got, $expected, $name) = @_;
	my %count;
	my @differences;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return pass($name) if $got eq $expected && $expected ne '';

	$count{$_}++ foreach split /\n/, $got;
	$count{$_}-- foreach split /\n/, $expected;
	@differences =
	  map {
		($count{$_} > 0 ? 'got:      ' : 'expected: ') . substr($_, 0, 500)
	  }
	  grep { $count{$_} != 0 } sort keys %count;
	splice(@differences, 20, @differences, '...') if @differences > 20;
	fail($name);
	diag(
		join("\n",
			  @differences
			? @differences
			: 'nothing to compare, or in another order'));
	return 0;
}

# Any query's result, one line a row, under a search_path
sub list_table
{
	my ($node, $db, $path, $query) = @_;

	return $node->safe_psql($db, "SET search_path = $path;\n$query");
}

# Run nbmf_verify_table on every nbmf column of the database, those of domains
# over it included.  Returns how many columns there are and what was found.
sub verify_columns
{
	my ($node, $db) = @_;

	my $columns = q{
		WITH RECURSIVE nbmf_type AS (
			SELECT t.oid FROM pg_type AS t, pg_extension AS e
			WHERE e.extname = 'nbmf' AND t.typname = 'nbmf' AND t.typnamespace = e.extnamespace
			UNION ALL
			SELECT t.oid FROM pg_type AS t JOIN nbmf_type AS b ON t.typbasetype = b.oid
		), nbmf_column AS MATERIALIZED (
			SELECT c.oid::regclass AS tab, a.attname
			FROM pg_attribute AS a
				JOIN pg_class AS c ON c.oid = a.attrelid
				JOIN nbmf_type AS t ON t.oid = a.atttypid
			WHERE c.relkind IN ('r', 'm') AND NOT a.attisdropped
		)};

	return split /\n/, $node->safe_psql(
		$db, qq{
		SELECT set_config('search_path', quote_ident(n.nspname), false) AS path
		FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
		WHERE e.extname = 'nbmf' \\gset
		$columns SELECT count(*) FROM nbmf_column;
		$columns SELECT c.tab, c.attname, v.*
		FROM nbmf_column AS c, nbmf_verify_table(c.tab, c.attname) AS v
		ORDER BY c.tab::text, c.attname, v.ctid;
	});
}

# Run SQL that is to fail; returns the SQLSTATE, or "none" if it did not fail
sub sqlstate_of
{
	my ($node, $db, $sql, @params) = @_;
	my ($ret, $out, $err) = $node->psql($db, $sql,
		extra_params => [ '-v', 'VERBOSITY=sqlstate', @params ]);

	return 'none' if $ret == 0;
	return $1 if $err =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5})\b/;
	return $err;
}

# Kill the postmaster, and wait for its children to notice: as long as one of
# them holds on to the shared memory, no other server can start there.
sub kill_postmaster
{
	my ($node) = @_;
	my @children = split /\n/,
	  $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity');
	my $start = time();

	$node->kill9;
	foreach my $pid (@children)
	{
		while (kill 0, $pid)
		{
			die "process $pid outlives its server"
			  if time() - $start > $PostgreSQL::Test::Utils::timeout_default;
			usleep(20_000);
		}
	}
	return;
}

# Wait until a server that recovers from a crash answers again; false if it does
# not in time.  A psql that is refused may end before it has read its query: the
# broken pipe, at which IPC::Run dies, means "not yet".
sub answers_again
{
	my ($node, $dbname) = @_;

	foreach my $attempt (1 .. 20)
	{
		my $answer = eval {
			local $SIG{PIPE} = 'IGNORE';
			$node->poll_query_until($dbname, 'SELECT true');
		};
		return $answer if !$@;
		die $@ if $@ !~ /Broken pipe/;
		sleep 1;
	}
	return 0;
}

1;
