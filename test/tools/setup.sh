# setup.sh: what ./quickstart, ./run-tests and the benchmarks share.
#
# To be sourced by bash.  Installs missing packages, builds a private copy of
# the tree, and starts private servers in a scratch directory.  It never touches
# a running cluster, never runs a server as root, and installs nothing of nbmf
# into the system: the build is staged in the scratch directory, and the private
# servers are told to look there.
#
# After nbmf_scratch and nbmf_build:
#   $NBMF_PG_CONFIG  pg_config of the server used
#   $NBMF_BIN        directory of its programs
#   $NBMF_SCRATCH    scratch directory, removed at exit unless NBMF_KEEP=1
#   $NBMF_TREE       private copy of the tree, built
#   $NBMF_CONF       settings that make a server find the staged build

NBMF_MIN_VERSION=15

nbmf_say()
{
	printf '%s\n' "$*" >&2
}

nbmf_die()
{
	nbmf_say "error: $*"
	exit 1
}

# nbmf_root COMMAND ...: run as root, by sudo if need be
nbmf_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		nbmf_die "need root or sudo to run: $*"
	fi
}

# nbmf_user COMMAND ...: run as a user who is not root, in $NBMF_SCRATCH
nbmf_user()
{
	if [ "$(id -u)" -eq 0 ]; then
		(cd "$NBMF_SCRATCH" && exec runuser -u postgres -- \
			env HOME="$NBMF_SCRATCH" PATH="$NBMF_BIN:$PATH" "$@")
	else
		(cd "$NBMF_SCRATCH" && exec env PATH="$NBMF_BIN:$PATH" "$@")
	fi
}

# nbmf_packages PACKAGE ...: install the Debian packages that are missing
nbmf_packages()
{
	local missing=() package

	command -v dpkg-query >/dev/null ||
		{ nbmf_say "not a Debian system: trusting that these are there: $*"; return 0; }
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
			grep -q 'install ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	nbmf_say "installing: ${missing[*]}"
	nbmf_apt update
	nbmf_apt install -y --no-install-recommends "${missing[@]}"
}

# apt-get with its output shown only if it fails
nbmf_apt()
{
	local log status=0

	log=$(mktemp)
	nbmf_root env DEBIAN_FRONTEND=noninteractive apt-get \
		-o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || status=$?
	[ $status -eq 0 ] || { cat "$log" >&2; rm -f "$log"; nbmf_die "apt-get $1 failed"; }
	rm -f "$log"
}

# nbmf_arm64 DIRECTORY: a compiler and an emulator for aarch64, and in DIRECTORY the
# libraries of the core for it.  They are unpacked there, not installed: a foreign
# architecture may ask for other versions of what the system has.  False, and says
# why, where they cannot be had.
nbmf_arm64()
{
	local root=$1 apt=$1/apt package

	command -v apt-get >/dev/null ||
		{ nbmf_say "aarch64 is not tested: this is not a Debian system"; return 1; }
	for package in gcc-aarch64-linux-gnu qemu-user; do
		apt-cache show "$package" >/dev/null 2>&1 || nbmf_apt update
		apt-cache show "$package" >/dev/null 2>&1 ||
			{ nbmf_say "aarch64 is not tested: there is no package $package"; return 1; }
	done
	nbmf_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	: >"$apt/status"
	(
		cd "$apt" || exit
		from=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64
			-o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
			-o Dir::Cache="$apt" -o APT::Sandbox::User=root)
		apt-get "${from[@]}" update &&
			apt-get "${from[@]}" download libzstd1 libzstd-dev libssl-dev || exit
		for package in *.deb; do
			dpkg-deb -x "$package" "$root" || exit
		done
	) >"$apt/log" 2>&1 && return
	nbmf_say "aarch64 is not tested: its packages cannot be had:"
	tail -n 5 "$apt/log" >&2
	return 1
}

nbmf_version_of()
{
	"$1" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/'
}

# Set NBMF_PG_CONFIG to the newest server of a supported version that can be
# built against, or to PG_CONFIG if that is set; false if there is none.
nbmf_find_server()
{
	local candidate

	if [ -n "${PG_CONFIG:-}" ]; then
		NBMF_PG_CONFIG=$PG_CONFIG
		return 0
	fi
	for candidate in $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV) \
		$(command -v pg_config); do
		if [ "$(nbmf_version_of "$candidate")" -ge "$NBMF_MIN_VERSION" ] &&
			[ -x "$("$candidate" --bindir)/initdb" ] && [ -f "$("$candidate" --pgxs)" ] &&
			[ -f "$("$candidate" --includedir-server)/postgres.h" ]; then
			NBMF_PG_CONFIG=$candidate
			return 0
		fi
	done
	return 1
}

# Install a PostgreSQL server and its headers from the system's packages.
nbmf_install_server()
{
	local version conf=/etc/postgresql-common/createcluster.conf

	command -v apt-get >/dev/null ||
		nbmf_die "no PostgreSQL $NBMF_MIN_VERSION or newer with headers found; set PG_CONFIG"
	nbmf_apt update
	for version in 18 17 16 15 none; do
		apt-cache show "postgresql-server-dev-$version" >/dev/null 2>&1 && break
	done
	[ "$version" != none ] || nbmf_die \
		"this system's packages have no PostgreSQL $NBMF_MIN_VERSION or newer; see https://www.postgresql.org/download/"

	# Debian's package would create and start a cluster on port 5432
	if ! dpkg-query -W -f '${Status}' postgresql-common 2>/dev/null | grep -q 'ok installed'; then
		nbmf_packages postgresql-common
		nbmf_root cp -p $conf $conf.nbmf-saved
		echo 'create_main_cluster = false' | nbmf_root tee -a $conf >/dev/null
	fi
	nbmf_packages "postgresql-$version" "postgresql-server-dev-$version"
	[ ! -f $conf.nbmf-saved ] || nbmf_root mv $conf.nbmf-saved $conf
}

# nbmf_requirements [PACKAGE ...]: compiler, libraries, server, and more
nbmf_requirements()
{
	nbmf_packages gcc make libc6-dev libzstd-dev libssl-dev zstd "$@"
	nbmf_find_server || { nbmf_install_server && nbmf_find_server; } ||
		nbmf_die "cannot find the PostgreSQL server that was just installed"
	NBMF_BIN=$("$NBMF_PG_CONFIG" --bindir)
	[ "$(nbmf_version_of "$NBMF_PG_CONFIG")" -ge "$NBMF_MIN_VERSION" ] ||
		nbmf_die "nbmf needs PostgreSQL $NBMF_MIN_VERSION or newer: $NBMF_PG_CONFIG"
}

nbmf_scratch()
{
	NBMF_SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/nbmf.XXXXXX")
	chmod 755 "$NBMF_SCRATCH"
	[ "$(id -u)" -ne 0 ] || chown postgres "$NBMF_SCRATCH"
	trap nbmf_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

nbmf_cleanup()
{
	local status=$?

	[ "${NBMF_KEEP:-0}" = 1 ] && exit $status
	for data in "$NBMF_SCRATCH"/*/postmaster.pid; do
		[ -f "$data" ] && nbmf_user pg_ctl -D "$(dirname "$data")" -m immediate stop >/dev/null 2>&1
	done
	# of a test that was interrupted
	mountpoint -q "$NBMF_SCRATCH/small" 2>/dev/null && umount "$NBMF_SCRATCH/small"
	rm -rf "$NBMF_SCRATCH"
	exit $status
}

# nbmf_build TOP [MAKE ARGUMENT ...]: copy the tree, build it, stage it
nbmf_build()
{
	local top=$1 libdir
	shift

	NBMF_TREE=$NBMF_SCRATCH/tree
	mkdir "$NBMF_TREE"
	(cd "$top" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.d' .) |
		tar -xf - -C "$NBMF_TREE" --no-same-owner
	[ "$(id -u)" -ne 0 ] || chown -R postgres "$NBMF_TREE"
	nbmf_user make -s -C "$NBMF_TREE" PG_CONFIG="$NBMF_PG_CONFIG" "$@" >&2 ||
		nbmf_die "build failed"
	nbmf_user make -s -C "$NBMF_TREE" PG_CONFIG="$NBMF_PG_CONFIG" \
		DESTDIR="$NBMF_SCRATCH/stage" install >&2 || nbmf_die "install failed"

	NBMF_CONF=$NBMF_SCRATCH/nbmf.conf
	libdir=$NBMF_SCRATCH/stage$("$NBMF_PG_CONFIG" --pkglibdir)
	# no grep -q: under pipefail the server's SIGPIPE would say "not found"
	if nbmf_user postgres --describe-config | grep '^extension_destdir' >/dev/null; then
		# Debian's servers up to 17
		echo "extension_destdir = '$NBMF_SCRATCH/stage'"
		echo "dynamic_library_path = '$libdir:\$libdir'"
	elif [ "$(nbmf_version_of "$NBMF_PG_CONFIG")" -ge 18 ]; then
		echo "extension_control_path = '$NBMF_SCRATCH/stage$("$NBMF_PG_CONFIG" --sharedir):\$system'"
		echo "dynamic_library_path = '$libdir:\$libdir'"
	else
		# a server that looks for extensions in one place only: install there
		nbmf_say "installing into $("$NBMF_PG_CONFIG" --pkglibdir)"
		nbmf_root make -s -C "$NBMF_TREE" PG_CONFIG="$NBMF_PG_CONFIG" install >&2
	fi >"$NBMF_CONF"
	chmod 644 "$NBMF_CONF"
}

# nbmf_server NAME [SETTING ...]: a new private server in $NBMF_SCRATCH/NAME,
# without TCP; sets PGHOST, PGUSER, PGPORT and PGDATABASE for its clients
nbmf_server()
{
	local data=$NBMF_SCRATCH/$1 setting
	shift

	nbmf_user initdb -D "$data" -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 >/dev/null ||
		nbmf_die "initdb failed"
	{
		cat "$NBMF_CONF"
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$NBMF_SCRATCH'"
		echo "port = 5432"
		for setting in "$@"; do echo "$setting"; done
	} >>"$data/postgresql.conf"
	nbmf_user pg_ctl -D "$data" -l "$data.log" -w start >/dev/null ||
		{ cat "$data.log" >&2; nbmf_die "the private server does not start"; }
	export PGHOST=$NBMF_SCRATCH PGUSER=postgres PGPORT=5432 PGDATABASE=postgres
	export PATH=$NBMF_BIN:$PATH
	unset PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE
}

nbmf_server_stop()
{
	nbmf_user pg_ctl -D "$NBMF_SCRATCH/$1" -m fast -w stop >/dev/null
}
