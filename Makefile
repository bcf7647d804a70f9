# nbmf: PostgreSQL extension, built with PGXS.
#
#   make                  build
#   make install          install into the server of PG_CONFIG
#   make installcheck     regression, isolation and TAP tests, installed server
#   make check-core       unit tests of the pure C rooms, no server needed;
#                         see test/core.mk for fuzzing, valgrind and counts
#
# ./run-tests installs what is missing and runs all of this, and more, against
# a private copy and a private server.

EXTENSION    = nbmf
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" nbmf.control)
MODULE_big   = nbmf
DATA         = $(wildcard sql/nbmf--*.sql)
PGFILEDESC   = "nbmf - compressed memory for AI agents"

OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

PG_CPPFLAGS  = -I$(srcdir)/src -DNBMF_VERSION='"$(EXTVERSION)"' -MMD -MP
PG_CFLAGS    = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-clobbered
SHLIB_LINK   = -lzstd -lcrypto

# PostgreSQL 15 looks for the expected output in expected/ beside sql/ only
REGRESS      = $(patsubst sql/%.sql,%,$(filter-out sql/nbmf--%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=$(srcdir) --load-extension=nbmf

ISOLATION      = $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec))
ISOLATION_OPTS = --inputdir=$(srcdir)/test --load-extension=nbmf

TAP_TESTS    = 1
PROVE_TESTS  = test/t/*.pl

EXTRA_CLEAN  = $(OBJS:.o=.d) build

# Bitcode serves the JIT's inlining; nothing here is small enough to gain by it
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# (Makefile.global has set this to nothing)
PROVE_FLAGS += -I $(srcdir)/test/t

-include $(OBJS:.o=.d)

# The parts of installcheck, one by one
.PHONY: installcheck-regress installcheck-isolation installcheck-tap

installcheck-regress:
	$(pg_regress_installcheck) $(REGRESS_OPTS) $(REGRESS)

installcheck-isolation:
	$(pg_isolation_regress_installcheck) $(ISOLATION_OPTS) $(ISOLATION)

installcheck-tap:
	$(prove_installcheck)

include test/core.mk
